"""Learning while acting, as `run --learn` does."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_learning import SMALL, Barren

from ami_agent import cli
from ami_agent.agent import AgentConfig
from ami_agent.brain import Brain
from ami_agent.environment import Environment
from ami_agent.learning.live import live
from ami_agent.learning.online import WARMUP, OnlineAgent
from ami_agent.learning.student import StudyConfig
from ami_agent.memory.store import EpisodeStore

STUDY = StudyConfig(batch=32)


def lived(store, world, brain, steps, study=STUDY):
    """The agent after so many decisions, and the episodes."""
    agent, episodes = OnlineAgent(brain, AgentConfig(), 0, store, world, study), []
    for ended in live(world, agent, itertools.count(), steps=steps):
        agent.study()
        episodes += [agent.remember(episode) for episode in ended]
    return agent, episodes


@pytest.fixture
def empty(tmp_path):
    with EpisodeStore(tmp_path / "e.sqlite", create=True) as store:
        yield store


def test_who_learns_as_it_acts_is_curious_too_and_stays_so_over_a_restart(empty):
    brain = Brain(Barren.spec, SMALL)
    _, episodes = lived(empty, Barren(), brain, 1_000)
    far = [np.abs(episode.observation["observation"]).max() for episode in episodes]
    assert np.mean(far[40:]) > 2 * np.mean(far[:40]), "the first forty are random"
    again = OnlineAgent(brain, AgentConfig(), 0, empty, Barren(), STUDY)
    assert brain.updates and again._curious
    with EpisodeStore(empty.path.with_name("other.sqlite"), create=True) as other:
        assert not OnlineAgent(brain, AgentConfig(), 0, other, Barren(), STUDY)._curious, "it has learned elsewhere"


def test_what_was_learned_elsewhere_keeps_its_scales(empty):
    world = Environment("Pendulum-v1", 1)
    brain = Brain(world.spec, SMALL)
    brain.updates, brain.steps = 10, 50_000
    scales = {name: value.clone() for name, value in brain.model.encoder.normalise.state_dict().items()}
    lived(empty, world, brain, WARMUP + 10, replace(STUDY, ratio=1e-3))
    assert all(torch.equal(value, scales[name]) for name, value in brain.model.encoder.normalise.state_dict().items())


def test_rewards_that_mean_something_else_are_not_learned_from(empty):
    for options in ({"reward_type": "sparse"}, {"reward_type": "dense", "session": 3}, {"reward_type": "dense"}):
        world = Environment("ami/Reach-v0", 1, {name: value for name, value in options.items() if name != "session"})
        world.task = world.task.replace("}", ', "session": 3}') if "session" in options else world.task
        lived(empty, world, Brain(world.spec, SMALL), 50)
    agent = OnlineAgent(Brain(world.spec, SMALL), AgentConfig(), 0, empty, world, STUDY)
    assert len(empty) == 3 and agent._student.replay.state()["ids"] == [2, 3]


def test_damaged_episodes_are_left_out_and_counted(empty):
    world = Environment("ami/Reach-v0", 1)
    lived(empty, world, Brain(world.spec, SMALL), 150)
    empty._db.execute("UPDATE chunk SET data = zeroblob(9) WHERE episode = 1")
    agent = OnlineAgent(Brain(world.spec, SMALL), AgentConfig(), 0, empty, world, STUDY)
    assert agent.skipped == 1 and len(agent._student.replay) == len(empty) - 1 > 0


def test_a_brain_that_has_learned_nothing_yet_is_not_kept_as_one_that_has(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = "run --env Pendulum-v1 --learn --episodes 1 --home home --json"
    assert cli.main(words.split()) == 0
    assert not list((tmp_path / "home").rglob("*.safetensors")), "200 steps are fewer than the warm-up"


def test_what_was_learned_is_never_written_over_by_what_was_not(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    brain = Brain(Environment("Pendulum-v1").spec, SMALL)
    brain.updates = 5
    brain.save(tmp_path / "given.safetensors")
    words = ["run", "--env", "Pendulum-v1", "--learn", "--episodes", "1", "--home", "home", "--weights"]
    own = tmp_path / "home" / "agents" / "default" / "brains" / "Pendulum-v1.safetensors"
    assert cli.main([*words, "given.safetensors"]) == 0 and not own.exists(), "one episode is fewer than the warm-up"
    brain.updates = 9
    brain.save(own)
    kept = own.read_bytes()
    assert cli.main([*words, "given.safetensors"]) == 2 and "would be written over" in capsys.readouterr().err
    shipped = [word.replace("Pendulum-v1", "ami/Reach-v0") for word in words]
    Brain(Environment("ami/Reach-v0").spec, SMALL).save(own.with_name("ami-Reach-v0.safetensors"))
    assert cli.main([*shipped, "pretrained"]) == 2 and "would be written over" in capsys.readouterr().err
    assert cli.main([*words, "learned"]) == cli.main([*words, str(own)]) == 0 and own.read_bytes() == kept
