"""`ami/Stack-v0`: what is special to it, and the skills that its expert and others' are made of."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from ami_envs.checks.trials import success_rate
from ami_envs.worlds import skills


def batch(worlds: int, n: int, **options: Any) -> Any:
    mode = AutoresetMode.DISABLED
    return gym.make_vec("ami/Stack-v0", worlds, n=n, max_episode_steps=150 * n, autoreset_mode=mode, **options)


@pytest.mark.parametrize(("n", "options"), [(2, {}), (3, {}), (1, {"robot": "arm7"}), (1, {"factors": {"mass": 3.0}})])
def test_experts_build(n: int, options: dict[str, Any]) -> None:
    assert success_rate(batch(4, n, **options), lambda env: env.oracle()) == 1.0


def test_goals_are_towers_or_in_the_air() -> None:
    one, three = batch(40, 1), batch(40, 3)
    heights = one.reset(seed=0)[0]["desired_goal"][:, 2]
    assert 10 <= (heights > 0.07).sum() <= 30 and np.isclose(heights[heights <= 0.07], 0.02).all()
    goals = three.reset(seed=0)[0]["desired_goal"].reshape(40, 3, 3)
    assert np.allclose(np.sort(goals[:, :, 2], axis=1), [0.02, 0.06, 0.1])
    assert (goals[:, :, :2] == goals[:, :1, :2]).all()
    assert len(np.unique(goals[:, :, 2].argsort(axis=1), axis=0)) == 6  # every order of the cubes


def test_success_must_last() -> None:
    env = batch(1, 1)
    env.reset(seed=0)
    task, engine = env.engine.task, env.engine
    first = engine.robot.joints
    while task.success(task.achieved(engine), engine.goal).sum() == 0:
        assert not env.step(env.oracle())[2][0]
    for _ in range(task.hold - 2):
        assert not env.step(env.oracle())[2][0]
    engine.robot.qpos[0, first] += 0.1  # taken away: counting begins anew
    assert not env.step(env.oracle())[2][0]


def test_reward_rises_on_the_way() -> None:
    env = batch(4, 2)
    env.reset(seed=0)
    told = []
    while env.engine.alive.all():
        told.append(env.step(env.oracle())[1])
    rewards = np.stack(told)
    assert ((rewards > -1.0) & (rewards < 0.0)).all()
    assert (rewards[-10:].mean(axis=0) > rewards[:10].mean(axis=0) + 0.3).all()


def test_number_of_cubes() -> None:
    with pytest.raises(ValueError, match="from 1 to 3, not 4"):
        gym.make("ami/Stack-v0", n=4)


def test_a_hand_full_of_something_else_lets_go_first() -> None:
    """Whatever goes wrong, the expert mends it: here a cube is torn from the hand, thrice."""
    env = batch(6, 1)
    env.reset(seed=3)
    engine = env.engine
    cube = engine.robot.qpos[:, engine.robot.joints : engine.robot.joints + 7]
    for _ in range(3):
        for _ in range(20):
            if engine.alive.all():
                env.step(env.oracle())
        held = skills.in_hand(engine, cube[:, :3]) & engine.alive
        cube[held, :3] = (0.0, 0.1, 0.02)
    for _ in range(80):
        if not engine.alive.all():
            break
        env.step(env.oracle())
    assert not engine.alive.all()


def test_a_cube_has_the_same_yaw_on_every_face() -> None:
    rng = np.random.default_rng(0)
    yaw = rng.uniform(-0.7, 0.7, 20)
    faces = np.sqrt(0.5) * np.array([[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 0, 1], [np.sqrt(2), 0, 0, 0]])
    for w, x, y, z in faces:  # turned onto another face first, then by yaw
        c, s = np.cos(yaw / 2), np.sin(yaw / 2)
        quat = np.stack([c * w - s * z, c * x - s * y, c * y + s * x, c * z + s * w], axis=1)
        assert np.allclose(skills.cube_yaw(quat), yaw)
        assert np.allclose(skills.turns(quat), np.stack([np.cos(4 * yaw), np.sin(4 * yaw)], axis=1))
