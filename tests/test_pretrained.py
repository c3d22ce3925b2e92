"""The weights that ship: small, whole, fitting, and worth having."""

import itertools

import pytest

from ami_agent.agent import AmiAgent
from ami_agent.brain import Brain
from ami_agent.brains import shipped_path
from ami_agent.environment import Environment
from ami_agent.learning.live import live
from ami_agent.memory.store import EpisodeStore

FLOORS = {  # of 40 episodes; random is below 0.1
    "ami/Reach-v0": 0.95,
    "ami/Push-v0": 0.9,
    "ami/MazeNav-v0": 0.8,
    "ami/Stack-v0": 0.9,
}


@pytest.mark.parametrize("id", FLOORS)
def test_shipped_weights_do_their_task(id):
    path = shipped_path(id)
    assert path.stat().st_size < 1_000_000
    environment, brain = Environment(id, 40), Brain.load(path)
    brain.check_fits(environment.spec)
    first: dict[int, bool] = {}
    for ended in live(environment, AmiAgent(brain), itertools.count(10_000), steps=environment.spec.max_episode_steps):
        for episode in ended:
            if episode.seed < 10_040:  # the first episode of each world: later ones would favour the quick
                first[episode.seed] = bool(episode.success)
    assert len(first) == 40 and sum(first.values()) / 40 >= FLOORS[id]


def test_shipped_weights_seek_what_memory_has_seen(tmp_path):
    """In a room that stays, three visits of four succeed, where one of ten does by chance."""
    path, lengths = shipped_path("ami/Recall-v0"), []
    assert path.stat().st_size < 1_000_000
    environment, brain = Environment("ami/Recall-v0", 1, {"session": 6}), Brain.load(path)
    with EpisodeStore(tmp_path / "memory.sqlite") as store:
        agent = AmiAgent(brain, store=store, place=environment.task, environment=environment)
        for ended in live(environment, agent, itertools.count(60_000)):
            lengths += [len(agent.remember(episode)) for episode in ended]
            if len(lengths) == 8:
                break
    assert sum(length < environment.spec.max_episode_steps for length in lengths) >= 6
