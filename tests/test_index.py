"""The file beside the store that recall opens from: a cache that is never missed, and never believed when it is bad."""

from __future__ import annotations

import logging
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from episodes import make

from ami_agent.memory import episodic, mapped
from ami_agent.memory.episodic import EpisodicMemory, index_path
from ami_agent.memory.store import EpisodeStore
from ami_agent.protocols import Wanted

WORLD = "ami/Push-v0"
EXACT = 150  # rows: so few that most tests are of inverted lists, too
WIDTH = 6
QUERY = np.random.default_rng(9).normal(size=(5, WIDTH)).astype(np.float32)


class Counted(EpisodeStore):
    """Counts the episodes that are read."""

    reads = 0

    def read(self, *arguments, **options):
        self.reads += 1
        return super().read(*arguments, **options)


@pytest.fixture(autouse=True)
def always_kept(monkeypatch):
    """The file is written whenever anything is new."""
    monkeypatch.setattr(episodic, "KEEP_ROWS", 1)
    monkeypatch.setattr(episodic, "KEEP_SHARE", 10**9)


def live(store: EpisodeStore, count: int, first: int = 0) -> None:
    for seed in range(first, first + count):
        task = '{"n": 2}' if seed % 3 else ""
        store.append(
            make(seed, 3 + seed % 5, WIDTH, session=f"s{seed % 4}", task=task, success=(True, False, None)[seed % 3])
        )


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    with EpisodeStore(folder / "memory.sqlite") as store:
        live(store, 60)
    return folder


@pytest.fixture
def path(made, tmp_path) -> Path:
    """A store of 60 episodes, and the file beside it."""
    path = tmp_path / "memory.sqlite"
    shutil.copy(made / path.name, path)
    with EpisodeStore(path) as store:
        EpisodicMemory(store, "alpha", WORLD, EXACT)
    return path


def reopened(path: Path, read_only: bool = False, encoder: str = "alpha", exact: int = EXACT):
    """What is recalled in all the ways there are, and how many episodes were read for it."""
    with Counted(path, read_only) as store:
        memory = EpisodicMemory(store, encoder, WORLD, exact)
        return everything(memory), store.reads


def everything(memory: EpisodicMemory) -> list[np.ndarray]:
    found: list[np.ndarray] = [np.array(len(memory))]
    for wanted in (None, Wanted(good=True), Wanted(session="s1"), Wanted(t_from=2), Wanted(success=True, t_to=1)):
        found += memory.recall(QUERY, 7, wanted)
        found.append(memory.continuation(found[-2], 4))
    return found


def fresh(path: Path, exact: int = EXACT) -> list[np.ndarray]:
    """The same by a memory without a file."""
    with EpisodeStore(path, read_only=True) as store:
        store.path = path.with_name("elsewhere.sqlite")
        return everything(EpisodicMemory(store, "alpha", WORLD, exact))


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def index(path: Path) -> Path:
    return index_path(path, "alpha", WORLD)


@pytest.mark.parametrize("exact", [EXACT, 20_000])
def test_opening_reads_only_what_is_new(path, exact):
    reopened(path, exact=exact)  # written anew, if for another number
    found, reads = reopened(path, exact=exact)
    assert reads == 0 and same(found, fresh(path, exact))
    with EpisodeStore(path) as store:
        live(store, 3, first=60)
    found, reads = reopened(path, exact=exact)
    assert reads == 3 and same(found, fresh(path, exact))
    assert reopened(path, exact=exact)[1] == 0


def test_one_that_grew_recalls_as_one_opened_again(path):
    with EpisodeStore(path) as store:
        grown = EpisodicMemory(store, "alpha", WORLD, EXACT)
        for seed in range(60, 200):
            episode = make(seed, 9, WIDTH)
            grown.add(store.append(episode), episode)
            if seed % 50 == 0:
                assert same(everything(grown), reopened(path, read_only=True)[0])
    assert same(everything(grown), fresh(path)) and reopened(path)[1] == 0


def test_little_that_is_new_is_not_written(path, monkeypatch):
    monkeypatch.setattr(episodic, "KEEP_ROWS", 50)
    before = index(path).read_bytes()
    with EpisodeStore(path) as store:
        memory = EpisodicMemory(store, "alpha", WORLD, EXACT)
        for seed in range(3):
            memory.add(store.append(make(seed, 14, WIDTH)), make(seed, 14, WIDTH))
            assert index(path).read_bytes() == before
        assert reopened(path, read_only=True)[1] == 3, "so does a process after a kill"
        memory.add(store.append(make(3, 14, WIDTH)), make(3, 14, WIDTH))
    assert index(path).read_bytes() != before and reopened(path)[1] == 0


REGIONS = ["lists", "vectors", "norms", "centroids", "sizes", "actions", "facts", "numbers", "prints"]
ENDS = {"checksums": None, "header": -60, "digest": -30, "length": -16, "magic": -1}


@pytest.mark.parametrize("region", [*REGIONS, *ENDS])
def test_a_flipped_bit_anywhere_is_seen_and_the_file_made_anew(path, region, caplog):
    """In each array, at its first and last byte; and in each part of the end."""
    whole = index(path).read_bytes()
    with mapped.opened(index(path)) as kept:
        layout = {name: (start, size) for name, _, _, start, size in mapped._layout(kept.header["arrays"])}
    assert set(layout) == set(REGIONS)
    end = max(start + size for start, size in layout.values())
    start, size = layout.get(region, (ENDS.get(region) or end, 1))
    expected = fresh(path)
    for place in {start, start + size - 1}:
        data = bytearray(whole)
        data[place] ^= 4
        index(path).write_bytes(data)
        caplog.clear()
        assert same(reopened(path, read_only=True)[0], expected) and "anew" in caplog.text
        assert index(path).read_bytes() == data, "only read"
        assert same(reopened(path)[0], expected)
        found, reads = reopened(path)
        assert reads == 0 and same(found, expected), "it is whole again"


@pytest.mark.parametrize("bad", [b"", b"AMIINDEX", b"x" * 5000, "cut", "longer", "folder"])
def test_what_is_no_index_is_made_anew(path, bad):
    whole, expected = index(path).read_bytes(), fresh(path)
    if bad == "folder":
        index(path).unlink()
        index(path).mkdir()
        assert same(reopened(path)[0], expected) and reopened(path)[1] == 60, "one goes without"
        return
    index(path).write_bytes({"cut": whole[:-700], "longer": whole + b"\0"}.get(bad, bad))
    assert same(reopened(path)[0], expected) and reopened(path)[1] == 0


def forged(path: Path, name: str, value, header: dict | None = None) -> None:
    """The file with another array, or header, and the checksums that belong to it."""
    with mapped.opened(index(path)) as kept:
        told = {**kept.header, **(header or {})}
        arrays = {each: one.all() for each, one in kept.arrays.items()}
    if name:
        arrays[name] = value(arrays[name])
    mapped.write(index(path), told, {each: (one.dtype, one.shape, [one]) for each, one in arrays.items()})


def set_in(place, value):
    def change(array):
        array[place] = value
        return array

    return change


@pytest.mark.parametrize(
    "name, value",
    [
        ("lists", np.ones_like),  # numbers of rows that there are not
        ("lists", lambda entries: np.full_like(entries, 0x7F)),  # and no distance to any
        ("sizes", lambda sizes: -sizes),
        ("sizes", set_in(0, 2**62)),
        ("sizes", lambda sizes: sizes[:-1]),
        ("centroids", lambda centroids: centroids[:0]),
        ("facts", set_in((3, 1), -5)),
        ("facts", set_in((3, 1), 2**62)),
        ("facts", lambda facts: facts[:-1]),
        ("prints", lambda prints: prints.astype(np.int64)),
        ("vectors", lambda vectors: vectors[:, :-1].copy()),
        ("actions", lambda actions: actions[:0]),
    ],
)
def test_a_file_forged_with_good_checksums_does_no_harm(path, name, value):
    expected = fresh(path)
    forged(path, name, value)
    assert same(reopened(path)[0], expected) and reopened(path)[1] == 0


@pytest.mark.parametrize(
    "header",
    [
        {"format": 2},
        {"encoder": "beta"},
        {"environment": "ami/Reach-v0"},
        {"exact_rows": 7},
        {"size": None},
        {"width": -1},
        {"names": 5},
    ],
)
def test_a_file_of_something_else_is_not_taken(path, header):
    forged(path, "", None, header)
    found, reads = reopened(path)
    assert reads == 60 and same(found, fresh(path)) and reopened(path)[1] == 0


def test_encoders_have_files_of_their_own_until_they_are_no_more(path):
    with EpisodeStore(path) as store:
        for episode_id, episode in list(store.unembedded("beta", WORLD)):
            store.set_latents(episode_id, episode.latent + 1, "beta")
        aside = path.with_name(f"{index(path).name}.1-1.new")
        aside.touch()
        beta = EpisodicMemory(store, "beta", WORLD, EXACT)
        assert beta.path != index(path) and not index(path).exists() and aside.exists(), "another may still write it"
        first = store.read(1)
        assert beta.recall(first.latent[:1] + 1, 1)[2] < 1e-6 < beta.recall(first.latent[:1], 1)[2]
        store.append(make(0, environment="ami/Reach-v0"))
        other = EpisodicMemory(store, "alpha", "ami/Reach-v0", EXACT)
        assert other.path.exists() and beta.path.exists(), "other environments keep theirs"


@pytest.mark.parametrize("gone", [[5], [1, 2, 60], list(range(1, 31))])
def test_episodes_that_the_store_has_no_more_are_not_recalled(path, gone):
    with closing(sqlite3.connect(path)) as db, db:
        for table, column in (("episode", "id"), ("chunk", "episode"), ("latent", "episode")):
            db.executemany(f"DELETE FROM {table} WHERE {column} = ?", [(id,) for id in gone])
    with Counted(path) as store:
        memory = EpisodicMemory(store, "alpha", WORLD, EXACT)
        assert store.reads == (30 if len(gone) == 30 else 0), "made anew where much is gone"
        assert not set(memory.recall(QUERY, 500)[1][..., 0].ravel()) & set(gone)
        assert len(memory) == int((store.lengths()[:, 1] + 1).sum())
    assert same(reopened(path, exact=20_000)[0], fresh(path, 20_000))
    with pytest.raises(KeyError):
        memory.continuation(np.array([[[gone[0], 0]]]), 2)


def test_forgotten_episodes_are_not_recalled(path):
    with EpisodeStore(path) as store:
        memory = EpisodicMemory(store, "alpha", WORLD, EXACT)
        nearest = memory.recall(QUERY[:1], 1)[1][0, 0, 0]
        memory.forget(int(nearest))
        assert nearest not in memory.recall(QUERY, 500)[1][..., 0]
        for wrong in (int(nearest), 999):
            with pytest.raises(KeyError):
                memory.forget(wrong)


def test_a_store_with_the_same_ids_is_not_the_same(path, tmp_path):
    path.unlink()
    with EpisodeStore(path) as store:
        live(store, 60, first=7)
    found, reads = reopened(path)
    assert reads == 60 and same(found, fresh(path))
    with EpisodeStore(path) as store:
        store.set_latents(4, store.read(4).latent * 2, "alpha")
    found, reads = reopened(path, exact=EXACT)
    assert reads == 1 and len(found) == len(fresh(path))


def test_what_is_only_read_is_not_written(path, caplog):
    expected = fresh(path)
    with EpisodeStore(path) as store:
        live(store, 1, first=60)
    before = index(path).read_bytes()
    assert reopened(path, read_only=True)[1] == 1 and index(path).read_bytes() == before
    index(path).unlink()
    with caplog.at_level(logging.INFO):
        found, reads = reopened(path, read_only=True)
    assert (
        "is missing" in caplog.text
        and reads == 61
        and not index(path).exists()
        and not same(found, expected)
        and same(found, fresh(path))
    )


def test_a_full_disk_costs_time_and_nothing_else(path, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    index(path).unlink()
    monkeypatch.setattr(episodic, "write", full)
    assert same(reopened(path)[0], fresh(path)) and "opening will take longer" in caplog.text
    assert not index(path).exists()


def test_damage_that_is_met_only_when_the_file_is_written_again(path):
    with mapped.opened(index(path)) as kept:
        (start,) = [start for name, _, _, start, _ in mapped._layout(kept.header["arrays"]) if name == "actions"]
    data = bytearray(index(path).read_bytes())
    data[start] ^= 4
    index(path).write_bytes(data)
    with EpisodeStore(path) as store:
        live(store, 1, first=60)
        assert len(EpisodicMemory(store, "alpha", WORLD, EXACT)) == int((store.lengths()[:, 1] + 1).sum())
    found, reads = reopened(path)
    assert reads == 0 and same(found, fresh(path))


def test_latents_made_for_this_process_alone_outlive_damage(path):
    data = bytearray(index(path).read_bytes())
    with mapped.opened(index(path)) as kept:
        start = [start for name, _, _, start, _ in mapped._layout(kept.header["arrays"]) if name == "vectors"][0]
    data[start] ^= 1
    index(path).write_bytes(data)
    with EpisodeStore(path, read_only=True) as store:
        memory = EpisodicMemory(store, "alpha", WORLD, EXACT)
        extra = replace(make(77, 4, WIDTH), encoder="alpha")
        memory.add(1000, extra)
        everything(memory)
        assert memory.recall(extra.latent[:1], 1)[1].tolist() == [[[1000, 0]]]
