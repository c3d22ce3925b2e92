"""What is lived is on the disk step by step: kill -9, damage and void episodes in the middle of one."""

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from episodes import assert_same, make

from ami_agent.baselines.simple import RandomAgent
from ami_agent.environment import Environment
from ami_agent.learning.live import live
from ami_agent.memory.journal import Journal, Step, whole
from ami_agent.memory.packing import digest, intact
from ami_agent.memory.store import EpisodeStore
from ami_agent.protocols import Episode

ROOT = Path(__file__).resolve().parents[1]


def steps_of(episode: Episode) -> list[Step]:
    key = episode.environment, episode.task, episode.session, episode.seed
    steps = [Step(key, 0, {name: value[0] for name, value in episode.observation.items()})]
    for t, (action, reward) in enumerate(zip(episode.action, episode.reward, strict=True), start=1):
        seen, last = {name: value[t] for name, value in episode.observation.items()}, t == len(episode)
        told = episode.terminated and last, episode.truncated and last, episode.success
        steps.append(Step(key, t, seen, action, float(reward), *told))
    return steps


def plain(seed: int, steps: int = 5) -> Episode:
    """An episode as it is before anyone looked back on it."""
    return make(seed, steps, latent=None, encoder="", surprise=None)


@pytest.mark.parametrize("success", [None, True, False])
def test_an_episode_is_the_sum_of_its_steps(success):
    episode = make(0, latent=None, encoder="", surprise=None, success=success)
    assert_same(episode, whole(steps_of(episode)))


def test_what_was_lived_of_an_episode_is_remembered(store):
    episodes = [plain(seed) for seed in (0, 1, 2)]
    journal = Journal(store)
    for moment in zip(*map(steps_of, episodes), strict=True):
        journal.write(moment[:2])  # two worlds at once
    journal.write(steps_of(episodes[2])[:3])
    assert store.append(episodes[0]) == 1 and store.ids() == [1]
    store.close()
    with EpisodeStore(store.name) as again:
        assert Journal(again).recover() == 2 and Journal(again).recover() == 0
        assert_same(episodes[1], again.read(2))
        cut = again.read(3)
        assert len(cut) == 2 and not cut.truncated and not cut.terminated
        np.testing.assert_array_equal(cut.observation["image"], episodes[2].observation["image"][:3])
        np.testing.assert_array_equal(cut.action, episodes[2].action[:2])
        assert again.verify() == []


def test_an_episode_with_no_step_is_nothing(store):
    Journal(store).write(steps_of(plain(0))[:1])
    assert Journal(store).recover() == 0 and store.ids() == []
    assert store.rows("SELECT count(*) FROM tail") == [(0,)]


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE tail SET data = checksum WHERE t = 3",
        "UPDATE tail SET data = (SELECT data FROM tail WHERE t = 4) WHERE t = 3",
        "DELETE FROM tail WHERE t = 3",
    ],
)
def test_damage_ends_an_episode_where_it_is(store, harm):
    Journal(store).write(steps_of(plain(0)))
    store._db.execute(harm)
    assert bool(store.verify()) == ("UPDATE" in harm)
    assert Journal(store).recover() == 1 and len(store.read(1)) == 2 and store.verify() == []


def test_steps_that_are_not_finite_end_an_episode(store):
    steps = steps_of(plain(0))
    steps[3].action = np.full(2, np.nan, np.float32)
    Journal(store).write(steps)
    assert Journal(store).recover() == 1 and len(store.read(1)) == 2
    assert Journal(store).recover() == 0 and store.rows("SELECT count(*) FROM tail") == [(0,)]


def test_what_a_flipped_bit_made_text_is_not_intact():
    assert intact("place", b"data", digest("place", b"data"))
    assert not intact("place", "data", digest("place", b"data")) and not intact("place", b"data", "text")


def test_living_keeps_a_journal(store):
    environment, journal = Environment("ami/Push-v0", 2), Journal(store)
    lived = live(environment, RandomAgent(5, 0), itertools.count(), "here", journal=journal)
    for _ in range(10):
        assert next(lived) == []
    lived.close()
    assert journal.recover() == 2
    first, second = store.read(1), store.read(2)
    assert (first.seed, second.seed, len(first), first.session) == (0, 1, 10, "here")
    alone = live(Environment("ami/Push-v0", 2), RandomAgent(5, 0), itertools.count(), "here", steps=10)
    episodes = [replace(episode, truncated=False) for ended in alone for episode in ended]
    assert_same(episodes[0], first)
    assert_same(episodes[1], second)


def test_void_episodes_are_not_remembered(store, monkeypatch):
    environment = Environment("ami/Reach-v0", 1)
    step = environment.step

    def blow_up(action):
        observation, reward, terminated, truncated, info = step(action)
        bad = np.array([True])
        return observation, reward, ~bad, bad, {**info, "physics_error": bad}

    monkeypatch.setattr(environment, "step", blow_up)
    lived = live(environment, RandomAgent(5, 0), itertools.count(), journal=Journal(store))
    assert [next(lived) for _ in range(3)] == [[], [], []]
    assert Journal(store).recover() == 0 and store.ids() == []


LIVES = """
import sys, itertools
from ami_agent.baselines.simple import RandomAgent
from ami_agent.environment import Environment
from ami_agent.learning.live import live
from ami_agent.memory.journal import Journal
from ami_agent.memory.store import EpisodeStore
class Told(Journal):
    def write(self, steps, void=()):
        super().write(steps, void)
        print(*(f"{step.episode[3]}/{step.t}" for step in steps), flush=True)
store, base = EpisodeStore(sys.argv[1]), int(sys.argv[2])
journal = Told(store)
journal.recover()
print("recovered", flush=True)
agent, environment = RandomAgent(5, base), Environment("ami/Reach-v0", 2)
for ended in live(environment, agent, itertools.count(base), f"kill {base}", journal=journal):
    for episode in ended:
        store.append(episode)
"""


def acknowledged_until_a_kill(place: str, base: int, least: int = 1, most: int = 100) -> set[tuple[int, int]]:
    """(seed, t) of the steps that a process told to be kept before it was killed, soon after so many tellings."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", LIVES, place, str(base)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "recovered\n"
    first = [process.stdout.readline() for _ in range(random.Random().randint(least, most))]
    time.sleep(random.Random().uniform(0, 0.01))
    process.send_signal(signal.SIGKILL)
    words = "".join([*first, process.stdout.read()]).split("\n")[:-1]  # a line that is not whole was not told
    process.wait()
    return {(int(seed), int(t)) for line in words for seed, t in [word.split("/") for word in line.split()]}


def kill(times: int, place: str) -> int:
    """Live and be killed so often; all that was told is there each time. How many steps that were."""
    told: set[tuple[int, int]] = set()
    for number in range(times):
        least = 1 if number % 2 else 60  # every other may come at once
        told |= acknowledged_until_a_kill(place, 100_000 * number, least)
        with EpisodeStore(place) as store:
            while store.shared and store._db.others():
                pass  # a server needs a moment to see that a process is gone
            Journal(store).recover()
            assert store.verify() == []
            lengths = {(episode.session, episode.seed): len(episode) for _, episode in store.episodes()}
        assert len({seed for _, seed in lengths}) == len(lengths), "an episode is there twice"
        kept = {seed: length for (_, seed), length in lengths.items()}
        assert not [(seed, t) for seed, t in told if t > 0 and kept.get(seed, 0) < t]
    return len(told)


@pytest.mark.parametrize(("place", "kills"), [("sqlite", 4), ("postgres", 2)], indirect=["place"])
def test_kill_9_loses_no_acknowledged_step(place, kills):
    assert kill(kills, place) > 25 * kills


@pytest.mark.slow
def test_200_times_kill_9_loses_no_acknowledged_step(place):
    assert kill(200, place) > 10_000
