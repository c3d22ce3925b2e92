"""README.md stays true: its commands parse, its files exist, and what it says of worlds is so."""

from __future__ import annotations

import importlib
import re
import shlex

import pytest
import readme

from ami_agent import cli
from ami_envs import Task
from ami_envs.registry import TASKS

ROOT = readme.README.parent
TEXT = readme.README.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


def command_lines() -> list[str]:
    """Every `ami-agent ...` in README's shell blocks, without its comment."""
    shell = "\n".join(text for kind, text in BLOCKS if kind == "bash")
    return [line.split(" #")[0].strip() for line in re.findall(r"\bami-agent ([^&\n]+)", shell)]


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


def test_its_python_runs() -> None:
    for text in (text for kind, text in BLOCKS if kind == "python"):
        exec(compile(text, "README.md", "exec"), {})


def test_its_table_lists_the_worlds() -> None:
    section = TEXT.partition("## Worlds")[2].partition("\n## ")[0]
    assert set(re.findall(r"`(ami/\w+-v0)`", section)) == set(TASKS)


def test_the_way_to_an_own_world() -> None:
    """README's way is the one that test_env_new.py goes, and its tree the one that is written."""
    words = ["env new", "env check", "env preview", "run", "train", "run"]
    section = TEXT.partition("## Add a world")[2].partition("\n## ")[0]
    found = [cli._find(shlex.split(line.split(" #")[0]))[0] for line in re.findall(r"^ami-agent (.*)$", section, re.M)]
    assert found == words
    template = ROOT / "envs" / "ami_envs" / "template"
    for name in ("package/task.py", "package/scene.xml", "package/__init__.py", "pyproject.toml"):
        assert (template / f"{name}.txt").exists() and name.replace("package", "my_world") in section


def test_its_table_names_hooks_that_there_are() -> None:
    section = TEXT.partition("Its hooks:")[2].partition("\nWhere to look")[0]
    for name in re.findall(r"`(\w+)`", "".join(re.findall(r"^\|([^|]*)\|", section, re.M))):
        assert name in {*dir(Task), *Task.__annotations__}, name
