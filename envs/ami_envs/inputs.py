"""What users hand in, checked before anything moves and brought to one form."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

Worlds = Sequence[int] | np.ndarray | None  # ids, a mask, or all of them


def check_action(
    action: Any, shape: tuple[int, int], mask: np.ndarray | None, strict: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The action as float64 (n, A) in [-1, 1], 0 outside `mask`, and how many entries of each world were clipped, (n,).

    Raises ValueError for another shape, what is no number, and, if `strict`, what is outside [-1, 1].
    """
    action = np.asarray(action)
    if action.dtype.kind not in "fiu":
        raise ValueError(f"action has dtype {action.dtype}, expected real numbers")
    if action.shape != shape:
        raise ValueError(f"action has shape {action.shape}, expected {shape}")
    action = action.astype(np.float64)
    if mask is not None:
        action[~mask] = 0.0
    inside = np.abs(action) <= 1.0
    if np.count_nonzero(inside) == inside.size:
        return action, np.zeros(len(action), np.int64)
    finite = np.isfinite(action)
    if not finite.all() or strict:
        world, index = np.argwhere(~inside if finite.all() else ~finite)[0]
        expected = "outside [-1, 1]" if finite.all() else "not finite"
        raise ValueError(f"action[{index}] of world {world} is {action[world, index]}, {expected}")
    return np.clip(action, -1.0, 1.0), (~inside).sum(axis=1)


def whole(name: str, value: Any, least: int = 0, most: int = 2**63 - 1) -> int:
    """A whole number from `least` to `most`; ValueError, naming what it is for, if it is none."""
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if not least <= number <= most:
        raise ValueError(f"{name} must be a whole number from {least} to {most}, not {value!r}")
    return number


def world_ids(worlds: Worlds, n: int) -> np.ndarray:
    """Which of n worlds, (k,) int32 ascending: None for all, a mask (n,) bool, or ids, each once."""
    if worlds is None:
        return np.arange(n, dtype=np.int32)
    asked = np.asarray(worlds)
    if asked.dtype == np.bool_ and asked.shape == (n,):
        return np.flatnonzero(asked).astype(np.int32)
    ids = np.unique(asked)
    if asked.size and (asked.ndim != 1 or asked.dtype.kind not in "iu" or ids[0] < 0 or ids[-1] >= n):
        raise ValueError(f"worlds are ids from 0 to {n - 1}, or a mask of {n}, not {worlds!r}")
    if len(ids) != asked.size or (asked.size and (np.diff(asked) < 0).any()):
        raise ValueError(f"worlds must be named once each, in ascending order, not {worlds!r}")
    return ids.astype(np.int32)


def pairs(achieved: Any, desired: Any, size: int) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """Goals (..., size) twice as (pairs, size) twice, and the shape (...) of what is asked; ValueError for others."""
    achieved, desired = np.asarray(achieved, float), np.asarray(desired, float)
    if achieved.shape != desired.shape or achieved.shape[-1:] != (size,):
        raise ValueError(f"goals have shapes {achieved.shape} and {desired.shape}, expected (..., {size}) twice")
    return achieved.reshape(-1, size), desired.reshape(-1, size), achieved.shape[:-1]


def observations(info: Any, count: int) -> np.ndarray | None:
    """The observation vectors in an info dict, or in an array of `count` of them; None where they are not given."""
    infos = [info] if isinstance(info, dict) else list(np.asarray(info, object).ravel()) if info is not None else []
    if not infos or any("observation" not in one for one in infos):
        return None
    seen = np.concatenate([np.atleast_2d(one["observation"]) for one in infos])
    if len(seen) != count:
        raise ValueError(f"{len(seen)} observations in info for {count} pairs of goals")
    return seen
