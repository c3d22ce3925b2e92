"""Learning without reward: the agent sets itself goals that it has seen achieved, and counts how far off it is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ami_agent.environment import Environment
from ami_agent.errors import UsageError
from ami_agent.memory.replay import Replay


class OwnGoals:
    """An Environment whose rewards, goals, successes and ends are kept from the agent.

    In their place every episode gets a goal that was achieved at some moment remembered, drawn by the episode's seed,
    and the reward of a step is minus the Euclidean distance to it, in the goal's own units: what is learned is which
    actions bring about which goals, and how long that takes. Nothing ever ends at a goal.

    Args:
        environment: one with goals.
        remembered: the replay that goals are drawn from; while it is empty an episode's goal is where it begins.

    Raises:
        UsageError: the environment has no goals.
    """

    def __init__(self, environment: Environment, remembered: Callable[[], Replay]) -> None:
        if not environment.spec.goals:
            raise UsageError(
                f"{environment.id} has no goals (achieved_goal and desired_goal among its senses, and compute_reward): "
                "without reward only such environments can be learned"
            )
        self.n, self.spec, self.task, self.tells_success = environment.n, environment.spec, environment.task, False
        self._environment, self._remembered = environment, remembered
        self._goals = np.zeros((self.n, *self.spec.senses["desired_goal"]), np.float32)

    def reset(self, mask: np.ndarray, seeds: list[int]) -> dict[str, np.ndarray]:
        observation = self._environment.reset(mask, seeds)
        for i in np.flatnonzero(mask):
            self._goals[i] = self._goal(seeds[i], observation["achieved_goal"][i])
        return {**observation, "desired_goal": self._goals.copy()}

    def step(
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        observation, _, terminated, truncated, info = self._environment.step(action)
        observation = {**observation, "desired_goal": self._goals.copy()}
        reward = self.compute_reward(observation["achieved_goal"], self._goals, {})
        return observation, reward, np.zeros_like(terminated), terminated | truncated, info

    def compute_reward(self, achieved: np.ndarray, desired: np.ndarray, info: dict[str, np.ndarray]) -> np.ndarray:
        """(n, goal), (n, goal) -> (n,) float32."""
        return -np.linalg.norm(achieved - desired, axis=-1).astype(np.float32)

    def compute_terminated(self, achieved: np.ndarray, desired: np.ndarray, info: dict[str, np.ndarray]) -> np.ndarray:
        """Never: (n,) bool."""
        return np.zeros(len(achieved), bool)

    def _goal(self, seed: int, here: np.ndarray) -> np.ndarray:
        replay = self._remembered()
        if not len(replay):
            return here
        moment = replay.sample(1, np.random.default_rng(seed))
        return replay.read(moment, 1).observation["achieved_goal"][0, 0].numpy()
