"""The moments of many episodes: their latents and actions, and what tells which of them are wanted."""

from __future__ import annotations

import numpy as np

from ami_agent.memory.mapped import DamagedIndex, MappedFile, Pieces, Table
from ami_agent.memory.neighbours import Neighbours
from ami_agent.memory.rows import Rows
from ami_agent.protocols import Episode, Wanted

UNTOLD = -1  # success, where the environment does not tell
FACTS = ("id", "moments", "environment", "session", "task", "success", "there")
NUMBERS = ("return", "created")
PRINT = 16  # bytes


class Moments:
    """A row a moment. An episode of T steps has T+1 of them, (episode id, t); those forgotten keep their rows.

    Args:
        size, width: of latents and of actions.
        kept: a file of what `pieces` gave, whose `names` are those of its codes. Raises DamagedIndex if it is not.
    """

    def __init__(self, size: int, width: int, exact_rows: int, kept: MappedFile | None = None) -> None:
        self.size, self.width = size, width
        self.neighbours = Neighbours(size, exact_rows, kept)
        rows = len(self.neighbours)
        actions = None if kept is None else kept.array("actions", np.float32, rows, width)
        self._actions = Table((width,), np.float32, actions)  # the last of an episode is zero
        self._facts, self._numbers = Rows((len(FACTS),), np.int64), Rows((len(NUMBERS),), np.float64)
        self._prints = Rows((PRINT,), np.uint8)
        self._codes: dict[str, int] = {}  # of the names of environments, sessions and tasks
        if kept is not None:
            self._facts.append(kept.array("facts", np.int64, -1, len(FACTS)).all())
            self._numbers.append(kept.array("numbers", np.float64, len(self._facts), len(NUMBERS)).all())
            self._prints.append(kept.array("prints", np.uint8, len(self._facts), PRINT).all())
            self._codes = {str(name): code for code, name in enumerate(kept.header["names"])}
        self._first = Rows((), np.int64)  # row of each episode
        moments = self._fact("moments")
        if (moments < 1).any() or (moments > rows).any() or moments.sum() != rows:
            raise DamagedIndex("the lengths of its episodes cannot be")
        self._first.append(np.cumsum(moments) - moments)
        self.there = int((moments * self._fact("there")).sum())  # moments that were not forgotten
        slots = np.flatnonzero(self._fact("there"))
        self._slots = dict(zip(self._fact("id")[slots].tolist(), slots.tolist(), strict=True))
        self._mask: tuple[tuple, np.ndarray | None] = ((), None)  # the latest, and what it was made for

    def __len__(self) -> int:
        """Rows."""
        return len(self._actions)

    @property
    def names(self) -> list[str]:
        return list(self._codes)

    def prints(self) -> dict[int, bytes]:
        """By the id of each episode that was not forgotten."""
        return {id: self._prints.view[slot].tobytes() for id, slot in self._slots.items()}

    def __contains__(self, episode_id: int) -> bool:
        return episode_id in self._slots

    def add(self, episode_id: int, episode: Episode, mark: bytes, created: float) -> None:
        """Take in an episode with its latents. Raises ValueError if latents or actions are of another size."""
        steps, width = episode.action.shape
        if episode.latent is None or episode.latent.shape != (steps + 1, self.size) or width != self.width:
            raise ValueError(f"latents (T+1, {self.size}) and actions (T, {self.width}) expected")
        first = len(self)
        self.neighbours.add(episode.latent)
        self._actions.append(np.concatenate([episode.action, np.zeros((1, width), np.float32)]))
        names = (episode.environment, episode.session, episode.task)
        codes = [self._codes.setdefault(name, len(self._codes)) for name in names]
        success = UNTOLD if episode.success is None else int(episode.success)
        if success == UNTOLD and not (episode.terminated or episode.truncated):
            success = int(False)  # cut short, its return says nothing
        self._slots[episode_id] = len(self._first)
        self._first.append(np.array([first]))
        self._facts.append(np.array([[episode_id, steps + 1, *codes, success, 1]]))
        self.there += steps + 1
        self._numbers.append(np.array([[episode.reward.sum(dtype=np.float64), created]]))
        self._prints.append(np.frombuffer(mark, np.uint8)[None])

    def forget(self, episode_id: int) -> None:
        """Recall an episode no more. Raises KeyError if it is not there."""
        slot = self._slots.pop(episode_id)
        self._facts.view[slot, FACTS.index("there")] = 0
        self.there -= int(self._facts.view[slot, FACTS.index("moments")])
        self._mask = (), None

    def at(self, rows: np.ndarray) -> np.ndarray:
        """rows (...) -> (..., 2) int64: episode id and t."""
        slots = self._slots_of(rows)
        return np.stack([self._fact("id")[slots], rows - self._first.view[slots]], axis=-1)

    def continuation(self, moments: np.ndarray, horizon: int) -> np.ndarray:
        """moments (B, k, 2) -> actions (B, k, horizon, A) that followed each, zeros after the episode's end.

        Raises KeyError for an episode that is not there.
        """
        slots = np.array([self._slots[int(id)] for id in moments[..., 0].ravel()], np.int64)
        slots = slots.reshape(*moments.shape[:-1], 1)
        last = self._fact("moments")[slots] - 1
        t = np.minimum(moments[..., 1:] + np.arange(horizon), last)  # the row at T is zero
        return self._actions[self._first.view[slots] + t]

    def succeeds(self, moments: np.ndarray) -> np.ndarray:
        """moments (B, 2) -> (B,) bool: whether its episode went on from there, and succeeded."""
        slots = [self._slots[int(id)] for id in moments[:, 0]]
        return (self._fact("success")[slots] == 1) & (moments[:, 1] < self._fact("moments")[slots] - 1)

    def overview(self, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Latents (n, D) of up to so many moments, evenly over all that are there, and the success (n,) of their
        episodes: 1, 0 or UNTOLD."""
        rows = np.flatnonzero(np.repeat(self._fact("there") == 1, self._fact("moments")))
        rows = rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)]
        return self.neighbours.vectors[rows], self._fact("success")[self._slots_of(rows)]

    def mask(self, wanted: Wanted) -> np.ndarray | None:
        """(n,) bool over the rows, None if all match."""
        known = (wanted, len(self))
        if self._mask[0] != known:
            self._mask = known, self._matches(wanted)
        return self._mask[1]

    def pieces(self) -> dict[str, Pieces]:
        """What to keep in a file, with `names`."""
        small = {"facts": self._facts.view, "numbers": self._numbers.view, "prints": self._prints.view}
        return {
            **self.neighbours.pieces(),
            "actions": self._actions.pieces(),
            **{name: (one.dtype, one.shape, [one]) for name, one in small.items()},
        }

    def _matches(self, wanted: Wanted) -> np.ndarray | None:
        told: dict[str, str | int | bool | None] = {
            "environment": wanted.environment,
            "session": wanted.session,
            "task": wanted.task,
            "id": wanted.episode,
            "success": wanted.success,
        }
        tests = []
        for name, value in told.items():
            if value is not None:
                tests.append(self._fact(name) == (self._codes.get(value, -1) if isinstance(value, str) else value))
        created = self._number("created")
        tests += [] if self._fact("there").all() else [self._fact("there") == 1]
        tests += [] if wanted.but is None else [self._fact("id") != wanted.but]
        tests += [] if wanted.after is None else [created >= wanted.after]
        tests += [] if wanted.before is None else [created < wanted.before]
        tests += [self._good(tests)] if wanted.good else []
        rows = [np.repeat(np.logical_and.reduce(tests), self._fact("moments"))] if tests else []
        if (wanted.t_from, wanted.t_to) != (None, None):
            t = np.arange(len(self)) - np.repeat(self._first.view, self._fact("moments"))
            rows += [] if wanted.t_from is None else [t >= wanted.t_from]
            rows += [] if wanted.t_to is None else [t <= wanted.t_to]
        return np.logical_and.reduce(rows) if rows else None

    def _good(self, among: list[np.ndarray]) -> np.ndarray:
        """Mask (episodes,): succeeded or, where that is not told, at least the median return of such `among` these."""
        success, returns = self._fact("success"), self._number("return")
        untold = np.logical_and.reduce([success == UNTOLD, *among])
        middle = np.median(returns[untold]) if untold.any() else np.inf
        return (success == 1) | (untold & (returns >= middle))

    def _slots_of(self, rows: np.ndarray) -> np.ndarray:
        """Which episode each of rows (...) is of."""
        return np.searchsorted(self._first.view, rows, side="right") - 1

    def _fact(self, name: str) -> np.ndarray:
        return self._facts.view[:, FACTS.index(name)]

    def _number(self, name: str) -> np.ndarray:
        return self._numbers.view[:, NUMBERS.index(name)]
