"""Learning without reward: the agent sets itself goals that it has seen achieved, and counts how far off it is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ami_agent.environment import Environment
from ami_agent.errors import UsageError
from ami_agent.learning.hindsight import BEFORE
from ami_agent.memory.replay import Replay
from ami_agent.places import as_places, seen_as_places
from ami_agent.protocols import Spec

FURTHER = 0.03  # what each `near` that a place is away adds to the cost of a decision, which is 1
TRIES = 8  # places drawn for one that is not where the agent is already


class OwnGoals:
    """An Environment whose rewards, goals, successes and ends are kept from the agent.

    In their place every episode gets a goal that was achieved at some moment remembered, drawn by the episode's seed,
    and the reward of a step is how much nearer it brought that, by Euclidean distance in the goal's own units: what is
    learned is which actions bring about which goals. Nothing ever ends at a goal. What is best is the same as for minus
    the distance as reward (up to a factor: Ng, Harada, Russell 1999), but values tell only what can be changed.

    Args:
        environment: one with goals.
        remembered: the replay that goals are drawn from; while it is empty an episode's goal is where it begins.

    Raises:
        UsageError: the environment has no goals.
    """

    tells_success = False

    def __init__(self, environment: Environment, remembered: Callable[[], Replay]) -> None:
        self.n, self.spec, self.task = environment.n, self._goals_of(environment), environment.task
        self._environment, self._remembered = environment, remembered
        self._goals = np.zeros((self.n, *self.spec.senses["desired_goal"]), np.float32)
        self._before = self._goals  # what was achieved

    def reset(self, mask: np.ndarray, seeds: list[int]) -> dict[str, np.ndarray]:
        observation = self._see(self._environment.reset(mask, seeds))
        for i in np.flatnonzero(mask):
            self._goals[i] = self._goal(seeds[i], observation["achieved_goal"][i])
        self._before = observation["achieved_goal"].copy()
        return self._see(observation)

    def step(
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        observation, _, terminated, truncated, info = self._environment.step(action)
        observation = self._see(observation)
        achieved = observation["achieved_goal"]
        reward = self.compute_reward(achieved, self._goals, {BEFORE: self._before})
        self._before = achieved.copy()
        there = self.compute_terminated(achieved, self._goals, {})
        return observation, reward, there, (terminated | truncated) & ~there, {**info, "success": there}

    def compute_reward(self, achieved: np.ndarray, desired: np.ndarray, info: dict[str, np.ndarray]) -> np.ndarray:
        """(n, goal), (n, goal) -> (n,) float32; `info` has what was achieved a step before, (n, goal)."""
        before, now = (np.linalg.norm(place - desired, axis=-1) for place in (info[BEFORE], achieved))
        return (before - now).astype(np.float32)

    def compute_terminated(self, achieved: np.ndarray, desired: np.ndarray, info: dict[str, np.ndarray]) -> np.ndarray:
        """Never: (n,) bool."""
        return np.zeros(len(achieved), bool)

    @staticmethod
    def _goals_of(environment: Environment) -> Spec:
        """The spec of what the agent lives in."""
        if not environment.spec.goals:
            raise UsageError(
                f"{environment.id} has no goals (achieved_goal and desired_goal among its senses, and compute_reward): "
                "without reward only such environments can be learned"
            )
        return environment.spec

    def _see(self, observation: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {**observation, "desired_goal": self._goals.copy()}

    def _goal(self, seed: int, here: np.ndarray) -> np.ndarray:
        """One that was achieved, for an episode that begins `here` (goal,)."""
        replay = self._remembered()
        if not len(replay):
            return here
        moment = replay.sample(1, np.random.default_rng(seed))
        return replay.read(moment, 1).observation["achieved_goal"][0, 0].numpy()


class OwnPlaces(OwnGoals):
    """The same in an environment that tells the agent's place: its goals are places where it has been. An episode ends
    there; a decision costs 1, and a little more the further the place is. That is how to get about, whatever the task.
    """

    tells_success = True

    def compute_reward(self, achieved: np.ndarray, desired: np.ndarray, info: dict[str, np.ndarray]) -> np.ndarray:
        away = np.linalg.norm(achieved - desired, axis=-1) / self.spec.near
        return -(1.0 + FURTHER * away).astype(np.float32)

    def compute_terminated(self, achieved: np.ndarray, desired: np.ndarray, info: dict[str, np.ndarray]) -> np.ndarray:
        """Where one is near: (n,) bool."""
        return np.linalg.norm(achieved - desired, axis=-1) < self.spec.near

    @staticmethod
    def _goals_of(environment: Environment) -> Spec:
        return as_places(environment.spec)

    def _see(self, observation: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return seen_as_places(observation, self.spec, self._goals.copy())

    def _goal(self, seed: int, here: np.ndarray) -> np.ndarray:
        replay = self._remembered()
        if not len(replay):
            return here
        moments = replay.sample(TRIES, np.random.default_rng(seed))
        places = replay.read(moments, 1).observation["achieved_goal"][:, 0].numpy()
        away = np.linalg.norm(places - here, axis=1) >= self.spec.near
        return places[away.argmax()]  # the first that is away, or the first of all
