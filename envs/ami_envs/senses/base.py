"""What a sense is: an object with its own space, rate, delay and noise, that reads all worlds at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import mujoco
import numpy as np
from gymnasium.spaces import Box

if TYPE_CHECKING:
    from ami_envs.core import WorldEnv
    from ami_envs.task import Task


class Sensor(ABC):
    """One sense of every world.

    `space` is the Box of one world's reading, `span` the size of a large reading (noise is a share of it), `derived`
    whether it reads places of bodies or sites from the engine (see `Task.derived`).

    `every`, the env steps between two readings (the last one stays between), `delay`, by how many env steps they are
    late, and `noise`, its standard deviation as a share of the span, are set by `build`.
    """

    space: Box
    span: float = 1.0
    derived: bool = True
    every: int = 1
    delay: int = 0
    noise: float = 0.0

    @abstractmethod
    def __init__(self, env: WorldEnv) -> None: ...

    @abstractmethod
    def read(self, env: WorldEnv, ids: np.ndarray) -> np.ndarray:
        """Read worlds `ids` (n,) -> (n, *space.shape): a fresh array, never a view that is used again."""

    @classmethod
    def offered(cls, task: Task | type[Task]) -> bool:
        """Whether a world of this task can have it."""
        return True

    @classmethod  # noqa: B027 - optional
    def prepare(cls, spec: mujoco.MjSpec) -> None:
        """Add to the parsed scene what the sense needs there."""
