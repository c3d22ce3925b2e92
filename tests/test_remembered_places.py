"""Places that stay are remembered: by the next process as by one that lives on."""

import itertools

import numpy as np
import pytest

from ami_agent.agent import AgentConfig, AmiAgent
from ami_agent.brain import Brain, BrainConfig
from ami_agent.environment import Environment
from ami_agent.learning.live import live
from ami_agent.memory.forgetting import ForgettingConfig
from ami_agent.memory.store import EpisodeStore
from ami_agent.perception.encoder import EncoderConfig

FIXED = {"map": "fixed", "session": 3}


@pytest.fixture(scope="module")
def navigator():
    """A brain for MazeNav that knows its stride, though nothing else."""
    brain = Brain(Environment("ami/MazeNav-v0").spec, BrainConfig(EncoderConfig(latent=16, width=32)))
    brain.stride = 0.1
    brain.model.level.fill_(-10.0)
    return brain


def navigate(brain, store, episodes=2, first=0, **options):
    environment = Environment("ami/MazeNav-v0", 1, options)
    agent = AmiAgent(brain, AgentConfig(plan=False), 0, store, place=environment.task if environment.stays else None)
    for ended in live(environment, agent, itertools.count(first)):
        for episode in ended:
            agent.remember(episode)
            episodes -= 1
        if episodes == 0:
            return agent


def test_a_place_is_remembered_by_another_process_with_the_ways_that_failed(place, navigator):
    with EpisodeStore(place) as store:
        first = navigate(navigator, store, **FIXED).ways.place
        assert len(first) > 1 and len(first.failures) > 0
    with EpisodeStore(place) as store:
        again = AmiAgent(navigator, None, 0, store, place=store.read(1).task).ways.place
        assert len(again.failures) > 0 and len(again) >= 1
        assert {tuple(failure) for failure in again.failures} <= {tuple(failure) for failure in first.failures}
        reached = np.linalg.norm(again.places[:, None] - first.places, axis=2).min(1)
        assert reached.max() <= 2 * first.spacing  # a moment near where one was sent is stood for by what is near that
        elsewhere = AmiAgent(navigator, None, 0, store, place="another").ways.place
        assert len(elsewhere) == len(elsewhere.failures) == 0
        other = Brain(navigator.spec, navigator.config, seed=1)
        other.stride = 0.1
        other.model.level.fill_(-10.0)
        assert len(AmiAgent(other, None, 0, store, place=store.read(1).task).ways.place.failures) == 0


def test_one_that_starts_again_after_each_episode_goes_the_same_ways(tmp_path, navigator):
    with EpisodeStore(tmp_path / "one.db") as one, EpisodeStore(tmp_path / "other.db") as other:
        navigate(navigator, one, 4, **FIXED)
        for first in range(4):
            place = navigate(navigator, other, 1, first, **FIXED).ways.place
        for id in one.ids():
            np.testing.assert_array_equal(one.read(id).action, other.read(id).action)
        living, again = place, AmiAgent(navigator, None, 0, other, place=one.read(1).task).ways.place
        assert len(living) > 1 and len(living.failures) > 0 and living.ways == again.ways
        np.testing.assert_array_equal(living.places, again.places)


def test_what_is_forgotten_is_forgotten_of_the_place_too(tmp_path, navigator):
    """By one that lives on as by one that starts again."""
    with EpisodeStore(tmp_path / "one.db") as store:
        environment = Environment("ami/MazeNav-v0", 1, FIXED | {"max_episode_steps": 60})
        mind = AgentConfig(plan=False, forgetting=ForgettingConfig(steps=130))
        agent = AmiAgent(navigator, mind, 0, store, place=environment.task)
        for episode in itertools.islice(itertools.chain.from_iterable(live(environment, agent, itertools.count())), 6):
            agent.remember(episode)
            again = AmiAgent(navigator, mind, 0, store, place=environment.task).ways.place
            np.testing.assert_array_equal(agent.ways.place.places, again.places)
        assert agent.forgotten > 2


def test_damaged_episodes_of_a_place_are_counted(place, navigator):
    with EpisodeStore(place) as store:
        navigate(navigator, store, **FIXED)
        store._db.execute("UPDATE chunk SET data = ? WHERE episode = 1 AND part = 'senses'", (b"\0",))
        assert AmiAgent(navigator, None, 0, store, place=store.read(2).task).skipped == 1


def test_without_memory_or_where_maps_change_each_episode_has_a_place_of_its_own(tmp_path, navigator):
    assert navigate(navigator, None, **FIXED).ways.place is None
    with EpisodeStore(tmp_path / "m.db") as store:
        ways = navigate(navigator, store).ways
        assert ways.place is None and len(ways.latest) >= 1
