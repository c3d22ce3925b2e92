"""README.md stays true: its commands parse, its files exist, and its world is a good one."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import sysconfig
from pathlib import Path

import pytest
import readme

from ami_agent import cli

ROOT = readme.README.parent
TEXT = readme.README.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
WORLD = "my_world"


def command_lines() -> list[str]:
    """Every `ami-agent ...` in README's shell blocks, without its comment."""
    shell = "\n".join(text for kind, text in BLOCKS if kind == "bash")
    return [line.split(" #")[0].strip() for line in re.findall(r"\bami-agent ([^&\n]+)", shell)]


def ami_agent(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The installed script, as a user calls it: unlike `python -m` it does not look for modules in the folder."""
    script = Path(sysconfig.get_path("scripts"), "ami-agent")
    environment = os.environ | {"AMI_HOME": str(folder / "home")}
    return subprocess.run([script, *words], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the world that README tells how to write."""
    codes = [text for kind, text in BLOCKS if kind == "python" and "ami_envs.register(" in text]
    assert len(codes) == 1, "one Python block registers a world"
    folder = tmp_path_factory.mktemp("user")
    (folder / f"{WORLD}.py").write_text(codes[0])
    return folder


def test_both_commands_do_all_the_set_up() -> None:
    for name in ("run", "test"):
        command = readme.command(name)
        assert "\n" not in command and command.startswith("python3 -m venv .venv && ")


@pytest.mark.parametrize("line", command_lines())
def test_commands_parse(line: str) -> None:
    name, rest = cli._find(shlex.split(line))
    command = cli.COMMANDS[name]
    cli._config(getattr(importlib.import_module(command.module), command.config), name, rest)


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"(?:`|\()((?:ami_agent|envs|assets|tests)/[^`)\s]*)[`)]", TEXT)))
)
def test_files_exist(path: str) -> None:
    assert (ROOT / path).exists()


def test_its_world_keeps_all_promises(world: Path) -> None:
    done = ami_agent(world, "env", "check", f"{WORLD}:me/Lever-v0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "keeps 13 of 13 promises" in done.stdout and "13 promises" in TEXT


def test_its_world_is_lived_in(world: Path) -> None:
    done = ami_agent(world, "run", "--env", f"{WORLD}:me/Lever-v0", "--agent", "random", "--episodes", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 episodes" in done.stdout
