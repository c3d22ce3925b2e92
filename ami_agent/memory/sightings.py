"""Where in a place what was achieved: so that what is asked for is sought where it was seen, or as good as seen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ami_agent.memory.landmarks import directions
from ami_agent.memory.rows import Rows

MOST = 100_000  # moments; beyond that, the older half is forgotten

Judge = Callable[[np.ndarray, np.ndarray], np.ndarray]  # achieved (n, g), asked for (n, g) -> rewards (n,)


class Sightings:
    """The moments of one place: where one was, and what was achieved there.

    Args:
        judge: what a moment is worth where something is asked for.
        size: G, of a place.
        goal_size: g, of what is achieved.
        step: how far beyond the best moment to look for a better one, in the units of places.
    """

    def __init__(self, judge: Judge, size: int, goal_size: int, step: float) -> None:
        self._judge, self._step = judge, step
        self._around = step * directions(size)
        self._places, self._achieved = Rows((size,), np.float64), Rows((goal_size,), np.float32)
        self._asked, self._worth = np.empty(0), Rows((), np.float64)  # what was asked for last, and moments were worth

    def __len__(self) -> int:
        return len(self._places)

    def take(self, places: np.ndarray, achieved: np.ndarray) -> None:
        """Moments: places (n, G), achieved (n, g)."""
        self._places.append(places.astype(np.float64))
        self._achieved.append(achieved)
        if len(self) > MOST:
            self._places, self._achieved = self._places.last(MOST // 2), self._achieved.last(MOST // 2)
            self._asked = np.empty(0)

    def where(self, asked: np.ndarray, barred: np.ndarray) -> np.ndarray | None:
        """The place (G,) to go to for what is asked for (g,), but none of `barred` (m, G), where it was sought already;
        None if no moment says more about it than others do, or if all was tried around the best.

        That is where the best moment was. Around it rewards are taken to grow on as they grew towards it: a plane is
        fitted to the moments near it, and of the places a step further that nobody has been to, the highest is next.
        """
        worth = self._judged(asked)
        told = worth > worth.min(where=np.isfinite(worth), initial=np.inf)
        if not told.any():
            return None
        best = int(worth.argmax())
        if not self._tried(self._places.view[best][None], barred)[0]:
            return self._places.view[best].copy()
        offset = self._places.view - self._places.view[best]
        near = np.linalg.norm(offset, axis=1) <= 2 * self._step
        slope = _slope(offset[told & near], worth[told & near] - worth[best])
        ahead = self._places.view[best] + self._around
        tried = self._tried(ahead, np.concatenate([self._places.view[near], barred]))
        if tried.all():
            return None
        return ahead[np.where(tried, -np.inf, self._around @ slope).argmax()]

    def _judged(self, asked: np.ndarray) -> np.ndarray:
        """What each moment is worth, (n,), for what is asked for; each is judged once for it."""
        if not np.array_equal(asked, self._asked):
            self._asked, self._worth = asked.copy(), Rows((), np.float64)
        new = self._achieved.view[len(self._worth) :]
        if len(new):
            worth = self._judge(new, np.broadcast_to(asked, new.shape))
            self._worth.append(np.where(np.isfinite(worth), worth, -np.inf))
        return self._worth.view

    def _tried(self, places: np.ndarray, been: np.ndarray) -> np.ndarray:
        """Which of places (n, G) lie where one has been, (m, G)."""
        away = np.linalg.norm(places[:, None] - been, axis=2)
        return away.min(1, initial=np.inf) < self._step / 2


def _slope(offsets: np.ndarray, rises: np.ndarray) -> np.ndarray:
    """Of the plane through the origin that is nearest to offsets (n, G) and rises (n,), (G,): least squares, the
    shortest where there are several."""
    return np.linalg.lstsq(offsets, rises, rcond=1e-6)[0]
