"""What an environment tells of an episode that `Episode` does not keep."""

from __future__ import annotations

import numpy as np

from ami_agent.environment import Environment


class Watched:
    """An environment, and what `Episode` does not keep of each episode in it: success at its last step, and cost."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self.n, self.spec, self.task = environment.n, environment.spec, environment.task
        self.tells_success = False
        self._seed, self._cost = np.zeros(self.n, np.int64), np.zeros(self.n)
        self.final: dict[int, tuple[bool, float]] = {}  # by the episode's seed

    def reset(self, mask: np.ndarray, seeds: list[int]) -> dict[str, np.ndarray]:
        self._seed[mask], self._cost[mask] = np.array(seeds)[mask], 0.0
        return self._environment.reset(mask, seeds)

    def step(
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        told = self._environment.step(action)
        _, _, terminated, truncated, info = told
        self.tells_success = self._environment.tells_success
        self._cost += info["cost"]
        for i in np.flatnonzero(terminated | truncated).tolist():
            self.final[int(self._seed[i])] = bool(info["success"][i]), float(self._cost[i])
        return told
