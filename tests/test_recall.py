"""Recall against brute force, and training windows against a hand's working."""

import numpy as np
import pytest
import torch
from episodes import make

from ami_agent.memory.episodic import EpisodicMemory
from ami_agent.memory.neighbours import Neighbours
from ami_agent.memory.replay import Replay
from ami_agent.memory.store import EpisodeStore
from ami_agent.protocols import Episode


@pytest.fixture
def store(tmp_path):
    with EpisodeStore(tmp_path / "memory.db") as store:
        yield store


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
