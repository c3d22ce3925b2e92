"""`ami-agent doctor`: what this machine can do, and what to install for what it cannot."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from ami_agent import console
from ami_agent.errors import AmiError, MissingError
from ami_agent.runs import hardware, home

ROOM_GIB = 1.0  # a run with videos and an agent's memory fit in it
GL_SECONDS = 20
GL_PACKAGES = {"egl": "libegl1", "osmesa": "libosmesa6"}
GL_PROBE = "import mujoco; context = mujoco.GLContext(16, 16); context.make_current(); context.free()"


@dataclass(frozen=True)
class Config:
    """What this machine can do."""

    home: str | None = None
    """Folder that lives across runs; AMI_HOME or ~/.ami-agent if not given."""
    json: bool = False
    """Print one JSON object on stdout."""


@dataclass(frozen=True)
class Finding:
    """One thing looked at: is it well, what was found, and how to mend it."""

    name: str
    ok: bool
    found: str
    cure: str = ""
    needed: bool = True  # `ami-agent run` cannot do without


def main(config: Config) -> int:
    """Print the findings; 0 if `ami-agent run` can work here, 3 if not."""
    findings = [_python(), *_packages(), _cores(), _bf16(), _cuda(), *_opengl(), *_home(config.home), _pretrained()]
    ok = all(finding.ok for finding in findings if finding.needed)
    if config.json:
        console.emit({"ok": ok, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            mark = "ok" if finding.ok else "MISSING" if finding.needed else "no"
            cure = "" if finding.ok or not finding.cure else f" -> {finding.cure}"
            print(f"{mark:<8}{finding.name:<24}{finding.found}{cure}")
        print("ready: `ami-agent run` works here" if ok else "not ready: install what is marked MISSING")
    return 0 if ok else MissingError.exit_code


def _python() -> Finding:
    ok = sys.version_info >= (3, 11)
    return Finding("python", ok, platform.python_version(), "install Python 3.11 or later")


def _packages() -> list[Finding]:
    """Every requirement of ours, extras as what may be missing."""
    try:
        lines = metadata.requires("ami-agent") or []
    except metadata.PackageNotFoundError:
        return [Finding("ami-agent", False, "not installed", "pip install -e . in the clone")]
    findings = []
    for line in lines:
        need = Requirement(line)
        extra = re.search(r"extra == ['\"](\w+)", line)
        if extra and (extra[1] in ("dev", "test") or need.name == "mujoco"):  # dmc narrows what core asks for
            continue
        package = "imageio-ffmpeg" if "ffmpeg" in need.extras else need.name  # imageio alone writes no films
        try:
            version = metadata.version(package)
            ok = bool(extra) or need.specifier.contains(version, prereleases=True)
        except metadata.PackageNotFoundError:
            version, ok = "not installed", False
        name = f"{package} [{extra[1]}]" if extra else package
        install = f"ami-agent[{extra[1]}]" if extra else f"{need.name}{need.specifier}"
        findings.append(Finding(name, ok, version, f"pip install '{install}'", needed=not extra))
    return findings


def _cores() -> Finding:
    machine = hardware()
    return Finding("cores", True, f"{machine['cores']}, {machine['memory_gib']} GiB memory", needed=False)


def _bf16() -> Finding:
    cpuinfo = Path("/proc/cpuinfo")
    flags = sorted(set(re.findall(r"\b(?:avx512_bf16|amx_bf16)\b", cpuinfo.read_text() if cpuinfo.exists() else "")))
    return Finding("bf16 on the processor", bool(flags), ", ".join(flags) or "no", needed=False)


def _cuda() -> Finding:
    try:
        import torch
    except (ImportError, OSError) as error:
        return Finding("CUDA", False, f"torch does not load: {error}", "reinstall torch", needed=True)
    if torch.cuda.is_available():
        return Finding("CUDA", True, torch.cuda.get_device_name(), needed=False)
    return Finding("CUDA", False, "no GPU that torch can use; the processor will do", needed=False)


def _opengl() -> list[Finding]:
    """Try each way to draw without a screen in a process of its own: a bad driver may crash or hang."""
    findings = []
    for name, package in GL_PACKAGES.items():
        environment = os.environ | {"MUJOCO_GL": name, "PYOPENGL_PLATFORM": name}
        try:
            probe = [sys.executable, "-c", GL_PROBE]
            done = subprocess.run(probe, env=environment, capture_output=True, timeout=GL_SECONDS, cwd="/")
            ok, found = done.returncode == 0, "works" if done.returncode == 0 else "does not work"
        except (OSError, subprocess.TimeoutExpired):
            ok, found = False, "did not answer"
        cure = f"for large images: apt install {package} (ray senses work without)"
        findings.append(Finding(f"OpenGL {name}", ok, found, cure, needed=False))
    return findings


def _home(path: str | None) -> list[Finding]:
    try:
        folder = home(path)
    except AmiError as error:
        return [Finding("home", False, str(error), "set AMI_HOME to a folder you may write")]
    room = shutil.disk_usage(folder).free / 2**30
    findings = [Finding("home", True, str(folder))]
    return [*findings, Finding("disk room", room >= ROOM_GIB, f"{room:.1f} GiB", f"{ROOM_GIB:g} GiB are needed")]


def _pretrained() -> Finding:
    from ami_envs.paths import ASSETS

    names = sorted(file.stem for file in (ASSETS / "pretrained").glob("*.safetensors"))
    return Finding("pretrained weights", bool(names), ", ".join(names) or "none", "reinstall ami-agent", needed=False)
