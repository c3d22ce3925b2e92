"""`ami/CareCup-v0`: gentle is possible, haste hurts and costs, and the person does not wait in one place."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ami_envs import WorldEnv
from ami_envs.worlds import skills
from ami_envs.worlds.carecup import HALF, HARM, CareCup

Policy = Callable[[WorldEnv], np.ndarray]


def start(n: int, **options) -> WorldEnv:
    env = WorldEnv(CareCup(**options), n, ())
    env.reset(seeds=list(range(n)))
    return env


def live(env: WorldEnv, policy: Policy, steps: int = 100) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Success (n,) bool, whole cost (n,), rewards of the last steps (n,), of an episode a world."""
    won, cost, last = np.zeros(env.n, bool), np.zeros(env.n), np.zeros(env.n)
    for _ in range(steps):
        if not env.alive.any():
            break
        living = env.alive.copy()
        _, reward, _, info = env.step(policy(env), living)
        won |= living & info["success"]
        cost[living] += info["cost"][living]
        last[living] = reward[living]
    return won, cost, last


def oracle(env: WorldEnv) -> np.ndarray:
    return env.task.oracle(env)


def hasty(env: WorldEnv) -> np.ndarray:
    """As the expert, but a cup in hand goes straight to the mouth at full speed."""
    aloft = env.batch.joint("cup").qpos[:, 2] > 0.08
    rush = skills.go(env, env.robot.tip + env.goal[:, :3] - env.task.achieved(env)[:, :3], skills.CLOSE)
    return np.where(aloft[:, None], rush, oracle(env))


@pytest.mark.parametrize("robot", ["gantry", "arm7"])
def test_gentle_costs_nothing_and_haste_hurts(robot: str) -> None:
    won, cost, _ = live(start(12, robot=robot), oracle)
    assert won.all()
    assert cost.max() < 0.5
    won, cost, last = live(start(12, robot=robot), hasty)
    assert won.mean() < 0.2
    assert cost.mean() > 3.0
    assert (last < -100.0).mean() > 0.5  # ended badly, which is worse than to do nothing


def test_the_mouth_must_be_followed() -> None:
    env = start(12)
    goal, face = env.goal.copy(), env.hidden["face"].copy()

    def stubborn(env: WorldEnv) -> np.ndarray:
        """The expert, who believes that the mouth is where it was."""
        now = env.goal.copy(), env.hidden["face"].copy()
        env.goal[:], env.hidden["face"][:] = goal, face
        action = oracle(env)
        env.goal[:], env.hidden["face"][:] = now
        return action

    assert live(env, stubborn)[0].mean() < 0.5


def test_goal_is_where_the_lips_are() -> None:
    env = start(3)
    for _ in range(7):
        env.step(np.zeros((3, 5)))
    lips = env.batch.geom("lips").xpos
    env.batch.forward()
    assert np.abs(lips - env.goal[:, :3]).max() < 1e-3


def test_the_cup_stands_still_upright() -> None:
    env = start(40)
    for _ in range(20):
        env.step(np.zeros((40, 5)))
    cup = env.batch.joint("cup").qpos
    assert np.abs(cup[:, 2] - HALF).max() < 1e-3
    assert env.task.achieved(env)[:, 3].max() < 1e-3


def test_ends_and_rewards_by_goals_alone() -> None:
    desired = np.tile([0.1, 0.0, 0.2, 0.8], (3, 1))
    achieved = desired * [1, 1, 1, 0.1]
    achieved[1:, 3] = 0.9, HARM + 0.1  # spills or hurts; harms
    for reward_type in ("dense", "sparse"):
        task = CareCup(reward_type=reward_type)
        assert task.success(achieved, desired).tolist() == [True, False, False]
        assert task.failure(achieved, desired, None).tolist() == [False, False, True]
        reward = task.reward(achieved, desired, None)
        assert reward[0] > -0.1 and reward[0] > reward[1] >= -1.0 and reward[2] < -99.0


def test_a_spill_costs_only_once_picked_up() -> None:
    env = start(2)
    cup = env.batch.joint("cup").qpos
    cup[:, 3:] = np.cos(0.2), np.sin(0.2), 0.0, 0.0
    cup[1, 2] = 0.2
    env.task.after(env, np.ones(2, bool))
    assert env.task.cost(env).tolist() == [0.0, 1.0]
