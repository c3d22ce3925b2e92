"""`ami/Depot-v0`: the belt, the scale, the bins and the order that changes."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import ami_envs  # noqa: F401
from ami_envs.worlds.depot import BELT, EDGE, MIDDLES, PARCELS, ROW, SPEED, START, TOP

IDLE = np.zeros(5, np.float32)


def make(n, **options):
    env = gym.make_vec("ami/Depot-v0", n, autoreset_mode=AutoresetMode.DISABLED, **options)
    return env, env.reset(seed=0)[0]


def test_parcels_that_no_one_takes_are_weighed_by_the_belt_and_lost():
    env = gym.make("ami/Depot-v0", sensors=("scale",))
    _, info = env.reset(seed=0)
    entry, weighed, rewards = info["privileged/entry"], np.zeros(PARCELS), []
    for step in range(1, 1501):
        observation, reward, terminated, truncated, info = env.step(IDLE)
        rewards.append(reward)
        on_scale = entry == step - round((-0.19 - START) / SPEED * 25)
        weighed[on_scale] = observation["scale"][0]
        if terminated or truncated:
            break
    assert terminated and not info["success"]
    np.testing.assert_allclose(weighed, [0.04, 0.04, 0.08, 0.08, 0.12, 0.12], rtol=0.02)
    np.testing.assert_array_equal(observation["achieved_goal"], -np.ones(PARCELS))
    lost = 1 + np.flatnonzero(np.array(rewards) < -0.5)
    np.testing.assert_allclose(lost - np.sort(entry), (EDGE - START) / SPEED * 25, atol=5)


def test_a_parcel_counts_once_in_the_bin_it_comes_to_first():
    env, told = make(1)
    engine, task = env.engine, env.engine.task
    for _ in range(100):
        told = env.step(IDLE[None])[0]
    here = np.flatnonzero(told["observation"][0, 12:66].reshape(PARCELS, 9)[:, 0])
    k, goal = here[0], int(told["desired_goal"][0, here[0]])
    start = env.get_state(0)
    for bin in (goal, goal % 3 + 1):
        env.set_state(start)
        task._place[0, k] = MIDDLES[bin - 1], ROW, 0.03
        observation, reward, *_ = env.step(IDLE[None])
        expected = np.zeros(PARCELS)
        expected[k] = bin
        np.testing.assert_array_equal(observation["achieved_goal"][0], expected)
        np.testing.assert_array_equal(observation["observation"][0, 66:], expected > 0)
        assert reward[0] == pytest.approx(1.0 if bin == goal else -1.0, abs=0.05)
        task._place[0, k] = 0.0, BELT, TOP + 0.02
        observation, reward, *_ = env.step(IDLE[None])
        np.testing.assert_array_equal(observation["achieved_goal"][0], expected)
        assert abs(reward[0]) < 0.05
    assert engine.alive[0]


@pytest.mark.parametrize("order", ["colour", "weight"])
def test_the_order_changes_once_for_parcels_not_yet_lifted(order):
    n = 4
    env, told = make(n, order=order)
    engine, task = env.engine, env.engine.task
    change, changed = engine.hidden["change"].copy(), np.zeros(n, int)
    assert (np.sort(engine.goal) == [1, 1, 2, 2, 3, 3]).all()
    for _ in range(change[:, 0].max() + 2):
        before, heights, steps = told["desired_goal"], task._place[:, :, 2].copy(), engine.steps.copy()
        status, entry = engine.hidden["status"].copy(), engine.hidden["entry"]
        told = env.step(env.oracle())[0]
        for i in np.flatnonzero((told["desired_goal"] != before).any(axis=1)):
            step, one, other = change[i]
            assert steps[i] == step
            free = (status[i] == 0) & ((entry[i] >= step) | (heights[i] < 0.055))
            swapped = np.where(before[i] == one, other, np.where(before[i] == other, one, before[i]))
            np.testing.assert_array_equal(told["desired_goal"][i], np.where(free, swapped, before[i]))
            nearest = 1 + np.abs(task._tags[i, :, :1] - MIDDLES).argmin(axis=1)
            np.testing.assert_array_equal(nearest, told["desired_goal"][i])
            changed[i] += 1
    assert (changed == 1).all()


def test_by_weight_the_observation_does_not_tell_which_parcel_is_which():
    env, told = make(8, order="weight")
    entry = env.engine.hidden["entry"]
    assert (entry[:, ::2] < entry[:, 1::2]).all() and len(np.unique(np.argsort(entry), axis=0)) > 4
    assert (told["desired_goal"][:, ::2] == told["desired_goal"][:, 1::2]).all()
    for _ in range(300):
        told = env.step(np.zeros((8, 5)))[0]
    here = told["observation"][:, 12:66].reshape(8, PARCELS, 9)[:, :, 0]
    assert (np.diff(here, axis=1) <= 0).all() and here[:, 0].all(), "the first to come are the first told of"


def test_only_known_orders_are_taken():
    with pytest.raises(ValueError, match="order must be 'colour' or 'weight'"):
        gym.make("ami/Depot-v0", order="size")
