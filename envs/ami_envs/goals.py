"""Arrays of goals and infos as hindsight relabelling hands them in, brought to one form."""

from __future__ import annotations

from typing import Any

import numpy as np


def pairs(achieved: Any, desired: Any, size: int) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """Goals (..., size) twice as (pairs, size) twice, and the shape (...) of what is asked; ValueError for others."""
    achieved, desired = np.asarray(achieved, float), np.asarray(desired, float)
    if achieved.shape != desired.shape or achieved.shape[-1:] != (size,):
        raise ValueError(f"goals have shapes {achieved.shape} and {desired.shape}, expected (..., {size}) twice")
    return achieved.reshape(-1, size), desired.reshape(-1, size), achieved.shape[:-1]


def observations(info: Any) -> np.ndarray | None:
    """The observation vectors in an info dict, or in a sequence of them; None where they are not given."""
    infos = [info] if isinstance(info, dict) else list(info) if info is not None else []
    if not infos or any("observation" not in one for one in infos):
        return None
    return np.concatenate([np.atleast_2d(one["observation"]) for one in infos])
