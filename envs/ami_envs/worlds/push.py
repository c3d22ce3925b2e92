"""`ami/Push-v0`: push a cube across the table to a place. Contact planning."""

from __future__ import annotations

import numpy as np

from ami_envs.core import WorldEnv
from ami_envs.paths import ASSETS
from ami_envs.robots import Gantry
from ami_envs.task import TabletopTask, distance


class Push(TabletopTask):
    """Success: the cube's centre within 3 cm of the goal, in the table's plane.

    Observation (20): fingertip (m), yaw (rad), finger slides, their velocities, the cube's place relative to the
    fingertip (m), cos and sin of four times its yaw (a cube looks the same every quarter turn), its velocity (m/s).
    """

    derived = False
    scene = ASSETS / "push" / "push.xml"
    senses = ("touch",)
    things = ("cube",)
    goal_size = 2
    max_episode_steps = 60
    radius = 0.03
    reach = 0.18  # metres: cubes and goals lie within +-reach
    behind = 0.045  # metres from the cube's centre to where a push starts

    def bind(self, env: WorldEnv) -> None:
        first = env.robot.joints
        self._cube, self._cube_velocity = env.robot.qpos[:, first : first + 7], env.robot.qvel[:, first : first + 3]
        self._tip, self._place = env.robot.tip, self._cube[:, :3]
        self._turn_w, self._turn_z = self._cube[:, 3:4], self._cube[:, 6:7]
        self._marker = env.batch.bind("mocap_pos")[:, 0]

    def reset(self, env: WorldEnv, i: int, rng: np.random.Generator) -> None:
        cube, goal, tip = rng.uniform(-self.reach, self.reach, (3, 2))
        while np.linalg.norm(goal - cube) < 0.08:
            goal = rng.uniform(-self.reach, self.reach, 2)
        env.robot.place(i, np.append(tip, rng.uniform(0.08, 0.15)), fingers=Gantry.closed)
        yaw = rng.uniform(-np.pi, np.pi)
        self._cube[i] = (*cube, 0.02 * env.factors["size"][i], np.cos(yaw / 2), 0, 0, np.sin(yaw / 2))
        self._marker[i] = (*goal, 0.001)
        env.goal[i] = goal

    def observe(self, env: WorldEnv) -> np.ndarray:
        relative = self._place - self._tip
        turn = 8.0 * np.arctan2(self._turn_z, self._turn_w)
        parts = [env.robot.hand(), relative, np.cos(turn), np.sin(turn), self._cube_velocity]
        return np.concatenate(parts, axis=1)

    def achieved(self, env: WorldEnv) -> np.ndarray:
        return self._place[:, :2].copy()

    def success(self, achieved: np.ndarray, desired: np.ndarray) -> np.ndarray:
        return distance(achieved, desired) < self.radius

    def terms(self, achieved: np.ndarray, desired: np.ndarray, observation: np.ndarray | None) -> dict[str, np.ndarray]:
        away = distance(achieved, desired)
        terms = {"distance": -5.0 * away}
        if observation is not None:
            start = observation[:, 12:15].copy()  # from the fingertip to the cube, then on to behind it
            start[:, :2] += (self.behind / np.maximum(away, 1e-6))[:, None] * (achieved - desired)
            terms["behind"] = -5.0 * np.sqrt(np.vecdot(start, start))
        return terms

    def oracle(self, env: WorldEnv) -> np.ndarray:
        """Go round, above the cube, to behind it as seen from the goal; then push along the line, mending sideways."""
        tip, cube = self._tip, self._place
        line = env.goal - cube[:, :2]
        line /= np.maximum(np.linalg.norm(line, axis=1, keepdims=True), 1e-6)
        offset = tip[:, :2] - cube[:, :2]
        along = (offset * line).sum(axis=1)
        across = offset - along[:, None] * line
        ready = (along < -0.02) & (np.linalg.norm(across, axis=1) < 0.012)
        low = tip[:, 2] < 0.03
        start = cube[:, :2] - 0.05 * line
        target = np.empty((env.n, 3))
        target[:, :2] = np.where((ready & low)[:, None], tip[:, :2] + 0.02 * line - across, start)
        near = np.linalg.norm(start - tip[:, :2], axis=1) < 0.012
        target[:, 2] = np.where(near | (ready & low), 0.015, 0.07)
        action = np.zeros((env.n, 5))
        action[:, :3] = np.clip((target - tip) / 0.02, -1, 1)
        action[:, 4] = 1.0
        return action
