"""OGBench's mazes (Park et al. 2025), as "ogbench/pointmaze-large-v0", in the form of Gymnasium's goal environments.

OGBench tells the goal once, in the info of a reset, and draws from numpy's global numbers; its datasets are not used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict

from ami_agent.errors import UsageError, nearest
from ami_agent.foreign.importing import need

NAMESPACE = "ogbench/"
CURE = "pip install 'ami-agent[ogbench]'"
PLACE = 2  # entries of an observation that say where the body is: the first ones


def register(id: str) -> None:
    """Register the maze that `id` stands for.

    Raises MissingError where OGBench is not installed, UsageError for what it does not have.
    """
    need("ogbench", id, CURE)
    name, there = id.removeprefix(NAMESPACE), mazes()
    if name not in there:
        raise UsageError(f"OGBench has no maze {name!r}; there is {', '.join(nearest(name, there) or there)}")
    if id not in gym.registry:
        limit = gym.spec(name).max_episode_steps
        gym.register(id, entry_point=f"{__name__}:Maze", max_episode_steps=limit, kwargs={"name": name})


def mazes() -> list[str]:
    """OGBench's mazes for one body, with senses that are vectors and goals that change; without those that teleport,
    where a way is none the next time."""
    return [
        name
        for name, spec in gym.registry.items()
        if str(spec.entry_point).startswith("ogbench.locomaze")
        and spec.kwargs.get("maze_env_type") == "maze"
        and spec.kwargs.get("maze_type") != "teleport"
        and not {"ob_type", "reward_task_id"} & spec.kwargs.keys()
    ]


class Maze(gym.Env):
    """One of OGBench's mazes: from one of its five starts to the goal that belongs to it, each with its noise.

    The reward is -1 in each env step and 0 at the goal, which ends the episode. `reset(options={"task_id": k})` is the
    k-th of the five, from 0.
    """

    def __init__(self, name: str, render_mode: str | None = None) -> None:
        made: Any = gym.make(name, disable_env_checker=True, render_mode=render_mode or "rgb_array")
        self._maze = made.unwrapped
        self.render_mode, self.action_space = render_mode, self._maze.action_space
        place = {"entries": range(PLACE), "near": self._maze._goal_tol, "goal": True, "stays": True}
        self.metadata = {**self._maze.metadata, "place": place}
        senses = self._maze.observation_space
        goal = Box(-np.inf, np.inf, (PLACE,), senses.dtype)
        self.observation_space = Dict({"observation": senses, "achieved_goal": goal, "desired_goal": goal})
        self._goal = np.zeros(PLACE)

    @property
    def model(self) -> Any:
        return self._maze.model

    @property
    def data(self) -> Any:
        return self._maze.data

    @property
    def dt(self) -> float:
        return self._maze.dt

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        super().reset(seed=seed)
        tasks = self._maze.num_tasks
        task = (options or {}).get("task_id", int(self.np_random.integers(tasks)))
        with _drawn_by(self.np_random):
            seen, info = self._maze.reset(seed=seed, options={"task_id": 1 + task % tasks})
        self._goal = np.asarray(info["goal"][:PLACE])
        return self._senses(seen), {"task_id": task % tasks}

    def step(self, action: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        with _drawn_by(self.np_random):
            seen, _, _, truncated, info = self._maze.step(action)
        senses = self._senses(seen)
        there = bool(self.compute_terminated(senses["achieved_goal"], self._goal, {}))
        return senses, float(there) - 1.0, there, truncated, {"is_success": there}

    def compute_reward(self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any) -> np.ndarray:
        """(..., 2), (..., 2) -> (...,)."""
        return self.compute_terminated(achieved_goal, desired_goal, info) - 1.0

    def compute_terminated(self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any) -> np.ndarray:
        """(..., 2), (..., 2) -> (...,) bool."""
        return np.linalg.norm(achieved_goal - desired_goal, axis=-1) <= self._maze._goal_tol

    def render(self) -> Any:
        return self._maze.render()

    def close(self) -> None:
        self._maze.close()

    def _senses(self, seen: np.ndarray) -> dict[str, np.ndarray]:
        return {"observation": seen, "achieved_goal": seen[:PLACE].copy(), "desired_goal": self._goal.copy()}


@contextmanager
def _drawn_by(numbers: np.random.Generator) -> Iterator[None]:
    """Let what draws from numpy's global numbers draw what a generator decides, and leave these as they were."""
    before = np.random.get_state()
    np.random.seed(int(numbers.integers(2**32)))
    try:
        yield
    finally:
        np.random.set_state(before)
