"""`ami-agent env ...` and `ami-agent memory ...`, called as a user calls them."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from episodes import make
from PIL import Image
from rich.console import Console
from rich.text import Text

from ami_agent import cli, console
from ami_agent.memory.lock import HomeLock
from ami_agent.memory.store import EpisodeStore
from ami_agent.runs import Run
from ami_envs import WorldEnv
from ami_envs.registry import TASKS
from ami_envs.senses.gl import NoGraphics

WORLD = """
import ami_envs
from ami_envs.worlds.reach import Reach

class Lazy(Reach):
    '''Success: as in Reach. Its oracle does nothing.'''

    def oracle(self, env):
        return super().oracle(env) * 0

ami_envs.register("mine/Lazy-v0", Lazy)
"""


def call(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    code = cli.main([str(word) for word in words])
    return code, *capsys.readouterr()


def told(capsys: pytest.CaptureFixture[str], *words: str | Path, code: int = 0) -> dict:
    found, out, err = call(capsys, *words, "--json")
    assert found == code, err
    return json.loads(out)


@pytest.fixture
def own_world(tmp_path: Path, monkeypatch):
    """A user's module in the folder they work in."""
    (tmp_path / "lazy_world.py").write_text(WORLD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    yield "lazy_world:mine/Lazy-v0"
    sys.modules.pop("lazy_world", None)
    gym.registry.pop("mine/Lazy-v0", None)
    TASKS.pop("mine/Lazy-v0", None)


def test_env_list(capsys, monkeypatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    listed = told(capsys, "env", "list")
    assert [row["id"] for row in listed["environments"]] == list(TASKS) and listed["others"] == []
    push = next(row for row in listed["environments"] if row["id"] == "ami/Push-v0")
    assert push["robots"] == ["gantry", "arm7"] and push["horizon"] == 60 and "rgb" in push["senses"]
    assert push["success"].startswith("the cube's centre within") and push["package"] == "ami_envs"
    assert all(len(row["success"]) > 10 for row in listed["environments"]) and listed["broken"] == []
    assert "Pendulum-v1" in told(capsys, "env", "list", "--all")["others"]
    code, out, _ = call(capsys, "env", "list")
    assert code == 0 and all(id in out for id in TASKS) and "Pendulum" not in out
    assert out.count("\n") == 1 + len(TASKS) and "\x1b" not in out, "a line each, plain where it is no terminal"
    assert "touch, lidar (joints, " in next(line for line in out.splitlines() if line.startswith("ami/MazeNav-v0"))
    monkeypatch.setenv("COLUMNS", "90")
    out = call(capsys, "env", "list")[1]
    assert max(map(len, out.splitlines())) <= 90 and all(id in out for id in TASKS) and "\x1b" not in out


def test_env_list_on_a_terminal(capsys, monkeypatch) -> None:
    terminal = Console(force_terminal=True, width=100, highlight=False, color_system="standard")
    monkeypatch.setattr(console, "out", terminal)
    _, out, _ = call(capsys, "env", "list")
    assert "\x1b[" in out and out.count("\n") > 1 + len(TASKS) and all(id in out for id in TASKS)
    assert max(len(Text.from_ansi(line)) for line in out.splitlines()) <= 100
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in call(capsys, "env", "list")[1] + call(capsys, "env", "info", "ami/Reach-v0")[1]


def test_env_info(capsys) -> None:
    facts = told(capsys, "env", "info", "ami/MazeNav-v0", "--options", '{"size": 5}')
    lidar = {"shape": [32], "dtype": "float32", "bounds": [0.0, 5.0], "hz": 20.0, "delay": 0}
    assert lidar.items() <= facts["senses"]["lidar"].items() and "Distance" in facts["senses"]["lidar"]["about"]
    assert facts["senses"]["observation"]["bounds"] is None
    assert facts["actions"] == {"shape": [3], "dtype": "float32", "bounds": [-1.0, 1.0]}
    assert facts["period"] == 0.05 and facts["oracle"] is True and facts["reward"] == "dense"
    assert {"size", "map", "reward_type"} <= set(facts["options"])
    code, out, _ = call(capsys, "env", "info", "ami_envs:ami/Push-v0")
    assert code == 0 and "(5,) float32 in [-1, 1]" in out and "Success" in out
    assert "dyaw (0.1 rad)" in out and "causes of every episode" in out
    assert "25 Hz" in out and "2.5 to 5" in out and "distance" in out and "gantry (or arm7)" in out
    alike_options = ["--options", '{"order": "weight"}']
    named, alike = (told(capsys, "env", "info", "ami/Depot-v0", *more)["senses"] for more in ([], alike_options))
    assert named.keys() - alike.keys() == {"segmentation"}, "options may take a sense away"
    factors = told(capsys, "env", "info", "ami/Push-v0")["factors"]
    assert factors["mass"] == {
        "training": [0.5, 2.0],
        "held_out": [2.5, 5.0],
        "shape": [],
        "about": "the things' mass, x",
    }
    slow = told(capsys, "env", "info", "ami/Reach-v0", "--options", '{"sensors": {"rgb": {"every": 5, "size": 32}}}')
    assert slow["senses"]["rgb"]["hz"] == 5 and slow["senses"]["rgb"]["shape"] == [32, 32, 3]
    foreign = told(capsys, "env", "info", "Pendulum-v1")
    assert foreign["goal"] is None and foreign["oracle"] is False and "robot" not in foreign


@pytest.mark.parametrize("command", ["info", "check", "preview"])
@pytest.mark.parametrize(
    ("words", "say"),
    [
        (["ami/Psh-v0"], "did you mean ami/Push-v0"),
        (["qqqqqqqq"], "env list --all"),
        (["no_such_module:a/B-v0"], "no_such_module cannot be imported"),
        (["ami/Push-v0", "--options", '{"colour": 1}'], "no option 'colour'; there are robot, reward_type"),
        (["ami/Push-v0", "--options", "[1]"], "JSON object"),
    ],
)
def test_env_wrong_words(command: str, words: list[str], say: str, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = call(capsys, "env", command, *words)
    assert code == 2 and out == "" and err.count("\n") == 1 and say in err
    assert not list(tmp_path.iterdir())


def test_env_check(capsys, own_world: str) -> None:
    found = told(capsys, "env", "check", own_world, code=4)
    assert found["environment"] == "mine/Lazy-v0" and found["faults"] == 1
    (bad,) = [finding for finding in found["findings"] if finding["fault"]]
    assert bad["check"] == "can_be_solved" and "0.0%" in bad["fault"] and "oracle" in bad["cure"]
    code, out, _ = call(capsys, "env", "check", "Pendulum-v1")
    assert code == 0 and "keeps 7 of 7 promises" in out and "FAULT" not in out and "cannot live" not in out
    code, out, _ = call(capsys, "env", "check", "CartPole-v1")
    assert code == 0 and "but the agent cannot live there: CartPole-v1: its actions are Discrete(2)" in out


def test_env_preview(capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    film = told(capsys, "env", "preview", "ami/Reach-v0", "--seed", "2")
    assert film["success"] is True and Path(film["file"]).read_bytes().startswith(b"GIF89a")
    assert Path(film["file"]) == tmp_path / "ami-reach-v0.gif"
    code, _, err = call(capsys, "env", "preview", "ami/Reach-v0")
    assert code == 2 and "--force" in err
    other = told(capsys, "env", "preview", "ami/Reach-v0", "--force", "--agent", "random", "--out", "new/a.gif")
    assert other["steps"] == 50 and other["success"] is False and (tmp_path / "new" / "a.gif").exists()
    assert call(capsys, "env", "preview", "ami/Reach-v0", "--out", "a.avi")[0] == 2
    assert call(capsys, "env", "preview", "ami/Reach-v0", "--out", "a.gif", "--agent", "nobody")[0] == 2


def test_env_preview_is_drawn_as_asked(capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    arm = ["ami/Reach-v0", "--options", '{"robot": "arm7"}', "--size", "32"]
    film = told(capsys, "env", "preview", *arm, "--out", "arm.gif")
    assert film["success"] and Image.open("arm.gif").size == (32, 32) and film["pace"] == 1
    long = ["ami/MazeNav-v0", "--agent", "random", "--seed", "3", "--options", '{"max_episode_steps": 450}']
    _, out, _ = call(capsys, "env", "preview", *long, "--size", "16", "--out", "long.gif")
    assert "450 steps, shown 4 times as fast" in out and Image.open("long.gif").n_frames <= 212
    code, _, err = call(capsys, "env", "preview", "ami/Reach-v0", "--size", "9")
    assert code == 2 and "--size must lie from 16" in err
    code, _, err = call(capsys, "env", "preview", "Pendulum-v1", "--agent", "random", "--size", "64")
    assert code == 2 and "worlds of ami_envs" in err

    def missing(*args: object) -> None:
        raise NoGraphics("there is no OpenGL here: install it")

    monkeypatch.setattr(WorldEnv, "eye", missing)
    code, _, err = call(capsys, "env", "preview", "ami/Reach-v0", "--renderer", "gl")
    assert code == 3 and "no OpenGL here: install it" in err and not Path("ami-reach-v0.gif").exists()


def test_others_worlds_on_mujoco_are_drawn_without_a_screen(capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MUJOCO_GL", "disable")
    film = told(capsys, "env", "preview", "Reacher-v5", "--agent", "random", "--out", "reacher.gif")
    with Image.open(film["file"]) as pictures:
        first = np.array(pictures.convert("RGB"))
        pictures.seek(pictures.n_frames - 1)
        assert (np.array(pictures.convert("RGB")) != first).any()


def test_env_preview_as_mp4(capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["env", "preview", "ami/Reach-v0", "--size", "33", "--out", "a.mp4"]
    if importlib.util.find_spec("imageio_ffmpeg") is None:
        code, _, err = call(capsys, *words)
        assert code == 3 and "ami-agent[video]" in err and not Path("a.mp4").exists()
    else:
        assert call(capsys, *words)[0] == 0 and Path("a.mp4").read_bytes()[4:8] == b"ftyp"


def test_env_gallery(capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for id in set(TASKS) - {"ami/Reach-v0", "ami/Push-v0"}:
        monkeypatch.delitem(TASKS, id)
    drawn = told(capsys, "env", "gallery")
    assert drawn["worlds"] == ["ami/Reach-v0", "ami/Push-v0"] and drawn["faults"] == {}
    assert {path.name for path in Path("gallery").iterdir()} == {"ami-reach-v0.png", "ami-push-v0.png", "gallery.png"}
    picture = Path("gallery", "ami-push-v0.png")
    assert Image.open(picture).size == (256, 256) and picture.stat().st_size < 60_000
    code, _, err = call(capsys, "env", "gallery")
    assert code == 2 and "--force" in err
    assert call(capsys, "env", "gallery", "--sheet-only", "--out", "sheet")[0] == 0
    assert [path.name for path in Path("sheet").iterdir()] == ["gallery.png"]


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    """An agent's memory of three episodes."""
    path = tmp_path / "home" / "agents" / "default" / "memory.sqlite"
    path.parent.mkdir(parents=True)
    with EpisodeStore(path) as store:
        for seed in range(3):
            store.append(make(seed))
    return path


def test_memory_info_and_verify(capsys, tmp_path: Path, memory: Path) -> None:
    before = memory.read_bytes()
    stats = told(capsys, "memory", "info", "--home", tmp_path / "home")
    assert stats["episodes"] == 3 and stats["path"] == str(memory) and stats["environments"]
    code, out, _ = call(capsys, "memory", "info", "--home", tmp_path / "home")
    assert code == 0 and "3 episodes" in out and "succeeded" in out
    assert told(capsys, "memory", "verify", "--home", tmp_path / "home")["ok"] is True
    assert "is well" in call(capsys, "memory", "verify", "--home", tmp_path / "home")[1]
    assert memory.read_bytes() == before


def test_memory_of_a_world_that_tells_no_success(capsys, tmp_path: Path, memory: Path) -> None:
    with EpisodeStore(memory) as store:
        store.append(make(0, environment="Pendulum-v1", success=None))
    stats = told(capsys, "memory", "info", "--home", tmp_path / "home")
    assert stats["environments"]["Pendulum-v1"]["success_rate"] is None
    assert "- succeeded" in call(capsys, "memory", "info", "--home", tmp_path / "home")[1]


def test_memory_export_compact_and_recall(capsys, tmp_path: Path, memory: Path) -> None:
    home = ("--home", tmp_path / "home")
    facts = told(capsys, "memory", "export", "--out", tmp_path / "out", *home)
    assert list(facts["datasets"].values()) == [3] and facts["left_out"] == 0
    code, _, err = call(capsys, "memory", "export", "--out", tmp_path / "out", *home)
    assert code == 2 and "nothing is overwritten" in err
    facts = told(capsys, "memory", "compact", *home)
    assert facts["bytes"] <= facts["bytes_before"] and told(capsys, "memory", "verify", *home)["ok"]
    with HomeLock(memory.parent):
        assert call(capsys, "memory", "compact", *home)[0] == 75
    moments = told(capsys, "memory", "recall", "--episode", 2, "--t", 3, "--k", 4, *home)["moments"]
    assert len(moments) == 4 and {one["episode"] for one in moments} <= {1, 3}
    near = told(capsys, "memory", "recall", "--episode", 2, "--t", 3, "--no-others", *home)["moments"][0]
    assert (near["episode"], near["t"], near["distance"]) == (2, 3, 0)
    assert (
        "moment 3 of episode 2" in call(capsys, "memory", "recall", "--episode", 2, "--t", 3, "--no-others", *home)[1]
    )
    for flags, some in [
        (("--success", "no"), True),
        (("--session", "never"), False),
        (("--task", '{"n": 9}'), False),
        (("--after", "2020-01-01", "--before", "2200-01-01T10:30", "--t-from", 1), True),
        (("--before", "2020-01-01"), False),
        (("--t-to", -1), False),
    ]:
        assert bool(told(capsys, "memory", "recall", "--episode", 1, *flags, *home)["moments"]) == some, flags
    for wrong in (("--episode", 9), ("--episode", 2, "--t", 6), ("--episode", 2, "--k", 0), ("--after", "noon")):
        wrong = wrong if "--episode" in wrong else ("--episode", 2, *wrong)
        assert call(capsys, "memory", "recall", *wrong, *home)[0] == 2


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch) -> Path:
    """A run with one short episode, whose world told no success."""
    monkeypatch.chdir(tmp_path)
    run = Run.create("runs", "run", "ami/Reach-v0", "random", 0, {"env": "ami/Reach-v0", "options": "{}"})
    actions = np.zeros((3, 5), np.float32)
    with EpisodeStore(run.folder / "episodes.sqlite") as record:
        record.append(make(0, 3, None, environment="ami/Reach-v0", action=actions, success=None))
    run.finish("done")
    return run.folder


def test_replay_overwrites_nothing(capsys, run_folder: Path) -> None:
    shown = told(capsys, "replay", run_folder, "--out", "a.gif")
    assert shown["success"] is None and shown["steps"] == 3 and Path("a.gif").read_bytes().startswith(b"GIF89a")
    Path("a.gif").write_bytes(b"mine")
    code, out, err = call(capsys, "replay", run_folder, "--out", "a.gif")
    assert (code, out) == (2, "") and "--force" in err and Path("a.gif").read_bytes() == b"mine"
    code, out, _ = call(capsys, "replay", run_folder, "--out", "a.gif", "--force")
    assert code == 0 and "episode 1: 3 steps" in out and Path("a.gif").read_bytes() != b"mine"
    assert call(capsys, "replay", run_folder, "--out", "a.mp4")[0] == 2
    assert call(capsys, "replay", run_folder)[0] == 0 and call(capsys, "replay", run_folder)[0] == 2


def test_memory_of_nobody(capsys, tmp_path: Path, memory: Path) -> None:
    for command in ("info", "verify"):
        code, out, err = call(capsys, "memory", command, "--home", tmp_path / "home", "--name", "defualt")
        assert (code, out) == (2, "") and "--name may be default" in err
        code, out, err = call(capsys, "memory", command, "--home", tmp_path / "nowhere")
        assert (code, out) == (2, "") and "ami-agent run" in err
    assert not (tmp_path / "nowhere").exists() and not (tmp_path / "home" / "agents" / "defualt").exists()


def test_damaged_memory(capsys, tmp_path: Path, memory: Path) -> None:
    data = bytearray(memory.read_bytes())
    zstd = data.rindex(b"\x28\xb5\x2f\xfd")  # a packed array
    data[zstd + 20] ^= 1
    memory.write_bytes(data)
    found = told(capsys, "memory", "verify", "--home", tmp_path / "home", code=4)
    assert len(found["faults"]) == 1 and "checksum" in found["faults"][0] and "passed over" in found["cure"]
    memory.write_bytes(b"")
    code, out, _ = call(capsys, "memory", "verify", "--home", tmp_path / "home")
    assert code == 4 and "zero bytes" in out and "mv " in out
    assert call(capsys, "memory", "info", "--home", tmp_path / "home")[0] == 4
    assert memory.read_bytes() == b""
