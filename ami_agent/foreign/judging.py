"""What others' environments say of pairs of goals: some judge many pairs at once, some one, and none says which."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

CANNOT = (TypeError, ValueError, IndexError)  # such as of the truth value of an array


def judged(
    judge: Callable, achieved: np.ndarray, desired: np.ndarray, info: dict[str, np.ndarray], many: bool = False
) -> np.ndarray:
    """What `judge` says of n pairs of goals, (n,); asked pair by pair if it cannot judge many at once.

    A single answer for all is never believed: it may come from a norm over all pairs. Nor is, where a goal has n
    entries, an answer for each: it may be of entries. With `many`, the judge is known to take many pairs.
    """
    n = len(achieved)
    if n == 0:
        return np.zeros(0)
    try:
        told: Any = np.asarray(judge(achieved, desired, info))
    except CANNOT:
        told = None
    answers = told is not None and told.shape == (n,)
    if answers and (many or achieved.shape[1:] != (n,)):
        return told
    try:
        each = [judge(achieved[i], desired[i], {name: value[i] for name, value in info.items()}) for i in range(n)]
        return np.asarray(each).reshape(n)
    except CANNOT:
        if answers:  # it takes none but many
            return told
        raise
