"""What is asked of an action before anything moves."""

from __future__ import annotations

from typing import Any

import numpy as np


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
