"""`ami/Reach-v0`: bring the fingertip to a point in space. Smoke test and body swap."""

from __future__ import annotations

import numpy as np

from ami_envs.core import WorldEnv
from ami_envs.paths import ASSETS
from ami_envs.task import TabletopTask, distance


class Reach(TabletopTask):
    """Success: fingertip within 3 cm of the goal. Observation (12): the hand's place and fingers, and their speeds."""

    scene = ASSETS / "reach" / "reach.xml"
    derived = False
    goal_size = 3
    max_episode_steps = 50
    radius = 0.03
    low, high = np.array([-0.2, -0.2, 0.03]), np.array([0.2, 0.2, 0.25])

    def bind(self, env: WorldEnv) -> None:
        self._tip = env.robot.tip
        self._marker = env.batch.bind("mocap_pos")[:, 0]

    def reset(self, env: WorldEnv, i: int, rng: np.random.Generator) -> None:
        tip = rng.uniform(self.low, self.high)
        goal = rng.uniform(self.low, self.high)
        while np.linalg.norm(goal - tip) < 0.1:
            goal = rng.uniform(self.low, self.high)
        env.robot.place(i, tip)
        env.goal[i] = self._marker[i] = goal

    def observe(self, env: WorldEnv) -> np.ndarray:
        return env.robot.hand()

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
