"""Recall against brute force, and training windows against a hand's working."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from episodes import make

from ami_agent.errors import ArtefactError
from ami_agent.memory.episodic import EpisodicMemory
from ami_agent.memory.neighbours import Neighbours
from ami_agent.memory.replay import Replay
from ami_agent.memory.store import EpisodeStore
from ami_agent.protocols import Episode, Wanted

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
    reach = make(0, environment="ami/Reach-v0")
    store.append(reach)
    for episode_id, episode in episodes.items():
        memory.add(episode_id, episode)
    rebuilt = EpisodicMemory(store, "alpha", "ami/Push-v0")
    assert len(memory) == len(rebuilt) == 54
    query = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
    for one, other in zip(memory.recall(query, 7), rebuilt.recall(query, 7), strict=True):
        np.testing.assert_array_equal(one, other)

    latents, moments, distances = memory.recall(query, 100, Wanted(success=True))
    assert latents.shape == (3, 18, 4) and set(moments[..., 0].ravel()) == {1, 4, 7}
    assert (np.diff(distances, axis=1) >= 0).all()
    episode_id, t = moments[1, 2]
    np.testing.assert_array_equal(latents[1, 2], store.read(episode_id).latent[t])
    assert set(memory.recall(query, 100, Wanted(session="odd"))[1][..., 0].ravel()) == {2, 4, 6, 8}
    assert set(memory.recall(query, 100, Wanted(episode=3))[1][..., 0].ravel()) == {3}
    assert set(memory.recall(query, 100, Wanted(session="odd", success=False))[1][..., 0].ravel()) == {2, 6, 8}
    assert memory.recall(query, 5, Wanted(session="never"))[0].shape == (3, 0, 4)
    of_all = EpisodicMemory(store, "alpha")
    assert set(of_all.recall(query, 100, Wanted(environment="ami/Reach-v0"))[1][..., 0].ravel()) == {10}
    assert of_all.recall(query, 100, Wanted(environment="first"))[0].shape == (3, 0, 4), "a session is no environment"

    actions = memory.continuation(np.array([[[2, 0], [3, 3]], [[9, 5], [1, 4]]]), 4)
    assert actions.shape == (2, 2, 4, 2)
    np.testing.assert_array_equal(actions[0, 0], episodes[2].action[:4])
    np.testing.assert_array_equal(actions[0, 1], np.vstack([episodes[3].action[3:], np.zeros((2, 2))]))
    np.testing.assert_array_equal(actions[1, 0], np.zeros((4, 2)))
    with pytest.raises(KeyError):
        memory.continuation(np.array([[[77, 0]]]), 4)


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"task": "hard", "success": False},
        {"task": "", "session": "s2", "good": True},
        {"after": 1020.0},
        {"after": 1010.0, "before": 1030.0, "t_from": 1, "t_to": 2},
        {"t_to": 0, "but": 8},
        {"episode": 8, "t_from": 2},
    ],
    ids=str,
)
def test_filters_are_those_of_brute_force(store, wanted, monkeypatch):
    clock = itertools.count(1001)
    monkeypatch.setattr("ami_agent.memory.store.time.time", lambda: float(next(clock)))
    for seed in range(40):
        told = {"success": (True, False, None)[seed % 3], "task": ("", "hard")[seed % 2], "session": f"s{seed % 4}"}
        store.append(make(seed, 3 + seed % 5, **told))
    episodes = dict(store.episodes())
    middle = np.median([one.reward.sum(dtype=np.float64) for one in episodes.values() if one.success is None])
    rows = []
    for id, one in episodes.items():
        facts = {"task": one.task, "session": one.session, "success": one.success, "episode": id}
        good = one.success or (one.success is None and one.reward.sum(dtype=np.float64) >= middle)
        fits = all(facts[name] == value for name, value in wanted.items() if name in facts)
        if fits and wanted.get("after", 0) <= 1000 + id < wanted.get("before", 1e9) and wanted.get("but") != id:
            ts = range(wanted.get("t_from", 0), min(wanted.get("t_to", 99), len(one)) + 1)
            rows += [(one.latent[t], id, t) for t in ts if good or not wanted.get("good")]
    query = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    order, distances = brute_force(np.stack([latent for latent, *_ in rows]), query, 9)
    expected = np.array([[rows[i][1:] for i in one] for one in order])
    _, moments, found = EpisodicMemory(store, "alpha", "ami/Push-v0").recall(query, 9, Wanted(**wanted))
    np.testing.assert_array_equal(moments, expected)
    np.testing.assert_allclose(found, distances, rtol=1e-6)
    by_lists = EpisodicMemory(store, "alpha", "ami/Push-v0", exact_rows=20).recall(query, 9, Wanted(**wanted))[1]
    assert by_lists.shape == moments.shape
    assert {tuple(one) for one in by_lists.reshape(-1, 2).tolist()} <= {(id, t) for _, id, t in rows}


def test_good_episodes_succeeded_or_where_that_is_not_told_have_the_better_returns(store):
    def found(memory, **filters):
        return set(memory.recall(np.zeros((1, 4)), 100, Wanted(**filters))[1][..., 0].ravel().tolist())

    for total, success in [(1, None), (9, None), (3, None), (7, None), (-5, True), (50, False)]:
        store.append(make(total % 7, reward=np.full(5, total / 5, np.float32), success=success))
    memory = EpisodicMemory(store, "alpha")
    assert found(memory, success=True) == {5} and found(memory, success=False) == {6}
    assert found(memory, good=True) == {2, 4, 5} and found(memory, good=True, success=True) == {5}
    told = EpisodicMemory(store, "alpha", "ami/Reach-v0")
    told.add(5, make(0, environment="ami/Reach-v0", success=False))
    assert found(told, good=True) == set()


def test_a_read_only_store_can_be_remembered_with_latents_made_now(store):
    for seed in range(2):
        store.append(make(seed))
    with EpisodeStore(store.name, read_only=True) as reading:
        memory = EpisodicMemory(reading, "beta", "ami/Push-v0")
        for episode_id, episode in reading.unembedded("beta", "ami/Push-v0"):
            latent = np.full((6, 3), episode_id, np.float32)
            memory.add(episode_id, replace(episode, latent=latent, encoder="beta"))
        moments = memory.recall(np.full((1, 3), 2.0), 6)[1]
        assert len(memory) == 12 and set(moments[0, :, 0]) == {2}
        assert memory.continuation(moments, 2).shape == (1, 6, 2, 2) and reading.encoders(1) == ["alpha"]


def test_a_memory_that_grew_recalls_as_one_opened_again():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(6_000, 12)).astype(np.float32)
    query = vectors[:200] + rng.normal(size=(200, 12)).astype(np.float32) * 0.5
    wanted = rng.random(6_000) < 0.7
    grown, at = Neighbours(12, exact_rows=1_000), 0
    for size in rng.integers(1, 90, 1_000):
        grown.add(vectors[at : at + size])
        at = min(at + size, 6_000)
        if size < 5:
            grown.search(query[:1], 3)
        if at == 6_000 or size == 80:
            opened = Neighbours(12, exact_rows=1_000)
            opened.add(vectors[:at])
            for mask in (None, wanted[:at]):
                for one, other in zip(grown.search(query, 10, mask), opened.search(query, 10, mask), strict=True):
                    np.testing.assert_array_equal(one, other)
        if at == 6_000:
            break
    assert at == 6_000
    one_by_one = np.concatenate([opened.search(query[i : i + 1], 10)[0] for i in range(200)])
    np.testing.assert_array_equal(opened.search(query, 10)[0], one_by_one)


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
    moments = replay.sample(20_000, rng)
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
    moments = replay.sample(500, np.random.default_rng(5))
    batch = replay.read(moments, 1)
    for i, (episode_id, t) in enumerate(moments):
        episode = episodes[episode_id]
        for name, sense in episode.observation.items():
            np.testing.assert_array_equal(batch.observation[name][i], sense[t : t + 2])
        np.testing.assert_array_equal(batch.action[i, 0], episode.action[t])

    for resumed in (Replay.restore(store, replay.state()), Replay.load(store, "ami/Push-v0", capacity)):
        assert resumed.steps == replay.steps and len(resumed) == len(replay)
        np.testing.assert_array_equal(resumed.sample(500, np.random.default_rng(5)), moments)
        torch.testing.assert_close(vars(resumed.read(moments, 4)), vars(replay.read(moments, 4)), rtol=0, atol=0)
    assert replay.lived == Replay.restore(store, replay.state()).lived == sum(map(len, episodes.values()))


def test_what_is_shaped_otherwise_is_left_out_of_learning(store):
    other = {"other": np.zeros((6, 3), np.float32)}
    for changes in ({"observation": other}, {}, {"action": np.zeros((5, 7), np.float32)}, {}, {}):
        store.append(make(0, **changes))
    store.append(make(0, steps=200))  # does not fit
    replay = Replay.load(store, "ami/Push-v0", 100)
    assert replay.state()["ids"] == [2, 4, 5] and replay.skipped == 3
    store.append(make(0, observation=other))
    assert Replay.load(store, "ami/Push-v0", 100).state()["ids"] == [1, 7]
    known = {"state": (3,), "image": (4, 4, 3)}
    assert Replay.load(store, "ami/Push-v0", 100, known).state()["ids"] == [2, 4, 5]
    assert Replay.load(store, "ami/Push-v0", 100, known, action_size=7).state()["ids"] == [3]
    nothing = Replay.load(store, "ami/Push-v0", 100, {"none": (1,)})
    assert len(nothing) == 0 and nothing.skipped == 7
    store._db.execute("UPDATE episode SET seed = 7 WHERE id IN (4, 7)")  # damage: the checksums are of another row
    damaged = Replay.load(store, "ami/Push-v0", 100)
    assert damaged.state()["ids"] == [2, 5] and damaged.skipped == 5
    assert Replay.load(store, "ami/Reach-v0", 100).skipped == 0


def test_a_replay_that_cannot_be_restored_is_a_bad_artefact(store):
    store.append(make(0))
    store.append(make(1))
    store._db.execute("UPDATE episode SET seed = 7 WHERE id = 2")
    for state in ({"capacity": 50, "ids": [1, 9]}, {"capacity": 50, "ids": [2]}, {"capacity": 3, "ids": [1]}, {}):
        with pytest.raises(ArtefactError) as caught:
            Replay.restore(store, state)
        assert store.name in str(caught.value)
    assert len(Replay.restore(store, {"capacity": 50, "ids": [1]})) == 1


def test_the_replay_refuses_what_does_not_belong():
    replay = Replay(50)
    with pytest.raises(ValueError, match="empty"):
        replay.sample(1, np.random.default_rng(0))
    replay.add(1, make(0))
    with pytest.raises(ValueError, match="does not fit"):
        replay.add(2, make(0, steps=50))
    with pytest.raises(ValueError, match="ascend"):
        replay.add(1, make(0))
    with pytest.raises(ValueError, match="senses"):
        replay.add(2, make(0, observation={"other": np.zeros((6, 3), np.float32)}))
    assert len(replay) == 1
    replay.add(2, make(1))
    assert len(replay) == 2 and replay.sample(4, np.random.default_rng(0)).shape == (4, 2)


def test_an_overview_is_even_over_all_that_is_there(store):
    for seed in range(6):
        store.append(make(seed))
    memory = EpisodicMemory(store, "alpha", "ami/Push-v0")
    latents, success = memory.overview(100)
    np.testing.assert_array_equal(latents, np.concatenate([make(seed).latent for seed in range(6)]))
    assert success.reshape(6, 6).tolist() == [[int(seed % 3 == 0)] * 6 for seed in range(6)]
    memory.forget(1)
    latents, success = memory.overview(2)
    np.testing.assert_array_equal(latents, [make(1).latent[0], make(5).latent[-1]])
    assert len(EpisodicMemory(store, "none").overview(9)[0]) == 0
