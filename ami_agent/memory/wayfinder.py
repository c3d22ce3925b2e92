"""Finding a way where the agent's own plans do not reach: sub-goals from what it remembers of a place."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from ami_agent.errors import UsageError, check_ranges
from ami_agent.memory.landmarks import Costs, Landmarks, Senses
from ami_agent.memory.rows import Rows
from ami_agent.memory.sightings import Judge, Sightings


@dataclass(frozen=True)
class WayConfig:
    use: bool = True
    """Find ways over remembered places, where what is achieved is the agent's own place."""
    stay: bool = False
    """All episodes are in one place; worlds with sessions say so themselves."""
    sightings: bool = True
    """Remember from episode to episode where what may be asked for was seen, not the ways alone."""
    spacing: float = 4.0
    """Distance between landmarks, in strides: what a decision moves the agent by, at most."""
    reach: float = 12.0
    """How far a sub-goal may be, in strides."""
    landmarks: int = 4096
    """How many landmarks of a place are kept at most; then those not seen for longest give way."""
    patience: int = 10
    """Decisions without getting nearer, after which a sub-goal is given up, and the way there believed less."""

    def __post_init__(self) -> None:
        counts = {"landmarks": (16, 10**6), "patience": (1, 10**6)}
        check_ranges(self, {"spacing": (0.1, 1e6), "reach": (0.1, 1e6), **counts})
        if self.reach <= self.spacing:
            raise UsageError(f"ways.reach must be more than ways.spacing: {self.reach}, {self.spacing}")


class Ways:
    """Leads the agent in B worlds: in a place of its own each, new in every episode, or after `stay` in one for all.

    Args:
        costs: see `Landmarks`.
        size: G, of a place.
        stride: what a decision moves the agent by, at most, in the units of places.
        judge: see `Sightings`, where what is asked for is no place; its size is `asked_size`.
    """

    def __init__(
        self,
        costs: Costs,
        size: int,
        stride: float,
        config: WayConfig,
        judge: Judge | None = None,
        asked_size: int = 0,
    ) -> None:
        spacing = config.spacing * stride
        self._new = partial(Landmarks, costs, size, spacing, config.reach * stride, config.landmarks)
        self._judge, self._sizes = judge, (size, asked_size)
        self._spacing = spacing
        self._patience, self._keeps_sightings = config.patience, config.sightings
        self._guides: list[Seeker] = []
        self.place: Landmarks | None = None
        self._sightings: Sightings | None = None  # in that place, of all episodes

    def stay(self) -> Landmarks:
        """From now on all episodes are in one place, which is returned to be remembered."""
        self.place = self._new()
        self._sightings = self._unseen() if self._keeps_sightings else None
        return self.place

    def relive(self, moments: Senses, achieved: np.ndarray) -> None:
        """Take in an episode that was lived in the place that stays: its moments, each sense (T+1, *shape), and what
        was achieved, (T+1, g), where that is no place."""
        if self.place is not None:
            self.place.relive(moments)
        if self._sightings is not None:
            self._sightings.take(moments["achieved_goal"], achieved)

    def reset(self, done: np.ndarray) -> None:
        if len(self._guides) != len(done):
            self._guides, done = [self._guide() for _ in done], np.zeros(0, bool)
        for i in np.flatnonzero(done):
            self._guides[i] = self._guide()

    def end(self, senses: Senses, achieved: np.ndarray) -> None:
        """Take in the last moment of an episode that was lived, each (*shape,), in which (g,) was achieved: no decision
        led on from it, but it may be the one that matters."""
        if self._sightings is not None:
            self._sightings.take(senses["achieved_goal"][None], achieved[None])

    def lead(self, moments: Senses, achieved: np.ndarray, asked: np.ndarray) -> Senses:
        """Moments, each sense (B, *shape), with where to go next as their goals; what is achieved (B, g) and asked for
        (B, g) there: places, or what is judged."""
        goals = [
            guide.lead({name: value[i] for name, value in moments.items()}, achieved[i], asked[i])
            for i, guide in enumerate(self._guides)
        ]
        return {**moments, "desired_goal": np.stack(goals).astype(np.float32)}

    @property
    def latest(self) -> Landmarks | None:
        """The place, or that of the first world's latest episode; None before the first."""
        return self._guides[0].guide.landmarks if self.place is None and self._guides else self.place

    def _guide(self) -> Seeker:
        guide = Wayfinder(self._new() if self.place is None else self.place, self._patience)
        return Seeker(guide, self._unseen() if self._sightings is None else self._sightings, self._patience)

    def _unseen(self) -> Sightings | None:
        """Of a place where nothing was seen yet, if anything but places is asked for."""
        return None if self._judge is None else Sightings(self._judge, *self._sizes, self._spacing)


class Seeker:
    """Leads the agent in one world to what is asked for: a place or, with sightings, what was seen somewhere. As long
    as it was not, the way leads to where nobody has been.

    Args:
        guide: shows the ways.
        sightings: of the place that it is in; None where what is asked for is a place.
        patience: decisions without getting nearer to a place, after which it is not sought there in this episode.
    """

    def __init__(self, guide: Wayfinder, sightings: Sightings | None, patience: int) -> None:
        self.guide, self.sightings = guide, sightings
        self._patience = Patience(patience, guide.landmarks.spacing)
        self._asked = np.empty(0)
        self._barred = Rows(guide.landmarks.places.shape[1:], np.float64)  # where that was sought in this episode
        self._goal: np.ndarray | None = None

    def lead(self, senses: Senses, achieved: np.ndarray, asked: np.ndarray) -> np.ndarray:
        """From a moment, each sense (*shape,), in which (g,) is achieved, the place (G,) to go to now for what is asked
        for, (g,)."""
        if self.sightings is None:
            return self.guide.lead(senses, asked.astype(np.float64))
        here = senses["achieved_goal"]
        self.sightings.take(here[None], achieved[None])
        if not np.array_equal(asked, self._asked):
            self._asked, self._barred = asked.copy(), Rows(here.shape, np.float64)
        self._barred.append(here[None])
        goal = self.sightings.where(asked, self._barred.view)
        if goal is None or not (_same(goal, self._goal) and self.guide.heads_for(goal)):
            self._patience.begin()
        elif self._patience.ends(here, goal):
            self._barred.append(goal[None])
            goal = self.sightings.where(asked, self._barred.view)
            self._patience.begin()
        self._goal = goal
        return self.guide.lead(senses, goal)


class Wayfinder:
    """Leads the agent in one world, sub-goal by sub-goal.

    Args:
        landmarks: of the place that it is in.
        patience: decisions without getting nearer, after which a sub-goal is given up.
    """

    def __init__(self, landmarks: Landmarks, patience: int) -> None:
        self.landmarks, self._patience = landmarks, Patience(patience, landmarks.spacing)
        self._at = -1  # the landmark where one is
        self._left = -1  # the landmark from which one set out
        self._goal: np.ndarray | None = None
        self._target = np.empty(0)

    def lead(self, senses: Senses, goal: np.ndarray | None) -> np.ndarray:
        """From a moment, each sense (*shape,), the place (G,) to go to now on the way to a goal (G,), or to see more of
        the place."""
        here = senses["achieved_goal"]
        arrived = self._at >= 0 and bool(np.linalg.norm(self._target - here) < self.landmarks.spacing)
        at = self.landmarks.see(senses, self._target if arrived else None)
        if self._at not in (-1, at):
            self.landmarks.gone(self._at, at)
        begun, self._at = self._at >= 0 and _same(goal, self._goal), at
        there = begun and np.linalg.norm(self._target - here) <= self.landmarks.spacing / 4  # to stay is no failure
        tired = begun and not there and self._patience.ends(here, self._target)
        if tired:
            self.landmarks.failed(self._left, self._target)
        if tired or arrived or not begun:
            target = self._onward(senses, at, goal)
            if tired or not begun or (target != self._target).any():  # else it is still the same way
                self._target, self._left, self._goal = target, at, goal
                self._patience.begin()
        return self._target

    def heads_for(self, place: np.ndarray) -> bool:
        """Whether a place (G,) is where it leads to at once, not by sub-goals."""
        return _same(place, self._target)

    def _onward(self, senses: Senses, at: int, goal: np.ndarray | None) -> np.ndarray:
        if goal is not None:
            return self.landmarks.choose(senses, at, goal)
        onward = self.landmarks.explore(senses, at)
        return senses["achieved_goal"].astype(np.float64) if onward is None else onward


class Patience:
    """Ends after as many decisions in a row as `most` without getting nearer, by an eighth of `spacing` at least."""

    def __init__(self, most: int, spacing: float) -> None:
        self._most, self._step = most, spacing / 8
        self.begin()

    def begin(self) -> None:
        self._nearest, self._age = np.inf, 0

    def ends(self, here: np.ndarray, target: np.ndarray) -> bool:
        """Whether it does so with this decision, here (G,) on the way to a target (G,)."""
        away = float(np.linalg.norm(target - here))
        self._age += 1
        if away < self._nearest - self._step:
            self._nearest, self._age = away, 0
        return self._age >= self._most


def _same(goal: np.ndarray | None, other: np.ndarray | None) -> bool:
    return goal is other or (goal is not None and other is not None and bool((goal == other).all()))
