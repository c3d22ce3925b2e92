"""What an agent remembers, for others: Minari's own reader finds it as it was lived."""

import sys
from pathlib import Path

import numpy as np
import pytest
from episodes import make

from ami_agent import cli
from ami_agent.errors import MissingError
from ami_agent.memory.export import export
from ami_agent.memory.store import EpisodeStore


def load(name: str, folder: Path, monkeypatch):
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder))
    return minari.load_dataset(name)


def test_minari_reads_what_was_lived(store, tmp_path, monkeypatch):
    monkeypatch.setattr("ami_agent.memory.export.BATCH", 2)
    lived = [make(seed) for seed in range(5)]
    for episode in lived:
        store.append(episode)
    datasets, left_out = export(store, tmp_path / "out")
    assert left_out == 0 and list(datasets.values()) == [5]
    found = list(load(next(iter(datasets)), tmp_path / "out", monkeypatch).iterate_episodes())
    for one, episode in zip(found, lived, strict=True):
        for name, value in episode.observation.items():
            assert one.observations[name].dtype == value.dtype
            np.testing.assert_array_equal(one.observations[name], value)
        np.testing.assert_array_equal(one.actions, episode.action)
        np.testing.assert_array_equal(one.rewards, episode.reward)
        assert (one.terminations[-1], one.truncations[-1]) == (episode.terminated, episode.truncated)
        np.testing.assert_array_equal(one.infos["surprise"][:-1], episode.surprise)


def test_each_environment_and_task_has_a_dataset_and_damage_is_left_out(store, tmp_path):
    for seed, changes in enumerate(({}, {"task": '{"size": 8}'}, {"environment": "ami/Reach-v0"}, {})):
        store.append(make(seed, **changes))
    store._db.execute("UPDATE chunk SET data = ? WHERE episode = 4 AND part = 'senses'", (b"\0",))
    datasets, left_out = export(store, tmp_path / "out")
    assert list(datasets.values()) == [1, 1, 1] and left_out == 1
    assert [name.rsplit("-memory", 1)[0] for name in datasets] == ["ami/ami-push-v0"] * 2 + ["ami/ami-reach-v0"]
    assert list(export(store, tmp_path / "one", "ami/Reach-v0")[0].values()) == [1]


def test_senses_of_any_name_are_told_apart(store, tmp_path, monkeypatch):
    senses = {name: np.full((6, 2), i, np.float32) for i, name in enumerate(("", ".", "a/b", "a_b", "eye"))}
    store.append(make(0, observation=senses))
    (name,) = export(store, tmp_path / "out")[0]
    (one,) = load(name, tmp_path / "out", monkeypatch).iterate_episodes()
    assert {key: int(value[0, 0]) for key, value in one.observations.items()} == {
        "_": 0, "__": 1, "a_b_": 2, "a_b": 3, "eye": 4,
    }  # fmt: skip


def test_without_minari_one_is_told_what_to_install(store, tmp_path, monkeypatch):
    store.append(make(0))
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(MissingError, match=r"pip install 'ami-agent\[export\]'"):
        export(store, tmp_path / "out")


def test_what_stands_beside_is_left_alone_and_what_cannot_be_written_is_said(store, tmp_path, monkeypatch, capsys):
    store.append(make(0))
    precious = tmp_path / "out.part" / "precious.txt"
    precious.parent.mkdir()
    precious.write_text("years of work")
    export(store, tmp_path / "out")
    assert precious.read_text() == "years of work" and {path.name for path in tmp_path.iterdir()} >= {"out", "out.part"}
    home, link = tmp_path / "home", tmp_path / "link"
    with EpisodeStore(home / "agents" / "default" / "memory.sqlite") as kept:
        kept.append(make(0))
    (tmp_path / "empty").mkdir()
    link.symlink_to(tmp_path / "empty")
    monkeypatch.chdir(tmp_path / "empty")
    for out in (".", str(link)):
        assert cli.main(["memory", "export", "--home", str(home), "--out", out]) == 2
    assert cli.main(["memory", "export", "--home", str(home), "--out", str(precious / "out")]) == 3
    told = capsys.readouterr().err
    assert told.count("--out") == 2 and "choose a folder you may write" in told


def test_a_memory_takes_less_room_when_it_is_compacted(store):
    for seed in range(20):
        store.append(make(seed, steps=300, width=64))
    store.drop_latents([])
    episodes = [store.read(episode_id) for episode_id in store.ids()]
    if not store.shared:
        store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = store.stats()["bytes"]
    store.compact()
    assert store.stats()["bytes"] < 0.8 * before and store.verify() == []
    for episode, same in zip(episodes, (store.read(episode_id) for episode_id in store.ids()), strict=True):
        np.testing.assert_array_equal(episode.action, same.action)
