"""`ami/Recall-v0`: the room stays the same over a session, what is seen is all that is told, and memory pays."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

import ami_envs  # noqa: F401 - registers
from ami_envs.faces import BatchEnv
from ami_envs.worlds.recall import COLOURS, PLACES, RADIUS, SIGHT, Recall, path_ratios
from ami_envs.worlds.ways import CLEAR, blocked, route, shortest

SESSIONS = 20
SCREEN = np.array([[0.0, 0.0, 0.6, 0.04]])


def make(n: int = SESSIONS) -> BatchEnv:
    return gym.make_vec("ami/Recall-v0", n, autoreset_mode="Disabled", sensors=())  # type: ignore[return-value]


def test_memory_pays_and_nothing_else_does() -> None:
    """At the last visit, with memory, the way is all but the shortest; without, visits change nothing."""
    with_memory, without = path_ratios(make(), BatchEnv.oracle), path_ratios(make(), BatchEnv.floor)
    assert min(with_memory.min(), without.min()) >= 1.0  # so the shortest path is no longer than it is said to be
    np.testing.assert_array_equal(with_memory[0], without[0])
    assert with_memory[0].mean() > 2.0
    assert with_memory[-1].mean() <= 1.15
    assert without[-2:].mean() > 0.8 * without[:2].mean()


def test_layout_belongs_to_session() -> None:
    env = make(8)
    hidden = env.engine.hidden
    env.reset(seed=0)
    kept = {name: hidden[name].copy() for name in ("screens", "places", "stands")}
    starts, asked = [env.engine.robot.qpos.copy()], [env.engine.goal.copy()]
    for _ in range(5):
        env.reset()
        starts.append(env.engine.robot.qpos.copy())
        asked.append(env.engine.goal.copy())
        for name, value in kept.items():
            np.testing.assert_array_equal(hidden[name], value)
    assert (np.ptp(starts, axis=0) > 0.0).all()
    assert (np.ptp(asked, axis=0).sum(axis=1) > 1.0).all()
    assert all(len(np.unique(value, axis=0)) == 8 for value in kept.values())


def test_seen_is_kept_over_visits_and_forgotten_with_the_session() -> None:
    env = make(1)
    env.reset(seed=0)
    for _ in range(30):
        env.step(env.oracle())
    seen = env.engine.hidden["seen"][0].copy()
    np.testing.assert_array_equal(seen[0], seen[1])
    env.reset()
    now = env.engine.hidden["seen"][0]
    np.testing.assert_array_equal(now[0], seen[0] | now[1])
    assert now[0].sum() > now[1].sum()
    env.reset(seed=1)
    np.testing.assert_array_equal(now[0], now[1])


def test_starts_can_reach_all_places_and_see_no_goal() -> None:
    env = make(100)
    _, info = env.reset(seed=0)
    assert np.isfinite(info["privileged/way"]).all() and (info["privileged/way"] > Recall.away - RADIUS - 1e-9).all()
    hidden = env.engine.hidden
    assert np.isfinite(hidden["ways"][:, -PLACES:]).all()
    here = env.engine.robot.qpos[:, :2]
    assert not blocked(here, here, hidden["screens"], CLEAR).any()


def test_sees_within_sight_and_not_through_screens() -> None:
    env = make(1)
    env.reset(seed=0)
    engine, pad = env.engine, 2
    place = engine.hidden["places"][0, engine.hidden["stands"][0, pad]]
    engine.hidden["screens"][:] = 100.0
    for away, hidden_by_screen, near in ((0.4, False, 0.5), (0.4, True, 0.0), (SIGHT + 0.01, False, 0.0)):
        engine.robot.qpos[0, :2] = place + (0.0, away)
        engine.hidden["screens"][0, 0] = (*place + (0.0, away / 2 if hidden_by_screen else 50.0), 0.6, 0.04)
        engine.hidden["seen"][:] = False
        engine.task.after(engine, np.ones(1, bool))
        assert engine.observe()["achieved_goal"][0, pad] == pytest.approx(near)
        assert engine.info()["privileged/seen"][0, pad] == (near > 0.0)


def test_experts_do_not_know_what_they_have_not_seen() -> None:
    env = make(8)
    env.reset(seed=0)
    hidden = env.engine.hidden
    acts = env.oracle(), env.floor()
    for i in range(8):
        free = np.setdiff1d(np.flatnonzero(~hidden["seen"][i, 0]), hidden["stands"][i])
        asked = env.engine.goal[i].argmax()
        hidden["stands"][i, asked] = free[i % len(free)]
    np.testing.assert_array_equal(env.oracle(), acts[0])
    np.testing.assert_array_equal(env.floor(), acts[1])


def test_reward_cannot_be_milked_and_goals_may_be_relabelled() -> None:
    task = make(1).engine.task
    edge = 1.0 - RADIUS / SIGHT
    achieved = np.zeros((4, len(COLOURS)))
    achieved[:, 1] = 0.0, edge, edge + 0.01, 0.9
    desired = np.tile(np.eye(len(COLOURS))[1], (4, 1))
    assert task.success(achieved, desired).tolist() == [False, False, True, True]
    assert (task.reward(achieved, desired, None) > 0.0).tolist() == [False, False, True, True]
    assert not task.success(achieved, np.zeros_like(desired)).any()
    assert task.success(achieved, 0.8 * desired).tolist() == [False, False, True, True]


def test_shortest_way_round_a_screen() -> None:
    places = np.array([[0.0, 1.0], [2.0, -1.0]])
    ways = shortest(SCREEN, places, 3.0)
    lengths, first = route(np.array([[0.0, -1.0]]), SCREEN[None], ways[None], places[None])
    assert lengths[0] == pytest.approx([2 * np.hypot(0.81, 0.75) + 0.5, 2.0])
    assert np.abs(first[0, 0]) == pytest.approx([0.81, 0.25])
    assert first[0, 1] == pytest.approx(places[1])
    assert np.isinf(shortest(np.array([[0.0, 0.0, 3.0, 0.04]]), places, 3.0)[-2, 1])
