"""What the store keeps beside the steps: success where it is told, latents by encoder; and files of older schemas."""

from pathlib import Path

import numpy as np
import pytest
from episodes import assert_same, in_a_file, make

from ami_agent import cli
from ami_agent.memory import sqlite
from ami_agent.memory.capacity import let_go
from ami_agent.memory.database import DamagedMemory
from ami_agent.memory.export import export
from ami_agent.memory.store import EpisodeStore
from ami_agent.memory.wal import lost_commits, lost_pages


def test_a_success_that_is_not_told_is_neither_until_one_is_told(store):
    for success in (None, True, None, False, None):
        store.append(make(0, success=success))
    store.append(make(0, environment="ami/Reach-v0", success=None))
    assert store.ids(success=True) == [2] and store.ids(success=False) == [4] and len(store.ids()) == 6
    rates = {name: facts["success_rate"] for name, facts in store.stats()["environments"].items()}
    assert rates == {"ami/Push-v0": 0.2, "ami/Reach-v0": None}
    assert store.verify() == []


OLD_EPISODE_TABLE = """CREATE TABLE episode (
    id INTEGER PRIMARY KEY AUTOINCREMENT, environment TEXT NOT NULL, session TEXT NOT NULL, seed INTEGER NOT NULL,
    steps INTEGER NOT NULL, episode_return REAL NOT NULL, success INTEGER, terminated INTEGER NOT NULL,
    truncated INTEGER NOT NULL, encoder TEXT NOT NULL, created REAL NOT NULL, checksum BLOB NOT NULL) STRICT"""


def of_schema(store: EpisodeStore, version: int) -> None:
    """Make the store's file what version 1 or 2 wrote, and close it."""
    for table in ("tail", "note"):
        store._db.execute(f"DROP TABLE {table}")
    store._db.execute("ALTER TABLE episode RENAME TO later")
    told = " NOT NULL" if version == 1 else ""
    store._db.execute(OLD_EPISODE_TABLE.replace("success INTEGER,", f"success INTEGER{told},"))
    store._db.execute(f"INSERT INTO episode SELECT {sqlite.FACTS}, checksum FROM later")
    store._db.execute("DROP TABLE later")
    store._db.execute(f"PRAGMA user_version = {version}")
    store.close()


@pytest.mark.parametrize("version", [1, 2])
@in_a_file
def test_a_memory_of_an_older_schema_is_read_as_it_is_and_migrated_by_a_writer(store, version):
    episodes = [make(seed) for seed in range(3)]
    for episode in episodes:
        store.append(episode)
    of_schema(store, version)
    before = store.path.read_bytes()
    with EpisodeStore(store.path, read_only=True) as reading:
        assert reading.verify() == [] and reading.ids() == [1, 2, 3]
        assert_same(episodes[2], reading.read(3))
        assert reading.ids(task="") == [1, 2, 3] and reading.ids(task="x") == []
        assert list(export(reading, store.path.with_name("out"))[0].values()) == [3]
    assert store.path.read_bytes() == before
    for _ in range(2):
        with EpisodeStore(store.path) as migrated:
            assert migrated.verify() == []
            for episode_id in (1, 2, 3):
                assert_same(episodes[episode_id - 1], migrated.read(episode_id))
    with EpisodeStore(store.path) as migrated:
        assert migrated.append(make(9, success=None)) == 4
        assert migrated.read(4).success is None and migrated.verify() == []
    copy = store.path.with_name(f"{store.path.name}.schema-{version}")
    with EpisodeStore(copy, read_only=True) as kept:
        assert kept.ids() == [1, 2, 3] and kept.verify() == []


@in_a_file
def test_a_migration_that_fails_leaves_the_file_as_it_was(store, monkeypatch):
    store.append(make(0))
    of_schema(store, 1)
    before = store.path.read_bytes()
    with monkeypatch.context() as patched:
        broken = sqlite.MIGRATIONS[1] + "INSERT INTO episode (id) VALUES (NULL);"
        patched.setitem(sqlite.MIGRATIONS, 1, broken)
        with pytest.raises(DamagedMemory, match="cannot be read"):
            EpisodeStore(store.path)
    assert store.path.read_bytes() == before
    with EpisodeStore(store.path) as migrated:
        assert_same(make(0), migrated.read(1))


def test_superseded_latents_are_dropped_where_asked(store):
    for seed in range(3):
        store.append(make(seed, environment="ami/Reach-v0" if seed == 2 else "ami/Push-v0"))
        store.set_latents(seed + 1, np.ones((6, 9), np.float32), "beta")
    assert store.drop_latents(["alpha", "beta"]) == 0
    assert store.drop_latents(["beta"], "ami/Push-v0") == 2
    assert [store.encoders(episode_id) for episode_id in (1, 2, 3)] == [["beta"], ["beta"], ["alpha", "beta"]]
    assert_same(make(0, latent=None, encoder=""), store.read(1))
    assert store.read(1, encoder="beta").latent.shape == (6, 9) and store.verify() == []
    assert store.drop_latents(iter(())) == 4
    assert store.stats()["encoders"] == {} and store.verify() == [] and store.read(3).latent is None


def test_what_another_deletes_meanwhile_is_no_damage(store):
    for seed in range(6):
        store.append(make(seed))
    store._db.execute("DELETE FROM chunk WHERE episode = 5 AND part = 'senses'")
    with EpisodeStore(store.name) as other, EpisodeStore(store.name, read_only=True) as reading:
        found = []
        for episode_id, _ in reading.episodes():
            found.append(episode_id)
            let_go(other, [2])
        assert found == [1, 3, 4, 6] and reading.skipped == 1
        read = reading.read
        reading.read = lambda *which: let_go(other, [4]) or read(*which)
        assert [fault[:9] for fault in reading.verify()] == ["episode 5"]


def test_what_an_encoder_has_not_seen_is_told_and_damage_counted(store):
    for seed in range(5):
        store.append(make(seed, width=4 if seed == 1 else None, environment="e" if seed == 4 else "ami/Push-v0"))
    store._db.execute("DELETE FROM chunk WHERE episode = 3 AND part = 'senses'")
    found = []
    for episode_id, episode in store.unembedded("alpha", "ami/Push-v0"):
        assert episode.observation
        store.set_latents(episode_id, np.ones((6, 4), np.float32), "alpha")
        found.append(episode_id)
    assert found == [1, 4] and store.skipped == 1
    assert store.ids(encoder="alpha") == [1, 2, 4]


@in_a_file
def test_a_damaged_page_of_the_list_costs_the_episodes_in_it_alone(store, place, tmp_path, capsys):
    pytest.importorskip("minari")
    for seed in range(400):
        store.append(make(seed, steps=1, width=None))
    store.close()
    raw = bytearray(Path(place).read_bytes())
    size = int.from_bytes(raw[16:18], "big")
    leaves = [at for at in range(size, len(raw), size) if raw[at] == 0x0D and raw.count(b"ami/Push", at, at + size) > 9]
    raw[leaves[3]] ^= 1 << 3  # the kind of the page
    Path(place).write_bytes(raw)
    with EpisodeStore(place, read_only=True) as again:
        left = again.ids()
        assert 300 < len(left) < 400 and all(again.read(id).seed == id - 1 for id in left) and again.verify()
        assert again.ids(success=True) == [id for id in left if (id - 1) % 3 == 0]
        with pytest.raises(DamagedMemory):
            again.ids(environment="none that is left")
        told, left_out = export(again, tmp_path / "out")
        assert sum(told.values()) == len(left) and left_out == 0
    agent = tmp_path / "home" / "agents" / "default"
    agent.mkdir(parents=True)
    Path(place).rename(agent / "memory.sqlite")
    assert cli.main(["memory", "verify", "--home", str(tmp_path / "home")]) == 4
    assert "`ami-agent memory export` saves the episodes that can be read" in capsys.readouterr().out


def test_a_page_that_is_neither_in_the_file_nor_in_the_log_is_lost(tmp_path):
    path = tmp_path / "m.db"
    path.write_bytes(bytes(3 * 512))
    frames = b"".join(page.to_bytes(4, "big") + bytes(20 + 512) for page in (2, 5, 7))
    Path(f"{path}-wal").write_bytes(bytes(32) + frames + bytes(9))  # the last was cut
    assert lost_pages(path, 7, 512) == [4, 6] and lost_pages(path, 3, 512) == []


@pytest.mark.parametrize("where", [0.3, 0.9, "page size", "header", "sum of the header", "last frame"])
@in_a_file
def test_a_damaged_log_is_told_and_kept_before_anything_is_written(store, tmp_path, caplog, where):
    """SQLite reads it up to the damage, and writes over the rest."""
    for seed in range(6):
        store.append(make(seed, steps=20))
    copy, log = tmp_path / "copy.db", bytearray(Path(f"{store.path}-wal").read_bytes())
    copy.write_bytes(store.path.read_bytes())
    Path(f"{copy}-wal").write_bytes(log)
    with EpisodeStore(copy) as sound:
        assert sound.ids() == [1, 2, 3, 4, 5, 6] and not caplog.records
    copy.write_bytes(store.path.read_bytes())
    at = {"page size": 11, "header": 17, "sum of the header": 30, "last frame": len(log) - 9}.get(where)
    log[int(where * len(log)) if at is None else at] ^= 1 << 3
    Path(f"{copy}-wal").write_bytes(log)
    with EpisodeStore(copy, read_only=True) as damaged:
        left = damaged.ids()
        assert len(left) < 6 and "its log is damaged" in damaged.verify()[0]
    with EpisodeStore(copy) as anew:
        kept = Path(f"{copy}-wal.damaged")
        assert str(kept) in caplog.text and kept.read_bytes() == log
        assert anew.ids() == left and anew.verify() == []
        anew.append(make(9))
    with EpisodeStore(copy) as anew:
        assert len(anew) == len(left) + 1 and not Path(f"{copy}-wal.damaged-2").exists()


@in_a_file
def test_where_a_log_ends_is_no_damage(store, tmp_path):
    for seed in range(4):
        store.append(make(seed, steps=20))
    copy, log = tmp_path / "copy.db", Path(f"{store.path}-wal").read_bytes()
    copy.write_bytes(store.path.read_bytes())
    for length in (0, 10, 32, 50, 32 + 24 + 4096, len(log) // 2, len(log) - 1):
        Path(f"{copy}-wal").write_bytes(log[:length])
        assert lost_commits(copy) == 0
    Path(f"{copy}-wal").unlink()
    assert lost_commits(copy) == 0
    store._db.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
    store.append(make(4, steps=1))
    assert Path(f"{store.path}-wal").stat().st_size == len(log)  # begun anew, with older frames behind
    assert lost_commits(store.path) == 0 and store.verify() == []
