"""Others' environments that misbehave once in a while: what is lived there is kept, and what is told of it is right."""

import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box

from ami_agent import cli
from ami_agent.baselines.simple import NoopAgent
from ami_agent.environment import Environment
from ami_agent.errors import UsageError
from ami_agent.learning.live import live

FIRST = sys.stdout  # as those keep it who log to it
TRAIN = ["train", "--worlds", "1", "--steps", "300", "--warmup", "40", "--study.batch", "8", "--json"]


class Mild(gym.Env):
    """Episodes of ten steps that may begin, cost, succeed, draw and close as told; one more is made an episode."""

    observation_space, action_space = Box(-9, 9, (2,)), Box(-1, 1, (1,))
    metadata = {"render_modes": ["rgb_array"]}
    open = 0

    def __init__(self, kind="", render_mode=None):
        self.kind, self.render_mode, self.episodes = kind, render_mode, 0
        if kind == "only one" and Mild.open:
            raise RuntimeError("it is in use")
        Mild.open += 1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.episodes = 0, self.episodes + 1
        return np.full(2, np.nan if self.kind == "nan at first" and self.episodes % 3 == 0 else 1, np.float32), {}

    def step(self, action):
        self.t += 1
        told = {}
        if self.kind == "breaks" and self.episodes > 12:
            raise OSError("the cable")
        if self.kind == "tells late" and self.episodes > 3:
            told = {"cost": 2.0, "success": True}
        if self.kind == "nan told":
            told = {"success": np.nan, "cost": np.nan if self.episodes % 3 == 0 else 1.0}
        if self.kind == "writes":
            os.write(1, b"a driver talks\n")
            FIRST.write("and so does a logger\n")
        return (
            self.np_random.normal(size=2).astype(np.float32),
            None if self.kind == "none" else 1.0,
            False,
            False,
            told,
        )

    def render(self):
        sys.exit(7)

    def close(self):
        Mild.open -= 1
        if self.kind == "closes badly":
            raise ZeroDivisionError("closing")


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AMI_HOME", str(tmp_path / "home"))
    gym.register("odd/Mild-v0", Mild, max_episode_steps=10)
    yield
    del gym.registry["odd/Mild-v0"]
    Mild.open = 0


def told(capsys, *words: str, kind: str = "", code: int = 0) -> dict:
    """What a command in a world of that kind prints; what it said on stderr is under "said"."""
    options = ["--env", "odd/Mild-v0", "--options", json.dumps({"kind": kind})]
    assert cli.main([*words, *(options if words[0] in ("run", "train") and "--resume" not in words else [])]) == code
    printed = capsys.readouterr()
    return (json.loads(printed.out) if code == 0 and "--json" in words else {}) | {"said": printed.err}


RANDOM = ["run", "--agent", "random", "--episodes", "8", "--json"]


def test_what_is_told_late_counts_from_the_start(capsys):
    facts = told(capsys, *RANDOM, kind="tells late")
    assert facts["cost_mean"] == 20 * 5 / 8 and facts["success_rate"] == 5 / 8


def test_what_is_told_and_is_no_number_is_not_believed(capsys):
    facts = told(capsys, *RANDOM, kind="nan told")
    assert facts["cost_mean"] == 10 and facts["success_rate"] is None
    assert facts["void_episodes"] == 3 and "its cost is not finite" in facts["void_fault"]
    environment = Environment("odd/Mild-v0", 1, {"kind": "none"})
    environment.reset(seeds=[0])
    with pytest.raises(UsageError, match="None for the reward"):
        environment.step(np.zeros((1, 1)))


def test_episodes_that_begin_with_nan_are_void_and_learning_goes_on(capsys):
    environment = Environment("odd/Mild-v0", 2, {"kind": "nan at first"})
    decisions = itertools.islice(live(environment, NoopAgent(1), iter(range(99))), 60)
    lived = [episode for ended in decisions for episode in ended]
    assert environment.void == 4 and {len(episode) for episode in lived} == {10}
    assert "sense 'observation' is not finite" in environment.fault
    facts = told(capsys, *TRAIN, kind="nan at first")
    assert facts["void_episodes"] > 10 and facts["updates"] > 0


def test_learning_outlives_a_world_that_raises_when_it_is_closed(capsys):
    facts = told(capsys, *TRAIN, kind="closes badly")
    assert Path(facts["weights"]).exists() and facts["said"].count("while it was closed") == 1
    for command in ("info", "check"):
        line = ["env", command, "odd/Mild-v0", "--options", '{"kind": "closes badly"}']
        assert cli.main(line) == (4 if command == "check" else 0)


def test_learning_that_a_world_ends_tells_how_to_go_on(capsys):
    said = told(capsys, *TRAIN, "--segment", "20", kind="breaks", code=2)["said"]
    again = re.search("ami-agent train --resume (runs/\\S+)", said)
    assert "OSError: the cable" in said and again
    said = told(capsys, "train", "--resume", again[1], "--steps", "30", code=2)["said"]
    assert "too few" in said and "Go on" not in said


@pytest.mark.parametrize("kind", ["", "only one"])
def test_a_film_that_cannot_be_made_costs_nothing_else(kind, capsys):
    facts = told(capsys, *RANDOM, kind=kind)
    assert Path(facts["run"], "report.html").exists() and facts["episodes"] == 8


def test_json_is_alone_on_stdout_whoever_writes_there(tmp_path):
    module = Path(__file__).stem
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import gymnasium, {module} as odd\n"
        "gymnasium.register('odd/Mild-v0', odd.Mild, max_episode_steps=10)\n"
        "from ami_agent import cli\n"
        "sys.exit(cli.main([*odd.RANDOM, '--env', 'odd/Mild-v0', '--options', '{\"kind\": \"writes\"}']))"
    )
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=buffered)
    assert json.loads(done.stdout)["episodes"] == 8 and done.returncode == 0
    assert "a driver talks" in done.stderr and "and so does a logger" in done.stderr
