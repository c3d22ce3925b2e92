"""`ami/Reach-v0`: bring the fingertip to a point in space. Smoke test and body swap."""

from __future__ import annotations

import numpy as np

from ami_envs.core import WorldEnv
from ami_envs.paths import ASSETS
from ami_envs.robots import Gantry
from ami_envs.task import Task, distance


class Reach(Task):
    """Success: fingertip within 3 cm of the goal. Observation: fingertip, its velocity, yaw, fingers (m, m/s, rad)."""

    robot = Gantry
    scene = ASSETS / "reach" / "reach.xml"
    goal_size = 3
    max_episode_steps = 50
    radius = 0.03
    low, high = np.array([-0.2, -0.2, 0.03]), np.array([0.2, 0.2, 0.25])

    def bind(self, env: WorldEnv) -> None:
        self._joints, self._velocity = env.robot.qpos[:, :6], env.robot.qvel[:, :6]
        self._tip = env.batch.site("fingertip").xpos
        self._marker = env.batch.bind("mocap_pos")[:, 0]

    def reset(self, env: WorldEnv, i: int, rng: np.random.Generator) -> None:
        tip = rng.uniform(self.low, self.high)
        goal = rng.uniform(self.low, self.high)
        while np.linalg.norm(goal - tip) < 0.1:
            goal = rng.uniform(self.low, self.high)
        self._joints[i] = Gantry.home
        self._joints[i, :3] = tip
        env.robot.ctrl[i] = self._joints[i]
        env.goal[i] = self._marker[i] = goal

    def observe(self, env: WorldEnv) -> np.ndarray:
        return np.concatenate([self._joints, self._velocity], axis=1)

    def achieved(self, env: WorldEnv) -> np.ndarray:
        return self._tip.copy()

    def success(self, achieved: np.ndarray, desired: np.ndarray) -> np.ndarray:
        return distance(achieved, desired) < self.radius

    def terms(self, achieved: np.ndarray, desired: np.ndarray, observation: np.ndarray | None) -> dict[str, np.ndarray]:
        return {"distance": -5.0 * distance(achieved, desired)}

    def oracle(self, env: WorldEnv) -> np.ndarray:
        action = np.zeros((env.n, 5))
        action[:, :3] = np.clip((env.goal - self._tip) / 0.02, -1, 1)
        return action
