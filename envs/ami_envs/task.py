"""What an environment's author writes: a scene, how an episode starts, what is observed, and what is rewarded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ami_envs.robots import ROBOTS, Gantry, Manipulator, Robot

if TYPE_CHECKING:
    import mujoco

    from ami_envs.core import WorldEnv
    from ami_envs.factors import Factor


class Task(ABC):
    """One kind of world. All arrays have the world axis B first; a subclass keeps no per-world state of its own.

    Per-world variables live in the engine (`env.goal`, `env.hidden[name]`), so that a snapshot holds all of them.

    Args:
        reward_type: "dense" (the sum of `terms`) or "sparse": 0 where `success`, else -1; ending badly costs as much as
            an episode without success, for it must be no way out.
    """

    robot: type[Robot]
    scene: ClassVar[Path]  # MJCF file; its free camera for pictures is named "view"
    senses: ClassVar[tuple[str, ...]] = ()  # beyond observation, achieved_goal, desired_goal
    goal_size: int
    max_episode_steps: int  # by the class for the options' defaults; an instance may set its own
    fixed_goal: ClassVar[bool] = False  # the goal is the same in every episode
    hold: ClassVar[int] = 1  # steps on end that `success` must last
    derived: ClassVar[bool] = True  # reads places of bodies or sites, not joint coordinates alone: costs half a substep
    things: tuple[str, ...] = ()  # bodies whose colour, size, mass and friction are factors
    sessions: bool = False  # something stays the same over episodes: see `WorldEnv.session_rng`
    scale: ClassVar[bool] = False  # the scene has a touch sensor "scale" that things are weighed on
    needs: ClassVar[str] = ""  # what it is about, e.g. "memory": `floor` does without
    place: ClassVar[tuple[int, ...]] = ()  # entries of `observation` that say where the robot is, if it moves about
    near: ClassVar[float] = 0.0  # how close to a place is there, in their units
    goes: bool = False  # goals are such places: what is achieved is where the robot is
    alike: bool = False  # its things are not to be told apart: `segmentation` is not offered

    def __init__(self, reward_type: str = "dense") -> None:
        if reward_type not in ("dense", "sparse"):
            raise ValueError(f"reward_type must be 'dense' or 'sparse', not {reward_type!r}")
        self.reward_type = reward_type

    # -- what every world says ------------------------------------------------------------------------------------

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
        """(B, goal_size) twice -> (B,) bool. Success, held for `hold` steps, ends the episode."""

    @abstractmethod
    def terms(self, achieved: np.ndarray, desired: np.ndarray, observation: np.ndarray | None) -> dict[str, np.ndarray]:
        """The dense reward's terms by name, (B,) each; without `observation`, those that need none."""

    @abstractmethod
    def oracle(self, env: WorldEnv) -> np.ndarray:
        """A scripted expert's actions, (B, A): proof that the world is solvable. It may look at anything."""

    # -- what some worlds say -------------------------------------------------------------------------------------

    def build(self, spec: mujoco.MjSpec) -> None:  # noqa: B027 - optional, most scenes are complete as written
        """Change the parsed scene before it is compiled, for worlds with options."""

    def bind(self, env: WorldEnv) -> None:  # noqa: B027 - optional
        """Look up, once, the live arrays that the other methods read; make the arrays of `env.hidden`, (B, ...)."""

    def before(self, env: WorldEnv, action: np.ndarray, mask: np.ndarray) -> None:  # noqa: B027 - optional
        """Act on the worlds of `mask` (B,) bool before the physics of a step: move other agents, start timers."""

    def after(self, env: WorldEnv, mask: np.ndarray) -> None:  # noqa: B027 - optional
        """Bring `env.hidden` and looks (`env.field`) up to date with the new state, in the worlds of `mask` (B,).

        Joints are left alone here: what is sensed has been computed for the state as it is.
        """

    def failure(self, achieved: np.ndarray, desired: np.ndarray, observation: np.ndarray | None) -> np.ndarray:
        """(B,) bool: the episode ends here, and not well. Without `observation`, as far as goals tell."""
        return np.zeros(len(achieved), bool)

    def cost(self, env: WorldEnv) -> np.ndarray:
        """What is to be kept low whatever the reward, (B,) float64, at least 0: `info["cost"]`."""
        return np.zeros(env.n)

    def privileged(self, env: WorldEnv) -> dict[str, np.ndarray]:
        """Truth that no sense tells, for analysis only, (B, ...) each: `info["privileged/NAME"]`."""
        return {}

    def sounds(self, env: WorldEnv) -> np.ndarray | None:
        """Sounds that are not of contacts, energy in each band of the sense `audio`, (B, bands); None for silence."""
        return None

    def factors(self, env: WorldEnv) -> Mapping[str, Factor]:
        """Causes of its own that can be set, beside those that the engine offers for every world."""
        return {}

    def floor(self, env: WorldEnv) -> np.ndarray:
        """The best expert without what the world `needs`, (B, A): proof that it is needed."""
        raise NotImplementedError(f"{type(self).__name__} needs nothing special")

    def chance(self) -> tuple[float, float] | None:
        """The success rate of mere chance, which `floor` comes to, and how far from it is still chance; None where
        success is not what tells."""
        return None

    def reward(self, achieved: np.ndarray, desired: np.ndarray, observation: np.ndarray | None) -> np.ndarray:
        """The reward of arriving at `achieved`, (B,)."""
        if self.reward_type == "sparse":
            lost = self.failure(achieved, desired, observation)
            return np.where(lost, -float(self.max_episode_steps), self.success(achieved, desired) - 1.0)
        return reduce(np.add, self.terms(achieved, desired, observation).values())


class TabletopTask(Task):
    """A task for any manipulator.

    Args:
        robot: "gantry" or "arm7".
    """

    robot: type[Robot] = Gantry

    def __init__(self, robot: str = "gantry", reward_type: str = "dense") -> None:
        super().__init__(reward_type)
        fit = [name for name, kind in ROBOTS.items() if issubclass(kind, Manipulator)]
        if robot not in fit:
            raise ValueError(f"robot must be one of {', '.join(fit)}, not {robot!r}")
        self.robot = ROBOTS[robot]


def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Euclidean distance over the last axis, (B, g) twice -> (B,)."""
    offset = a - b
    return np.sqrt(np.vecdot(offset, offset))


def says(task: Task, name: str) -> bool:
    """Whether a task has a method of its own there, not that of every task."""
    return getattr(type(task), name) is not getattr(Task, name)


def hooks(task: Task) -> list[Any]:
    """What the task says beyond what every task must; None for what it leaves to the base class: it costs nothing."""
    names = ("before", "after", "failure", "cost", "privileged")
    return [getattr(task, name) if says(task, name) else None for name in names]
