"""Use the installed wheel as a newcomer would: ``python -I tests/smoke.py`` from an empty folder.

Not a pytest file: it must meet nothing of the clone, neither source nor test tools.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

SCRIPT = Path(sysconfig.get_path("scripts")) / "ami-agent"
LIST_SECONDS = 2.0


def check(fact: bool, text: str) -> None:
    """Say what is proven, or end with what is not."""
    if not fact:
        sys.exit(f"smoke: FAILED: {text}")
    print(f"smoke: {text}", flush=True)


def python(code: str) -> str:
    """What `code` prints in an interpreter of its own."""
    return subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def ami_agent(*words: str, folder: str) -> subprocess.CompletedProcess[str]:
    """Run the installed script in `folder`, where its home is too; ends with its stderr if it fails."""
    environment = os.environ | {"AMI_HOME": str(Path(folder) / "home")}
    done = subprocess.run([SCRIPT, *words], cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"smoke: FAILED: ami-agent {' '.join(words)} ended {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


def main() -> None:
    where = python("import ami_envs, ami_agent; print(ami_envs.__file__); print(ami_agent.__file__)").splitlines()
    site = sysconfig.get_path("purelib")
    check(all(Path(path).is_relative_to(site) for path in where), f"both packages come from {site}")

    heavy = python("import sys, ami_envs; print([m for m in ('torch', 'OpenGL', 'imageio') if m in sys.modules])")
    check(heavy == "[]", f"importing ami_envs brings none of torch, OpenGL, imageio: {heavy}")

    scenes = python("from ami_envs.paths import ASSETS; print(len(list(ASSETS.rglob('*.xml'))))")
    check(int(scenes) > 0, f"{scenes} scene files came with the wheel")

    with tempfile.TemporaryDirectory() as folder:
        check("run" in ami_agent("--help", folder=folder).stdout, "ami-agent --help lists the commands")

        seconds = []
        for _ in range(3):  # the best of three: the first one reads a cold disk
            start = time.monotonic()
            listed = ami_agent("env", "list", folder=folder).stdout
            seconds.append(time.monotonic() - start)
        check("ami/Reach-v0" in listed, "ami-agent env list names ami/Reach-v0")
        check(min(seconds) < LIST_SECONDS, f"... in {min(seconds):.2f} s")
        listing = "import sys; from ami_agent.cli import main; main(['env', 'list']); print('torch' in sys.modules)"
        check(python(listing).splitlines()[-1] == "False", "... without importing torch")

        words = ("run", "--env", "ami/Reach-v0", "--episodes", "3", "--seed", "1", "--json")
        result = json.loads(ami_agent(*words, folder=folder).stdout)
        told = json.dumps(result)[:400]
        check(isinstance(result, dict) and bool(result), f"three episodes of ami/Reach-v0 gave {told}")
        check(result["weights"] == "pretrained", "... with the weights that came with the wheel")
        check(any(Path(folder, "runs").glob("*/run.json")), "the run left its folder")


if __name__ == "__main__":
    main()
