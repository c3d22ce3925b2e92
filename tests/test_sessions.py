"""`ami-agent run --seed S` visits session S: the same layout or rule over all episodes and over later processes."""

import json
import os
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest

from ami_agent import cli
from ami_agent.commands import train
from ami_agent.environment import Environment
from ami_agent.memory.store import EpisodeStore


def ami(place, *words):
    command = [sys.executable, "-m", "ami_agent", *words]
    home = {**os.environ, "AMI_HOME": str(place / "home"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=place, env=home, capture_output=True, text=True, timeout=120)


def run(place, env, *words):
    done = ami(place, "run", "--env", env, "--json", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def pads(session):
    """Where Recall's pads are in a session, (colours, 2)."""
    env = gym.make("ami/Recall-v0", session=session)
    env.reset(seed=0)
    hidden = env.unwrapped.engine.hidden
    return hidden["places"][0][hidden["stands"][0]]


def found(place, folder):
    """Where the rover was when it had found the colour asked for: (colour, place) of each episode."""
    with EpisodeStore(place / folder / "episodes.sqlite", read_only=True) as record:
        ends = [record.read(number).observation["observation"][-1] for number in record.ids(success=True)]
    return [(int(end[7:13].argmax()), end[:2]) for end in ends]


def test_a_seed_is_a_session(tmp_path):
    runs = {}
    for process, seed in enumerate((4, 4, 5)):
        facts = run(tmp_path, "ami/Recall-v0", "--agent", "oracle", "--episodes", "3", "--seed", str(seed))
        runs[process] = facts["run"]
        assert facts["success_rate"] > 0
        for colour, where in found(tmp_path, facts["run"]):
            assert np.linalg.norm(where - pads(seed)[colour]) < 0.35
    assert np.abs(pads(4) - pads(5)).max() > 0.5
    assert ami(tmp_path, "replay", runs[0], "--verify").returncode == 0, "a visit can be lived again alone"


def test_what_is_learned_first_is_not_of_that_session_alone(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(train, "learn", lambda settings, stop: asked.append(settings.options))
    for words in ([], ["--options", '{"session": 7}']):
        cli.main(["run", "--env", "ami/Levers-v0", "--seed", "4", "--memory", "off", "--home", str(tmp_path), *words])
    assert asked == ["{}", '{"session": 7}']


def test_the_options_may_name_another_session(tmp_path):
    facts = run(tmp_path, "ami/Levers-v0", "--agent", "noop", "--episodes", "1", "--options", '{"session": 7}')
    config = json.loads((tmp_path / facts["run"] / "config.json").read_text())
    assert json.loads(config["options"])["session"] == 7


def test_worlds_without_sessions_are_made_as_before(tmp_path):
    facts = run(tmp_path, "ami/Push-v0", "--agent", "noop", "--episodes", "1", "--seed", "3")
    assert json.loads((tmp_path / facts["run"] / "config.json").read_text())["options"] == "{}"


def test_the_floor_lives_without_what_the_world_needs(tmp_path):
    facts = run(tmp_path, "ami/CueDelay-v0", "--agent", "floor", "--episodes", "20", "--options", '{"n": 3}')
    assert 0 < facts["success_rate"] < 0.8
    done = ami(tmp_path, "run", "--env", "ami/Push-v0", "--agent", "floor")
    assert done.returncode == 2 and "no floor" in done.stderr


@pytest.mark.parametrize("id", ["ami/CareCup-v0", "ami/Lane-v0"])
def test_an_agent_can_be_made_for_any_world(id):
    spec = Environment(id).spec
    assert spec.action_size and "observation" in spec.senses and spec.control_period > 0
