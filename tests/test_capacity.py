"""A store within its capacity: all or nothing goes, what others do meanwhile is no fault, and the room is used."""

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from episodes import assert_same, in_a_file, make
from test_journal import plain, steps_of

from ami_agent.errors import ResourceError
from ami_agent.memory import capacity
from ami_agent.memory.capacity import forget, let_go, select
from ami_agent.memory.episodic import EpisodicMemory
from ami_agent.memory.forgetting import ForgettingConfig
from ami_agent.memory.journal import Journal
from ami_agent.memory.replay import Replay
from ami_agent.memory.store import EpisodeStore

ROOT = Path(__file__).parent.parent


def test_the_capacity_holds_over_many_episodes(store):
    config, passes = ForgettingConfig(steps=300), 0
    for seed in range(150):
        store.append(make(seed, environment="ami/Reach-v0" if seed < 20 else "ami/Push-v0"))
        passes += bool(forget(store, config))
        assert store.steps <= 300
    assert passes == 13, "a tenth is made free at once"
    kept = {name: facts["steps"] for name, facts in store.stats()["environments"].items()}
    assert kept["ami/Reach-v0"] == 100 and store.verify() == []
    assert store.append(make(0)) == 151, "ids are never used twice"
    assert forget(store, ForgettingConfig()) == []


def test_the_room_on_the_disk_holds(store):
    images = {"image": np.random.default_rng(0).integers(0, 256, (31, 32, 32, 3), np.uint8)}
    for seed in range(60):
        store.append(make(seed, steps=30, observation=images))
        forget(store, ForgettingConfig(bytes="3MB"))
        assert store.occupied <= 3_000_000 and (store.shared or store.path.stat().st_size <= 3_000_000)
    assert store.occupied > 2_000_000 and store.verify() == []
    forget(store, ForgettingConfig(bytes="1.5MB"))
    assert store.occupied <= 1_500_000 and len(store) > 5
    assert store.shared or store.stats()["bytes"] <= 1_500_000


@in_a_file
def test_the_room_is_used_by_small_episodes_too_and_passes_are_few(store):
    config, passes, used = ForgettingConfig(bytes="1MB"), 0, []
    for seed in range(520):
        store.append(make(seed, steps=20))
        passes += bool(forget(store, config))
        if passes:
            used.append(sum(capacity._sizes(store).values()))
    assert min(used) > 0.6e6 and passes <= 8 and store.path.stat().st_size <= 1_000_000 and store.verify() == []


@in_a_file
def test_a_file_that_holds_little_is_made_smaller(store):
    for seed in range(30):
        store.append(make(seed, latent=np.random.default_rng(seed).normal(size=(6, 9999)).astype(np.float32)))
    store.drop_latents([])
    assert forget(store, ForgettingConfig(bytes="1MB")) == [] and store.path.stat().st_size < 1_000_000
    assert len(store) == 30 and store.verify() == []


@in_a_file
@pytest.mark.parametrize("damaged", [6, 20])
def test_damage_takes_room_but_never_more_than_half(store, damaged):
    config, passes = ForgettingConfig(steps=100), 0
    for seed in range(80):
        store.append(make(seed))
        if seed < damaged:
            store._db.execute("UPDATE chunk SET data = zeroblob(9) WHERE episode = ?", (seed + 1,))
        elif damaged == 6:
            passes += bool(forget(store, config))
    if damaged == 6:
        assert passes <= 30 and store.steps <= 100
    else:
        forget(store, config)
        assert len(store) == 29, "half of the room is for what can be read"


def test_only_what_has_ended_is_forgotten(store):
    Journal(store).write(steps_of(plain(99)))
    for seed in range(10):
        store.append(make(seed))
    forget(store, ForgettingConfig(steps=20))
    assert store.steps <= 20 and Journal(store).recover() == 1 and len(store.read(11)) == 5


def test_what_is_forgotten_is_not_recalled_and_learning_goes_on(store):
    memory, replay = EpisodicMemory(store, "alpha"), Replay(1000)
    for seed in range(40):
        episode = make(seed)
        replay.add(store.append(episode), episode)
    gone = set(forget(store, ForgettingConfig(steps=100)))
    memory = EpisodicMemory(store, "alpha", "ami/Push-v0")
    recalled = memory.recall(np.zeros((1, 4)), 10_000)[1][0]
    assert len(gone) == 22 and set(recalled[:, 0]) == set(store.ids()) and not gone & set(recalled[:, 0])
    assert replay.read(replay.sample(64, np.random.default_rng(0)), 3).mask.sum() > 0
    assert Replay.load(store, "ami/Push-v0", 1000).state()["ids"] == store.ids()
    replay.add(store.append(make(1)), make(1))


def test_what_is_left_without_its_episode_goes_with_the_next(store):
    """Latents kept by one agent while another deleted their episode."""
    for seed in range(4):
        store.append(make(seed))
    store._db.execute("DELETE FROM episode WHERE id = 2")
    assert len(store.verify()) == 2
    let_go(store, (id for id in (3, 1)))
    assert store.ids() == [4] and store.verify() == [] and store.stats()["encoders"] == {"alpha": 1}


@pytest.mark.usefixtures("server")
def test_two_that_forget_the_same_in_opposite_orders_do_not_deadlock(url):
    with EpisodeStore(url) as one, EpisodeStore(url) as two, ThreadPoolExecutor() as pool:
        for _ in range(5):
            ids = [one.append(make(seed)) for seed in range(40)]
            for done in [pool.submit(let_go, one, ids), pool.submit(let_go, two, ids[::-1])]:
                done.result()
        assert one.ids() == [] and one.verify() == []


class Racing(EpisodeStore):
    """Another adds and deletes episodes between any two looks at them."""

    def rows(self, query, *values):
        found = super().rows(query, *values)
        if "sum(length(data)) FROM latent GROUP" in query:
            self.append(make(99))
        return found

    def read(self, episode_id, *arguments, **options):
        found = super().read(episode_id, *arguments, **options)
        with EpisodeStore(self.name) as other:
            let_go(other, [episode_id])
        return found


def test_what_others_add_and_delete_meanwhile_is_no_fault(place):
    latent = np.linspace(0, 1, 6)[:, None].astype(np.float32) * np.ones(4, np.float32)
    with Racing(place) as store:
        for _ in range(6):
            store.append(make(0, latent=latent))
        assert len(select(store, ForgettingConfig(steps=10)).ids) == 4 and store.ids() == [7]


@pytest.mark.usefixtures("server")
def test_one_forgets_at_a_time(url):
    with EpisodeStore(url) as one, EpisodeStore(url) as two:
        for seed in range(8):
            one.append(make(seed))
        with one.forgetting() as alone:
            assert alone and forget(two, ForgettingConfig(steps=20)) == [] and len(one) == 8
        assert forget(two, ForgettingConfig(steps=20)) and one.steps <= 20


@in_a_file
def test_damage_is_left_for_verify(store):
    for seed in range(20):
        store.append(make(seed))
    store._db.execute("UPDATE chunk SET data = zeroblob(9) WHERE episode = 3 AND part = 'steps'")
    store._db.execute("UPDATE episode SET seed = 77 WHERE id = 4")
    forget(store, ForgettingConfig(steps=30, margin=0))
    assert {3, 4} < set(store.ids()) and {fault.split(":")[0] for fault in store.verify()} <= {"episode 3", "episode 4"}


@in_a_file
def test_a_fault_in_the_midst_forgets_nothing(store):
    for seed in range(20):
        store.append(make(seed))
    store._db.execute(
        "CREATE TRIGGER fault BEFORE DELETE ON episode WHEN old.id = 7 BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    with pytest.raises(Exception, match="no"):
        let_go(store, list(range(1, 15)))
    assert len(store) == 20 and store.verify() == []


KILLED = """
import os, signal, sys
from ami_agent.memory.capacity import let_go
from ami_agent.memory.store import EpisodeStore
store, left = EpisodeStore(sys.argv[1]), int(sys.argv[2])
def count(statement):
    global left
    left -= statement.startswith("DELETE")
    if left < 0 or (left == 0 and statement == "COMMIT"):
        os.kill(os.getpid(), signal.SIGKILL)
store._db._db.set_trace_callback(count)
let_go(store, [int(id) for id in sys.argv[3:]])
"""


@in_a_file
@pytest.mark.parametrize("deletes", [5, 20, 30])
def test_kill_9_forgets_all_or_nothing(store, deletes):
    episodes = {store.append(make(seed, steps=60)): make(seed, steps=60) for seed in range(20)}
    store.close()
    gone = [str(id) for id in range(1, 11)]
    command = [sys.executable, "-c", KILLED, str(store.path), str(deletes), *gone]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    with EpisodeStore(store.path) as again:
        assert again.verify() == [] and again.ids() == list(range(1, 21))
        for id, episode in episodes.items():
            assert_same(episode, again.read(id))
        let_go(again, range(1, 11))
        assert again.ids() == list(range(11, 21)) and again.verify() == []


@in_a_file
def test_no_room_to_make_the_file_smaller_is_survived(store, monkeypatch, caplog):
    for seed in range(30):
        store.append(make(seed, observation={"state": np.random.default_rng(seed).random((6, 999))}))

    def full():
        raise ResourceError("the disk is full")

    monkeypatch.setattr(store, "compact", full)
    assert forget(store, ForgettingConfig(bytes="1MB")) and "not made smaller" in caplog.text
