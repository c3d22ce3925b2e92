"""Figures and how they are taken: CPU time or wall clock, medians over rounds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One figure: median, least and greatest over the rounds."""

    name: str
    median: float
    low: float
    high: float
    unit: str
    target: str = ""

    def __str__(self) -> str:
        digits = 0 if self.median >= 1000 else 2
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f} to {self.high:,.{digits}f})"

    def judged(self) -> str:
        """The figure and whether it keeps to its target, if it has one."""
        if not self.target:
            return str(self)
        sign, bound = self.target.split()
        kept = self.median <= float(bound) if sign == "<=" else self.median >= float(bound)
        return f"{self} {self.target}: {'kept' if kept else 'MISSED'}"


def row(name: str, values: Sequence[float], unit: str, target: str = "") -> Row:
    return Row(name, statistics.median(values), min(values), max(values), unit, target)


def cpu(work: Callable[[], object]) -> float:
    """CPU-seconds that `work` takes."""
    start = time.process_time_ns()
    work()
    return (time.process_time_ns() - start) / 1e9


def wall(work: Callable[[], object]) -> float:
    """Seconds that `work` takes, whoever does it."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def turns(
    works: Mapping[str, Callable[[], object]], rounds: int, repeats: int, clock: Callable[..., float] = cpu
) -> dict[str, list[float]]:
    """Seconds of each work by the clock, `repeats` in a row, every work once in each round, after one of each."""
    for work in works.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(clock(lambda: [work() for _ in range(repeats)]) / repeats)  # noqa: B023 - called at once
    return times


def ratios(times: Mapping[str, Sequence[float]], of: str, to: str) -> list[float]:
    return [a / b for a, b in zip(times[of], times[to], strict=True)]
