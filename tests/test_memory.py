"""What the memory promises: nothing acknowledged is lost, damage is told, never read; two encoders never mix."""

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
from episodes import assert_same, in_a_file, make

from ami_agent.errors import ArtefactError, LockedError, MissingError, ResourceError
from ami_agent.memory.database import DamagedMemory
from ami_agent.memory.episodic import EpisodicMemory
from ami_agent.memory.lock import HomeLock
from ami_agent.memory.replay import Replay
from ami_agent.memory.sqlite import make as make_file
from ami_agent.memory.store import EpisodeStore

ROOT = Path(__file__).parent.parent


# --- the store ---------------------------------------------------------------------------------------------------


def test_what_is_read_is_what_was_lived(store):
    episodes = [make(0), make(1, steps=70, width=None), make(2, surprise=None, reward=np.full(5, -0.0, np.float32))]
    episodes[1] = replace(episodes[1], success=None)
    ids = [store.append(episode) for episode in episodes]
    for reopened in (store, EpisodeStore(store.name, read_only=True)):
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


@in_a_file
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


@in_a_file
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
@in_a_file
def test_damage_is_told_and_the_file_left_as_it_is(store, spoil, reason, read_only):
    store.append(make(0, steps=200))
    store.close()
    spoilt = spoil(store.path.read_bytes())
    store.path.write_bytes(spoilt)
    with pytest.raises(DamagedMemory, match=reason) as caught:
        EpisodeStore(store.path, read_only=read_only)
    assert caught.value.exit_code == 4 and "ami-agent memory verify" in str(caught.value)
    assert store.path.read_bytes() == spoilt


@in_a_file
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


@in_a_file
def test_read_only_never_creates_or_writes(store, tmp_path):
    with pytest.raises(MissingError):
        EpisodeStore(tmp_path / "none.db", read_only=True)
    assert not (tmp_path / "none.db").exists()
    with pytest.raises(MissingError):
        EpisodeStore(store.path, read_only=True).append(make(0))
    with pytest.raises(MissingError):
        EpisodeStore(tmp_path)
    for read_only in (False, True):
        with pytest.raises(ArtefactError, match="is gone"):
            EpisodeStore(tmp_path / "none.db", read_only, create=False)
    assert not (tmp_path / "none.db").exists()
    EpisodeStore(store.path, create=False).close()


@in_a_file
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
        make_file(store.path)  # a second process that came too late
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
from ami_agent.memory.sqlite import make as make_file
from ami_agent.memory.store import EpisodeStore
from ami_agent.protocols import Episode
store, base = EpisodeStore(sys.argv[1]), int(sys.argv[2])
for seed in itertools.count(base):
    rng = np.random.default_rng(seed)
    steps = int(rng.integers(1, 200))
    state = rng.normal(size=(steps + 1, 50)).astype("f4")
    episode = Episode("e", {"s": state}, state[1:, :4], state[1:, 4], True, False, True, seed, "kill", state, "alpha")
    print(f"{store.append(episode)} {seed}\\n", end="", flush=True)  # in one piece, or not at all
"""


@pytest.mark.parametrize(("place", "kills"), [("sqlite", 15), ("postgres", 3)], indirect=["place"])
def test_kill_9_loses_no_acknowledged_episode(place, kills):
    acknowledged: dict[int, int] = {}
    rng = random.Random()
    for round_ in range(kills):
        process, printed = child(APPENDS, place, 1000 * round_)
        lines = [printed.readline() for _ in range(rng.randint(8, 20) if round_ else 0)]
        time.sleep(rng.uniform(0, 0.01) if round_ else rng.uniform(0.1, 0.4))  # the first may hit the creation itself
        process.send_signal(signal.SIGKILL)
        lines += printed.read().splitlines()
        process.wait()
        acknowledged |= {int(episode_id): int(seed) for episode_id, seed in map(str.split, lines)}
        with EpisodeStore(place) as store:
            assert store.verify() == []
            ids = store.ids()
            assert set(acknowledged) <= set(ids)
            for episode_id in acknowledged:
                assert store.read(episode_id).seed == acknowledged[episode_id]
    assert len(acknowledged) >= 5 * kills


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
