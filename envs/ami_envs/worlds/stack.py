"""`ami/Stack-v0`: bring cubes to their places, as a tower if there are several. Grasping, order of sub-goals."""

from __future__ import annotations

import mujoco
import numpy as np

from ami_envs.core import WorldEnv
from ami_envs.inputs import whole
from ami_envs.paths import ASSETS
from ami_envs.robots import Gantry
from ami_envs.task import TabletopTask, distance
from ami_envs.worlds import skills

MOST = 3  # cubes
HALF = 0.02  # of a cube's edge, metres
FAR = 0.5  # metres: no distance costs more than this one


class Stack(TabletopTask):
    """Success: for 5 steps on end, every cube's centre within 2 cm of its goal.

    With one cube half of the goals are in the air; with more, the goals are the floors of a tower, in random order.

    Observation (12 + 8 n): the hand's place (m), yaw (rad), finger slides, their velocities; of each cube its place
    relative to the fingertip (m), cos and sin of four times its yaw (a cube looks the same every quarter turn), its
    velocity (m/s).

    Args:
        n: number of cubes, 1 to 3; give `gym.make` `max_episode_steps=150 * n` along with it.
        robot: "gantry" or "arm7".
        reward_type: "dense" or "sparse".
    """

    derived = False
    scene = ASSETS / "stack" / "stack.xml"
    senses = ("touch",)
    max_episode_steps = 150
    hold = 5
    radius = 0.02
    area = 0.15  # metres: cubes and goals lie within +-area
    apart = 0.09  # metres between the middles of things at the start, at least: the open hand goes between

    def __init__(self, n: int = 1, robot: str = "gantry", reward_type: str = "dense") -> None:
        super().__init__(robot, reward_type)
        self.n = n = whole("n, the number of cubes,", n, 1, MOST)
        self.max_episode_steps = 150 * n
        self.goal_size = 3 * n
        self.things = tuple(f"cube{k}" for k in range(n))

    def build(self, spec: mujoco.MjSpec) -> None:
        for k, name in enumerate(self.things):
            cube = spec.worldbody.add_body(name=name, pos=[0.1 * k, 0, HALF])
            cube.add_freejoint(name=name)
            cube.add_geom(spec.find_default("cube"), name=name, material=name)
            mark = spec.worldbody.add_body(name=f"mark{k}", mocap=True)
            mark.add_geom(spec.find_default("mark"), name=f"mark{k}", material=f"mark{k}")

    def bind(self, env: WorldEnv) -> None:
        first, n = env.robot.joints, self.n
        self._cubes = [env.robot.qpos[:, first + 7 * k : first + 7 * k + 7] for k in range(n)]
        self._speeds = [env.robot.qvel[:, first + 6 * k : first + 6 * k + 3] for k in range(n)]
        self._marks = env.batch.bind("mocap_pos")

    def reset(self, env: WorldEnv, i: int, rng: np.random.Generator) -> None:
        half = HALF * env.factors["size"][i]
        spots = self._spots(rng)
        for cube, spot in zip(self._cubes, spots[1:], strict=True):
            yaw = rng.uniform(-np.pi, np.pi)
            cube[i] = (*spot, half, np.cos(yaw / 2), 0, 0, np.sin(yaw / 2))
        floors = half * (1 + 2 * rng.permutation(self.n))
        if self.n == 1 and rng.random() < 0.5:
            floors = rng.uniform(0.08, 0.2, 1)
        goals = np.column_stack([np.tile(spots[0], (self.n, 1)), floors])
        self._marks[i, : self.n] = goals
        env.goal[i] = goals.ravel()
        tip = (*spots[1] + rng.uniform(-0.08, 0.08, 2), rng.uniform(0.065, 0.1))  # low and open: it soon meets a cube
        env.robot.place(i, tip, fingers=Gantry.open)

    def _spots(self, rng: np.random.Generator) -> np.ndarray:
        """Places on the table that keep apart, (1 + n, 2) metres: of the goal, then of the cubes."""
        while True:
            spots = rng.uniform(-self.area, self.area, (1 + self.n, 2))
            offsets = spots[:, None] - spots
            near = np.hypot(offsets[..., 0], offsets[..., 1]) < self.apart
            if near.sum() == len(spots):  # each to itself
                return spots

    def observe(self, env: WorldEnv) -> np.ndarray:
        parts = [env.robot.hand()]
        for cube, speed in zip(self._cubes, self._speeds, strict=True):
            parts += [cube[:, :3] - env.robot.tip, skills.turns(cube[:, 3:7]), speed]
        return np.concatenate(parts, axis=1)

    def achieved(self, env: WorldEnv) -> np.ndarray:
        return np.concatenate([cube[:, :3] for cube in self._cubes], axis=1)

    def success(self, achieved: np.ndarray, desired: np.ndarray) -> np.ndarray:
        return self._away(achieved, desired).max(axis=1) < self.radius

    def _away(self, achieved: np.ndarray, desired: np.ndarray) -> np.ndarray:
        """How far each cube is from its goal, (B, n) metres."""
        return distance(achieved.reshape(-1, self.n, 3), desired.reshape(-1, self.n, 3))

    def terms(self, achieved: np.ndarray, desired: np.ndarray, observation: np.ndarray | None) -> dict[str, np.ndarray]:
        """Each cube costs 1 / n at most: for its way to go and, until it has arrived, for the hand that has yet to
        reach it, open, and to grasp it; the hand is asked for one cube at a time, from the tower's foot up."""
        away = self._away(achieved, desired)
        terms = {"place": -_steep(away).mean(axis=1) / 3}
        if observation is None:
            return terms
        rows = np.arange(len(away))
        order = np.argsort(desired.reshape(-1, self.n, 3)[:, :, 2], axis=1, kind="stable")
        waiting = np.take_along_axis(away, order, axis=1) >= self.radius
        some, level = waiting.any(axis=1), waiting.argmax(axis=1)
        cubes = observation[:, 12:].reshape(-1, self.n, 8)[:, :, :3]
        near = np.sqrt(np.vecdot(cubes, cubes))[rows, order[rows, level]]
        later = np.where(some, self.n - 1 - level, 0)
        terms["reach"] = -(np.where(some, _steep(near), 0.0) + later) / (3 * self.n)
        ungrasped = _ungrasped(near, observation[:, 4:6].mean(axis=1))
        terms["grasp"] = -(np.where(some, ungrasped, 0.0) + later) / (3 * self.n)
        return terms

    def oracle(self, env: WorldEnv) -> np.ndarray:
        """Carry the cubes to their places, from the tower's foot up; hold on to those that belong in the air."""
        goals = env.goal.reshape(-1, self.n, 3)
        cubes = np.stack(self._cubes, axis=1)
        held = np.stack([skills.in_hand(env, cube[:, :3]) for cube in self._cubes], axis=1)
        settled = (distance(cubes[:, :, :3], goals) < 0.016) & ~held
        rows = np.arange(env.n)
        order = np.argsort(goals[:, :, 2], axis=1, kind="stable")
        waiting = ~np.take_along_axis(settled, order, axis=1)
        level = np.where(waiting.any(axis=1), waiting.argmax(axis=1), self.n - 1)
        which = order[rows, level]
        cube, place = cubes[rows, which], goals[rows, which]
        air = (self.n == 1) & (place[:, 2] > 0.06)
        height = np.where(self.n == 1, 0.1, 0.06 + 2 * HALF * self.n)
        return skills.carry(env, cube[:, :3], skills.cube_yaw(cube[:, 3:7]), place, height, ~air)


def _ungrasped(near: np.ndarray, width: np.ndarray) -> np.ndarray:
    """What a hand costs `near` metres from its cube, its fingers `width` metres out: 1 closed, 0.6 open, 0.4 open about
    the cube, 0 closed upon it."""
    about, wide = near < 0.02, width >= skills.WIDE
    held = about & ~wide & (width > skills.THIN)
    return np.where(held, 0.0, np.where(about & wide, 0.4, 1.0 - 0.4 * np.clip(width / Gantry.open, 0.0, 1.0)))


def _steep(away: np.ndarray) -> np.ndarray:
    """What a distance in metres costs, from 0 to 1: the nearer, the more a step on is worth."""
    return np.sqrt(np.minimum(away / FAR, 1.0))
