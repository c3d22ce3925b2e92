"""Old episodes by a new encoder: before the agent lives or meanwhile, and never two encoders in one memory."""

import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from episodes import make
from test_agent import QUICK, SMALL, lived

from ami_agent.agent import AmiAgent
from ami_agent.brain import Brain
from ami_agent.environment import Environment
from ami_agent.memory import embedding, episodic
from ami_agent.memory.capacity import let_go
from ami_agent.memory.embedding import BackgroundEmbedding, embedded, unseen
from ami_agent.memory.episodic import EpisodicMemory
from ami_agent.memory.forgetting import ForgettingConfig
from ami_agent.memory.store import EpisodeStore

ROOT = Path(__file__).parent.parent
MEANWHILE = replace(QUICK, embed_first=0)


@pytest.fixture(scope="module")
def reach():
    return Environment("ami/Reach-v0", 2)


@pytest.fixture
def store(tmp_path):
    with EpisodeStore(tmp_path / "memory.sqlite") as store:
        yield store


def fill(store, n=12):
    for seed in range(n):
        store.append(make(seed))


def embed(senses):
    return senses["state"] * 2


def fits(episode):
    return "state" in episode.observation


WORK = "beta", "ami/Push-v0", embed, fits


def wait(found, seconds=60.0):
    """What `found` returns once that is something."""
    for _ in range(int(seconds / 0.01)):
        if (value := found()) is not None:
            return value
        time.sleep(0.01)
    raise AssertionError("nothing came")


def same(one, other, query):
    assert len(one) == len(other)
    for a, b in zip(one.recall(query, 40), other.recall(query, 40), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("read_only", [False, True])
def test_in_the_background_comes_what_comes_at_once(store, tmp_path, read_only):
    with EpisodeStore(tmp_path / "other.sqlite") as other:
        for each in (store, other):
            fill(each)
            each.append(make(0, observation={"else": np.zeros((6, 2), np.float32)}))
            each._db.execute("UPDATE chunk SET data = zeroblob(9) WHERE episode = 3")
        assert unseen(store, "beta", "ami/Push-v0") == 13 * 6 and unseen(store, "beta", "ami/Reach-v0") == 0
        with EpisodeStore(store.path, read_only) as one, EpisodeStore(other.path, read_only) as two:
            background = BackgroundEmbedding(one, *WORK)
            memory, damaged = wait(background.take)
            assert background.take() is None
            background.close()
            expected, skipped = embedded(two, *WORK)
        same(memory, expected, np.random.default_rng(0).normal(size=(3, 3)))
        assert damaged == skipped == 1 and len(memory) == 11 * 6
        assert unseen(store, "beta", "ami/Push-v0") == (13 * 6 if read_only else 6), "the damaged one is left"


def test_what_does_not_fit_is_looked_at_once(store):
    fill(store)
    for _ in range(2):
        store.append(make(0, observation={"else": np.zeros((6, 2), np.float32)}))
    looked = []
    for _ in range(2):
        embedded(store, *WORK[:3], lambda episode: looked.append(episode) or fits(episode))
        assert unseen(store, "beta", "ami/Push-v0") == 0
    assert len(looked) == len(store) == 14


def test_an_agent_lives_while_its_memory_is_embedded(reach, store):
    first = AmiAgent(Brain(reach.spec, SMALL, seed=1), QUICK, 0, store)
    episodes = lived(reach, first, 4)
    for episode in episodes * 5:
        first.remember(episode)
    old = first.brain.encoder_id()
    config = replace(MEANWHILE, forgetting=ForgettingConfig(steps=1))
    agent = AmiAgent(Brain(reach.spec, SMALL, seed=2), config, 0, store)
    new = agent.brain.encoder_id()
    assert agent.embedding == "meanwhile" and len(agent.memory) == 0 and first.embedding == "before"
    assert len(EpisodicMemory(store, old)) == len(first.memory), "until the switch the old ones are whole"
    agent.remember(episodes[0])
    assert len(agent.memory) == len(episodes[0]) + 1 and len(store) == 21, "nothing is forgotten meanwhile"
    wait(lambda: None if agent.background._done.empty() else True)
    assert store.stats()["encoders"] == {old: 20, new: 21}, "nothing has switched between two decisions"
    agent.config = MEANWHILE
    agent.reset(np.array([True, False]))
    assert store.stats()["encoders"] == {new: 21} and store.verify() == []
    same(agent.memory, EpisodicMemory(store, new, reach.spec.environment), store.read(1, new).latent)
    agent.remember(episodes[1])
    assert len(agent.memory) == store.steps + len(store)
    assert AmiAgent(agent.brain, MEANWHILE, 0, store).embedding == "before", "nothing is left to do"
    agent.close()


def test_what_is_lived_after_the_thread_has_looked_is_not_lost(reach, store):
    first = AmiAgent(Brain(reach.spec, SMALL, seed=1), QUICK, 0, store)
    episode = lived(reach, first, 1)[0]
    first.remember(episode)
    agent = AmiAgent(Brain(reach.spec, SMALL, seed=2), MEANWHILE, 0, store)
    found = wait(agent.background.take)
    agent.background.take = lambda: None
    agent.remember(episode)
    agent.background.take = lambda: found
    agent.reset(np.ones(2, bool))
    assert len(agent.memory) == 2 * (len(episode) + 1)


def test_a_fault_in_the_switch_leaves_both(reach, store):
    brains = [Brain(reach.spec, SMALL, seed=seed) for seed in (1, 2)]
    old, new = (brain.encoder_id() for brain in brains)
    first = AmiAgent(brains[0], QUICK, 0, store)
    for episode in lived(reach, first, 3):
        first.remember(episode)
    store._db.execute(
        "CREATE TRIGGER fault BEFORE DELETE ON latent WHEN old.episode = 2 BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    agent = AmiAgent(brains[1], MEANWHILE, 0, store)
    wait(lambda: None if agent.background._done.empty() else True)
    with pytest.raises(Exception, match="no"):
        agent.reset(np.ones(2, bool))
    assert store.stats()["encoders"] == {old: 3, new: 3} and store.verify() == []
    store._db.execute("DROP TRIGGER fault")
    again = AmiAgent(brains[1], MEANWHILE, 0, store)
    assert (
        again.embedding == "before" and store.stats()["encoders"] == {new: 3} and len(again.memory) == len(first.memory)
    )


@pytest.mark.parametrize(("block", "done"), [(512, 5), (2, 1)])
def test_a_stop_in_the_midst_keeps_what_was_done(store, monkeypatch, block, done):
    """It comes while a fifth part is embedded: of the fifth episode, or of the second, which has a sixth."""
    monkeypatch.setattr(embedding, "BLOCK", block)
    fill(store)
    reached, go = threading.Event(), threading.Event()

    def slow(senses):
        if len(store_seen) == 4:
            reached.set()
            go.wait(10)
        store_seen.append(1)
        return embed(senses)

    store_seen = []
    background = BackgroundEmbedding(store, "beta", "ami/Push-v0", slow, fits)
    assert reached.wait(10)
    began = time.monotonic()
    threading.Timer(0.1, go.set).start()
    background.close()
    assert time.monotonic() - began < 1.0 and not background._thread.is_alive() and background.take() is None
    assert store.stats()["encoders"] == {"alpha": 12, "beta": done} and store.verify() == []
    calls = []
    memory, _ = embedded(store, "beta", "ami/Push-v0", lambda senses: calls.append(1) or embed(senses), fits)
    assert len(calls) == (12 - done) * (1 if block > 6 else 3) and len(memory) == 12 * 6, (
        "the next goes on where that one was"
    )


def test_long_episodes_are_embedded_in_parts(store, monkeypatch):
    monkeypatch.setattr(embedding, "BLOCK", 4)
    fill(store, 2)
    sizes = []
    memory, _ = embedded(
        store, "beta", "ami/Push-v0", lambda senses: sizes.append(len(senses["state"])) or embed(senses), fits
    )
    assert sizes == [4, 2, 4, 2] and len(memory) == 12
    np.testing.assert_array_equal(store.read(1, "beta").latent, make(0).observation["state"] * 2)


def test_the_index_that_an_encoder_wrote_is_kept_once_the_old_latents_go(store, monkeypatch):
    monkeypatch.setattr(episodic, "KEEP_ROWS", 1)
    fill(store)
    embedded(store, *WORK)
    assert store.drop_latents(["beta"]) == 12
    reads = []
    monkeypatch.setattr(EpisodeStore, "read", lambda self, id, *_: reads.append(id))
    assert len(EpisodicMemory(store, "beta", "ami/Push-v0")) == 12 * 6 and reads == []
    monkeypatch.undo()
    store._db.execute("UPDATE episode SET success = 1 - success WHERE id = 5")
    memory = EpisodicMemory(store, "beta", "ami/Push-v0")
    assert 5 not in memory and 6 in memory, "damage in what recall depends on"


def test_what_another_forgets_meanwhile_is_left_out(store):
    fill(store, 4)

    def forget_and_embed(senses):
        let_go(store, [1, 3])  # the one that is being embedded, and one that comes
        return embed(senses)

    memory, damaged = embedded(store, "beta", "ami/Push-v0", forget_and_embed, fits)
    assert (len(memory), damaged) == (2 * 6, 0) and store.verify() == []


def test_a_fault_in_the_background_costs_no_episode(reach, store):
    agent = AmiAgent(Brain(reach.spec, SMALL, seed=1), QUICK, 0, store)
    episode = lived(reach, agent, 1)[0]
    agent.background = BackgroundEmbedding(store, "beta", "ami/Reach-v0", embed, fits)
    agent.background.take = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        agent.remember(episode)
    assert len(store) == 1


def test_what_goes_wrong_there_is_raised_here(store):
    fill(store)

    def broken(senses):
        raise MemoryError("out of it")

    background = BackgroundEmbedding(store, "beta", "ami/Push-v0", broken, fits)
    with pytest.raises(MemoryError, match="out of it"):
        wait(background.take)
    background.close()


KILLED = """
import os, signal, sys
from ami_agent.memory.embedding import BackgroundEmbedding
from ami_agent.memory.store import EpisodeStore
store, left, done = EpisodeStore(sys.argv[1]), int(sys.argv[2]), 0
def embed(senses):
    global done
    if done == left:
        os.kill(os.getpid(), signal.SIGKILL)
    done += 1
    return senses["state"] * 2
BackgroundEmbedding(store, "beta", "ami/Push-v0", embed, lambda episode: True)._thread.join()
store._db._db.set_trace_callback(lambda statement: statement == "COMMIT" and os.kill(os.getpid(), signal.SIGKILL))
store.drop_latents(["beta"], "ami/Push-v0")
"""


@pytest.mark.parametrize("left", [7, 99])
def test_kill_9_leaves_the_old_ones_whole(store, left):
    fill(store)
    store.close()
    command = [sys.executable, "-c", KILLED, str(store.path), str(left)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    with EpisodeStore(store.path) as again:
        assert again.verify() == [] and len(EpisodicMemory(again, "alpha")) == 12 * 6
        assert len(again.ids(encoder="beta")) == min(left, 12)
        assert len(embedded(again, *WORK)[0]) == 12 * 6
