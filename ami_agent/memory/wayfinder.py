"""Finding a way where the agent's own plans do not reach: sub-goals from what it remembers of a place."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from ami_agent.errors import UsageError, check_ranges
from ami_agent.memory.landmarks import Costs, Landmarks, Senses


@dataclass(frozen=True)
class WayConfig:
    use: bool = True
    """Find ways over remembered places, where what is achieved is the agent's own place."""
    stay: bool = False
    """All episodes are in one place; worlds with sessions say so themselves."""
    spacing: float = 4.0
    """Distance between landmarks, in strides: what a decision moves the agent by, at most."""
    reach: float = 12.0
    """How far a sub-goal may be, in strides."""
    patience: int = 20
    """Decisions after which a sub-goal that was not got to is given up, and the way there believed less."""

    def __post_init__(self) -> None:
        check_ranges(self, {"spacing": (0.1, 1e6), "reach": (0.1, 1e6), "patience": (1, 10**6)})
        if self.reach <= self.spacing:
            raise UsageError(f"ways.reach must be more than ways.spacing: {self.reach}, {self.spacing}")


class Ways:
    """Leads the agent in B worlds: in a place of its own each, new in every episode, or after `stay` in one for all.

    Args:
        costs: see `Landmarks`.
        size: G, of a goal.
        stride: what a decision moves the agent by, at most, in the units of goals.
    """

    def __init__(self, costs: Costs, size: int, stride: float, config: WayConfig) -> None:
        self._new = partial(Landmarks, costs, size, config.spacing * stride, config.reach * stride)
        self._patience = config.patience
        self._guides: list[Wayfinder] = []
        self.place: Landmarks | None = None

    def stay(self) -> Landmarks:
        """From now on all episodes are in one place, which is returned to be remembered."""
        self.place = self._new()
        return self.place

    def reset(self, done: np.ndarray) -> None:
        if len(self._guides) != len(done):
            self._guides, done = [self._guide() for _ in done], np.zeros(0, bool)
        for i in np.flatnonzero(done):
            self._guides[i] = self._guide()

    def lead(self, observation: Senses) -> Senses:
        """An observation, each sense (B, *shape), with where to go next as its goals."""
        moments = [{name: value[i] for name, value in observation.items()} for i in range(len(self._guides))]
        goals = [guide.lead(moment) for guide, moment in zip(self._guides, moments, strict=True)]
        return {**observation, "desired_goal": np.stack(goals).astype(np.float32)}

    @property
    def latest(self) -> Landmarks | None:
        """The place, or that of the first world's latest episode; None before the first."""
        return self._guides[0].landmarks if self.place is None and self._guides else self.place

    def _guide(self) -> Wayfinder:
        return Wayfinder(self._new() if self.place is None else self.place, self._patience)


class Wayfinder:
    """Leads the agent in one world, sub-goal by sub-goal.

    Args:
        landmarks: of the place that it is in.
        patience: decisions after which a sub-goal that was not got to is given up.
    """

    def __init__(self, landmarks: Landmarks, patience: int) -> None:
        self.landmarks, self._patience = landmarks, patience
        self._at = -1  # the landmark where one is
        self._left = -1  # the landmark from which one set out
        self._goal = self._target = np.empty(0)
        self._age = 0  # decisions since one set out

    def lead(self, senses: Senses) -> np.ndarray:
        """From a moment, each sense (*shape,), the place (G,) to go to now on the way to its desired goal."""
        goal, here = senses["desired_goal"].astype(np.float64), senses["achieved_goal"]
        arrived = self._at >= 0 and bool(np.linalg.norm(self._target - here) < self.landmarks.spacing)
        at = self.landmarks.see(senses, self._target if arrived else None)
        if self._at not in (-1, at):
            self.landmarks.gone(self._at, at)
        begun, self._at = self._at >= 0 and bool((goal == self._goal).all()), at
        tired = begun and self._gives_up()
        if tired or arrived or not begun:
            target = self.landmarks.choose(senses, at, goal)
            if tired or not begun or (target != self._target).any():  # else it is still the same way
                self._target, self._left, self._goal, self._age = target, at, goal, 0
        self._age += 1
        return self._target

    def _gives_up(self) -> bool:
        if self._age < self._patience:
            return False
        self.landmarks.failed(self._left, self._target)
        return True
