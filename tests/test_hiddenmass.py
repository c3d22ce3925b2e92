"""`ami/HiddenMass-v0`: its masses can be felt and are told by nothing else; one answer counts."""

from __future__ import annotations

import numpy as np
import pytest

from ami_envs.core import WorldEnv
from ami_envs.worlds import skills
from ami_envs.worlds.hiddenmass import HALF, HEAVIER, MASSES, REST, HiddenMass, deliver

LIFT = 0.02  # metres that a cube is raised by to be weighed
STILL = 3  # env steps that it is held for


def start(n: int = 8, **options) -> WorldEnv:
    task = {name: options.pop(name) for name in ("robot", "reward_type") if name in options}
    env = WorldEnv(HiddenMass(**task), n, **options)
    env.reset(seeds=range(n))
    return env


def cubes(env: WorldEnv) -> np.ndarray:
    """Places and orientations, (B, 3, 7), live."""
    return env.robot.qpos[:, env.robot.joints :].reshape(env.n, 3, 7)


def pad(env: WorldEnv) -> np.ndarray:
    """Its middle, (B, 3), live."""
    return env.batch.bind("mocap_pos")[:, 0]


class Weigher:
    """An expert that lifts each cube in turn, feels the wrist's force, and delivers the one that weighs most."""

    def __init__(self, env: WorldEnv) -> None:
        self.env, self.cube, self.still = env, np.zeros(env.n, int), np.zeros(env.n, int)
        self.weights = np.zeros((env.n, 3))
        self.spots = cubes(env)[:, :, :3].copy()

    def act(self, force: np.ndarray) -> np.ndarray:
        env, rows = self.env, self.env.all
        k = np.minimum(self.cube, 2)
        thing = cubes(env)[rows, k]
        held, speed = skills.in_hand(env, thing[:, :3]), np.abs(env.robot.hand()[:, 6:9]).max(axis=1)
        known = self.weights[rows, k] > 0
        ready = held & ~known & (thing[:, 2] > HALF + 0.6 * LIFT) & (speed < 0.06)
        self.still = np.where(ready, self.still + 1, 0)
        told = np.flatnonzero(self.still == STILL)
        self.weights[told, k[told]] = np.abs(force[told, 2])
        known = self.weights[rows, k] > 0
        self.cube += np.logical_and.reduce([known, ~held, thing[:, 2] < HALF + 0.002, self.cube < 3])
        place = self.spots[rows, k]
        place[:, 2] += np.where(known, 0.0, LIFT)
        weigh = skills.carry(env, thing[:, :3], skills.cube_yaw(thing[:, 3:]), place, 0.1, known, 0.4, near=0.008)
        return np.where(self.weights.min(axis=1, keepdims=True) > 0, deliver(env, self.weights.argmax(axis=1)), weigh)


@pytest.mark.parametrize("robot", ["gantry", "arm7"])
def test_weighing_tells_the_heaviest(robot: str) -> None:
    env = start(20, robot=robot, senses=("force",))
    weigher, won, alive = Weigher(env), np.zeros(env.n, bool), np.ones(env.n, bool)
    force = env.observe()["force"]
    for _ in range(env.task.max_episode_steps):
        observation, _, over, info = env.step(weigher.act(force), alive)
        force, won, alive = observation["force"], won | (info["success"] & alive), alive & ~over
    assert won.mean() >= 0.9


def test_masses_are_told_by_nothing_at_the_start() -> None:
    env = start(1, senses=("touch", "force", "joints"))
    told = []
    for masses in ([0.9, 0.1, 0.3], [0.05, 0.06, 1.0]):
        told.append(env.reset(seeds=[4], factors={"masses": masses, "frictions": [0.5, 0.7, 0.9]}))
        assert np.allclose(env.model_of(0).body_mass[-3:], masses)
    for name, value in told[0].items():
        assert np.array_equal(value, told[1][name]), name


def test_the_heaviest_may_be_any_and_is_clearly_so() -> None:
    env = start(300, senses=())
    masses = env.factors["masses"]
    ordered = np.sort(masses, axis=1)
    assert (ordered[:, 2] >= HEAVIER * ordered[:, 1]).all() and MASSES[0] <= masses.min() and masses.max() <= MASSES[1]
    assert np.bincount(masses.argmax(axis=1)).min() > 75
    assert (np.linalg.norm(cubes(env)[:, :, :2] - pad(env)[:, None, :2], axis=2) > 0.1).all()


@pytest.mark.parametrize("reward_type", ["dense", "sparse"])
def test_one_answer_counts_once_it_lies_there(reward_type: str) -> None:
    env = start(3, senses=(), reward_type=reward_type, factors={"masses": [0.1, 0.9, 0.3]})
    cubes(env)[env.all, [0, 1, 2], :3] = pad(env) + [0.0, 0.0, HALF]
    for i in range(3):
        env.robot.place(i, (-0.2 * np.sign(pad(env)[i, 0]), 0.0, 0.2))
    for _ in range(REST - 1):
        assert not env.step(np.zeros((3, 5)))[2].any()
    observation, reward, over, info = env.step(np.zeros((3, 5)))
    assert over.all() and (info["success"] == [False, True, False]).all()
    assert (observation["achieved_goal"][:, 0] == [-1, 1, -1]).all()
    assert reward[1] > -0.01 and (reward[[0, 2]] <= (-1.0 if reward_type == "dense" else -250.0)).all()


def test_a_cube_carried_over_the_pad_or_held_there_is_no_answer() -> None:
    env = start(4, senses=())
    light = env.factors["masses"].argmin(axis=1)
    for _ in range(120):
        thing, place = cubes(env)[env.all, light], pad(env) + [0.0, 0.0, HALF]
        over = env.step(skills.carry(env, thing[:, :3], skills.cube_yaw(thing[:, 3:]), place, release=False))[2]
        assert not over.any()
    assert (np.linalg.norm(cubes(env)[env.all, light, :3] - place, axis=1) < 0.02).all()


def test_the_answer_follows_an_intervention() -> None:
    env = start(2, senses=())
    for i in range(2):
        env.intervene({"masses": np.roll([0.9, 0.1, 0.1], i)}, [i])
    assert (env.task.oracle(env) == deliver(env, np.array([0, 1]))).all()
