"""What `ami/Drawer-v0` is about: a drawer that stays where it is left, and must be open before a cube goes in."""

import numpy as np
import pytest

from ami_envs.core import WorldEnv
from ami_envs.worlds.drawer import ENOUGH, MIDDLE, Drawer

STILL = np.array([0.0, 0.0, 0.0, 0.0, -1.0])


def start(n=8, sensors=(), **options):
    env = WorldEnv(Drawer(**options), n, sensors)
    env.reset(seeds=range(n))
    return env


def wait(env, steps):
    for _ in range(steps):
        told = env.step(np.tile(STILL, (env.n, 1)))[0]
    return told


def cube(env):
    return env.robot.qpos[:, env.robot.joints + 1 :]


def opening(env):
    return env.robot.qpos[:, env.robot.joints]


@pytest.mark.parametrize("slide", [0.5, 5.0])
def test_the_drawer_stays_where_it_is_left(slide):
    env = start()
    env.intervene({"slide": slide})
    left = np.linspace(0.0, 0.119, env.n)
    opening(env)[:], env.goal[:] = left, -1.0  # never a success
    assert np.allclose(wait(env, 50)["achieved_goal"][:, 0], left, atol=1e-3)


def test_stored_is_inside_and_shut():
    task = Drawer(task="store")
    desired = np.tile([0.01, -0.01, 0.02, 0.008], (6, 1))
    achieved = np.array(
        [
            [0.01, -0.01, 0.02, 0.0],
            [-0.045, 0.03, 0.02, 0.008],  # in a corner
            [0.0, 0.0, 0.02, 0.012],  # ajar
            [0.0, 0.0, 0.092, 0.0],  # on the cabinet
            [0.0, -0.08, 0.02, 0.0],  # before the drawer
            [0.09, 0.0, 0.02, 0.0],  # beside it
        ]
    )
    assert task.success(achieved, desired).tolist() == [True, True, False, False, False, False]


def test_a_shut_drawer_keeps_the_cube_out_and_an_open_one_takes_it():
    env = start(task="store")
    opening(env)[:] = np.where(env.all % 2, ENOUGH, 0.0)
    middle = env.batch.bind("mocap_pos")[:, 0] + MIDDLE + [0.0, -0.095, 0.0]
    middle[env.all % 2 == 0, 1] += 0.095
    cube(env)[:, :3] = middle + [0.0, 0.0, 0.1]
    cube(env)[:, 3:] = [1.0, 0.0, 0.0, 0.0]
    env.robot.qvel[:] = 0.0
    fallen = wait(env, 25)["achieved_goal"]
    fallen[:, 3] = 0.0
    assert env.task.success(fallen, env.goal).tolist() == [bool(k % 2) for k in range(env.n)]


def test_each_stage_of_storing_pays():
    task = Drawer(task="store")
    #            cube to its goal    opening  handle  cube to tip  fingers
    stages = [
        [(0.10, -0.30, 0.0), 0.00, 0.30, 0.3, 0.032],
        [(0.10, -0.30, 0.0), 0.00, 0.02, 0.3, 0.0],
        [(0.10, -0.22, 0.0), 0.09, 0.02, 0.2, 0.0],
        [(0.10, -0.22, 0.0), 0.09, 0.20, 0.01, 0.032],
        [(0.10, -0.22, 0.0), 0.09, 0.20, 0.005, 0.016],
        [(0.00, 0.0, 0.06), 0.09, 0.10, 0.005, 0.016],
        [(0.00, 0.0, 0.0), 0.09, 0.10, 0.01, 0.032],
        [(0.00, 0.0, 0.0), 0.09, 0.02, 0.06, 0.0],
        [(0.00, 0.0, 0.0), 0.00, 0.02, 0.06, 0.0],
    ]
    observation, achieved = np.zeros((len(stages), 28)), np.zeros((len(stages), 4))
    for k, (away, gap, handle, reach, fingers) in enumerate(stages):
        achieved[k] = (*away, gap)
        observation[k, 4:6], observation[k, 14], observation[k, 17] = fingers, handle, reach
    rewards = task.reward(achieved, np.zeros_like(achieved), observation)
    assert (np.diff(rewards) > 0).all() and rewards[0] > -1 and rewards[-1] <= 0


@pytest.mark.parametrize("robot", ["gantry", "arm7"])
def test_the_expert_copes_with_a_drawer_that_someone_shuts(robot):
    env = start(16, task="store", robot=robot)
    done = np.zeros(env.n, bool)
    for step in range(300):
        if step == 60:  # the drawer is shut again while the hand is with the cube
            opening(env)[::2] = 0.0
        done |= env.step(env.task.oracle(env), ~done)[2]
    assert done.mean() >= 0.95


def test_unknown_tasks_are_refused():
    with pytest.raises(ValueError, match="task must be one of open, store, not 'shut'"):
        Drawer(task="shut")
