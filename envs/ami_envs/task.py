"""What an environment's author writes: a scene, how an episode starts, what is observed, and what is rewarded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ami_envs.robots import Robot

if TYPE_CHECKING:
    import mujoco

    from ami_envs.core import WorldEnv


class Task(ABC):
    """One kind of world. All arrays have the world axis B first; a subclass keeps no per-world state of its own.

    Per-world variables live in the engine (`env.goal`, `env.hidden[name]`), so that a snapshot holds all of them.

    Args:
        reward_type: "dense" (the sum of `terms`) or "sparse" (0 where `success`, else -1).
    """

    robot: ClassVar[type[Robot]]
    scene: ClassVar[Path]  # MJCF file; its free camera for pictures is named "view"
    senses: ClassVar[tuple[str, ...]] = ()  # beyond observation, achieved_goal, desired_goal
    goal_size: ClassVar[int]
    max_episode_steps: ClassVar[int]
    derived: ClassVar[bool] = True  # reads places of bodies or sites, not joint coordinates alone: costs half a substep

    def __init__(self, reward_type: str = "dense") -> None:
        if reward_type not in ("dense", "sparse"):
            raise ValueError(f"reward_type must be 'dense' or 'sparse', not {reward_type!r}")
        self.reward_type = reward_type

    def build(self, spec: mujoco.MjSpec) -> None:  # noqa: B027 - optional, most scenes are complete as written
        """Change the parsed scene before it is compiled, for worlds with options."""

    def bind(self, env: WorldEnv) -> None:  # noqa: B027 - optional
        """Look up, once, the live arrays that the other methods read."""

    @abstractmethod
    def reset(self, env: WorldEnv, i: int, rng: np.random.Generator) -> None:
        """Write the start of an episode of world i: joint positions, `env.goal[i]`, `env.hidden`.

        The physics has been reset to the model's defaults. A start must not already be a success.
        """

    @abstractmethod
    def observe(self, env: WorldEnv) -> np.ndarray:
        """The `observation` vector, (B, n) float64, a fresh array."""

    @abstractmethod
    def achieved(self, env: WorldEnv) -> np.ndarray:
        """Where the task stands, in the goal's own units, (B, goal_size), a fresh array."""

    @abstractmethod
    def success(self, achieved: np.ndarray, desired: np.ndarray) -> np.ndarray:
        """(B, goal_size) twice -> (B,) bool. Success ends the episode."""

    @abstractmethod
    def terms(self, achieved: np.ndarray, desired: np.ndarray, observation: np.ndarray | None) -> dict[str, np.ndarray]:
        """The dense reward's terms by name, (B,) each; without `observation`, those that need none."""

    @abstractmethod
    def oracle(self, env: WorldEnv) -> np.ndarray:
        """A scripted expert's actions, (B, A): proof that the world is solvable. It may look at anything."""

    def reward(self, achieved: np.ndarray, desired: np.ndarray, observation: np.ndarray | None) -> np.ndarray:
        """The reward of arriving at `achieved`, (B,)."""
        if self.reward_type == "sparse":
            return np.where(self.success(achieved, desired), 0.0, -1.0)
        return reduce(np.add, self.terms(achieved, desired, observation).values())


def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Euclidean distance over the last axis, (B, g) twice -> (B,)."""
    offset = a - b
    return np.sqrt(np.vecdot(offset, offset))
