"""What stands in the tables of success and decisions, and over them."""

from __future__ import annotations

import numpy as np

from ami_agent.evaluation.statistics import wilson
from ami_agent.runs import hardware, versions

DRAWS = 2000


def percent(some: int, n: int) -> str:
    """A share, and its 95 % interval (Wilson)."""
    low, high = wilson(some, n)
    return f"{100 * (some / n):.0f} ({100 * low:.0f} to {100 * high:.0f})"


def mean(values: np.ndarray, digits: int) -> str:
    """values (n,) or (groups, n): their mean, and its 95 % interval (bootstrap over the values of each group)."""
    groups, rng = np.atleast_2d(values), np.random.default_rng(0)
    drawn = rng.integers(groups.shape[1], size=(DRAWS, *groups.shape))
    means = np.take_along_axis(groups[None], drawn, axis=2).mean((1, 2))
    low, high = np.quantile(means, [0.025, 0.975])
    return f"{groups.mean():.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def machine(spent: str = "") -> str:
    """What a table was made on, and with."""
    there = hardware()
    told = ", ".join(f"{name} {version}" for name, version in versions().items())
    return f"{there['processor']}, {there['cores']} cores{spent}; {told}"
