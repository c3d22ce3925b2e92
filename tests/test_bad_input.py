"""What cannot be learned from: numbers that are not finite, spaces of other kinds, a disk that is full."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from ami_agent import checkpoints, cli
from ami_agent.environment import Environment
from ami_agent.learning.learner import MAX_SKIPPED
from ami_agent.world_model.latent import LatentModel

SMALL = ["--worlds", "2", "--warmup", "1", "--segment", "1", "--study.ratio", "0.1", "--study.batch", "8"]
PENDULUM = ["train", "--env", "Pendulum-v1", "--action-repeat", "8", *SMALL]  # 25 decisions an episode


class Bad(gym.Env):
    """An episode of ten steps; in a share `nan` of them the fifth reward is not a number."""

    def __init__(self, nan=0.0, observation=None, action=None):
        self.nan, self.action_space = nan, action or Box(-1, 1, (1,))
        self.observation_space = observation or Box(-9, 9, (2,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.breaks = 0, self.np_random.random() < self.nan
        return self.observation_space.sample(), {}

    def step(self, action):
        self.t += 1
        return self.observation_space.sample(), np.nan if self.breaks and self.t == 5 else 1.0, False, False, {}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch):
    spaces = {
        "Discrete": {"action": Discrete(3)},
        "Unbounded": {"action": Box(-np.inf, np.inf, (2,))},
        "Image": {"observation": Box(0, 255, (8, 8, 3), np.uint8)},
        "Fair": {"nan": 0.0},
        "Odd": {"nan": 0.3},
        "Broken": {"nan": 1.0},
    }
    for name, kwargs in spaces.items():
        gym.register(f"bad/{name}-v0", Bad, max_episode_steps=10, kwargs=kwargs)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AMI_HOME", str(tmp_path / "home"))
    yield tmp_path
    for name in spaces:
        gym.registry.pop(f"bad/{name}-v0")


def told(capsys, *words: str, code: int = 0) -> dict:
    """What the command printed, or what it complained of, in one line."""
    assert cli.main([*words, "--json"]) == code
    out, err = capsys.readouterr()
    return json.loads(out) if code == 0 else {"error": " ".join(err.split())}


@pytest.mark.parametrize("command", ["run", "train"])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Discrete", "its actions are Discrete(3); supported is a flat Box with finite bounds"),
        ("Unbounded", "its actions are unbounded (Box(-inf, inf, (2,), float32)); supported are bounds within 1e+06"),
        ("Image", "it shows images only ({'observation': (8, 8, 3)}); supported are senses that are vectors"),
    ],
)
def test_spaces_that_are_not_supported_say_what_is(command: str, name: str, reason: str, capsys) -> None:
    assert reason in told(capsys, command, "--env", f"bad/{name}-v0", code=2)["error"]


def test_episodes_with_a_reward_that_is_no_number_are_void_and_counted(capsys) -> None:
    learned = told(capsys, "train", "--env", "bad/Odd-v0", "--steps", "400", *SMALL)
    assert 0 < learned["void_episodes"] < 40 and learned["updates"] > 0 and learned["skipped_updates"] == 0
    run = Path(learned["run"])
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    counts = [line["void_episodes"] for line in lines]
    assert counts == sorted(counts) and counts[-1] == learned["void_episodes"]
    assert json.loads((run / "run.json").read_text())["void_episodes"] == counts[-1]
    more = told(capsys, "train", "--resume", learned["run"], "--steps", "800")
    assert more["void_episodes"] > learned["void_episodes"]


def test_a_world_that_always_breaks_ends_with_5(capsys) -> None:
    """Told in a row over segments, too, however short these are."""
    words = ["train", "--env", "bad/Broken-v0", "--steps", "400", *SMALL]
    for segment, kept in (("1", "Go on from the last checkpoint"), ("1000", "nothing learned is kept")):
        error = told(capsys, *words, "--segment", segment, code=5)["error"]
        assert re.search(r"the physics failed in 1[12] episodes of bad/Broken-v0 in a row", error) and kept in error


def spoil(monkeypatch, which) -> list[int]:
    """Make the model's loss a NaN in those updates, counted from 1, for which `which` says so."""
    loss, calls = LatentModel.loss, [0]

    def spoiled(self, batch, generator):
        calls[0] += 1
        value, metrics = loss(self, batch, generator)
        return value * (torch.nan if which(calls[0]) else 1.0), metrics

    monkeypatch.setattr(LatentModel, "loss", spoiled)
    return calls


def test_an_update_whose_loss_is_no_number_is_skipped_and_counted(capsys, monkeypatch) -> None:
    calls = spoil(monkeypatch, lambda k: k % 3 == 0)
    learned = told(capsys, *PENDULUM, "--steps", "1600")
    assert learned["skipped_updates"] == calls[0] // 3 > 0
    assert learned["updates"] == calls[0] - learned["skipped_updates"]
    last = (Path(learned["run"]) / "metrics.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["skipped_updates"] == learned["skipped_updates"]
    tensors, _ = checkpoints.load(Path(learned["run"]) / "checkpoints")
    assert all(torch.isfinite(value).all() for value in tensors.values() if value.is_floating_point())


def test_after_too_many_it_ends_with_5_and_goes_on_from_what_is_kept(capsys, monkeypatch, place: Path) -> None:
    good = 40
    with monkeypatch.context() as patch:
        spoil(patch, lambda k: k > good)
        error = told(capsys, *PENDULUM, "--steps", "100000", code=5)["error"]
    (run,) = (place / "runs").iterdir()
    assert f"the model loss was not finite {MAX_SKIPPED} times in a row" in error
    assert error.endswith(f"Go on from the last checkpoint with: ami-agent train --resume {run.relative_to(place)}")
    kept = json.loads((run / "run.json").read_text())
    assert kept["status"] == "failed" and "not finite" in kept["error"]
    tensors, meta = checkpoints.load(run / "checkpoints")
    assert 0 < meta["updates"] <= good
    assert all(torch.isfinite(value).all() for value in tensors.values() if value.is_floating_point())
    more = told(capsys, "train", "--resume", str(run), "--steps", str(meta["steps"] + 800))
    assert more["updates"] > meta["updates"] and more["skipped_updates"] == meta["students"][""]["skipped"]


FILLS = """
import errno, os, sys
from pathlib import Path
from ami_agent import cli
sync = os.fsync

def full(descriptor):
    if list(Path("runs").glob("*/checkpoints/ckpt-000001")):
        raise OSError(errno.ENOSPC, "No space left on device")
    sync(descriptor)

os.fsync = full
sys.exit(cli.main(sys.argv[1:]))
"""


def test_a_disk_that_fills_up_while_learning_leaves_the_last_checkpoint(place: Path) -> None:
    words = [*PENDULUM, "--steps", "3200"]
    done = subprocess.run([sys.executable, "-c", FILLS, *words], env=os.environ, capture_output=True, text=True)
    assert done.returncode == 6 and "no room left on the disk" in done.stderr and "Traceback" not in done.stderr
    (run,) = (place / "runs").iterdir()
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["ckpt-000001"]
    _, meta = checkpoints.load(run / "checkpoints")
    again = [sys.executable, "-m", "ami_agent", "train", "--resume", str(run), "--json"]
    more = subprocess.run(again, env=os.environ, capture_output=True, text=True)
    assert more.returncode == 0 and json.loads(more.stdout)["steps"] == 3200 > meta["steps"]


def test_what_is_no_action_is_refused_before_anything_moves():
    environment = Environment("Pendulum-v1", n=2)
    before = environment.reset(seeds=[0, 1])["observation"]
    for wrong, said in (
        (np.zeros((2, 2)), r"has shape \(2, 2\), expected \(2, 1\)"),
        (np.zeros(2), "has shape"),
        (np.array([[0.0], [np.nan]]), r"action\[0\] of world 1 is nan, not finite"),
        (None, "has dtype object"),
    ):
        with pytest.raises(ValueError, match=said):
            environment.step(wrong)
    angles = [world.unwrapped.state[0] for world in environment.vector.envs]
    assert np.allclose(before[:, 0], np.cos(angles))
