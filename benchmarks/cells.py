"""What stands in the tables of success and decisions, and over them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from ami_agent.evaluation.statistics import middle_interval, wilson
from ami_agent.runs import hardware, versions

DRAWS = 2000
LIVES = 2
WITHOUT = "no memory"  # the setting that others save decisions against


def percent(some: int, n: int, digits: int = 0) -> str:
    """A share, and its 95 % interval (Wilson)."""
    low, high = wilson(some, n)
    return f"{100 * (some / n):.{digits}f} ({100 * low:.0f} to {100 * high:.0f})"


def mean(values: np.ndarray, digits: int) -> str:
    """values (n,) or (groups, n): their mean, and its 95 % interval (bootstrap over the values of each group)."""
    groups, rng = np.atleast_2d(values), np.random.default_rng(0)
    drawn = rng.integers(groups.shape[1], size=(DRAWS, *groups.shape))
    means = np.take_along_axis(groups[None], drawn, axis=2).mean((1, 2))
    low, high = middle_interval(means, 0.95)
    return f"{groups.mean():.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def lived_twice(what: str, results: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Iterator[str]:
    """{setting: successes and decisions, each (LIVES, ..., episodes)} -> the lines of a Markdown table."""
    heads = [f"{head}, {when}" for head in (f"{what}, %", "decisions", "saved") for when in ("first", "again")]
    yield f"| | {' | '.join(heads)} |"
    yield "|---" * 7 + "|"
    for name, (successes, decisions) in results.items():
        cells = [percent(int(life.sum()), life.size) for life in successes]
        cells += [f"{life.mean():.1f}" for life in decisions]
        if name == WITHOUT or WITHOUT not in results:
            cells += ["-"] * LIVES
        else:
            cells += [mean(saved, 1) for saved in results[WITHOUT][1] - decisions]
        yield f"| {name} | {' | '.join(cells)} |"


def machine(spent: str = "") -> str:
    """What a table was made on, and with."""
    there = hardware()
    told = ", ".join(f"{name} {version}" for name, version in versions().items())
    return f"{there['processor']}, {there['cores']} cores{spent}; {told}"
