"""What the memory promises: nothing acknowledged is lost, damage is told, never read; recall and replay are exact."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np
import pytest
import torch

from ami_agent.errors import LockedError, MissingError, ResourceError
from ami_agent.memory.database import DamagedMemory, create
from ami_agent.memory.episodic import EpisodicMemory
from ami_agent.memory.lock import HomeLock
from ami_agent.memory.neighbours import Neighbours
from ami_agent.memory.replay import Replay
from ami_agent.memory.store import EpisodeStore
from ami_agent.protocols import Episode

ROOT = Path(__file__).parent.parent


def make(seed: int = 0, steps: int = 5, width: int | None = 4, **changes) -> Episode:
    rng = np.random.default_rng(seed)
    observation = {
        "state": rng.normal(size=(steps + 1, 3)).astype(np.float32),
        "image": rng.integers(0, 256, (steps + 1, 4, 4, 3), np.uint8),
    }
    episode = Episode(
        environment="ami/Push-v0",
        observation=observation,
        action=rng.uniform(-1, 1, (steps, 2)).astype(np.float32),
        reward=rng.normal(size=steps).astype(np.float32),
        terminated=seed % 2 == 0,
        truncated=seed % 2 == 1,
        success=seed % 3 == 0,
        seed=seed,
        session="first",
        latent=None if width is None else rng.normal(size=(steps + 1, width)).astype(np.float32),
        encoder="" if width is None else "alpha",
        surprise=rng.random(steps, dtype=np.float32),
    )
    return replace(episode, **changes)


def assert_same(one: Episode, other: Episode) -> None:
    for name, value in vars(one).items():
        if name == "observation":
            assert value.keys() == other.observation.keys()
            pairs = [(value[key], other.observation[key]) for key in value]
        else:
            pairs = [(value, getattr(other, name))]
        for a, b in pairs:
            if isinstance(a, np.ndarray):
                assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b, err_msg=name)


@pytest.fixture
def store(tmp_path):
    with EpisodeStore(tmp_path / "memory.db") as store:
        yield store


# --- the store ---------------------------------------------------------------------------------------------------


def test_what_is_read_is_what_was_lived(store):
    episodes = [make(0), make(1, steps=70, width=None), make(2, surprise=None, reward=np.full(5, -0.0, np.float32))]
    ids = [store.append(episode) for episode in episodes]
    for reopened in (store, EpisodeStore(store.path, read_only=True)):
        for episode_id, episode in zip(ids, episodes, strict=True):
            assert_same(episode, reopened.read(episode_id))
        assert store.verify() == [] and len(reopened) == 3 and reopened.steps == 80
    assert store.read(ids[0], senses=False).observation == {}
    store.read(ids[0]).action[:] = 0  # what is read may be written to
    with pytest.raises(KeyError, match="no episode 99"):
        store.read(99)


def test_filters_and_stats(store):
    for seed in range(6):
        store.append(make(seed, session="late" if seed > 3 else "early", width=None if seed == 5 else 4))
    store.append(make(7, environment="ami/Reach-v0"))
    assert store.ids(environment="ami/Reach-v0") == [7]
    assert store.ids(environment="ami/Push-v0", success=True) == [1, 4]
    assert store.ids(session="late") == [5, 6] and store.ids(first=6) == [6, 7]
    assert store.ids(encoder="alpha") == [1, 2, 3, 4, 5, 7] and store.ids(encoder="beta") == []
    assert store.ids(since=0) == list(range(1, 8)) and store.ids(since=4e9) == []
    assert store.lengths("ami/Reach-v0").tolist() == [[7, 5]]
    stats = store.stats()
    assert stats["environments"]["ami/Push-v0"]["success_rate"] == pytest.approx(2 / 6)
    assert stats["episodes"] == 7 and stats["steps"] == 35 and stats["encoders"] == {"alpha": 6}


@pytest.mark.parametrize(
    "changes",
    [
        {"reward": np.zeros(4, np.float32)},
        {"action": np.zeros((0, 2), np.float32)},
        {"action": np.full((5, 2), np.nan, np.float32)},
        {"observation": {"state": np.zeros((5, 3), np.float32)}},
        {"observation": {"state": np.array([None] * 6)}},
        {"latent": np.zeros((5, 4), np.float32)},
        {"encoder": ""},
    ],
)
def test_what_does_not_fit_together_is_refused(store, changes):
    with pytest.raises(ValueError):
        store.append(make(0, **changes))
    assert len(store) == 0


def test_latents_of_two_encoders_never_mix(store):
    lived = make(0)
    store.append(lived)
    store.append(make(1))
    beta = np.ones((6, 9), np.float32)
    store.set_latents(1, beta, "beta")
    assert_same(lived, store.read(1))
    assert_same(replace(lived, latent=beta, encoder="beta"), store.read(1, encoder="beta"))
    assert store.encoders(1) == ["alpha", "beta"]
    with pytest.raises(KeyError):
        store.read(2, encoder="beta")
    with pytest.raises(ValueError):
        store.set_latents(1, beta[:-1], "beta")
    alpha, beta_memory = EpisodicMemory(store, "alpha"), EpisodicMemory(store, "beta")
    assert len(alpha) == 12 and len(beta_memory) == 6
    assert alpha.recall(np.zeros((1, 4)), 20)[0].shape == (1, 12, 4)
    assert beta_memory.recall(np.zeros((1, 9)), 20)[0].shape == (1, 6, 9)
    with pytest.raises(ValueError, match="'beta' expected, 'alpha' came"):
        beta_memory.add(2, make(1))
    with pytest.raises(ValueError):
        alpha.recall(np.zeros((1, 9)), 1)


def test_a_flipped_bit_costs_only_its_episode(store):
    episodes = [make(seed, steps=40) for seed in range(8)]
    for episode in episodes:
        store.append(episode)
    store.close()
    db = sqlite3.connect(store.path)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = db.execute("SELECT data FROM chunk WHERE episode = 4 AND part = 'senses'").fetchone()[0]
    db.close()
    raw = bytearray(store.path.read_bytes())
    raw[raw.index(data[600:700])] ^= 1
    store.path.write_bytes(raw)
    with EpisodeStore(store.path) as damaged:
        with pytest.raises(DamagedMemory, match="episode 4: bad checksum"):
            damaged.read(4)
        assert [episode_id for episode_id, _ in damaged.episodes()] == [1, 2, 3, 5, 6, 7, 8]
        assert damaged.skipped == 1
        faults = damaged.verify()
        assert faults and all("episode 4" in fault for fault in faults)
        assert len(Replay.load(damaged, "ami/Push-v0", 1000)) == 7


def test_any_flipped_bit_is_noticed_or_harmless(store):
    """Whatever bit of the file flips, an episode is read as it was lived or not at all."""
    episodes = [make(seed, steps=20) for seed in range(4)]
    for episode in episodes:
        store.append(episode)
    store.close()
    whole = store.path.read_bytes()
    rng = random.Random(0)
    for _ in range(150):
        raw = bytearray(whole)
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        store.path.write_bytes(raw)
        try:
            with EpisodeStore(store.path, read_only=True) as damaged:
                damaged.verify()
                for episode_id, episode in damaged.episodes():
                    assert_same(episodes[episode_id - 1], episode)
        except DamagedMemory:
            continue


def test_verify_tells_what_is_missing(store):
    for seed in range(3):
        store.append(make(seed))
    store._db.execute("DELETE FROM chunk WHERE episode = 1 AND part = 'steps'")
    store._db.execute("UPDATE episode SET success = 1 - success WHERE id = 2")
    store._db.execute("DELETE FROM episode WHERE id = 3")
    faults = "\n".join(store.verify())
    assert "episode 1: chunk/1/steps is missing" in faults and "episode 2: bad checksum of its row" in faults
    assert "episode 3: a chunk without an episode" in faults and "a latent without" in faults


def foreign(image: bytes) -> bytes:
    return image[:68] + b"\0\0\0\7" + image[72:]


def newer(image: bytes) -> bytes:
    return image[:60] + b"\0\0\0\7" + image[64:]


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda image: b"", "zero bytes"),
        (lambda image: b"\xa5" * len(image), "header"),
        (lambda image: image[:50], "header"),
        (lambda image: image[: len(image) // 2], "cut short"),
        (newer, "newer schema 7"),
        (foreign, "another application"),
        (lambda image: image.replace(b"CREATE TABLE chunk", b"CREATE TABLE chink"), "schema lacks chunk|malformed"),
    ],
)
def test_damage_is_told_and_the_file_left_as_it_is(store, spoil, reason, read_only):
    store.append(make(0, steps=200))
    store.close()
    spoilt = spoil(store.path.read_bytes())
    store.path.write_bytes(spoilt)
    with pytest.raises(DamagedMemory, match=reason) as caught:
        EpisodeStore(store.path, read_only=read_only)
    assert caught.value.exit_code == 4 and "ami-agent memory verify" in str(caught.value)
    assert store.path.read_bytes() == spoilt


def test_half_a_file_with_a_log_beside_it_is_damage_too(store, tmp_path):
    for seed in range(20):
        store.append(make(seed, steps=200))
    store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.append(make(20))
    copy = tmp_path / "copy.db"
    half = store.path.read_bytes()[: store.path.stat().st_size // 2]
    copy.write_bytes(half)
    Path(f"{copy}-wal").write_bytes(Path(f"{store.path}-wal").read_bytes())
    with pytest.raises(DamagedMemory):
        EpisodeStore(copy)
    assert copy.read_bytes() == half


def test_read_only_never_creates_or_writes(store, tmp_path):
    with pytest.raises(MissingError):
        EpisodeStore(tmp_path / "none.db", read_only=True)
    assert not (tmp_path / "none.db").exists()
    with pytest.raises(MissingError):
        EpisodeStore(store.path, read_only=True).append(make(0))
    with pytest.raises(MissingError):
        EpisodeStore(tmp_path)


def test_a_full_disk_keeps_what_was_there(store):
    store.append(make(0))
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages + 1}")
    with pytest.raises(ResourceError, match="full"):
        store.append(make(1, steps=500))
    assert store.verify() == [] and store.ids() == [1]
    store._db.execute("PRAGMA max_page_count = 1000000")
    store.append(make(1, steps=500))
    assert len(store) == 2


def test_creation_survives_a_remnant_of_a_killed_one(tmp_path):
    (tmp_path / "memory.db.new").write_bytes(b"half writ")
    with EpisodeStore(tmp_path / "memory.db") as store:
        assert len(store) == 0 and store.verify() == []
        store.append(make(0))
        create(store.path)  # a second process that came too late
        assert len(store) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["memory.db"]


def child(code: str, *arguments: object) -> tuple[subprocess.Popen, IO[str]]:
    """A process running `code`, and what it prints."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout


APPENDS = """
import sys, itertools, numpy as np
from ami_agent.memory.store import EpisodeStore
from ami_agent.protocols import Episode
store, base = EpisodeStore(sys.argv[1]), int(sys.argv[2])
for seed in itertools.count(base):
    rng = np.random.default_rng(seed)
    steps = int(rng.integers(1, 200))
    state = rng.normal(size=(steps + 1, 50)).astype("f4")
    episode = Episode("e", {"s": state}, state[1:, :4], state[1:, 4], True, False, True, seed, "kill", state, "alpha")
    print(store.append(episode), seed, flush=True)
"""


def test_kill_9_loses_no_acknowledged_episode(tmp_path):
    acknowledged: dict[int, int] = {}
    rng = random.Random()
    for round_ in range(15):
        process, printed = child(APPENDS, tmp_path / "memory.db", 1000 * round_)
        lines = [] if round_ == 0 else [printed.readline()]  # the first kill may hit the creation itself
        time.sleep(rng.uniform(0, 0.12) if round_ else rng.uniform(0.1, 0.4))
        process.send_signal(signal.SIGKILL)
        lines += printed.read().splitlines()
        process.wait()
        acknowledged |= {int(episode_id): int(seed) for episode_id, seed in map(str.split, lines)}
        with EpisodeStore(tmp_path / "memory.db") as store:
            assert store.verify() == []
            ids = store.ids()
            assert set(acknowledged) <= set(ids)
            for episode_id in acknowledged:
                assert store.read(episode_id).seed == acknowledged[episode_id]
    assert len(acknowledged) >= 100


# --- the lock ----------------------------------------------------------------------------------------------------

HOLDS = """
import sys, time
from ami_agent.memory.lock import HomeLock
with HomeLock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_process_is_told_who_holds_the_home_until_that_is_killed(tmp_path):
    process, printed = child(HOLDS, tmp_path / "home")
    assert printed.readline() == "held\n"
    with pytest.raises(LockedError, match=f"process {process.pid} on ") as caught:
        HomeLock(tmp_path / "home")
    assert caught.value.exit_code == 75
    process.kill()
    process.wait()
    with HomeLock(tmp_path / "home") as lock:
        with pytest.raises(LockedError, match=str(os.getpid())):
            HomeLock(tmp_path / "home")
        lock.release()
        HomeLock(tmp_path / "home").release()


# --- recall ------------------------------------------------------------------------------------------------------


def brute_force(vectors, query, k):
    squared = ((query[:, None].astype(np.float64) - vectors) ** 2).sum(-1)
    rows = np.argsort(squared, axis=1, kind="stable")[:, :k]
    return rows, np.sqrt(np.take_along_axis(squared, rows, 1))


def test_recall_is_exact_and_ties_go_by_row():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(700, 33)).astype(np.float32)
    vectors[100:400] = vectors[5]  # a robot that stood still
    neighbours = Neighbours(33)
    for part in np.array_split(vectors, 7):
        neighbours.add(part)
    query = np.concatenate([rng.normal(size=(70, 33)), vectors[5:6], vectors[5:6] + 1e-4]).astype(np.float32)
    rows, distances = neighbours.search(query, 10)
    expected, expected_distances = brute_force(vectors, query, 10)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(distances, expected_distances, rtol=1e-6)
    one_by_one = np.concatenate([neighbours.search(query[i : i + 1], 10)[0] for i in range(len(query))])
    np.testing.assert_array_equal(rows, one_by_one)


def test_recall_filters_and_continuation(store):
    memory = EpisodicMemory(store, "alpha", "ami/Push-v0")
    assert memory.recall(np.zeros((2, 4)), 3)[1].shape == (2, 0, 2)
    episodes = {}
    for seed in range(9):
        episode = make(seed, session="even" if seed % 2 == 0 else "odd")
        episodes[store.append(episode)] = episode
    store.append(make(0, environment="ami/Reach-v0"))
    for episode_id, episode in episodes.items():
        memory.add(episode_id, episode)
    rebuilt = EpisodicMemory(store, "alpha", "ami/Push-v0")
    assert len(memory) == len(rebuilt) == 54
    query = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
    for one, other in zip(memory.recall(query, 7), rebuilt.recall(query, 7), strict=True):
        np.testing.assert_array_equal(one, other)

    latents, moments, distances = memory.recall(query, 100, success=True)
    assert latents.shape == (3, 18, 4) and set(moments[..., 0].ravel()) == {1, 4, 7}
    assert (np.diff(distances, axis=1) >= 0).all()
    episode_id, t = moments[1, 2]
    np.testing.assert_array_equal(latents[1, 2], store.read(episode_id).latent[t])
    assert set(memory.recall(query, 100, session="odd")[1][..., 0].ravel()) == {2, 4, 6, 8}
    assert set(memory.recall(query, 100, episode=3)[1][..., 0].ravel()) == {3}
    assert set(memory.recall(query, 100, before=3, success=False)[1][..., 0].ravel()) == {2}
    assert memory.recall(query, 5, session="never")[0].shape == (3, 0, 4)

    actions = memory.continuation(np.array([[[2, 0], [3, 3]], [[9, 5], [1, 4]]]), 4)
    assert actions.shape == (2, 2, 4, 2)
    np.testing.assert_array_equal(actions[0, 0], episodes[2].action[:4])
    np.testing.assert_array_equal(actions[0, 1], np.vstack([episodes[3].action[3:], np.zeros((2, 2))]))
    np.testing.assert_array_equal(actions[1, 0], np.zeros((4, 2)))
    with pytest.raises(KeyError):
        memory.continuation(np.array([[[77, 0]]]), 4)


def test_a_large_memory_recalls_nearly_all_by_inverted_lists():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(200, 24)) * 3
    vectors = (centres[rng.integers(200, size=25_000)] + rng.normal(size=(25_000, 24))).astype(np.float32)
    query = (vectors[rng.integers(25_000, size=60)] + rng.normal(size=(60, 24)) * 0.3).astype(np.float32)
    neighbours = Neighbours(24)
    neighbours.add(vectors[:22_000])
    neighbours.search(query, 1)
    neighbours.add(vectors[22_000:])  # found although the lists were trained without them
    rows, distances = neighbours.search(query, 10)
    expected, _ = brute_force(vectors, query, 10)
    hits = [len(set(a) & set(b)) for a, b in zip(rows, expected, strict=True)]
    assert np.mean(hits) >= 9.5
    assert (np.diff(distances, axis=1) >= 0).all()
    wanted = np.arange(25_000) % 10 != 0
    filtered, _ = neighbours.search(query, 10, wanted)
    assert wanted[filtered].all()
    few, _ = neighbours.search(query, 10, ~wanted)  # few enough to be exact
    np.testing.assert_array_equal(few, brute_force(vectors[::10], query, 10)[0] * 10)


# --- replay ------------------------------------------------------------------------------------------------------


def test_windows_worked_by_hand():
    def episode(base, steps, terminated):
        count = np.arange(steps + 1, dtype=np.float32)
        image = (base + np.arange(steps + 1)).astype(np.uint8).reshape(-1, 1, 1, 1)
        observation = {"state": base + count[:, None], "image": image}
        action = (base + count[:-1, None]) / 1000
        return Episode("e", observation, action, count[:-1], terminated, not terminated, False)

    replay = Replay(100)
    replay.add(3, episode(10, 3, True))
    replay.add(8, episode(50, 2, False))
    batch = replay.read(np.array([[3, 0], [3, 2], [8, 1]]), 3)
    assert batch.observation["state"][..., 0].tolist() == [[10, 11, 12, 13], [12, 13, 13, 13], [51, 52, 52, 52]]
    assert batch.observation["image"].dtype == torch.float32 and batch.observation["image"].shape == (3, 4, 1, 1, 1)
    torch.testing.assert_close(batch.action[..., 0] * 1000, torch.tensor([[10.0, 11, 12], [12, 0, 0], [51, 0, 0]]))
    assert batch.reward.tolist() == [[0, 1, 2], [2, 0, 0], [1, 0, 0]]
    assert batch.terminated.tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 0]]
    assert batch.mask.tolist() == [[1, 1, 1], [1, 0, 0], [1, 0, 0]]
    for bad, error in [([[4, 0]], KeyError), ([[3, 3]], ValueError), ([[3, -1]], ValueError), ([[9, 0]], KeyError)]:
        with pytest.raises(error):
            replay.read(np.array(bad), 2)


def test_sampling_is_uniform_over_lived_steps_and_the_future_is_later():
    replay = Replay(1000)
    for episode_id, steps in [(1, 1), (2, 3), (5, 6)]:
        replay.add(episode_id, make(episode_id, steps, observation={"t": np.arange(steps + 1.0)[:, None]}))
    rng = np.random.default_rng(0)
    moments = replay.sample(20_000, 4, rng)
    kinds, counts = np.unique(moments, axis=0, return_counts=True)
    assert len(kinds) == 10 and abs(counts - 2000).max() < 200
    later = replay.future(moments, rng, "t")[:, 0].numpy()
    assert (later > moments[:, 1]).all() and later.dtype == np.float32
    from_start = later[(moments == [5, 0]).all(1)]
    kinds, counts = np.unique(from_start, return_counts=True)
    assert kinds.tolist() == [1, 2, 3, 4, 5, 6] and counts.min() > 250
    assert (later[moments[:, 0] == 1] == 1).all()


def test_the_ring_keeps_the_latest_whole_episodes_and_resumes_exactly(store):
    capacity = 300
    replay = Replay(capacity)
    rng = np.random.default_rng(0)
    episodes = {}
    for seed in range(400):
        episode = make(seed, int(rng.integers(1, 40)), width=None)
        episode_id = store.append(episode) if seed >= 340 else seed - 400  # only the latest need to be on disk
        episodes[episode_id] = episode
        replay.add(episode_id, episode)
        kept = replay.state()["ids"]
        assert kept == sorted(episodes)[-len(kept) :]
        rows = sum(len(episodes[i]) + 1 for i in kept)
        older = sorted(episodes)[: -len(kept)]  # the next of which would not fit
        assert rows <= capacity and (not older or rows + len(episodes[older[-1]]) + 1 > capacity)
    moments = replay.sample(500, 3, np.random.default_rng(5))
    batch = replay.read(moments, 1)
    for i, (episode_id, t) in enumerate(moments):
        episode = episodes[episode_id]
        for name, sense in episode.observation.items():
            np.testing.assert_array_equal(batch.observation[name][i], sense[t : t + 2])
        np.testing.assert_array_equal(batch.action[i, 0], episode.action[t])

    for resumed in (Replay.restore(store, replay.state()), Replay.load(store, "ami/Push-v0", capacity)):
        assert resumed.steps == replay.steps and len(resumed) == len(replay)
        np.testing.assert_array_equal(resumed.sample(500, 3, np.random.default_rng(5)), moments)
        torch.testing.assert_close(vars(resumed.read(moments, 4)), vars(replay.read(moments, 4)), rtol=0, atol=0)


def test_the_replay_refuses_what_does_not_belong():
    replay = Replay(50)
    with pytest.raises(ValueError, match="empty"):
        replay.sample(1, 1, np.random.default_rng(0))
    replay.add(1, make(0))
    with pytest.raises(ValueError, match="does not fit"):
        replay.add(2, make(0, steps=50))
    with pytest.raises(ValueError, match="ascend"):
        replay.add(1, make(0))
    with pytest.raises(ValueError, match="senses"):
        replay.add(2, make(0, observation={"other": np.zeros((6, 3), np.float32)}))
    assert len(replay) == 1
