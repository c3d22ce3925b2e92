"""Worlds of other packages, found by their entry points; a broken package harms nobody else."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import pytest

from ami_agent import cli
from ami_envs.plugins import load_plugins
from ami_envs.registry import TASKS

GOOD = """
import ami_envs
from ami_envs.worlds.reach import Reach
class Near(Reach):
    '''Success: nearer than in Reach. More words.'''
ami_envs.register("plug/Near-v0", Near)
"""
TAKEN = GOOD.replace("plug/Near-v0", "ami/Push-v0")
HALF = GOOD.replace("plug/Near-v0", "plug/Half-v0").replace("(Reach)", "(ami_envs.Task)")


class Site:
    """A folder on Python's path, with packages that say of themselves what they bring."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(self, name: str, code: str, point: str | None = None) -> None:
        (self.folder / f"{name}.py").write_text(code)
        about = self.folder / f"{name}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n")
        (about / "top_level.txt").write_text(f"{name}\n")
        value = name if point is None else point
        (about / "entry_points.txt").write_text(f"[ami_agent.envs]\n{name} = {value}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    before = set(TASKS), set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("COLUMNS", raising=False)  # tables would wrap
    load_plugins.cache_clear()
    yield Site(tmp_path)
    load_plugins.cache_clear()
    for id in set(TASKS) - before[0]:
        del TASKS[id]
        gym.registry.pop(id, None)
    for name in set(sys.modules) - before[1]:
        if name.startswith("plug_"):
            del sys.modules[name]


def listed(capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, dict], dict[str, str]]:
    """The worlds by id, and the faults of what is broken by name."""
    assert cli.main(["env", "list", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    return {row["id"]: row for row in told["environments"]}, {one["name"]: one["fault"] for one in told["broken"]}


def test_a_world_is_known_by_its_id_alone(site: Site, capsys) -> None:
    site.install("plug_good", GOOD)
    assert cli.main(["env", "info", "plug/Near-v0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["package"] == "plug_good"
    worlds, broken = listed(capsys)
    assert worlds["plug/Near-v0"]["success"] == "nearer than in Reach" and broken == {}
    assert cli.main(["env", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["world", "from", "robots"] and "\x1b" not in "".join(lines)
    assert next(line for line in lines if line.startswith("plug/Near-v0")).split()[1] == "plug-good"
    assert next(line for line in lines if line.startswith("ami/Reach-v0")).split()[1] == "gantry,"


@pytest.mark.parametrize(
    ("code", "point", "say"),
    [
        ("1 / 0", None, "ZeroDivisionError: division by zero"),
        ("raise SystemExit('no\\nlicense')", None, "SystemExit: no license"),
        ("import no_such_thing_here", None, "No module named 'no_such_thing_here'"),
        ("x = = 1", None, "SyntaxError"),
        (TAKEN, None, "the id ami/Push-v0 is taken"),
        (HALF, None, "max_episode_steps"),
        ("", "plug_bad:Missing", "Missing"),
        ("", "plug-bad, really", "its entry point is 'plug-bad, really', not the name of a module"),
        ("", "", "not the name of a module"),
        ("", "plug_elsewhere", "No module named 'plug_elsewhere'"),
    ],
)
def test_a_broken_one_is_named_and_harms_nobody(site: Site, capsys, code: str, point: str | None, say: str) -> None:
    site.install("plug_bad", code, point)
    site.install("plug_good", GOOD)
    before = dict(TASKS)
    worlds, broken = listed(capsys)
    assert set(before) | {"plug/Near-v0"} == set(worlds)
    assert list(broken) == ["plug_bad"] and say in broken["plug_bad"] and "\n" not in broken["plug_bad"]
    assert all(TASKS[id] == task for id, task in before.items())
    assert cli.main(["env", "list"]) == 0
    told = capsys.readouterr().out.replace(f"{site.folder}/", "")
    assert "broken: plug-bad 1.0 (" in told and told.endswith("; mend it, or pip uninstall plug-bad\n")
    if code:
        assert "broken: plug-bad 1.0 (plug_bad.py:" in told, "its own line is named"


@pytest.mark.parametrize("words", [["env", "check"], ["env", "info"], ["env", "preview"], ["run", "--env"]])
def test_an_unknown_id_tells_of_broken_ones(site: Site, capsys, words: list[str]) -> None:
    site.install("plug_bad", "1 / 0")
    assert cli.main([*words, "plug/Nowhere-v0"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "broken plug-in: plug-bad 1.0 (" in err and ": ZeroDivisionError" in err
    assert err.splitlines()[-1].startswith("ami-agent: no environment 'plug/Nowhere-v0'; `ami-agent env list --all`")


def test_what_a_broken_one_registered_is_taken_out(site: Site, capsys) -> None:
    site.install("plug_bad", "import plug_good\n" + GOOD.replace("Near-v0", "Lost-v0") + "raise RuntimeError('boom')")
    site.install("plug_good", GOOD)
    worlds, broken = listed(capsys)
    assert "plug/Lost-v0" not in {*worlds, *TASKS, *gym.registry} and broken == {"plug_bad": "RuntimeError: boom"}
    assert "plug/Near-v0" in worlds, "it is of another package, whole though imported by the broken one"


def test_nothing_is_imported_before_it_is_asked_for(site: Site, capsys) -> None:
    site.install("plug_good", GOOD)
    assert cli.main(["env", "info", "ami/Reach-v0", "--json"]) == 0
    assert "plug_good" not in sys.modules


def test_a_world_half_written_is_listed_as_broken(site: Site, capsys) -> None:
    site.install("plug_odd", GOOD.replace("'''Success", "robot = 3\n    '''Success"))
    worlds, broken = listed(capsys)
    assert "plug/Near-v0" not in worlds and "ami/Push-v0" in worlds and "AttributeError" in broken["plug/Near-v0"]
