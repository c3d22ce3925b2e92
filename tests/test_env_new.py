"""`ami-agent env new` writes a world that works, and its way from the first command to a trained agent is open."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import gymnasium as gym
import pytest

from ami_agent import cli
from ami_envs.registry import TASKS

FILES = ["README.md", "my_world/__init__.py", "my_world/scene.xml", "my_world/task.py", "pyproject.toml"]
NAMED = "my_world:me/MyWorld-v0"
TINY = ["--worlds", "2", "--warmup", "124", "--segment", "248", "--steps", "400"]


def call(folder: Path, *words: str, home: Path | None = None, path: Path | None = None) -> tuple[int, str]:
    """The installed script, as a user calls it: unlike `python -m` it does not look for modules in the folder."""
    script = Path(sysconfig.get_path("scripts"), "ami-agent")
    environment = os.environ | {"AMI_HOME": str(home or folder / "home"), "PYTHONPATH": str(path or "")}
    done = subprocess.run([script, *words], cwd=folder, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["env", "new", "my-world"]) == 0
    return tmp_path / "my-world"


def test_what_is_written(world: Path, capsys) -> None:
    told = capsys.readouterr().out
    assert sorted(str(path.relative_to(world)) for path in world.rglob("*") if path.is_file()) == sorted(
        [*FILES, "tests/test_my_world.py"]
    )
    assert all(file in told for file in FILES) and f"ami-agent env check {NAMED}" in told and "cd my-world" in told
    for path in world.rglob("*"):
        assert path.is_dir() or "$" not in path.read_text(), f"a word left open in {path}"
        assert path.is_dir() or max(map(len, path.read_text().splitlines())) <= 120
        assert path.stat().st_mode & 0o044 == 0o044
    project = tomllib.loads((world / "pyproject.toml").read_text())["project"]
    assert project["name"] == "my-world" and project["entry-points"]["ami_agent.envs"] == {"my_world": "my_world"}
    assert list(world.parent.iterdir()) == [world]


@pytest.mark.parametrize(
    ("name", "say"),
    [
        ("", "letters, digits"),
        ("1st", "begin with a letter"),
        ("a b", "letters, digits"),
        ("../up", "letters, digits"),
        ("my-", "end with a letter or digit"),
        ("_own", "begin with a letter"),
        ("wörld", "letters, digits"),
        ("x" * 51, "at most 50"),
        ("class", "word of Python's own"),
        ("Import", "word of Python's own"),
        ("json", "Python has a module of that name"),
        ("torch", "is installed"),
        ("ami-envs", "is installed"),
        ("tests", "tests"),
    ],
)
def test_bad_names(tmp_path: Path, monkeypatch, capsys, name: str, say: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["env", "new", name]) == 2
    out, err = capsys.readouterr()
    assert out == "" and say in err and err.count("\n") == 1 and not list(tmp_path.iterdir())


def test_nothing_is_overwritten(world: Path, capsys) -> None:
    before = {path: path.stat().st_mtime_ns for path in world.rglob("*")}
    for words in (["my-world"], ["other", "--out", "my-world"], ["other", "--out", "."], ["other", "--out", "a-link"]):
        Path("a-link").unlink(missing_ok=True)
        Path("a-link").symlink_to("nowhere")
        assert cli.main(["env", "new", *words]) == 2
        assert "is there already" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in world.rglob("*")}
    assert cli.main(["env", "new", "ok", "--namespace", "a/b"]) == 2 and "--namespace" in capsys.readouterr().err
    assert cli.main(["env", "new", "ok", "--namespace", "ami"]) == 2 and "own worlds" in capsys.readouterr().err
    Path("file").touch()
    assert cli.main(["env", "new", "ok", "--out", "file/inside"]) == 3 and "file" in capsys.readouterr().err
    assert cli.main(["env", "new", "ok", "--out", "new/deep", "--namespace", "us", "--json"]) == 0
    assert '"name": "ok:us/Ok-v0"' in capsys.readouterr().out and Path("new/deep/ok/task.py").exists()


def test_in_the_wrong_folder_one_is_told_where_to_go(world: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(world.parent)])
    importlib.invalidate_caches()
    assert cli.main(["env", "check", "my_worlds:me/MyWorld-v0"]) == 2
    assert "run this in the folder that it lies in" in capsys.readouterr().err
    world.rename(world.parent / "my_world")
    assert cli.main(["env", "check", NAMED]) == 2
    assert "go into it first, cd my_world" in capsys.readouterr().err
    del sys.modules["my_world"]


def edit_goal(world: Path) -> None:
    """What a newcomer does first."""
    task = world / "my_world" / "task.py"
    text = task.read_text()
    assert text.count("ANGLES = -1.2, 1.2") == 1
    task.write_text(text.replace("ANGLES = -1.2, 1.2", "ANGLES = -1.0, 1.3"))


def test_the_newcomers_path(world: Path) -> None:
    """The commands of README's "Add a world", with little learning."""
    edit_goal(world)
    code, told = call(world, "env", "check", NAMED)
    assert code == 0 and re.search(r"keeps (\d+) of \1 promises", told), told
    code, told = call(world, "run", "--env", NAMED, "--agent", "random", "--episodes", "2")
    assert code == 0 and "2 episodes" in told, told
    code, told = call(world, "train", "--env", NAMED, *TINY)
    assert code == 0 and f"ami-agent run --env {NAMED}" in told, told
    code, told = call(world, "run", "--env", NAMED, "--episodes", "1")
    assert code == 0 and "after 400 env steps of learning" in told, told
    assert not (world.parent / "MUJOCO_LOG.TXT").exists() and not (world / "MUJOCO_LOG.TXT").exists()


@pytest.mark.slow
def test_the_newcomers_path_at_full_length(world: Path) -> None:
    code, told = call(world, "train", "--env", NAMED, "--steps", "30000", "--seed", "0")
    assert code == 0, told
    code, told = call(world, "run", "--env", NAMED, "--episodes", "50", "--seed", "1")
    success = re.search(r"success (\d\.\d+)", told)
    assert code == 0 and success and float(success[1]) >= 0.8, told


@pytest.mark.slow
def test_its_own_tests_pass(world: Path) -> None:
    edit_goal(world)
    done = subprocess.run([sys.executable, "-m", "pytest", "-q"], cwd=world, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("hatchling") is None, reason="hatchling builds its package")
def test_installed_it_is_known_by_its_id_alone(world: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    words = ["--no-deps", "--no-build-isolation", "--no-index", "--target", str(site), str(world)]
    done = subprocess.run([sys.executable, "-m", "pip", "install", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    code, told = call(tmp_path, "env", "list", path=site)
    assert code == 0 and "me/MyWorld-v0" in told and "my-world" in told, told
    code, told = call(tmp_path, "env", "check", "me/MyWorld-v0", path=site)
    assert code == 0 and re.search(r"keeps (\d+) of \1 promises", told), told


# -- a world that is wrong is told so, with the place and the cure -------------------------------------------------

ROBOT = '<include file="ami/robot.xml"/>'
WRONG = {
    "malformed XML": ("scene.xml", "</worldbody>", "", "scene.xml: malformed XML, mismatched tag: line"),
    "path outside": ("scene.xml", "<option", '<include file="../up.xml"/><option', "'..' are refused; use a relative"),
    "absolute path": ("scene.xml", "<option", '<include file="/etc/x.xml"/><option', "absolute paths are refused; use"),
    "no such file": ("scene.xml", "<option", '<include file="up.xml"/><option', "there is no such file; put it into"),
    "no camera": ("scene.xml", 'name="view"', 'name="eye"', 'no camera named "view", only eye'),
    "no robot": ("scene.xml", ROBOT, "", f"it has no robot; put {ROBOT} before the first <worldbody>"),
    "robot late": ("scene.xml", "</mujoco>", f"{ROBOT}</mujoco>", "joints do not come first; put <include"),
    "NaN": ("scene.xml", 'damping="0.01"', 'damping="nan"', "NaN and infinity are refused; write a finite"),
    "misspelt": ("scene.xml", 'damping="0.01"', 'dampin="0.01"', "unrecognized attribute: 'dampin'"),
    "no scene": ("task.py", '"scene.xml"', '"scen.xml"', "scen.xml: it cannot be read"),
    "reset raises": ("task.py", "start, goal = rng", "1 / 0; start, goal = rng", "ZeroDivisionError: division by zero"),
    "size varies": (
        "task.py",
        "_speed], axis",
        "_speed, *[self._speed] * env.steps.max()], axis",
        "always has the same",
    ),
    "wrong goal": ("task.py", "env.goal[i] = goal", "env.goal[i] = 1, 2, 3", "from shape (3,) into shape (1,)"),
    "goal size": ("task.py", "goal_size = 1", "goal_size = 2", "achieved gives an array of shape (2, 1), not (2, 2)"),
    "no goal size": ("task.py", "goal_size = 1", "", "no attribute 'goal_size'"),
    "not finite": ("task.py", "[env.robot.hand(),", "[env.robot.hand() / 0,", "observe gives a number that is not"),
    "misspelt joint": ("task.py", "first = env", "env.model.joint('levr'); first = env", "Invalid name 'levr'"),
    "misspelt thing": ("task.py", '("lever",)', '("levr",)', "a body 'levr' that the scene has not; it has: goal, lev"),
    "NaN late": (
        "task.py",
        '"angle": -np.abs',
        '"angle": np.where(np.abs(achieved - desired)[:, 0] < 0.3, np.nan, 0) - np.abs',
        "the reward's term 'angle' is nan at step",
    ),
    "float32": ("task.py", "_speed], axis=1)", "_speed], axis=1, dtype='f4')", "cure: observe must give float64"),
    "needs to see": ("task.py", "if observation is not None:", "if 1:", "leave out the terms that need one"),
    "no oracle": ("task.py", "def oracle", "def orakel", "abstract method"),
    "no Python": ("task.py", "env.goal[i] = goal", "env.goal[i] = goal)", "SyntaxError: unmatched ')' (task.py, line"),
}
LOCATED = ("reset raises", "wrong goal", "misspelt joint", "needs to see")


@pytest.mark.parametrize("name", WRONG)
def test_check_tells_what_is_wrong(tmp_path: Path, monkeypatch, capsys, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    file, old, new, say = WRONG[name]
    module = f"wrong_{list(WRONG).index(name)}"
    assert cli.main(["env", "new", module, "--out", "w"]) == 0
    path = tmp_path / "w" / module / file
    text = path.read_text()
    assert text.count(old) >= 1
    if name == "robot late":
        text = text.replace(ROBOT, "")
    path.write_text(text.replace(old, new, 1))
    capsys.readouterr()
    monkeypatch.syspath_prepend(str(tmp_path / "w"))
    id = f"me/Wrong{list(WRONG).index(name)}-v0"
    try:
        assert cli.main(["env", "check", f"{module}:{id}"]) == (2 if name == "no Python" else 4)
    finally:
        TASKS.pop(id, None)
        gym.registry.pop(id, None)
        for loaded in [one for one in sys.modules if one.partition(".")[0] == module]:
            del sys.modules[loaded]
    out, err = capsys.readouterr()
    assert say in out + err and "Traceback" not in out + err and "bug" not in err
    assert err.count("\n") <= 1 and out.count("FAULT") <= 1, "one clear line"
    if name in LOCATED:
        assert re.search(rf"\({re.escape(str(path))}, line \d+, in \w+\)", out)
