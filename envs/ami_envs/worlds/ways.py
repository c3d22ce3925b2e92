"""Shortest ways for a rover among upright screens, which are boxes along the axes: exact, by their corners."""

from __future__ import annotations

import numpy as np
from scipy.sparse.csgraph import shortest_path

from ami_envs.task import distance

CLEAR, TURN = 0.18, 0.21  # metres that the rover's middle keeps from screens and walls, and goes round corners at
SIGNS = np.array([(-1, -1), (-1, 1), (1, -1), (1, 1)])


def blocked(start: np.ndarray, end: np.ndarray, screens: np.ndarray, margin: float = CLEAR) -> np.ndarray:
    """Whether the lines from start to end (..., 2) meet screens (..., S, 4), made larger by a margin: (...).

    A screen is its middle x, y and half its size along x and y, metres.
    """
    half = screens[..., 2:] + margin
    offset, along = start[..., None, :] - screens[..., :2], (end - start)[..., None, :]
    along = np.where(np.abs(along) < 1e-9, 1e-9, along)
    one, other = (-half - offset) / along, (half - offset) / along
    enter, leave = np.minimum(one, other), np.maximum(one, other)
    first, last = np.maximum(enter[..., 0], enter[..., 1]), np.minimum(leave[..., 0], leave[..., 1])
    return ((first < last) & (last > 0.0) & (first < 1.0)).any(axis=-1)


def shortest(screens: np.ndarray, places: np.ndarray, half: float) -> np.ndarray:
    """Lengths of the shortest ways to places (P, 2), from the corners of screens (S, 4) and from places.

    Returns (4 * S + P, P), inf where there is no way within a room of +-half.
    """
    ends = np.concatenate([corners(screens), places])
    legs = distance(ends[:, None], ends)
    outside = (np.abs(ends) > half - CLEAR).any(axis=1)
    legs[blocked(ends[:, None], ends, screens) | outside | outside[:, None]] = np.inf
    return shortest_path(legs, directed=False)[:, -len(places) :]


def route(here: np.ndarray, screens: np.ndarray, ways: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The shortest ways from here (B, 2) to places (B, P, 2), with `ways` (B, 4 * S + P, P) of `shortest`.

    Returns their lengths (B, P), and where to drive first (B, P, 2): the place, or the corner to turn at.
    """
    start, turns = _beside(here, screens)[:, None], corners(screens)
    ends = np.concatenate([turns, places], axis=1)
    legs = np.where(blocked(start, ends, screens[:, None]), np.inf, distance(start, ends))
    straight, bent = legs[:, turns.shape[1] :], legs[:, : turns.shape[1], None] + ways[:, : turns.shape[1]]
    first = bent.argmin(axis=1)
    turn = np.take_along_axis(turns, first[..., None], axis=1)
    around = bent.min(axis=1)
    return np.minimum(straight, around), np.where((straight <= around)[..., None], places, turn)


def corners(screens: np.ndarray) -> np.ndarray:
    """Where to turn round screens (..., S, 4): (..., 4 * S, 2)."""
    around = screens[..., None, :2] + SIGNS * (screens[..., None, 2:] + TURN)
    return around.reshape(*screens.shape[:-2], -1, 2)


def _beside(place: np.ndarray, screens: np.ndarray) -> np.ndarray:
    """Places (B, 2), those too near a screen moved away from its middle as far as is needed."""
    place = place.copy()
    for screen in screens.swapaxes(0, 1):
        offset = place - screen[:, :2]
        lack = screen[:, 2:] + CLEAR + 1e-6 - np.abs(offset)
        inside = (lack > 0.0).all(axis=1, keepdims=True) & (lack == lack.min(axis=1, keepdims=True))
        place += np.where(inside, np.copysign(lack, offset), 0.0)
    return place
