"""Forgetting: what a memory lets go of where it may not grow on, chosen by the store's content alone.

Near duplicates go first. Then the environment that takes most room gives, in it the task that does, so that none is
emptied while others have more than their share; within a task, what is recent, went well or surprised is likelier to
stay. Steps of episodes that still go on are not looked at.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ami_agent.errors import UsageError, check_ranges

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
LEAST = 10**6  # bytes: less than the tables and one episode with pictures take
FULL = 0.95  # of the capacity in bytes: the rest is for SQLite's log and for the episode that comes next


@dataclass(frozen=True)
class ForgettingConfig:
    steps: int = 0
    """Steps that a memory may hold; 0 for any number."""
    bytes: str = "0"
    """Room that what is remembered may take on the disk, such as 500MB or 2GB; 0 for any, and 1MB at least. The index
    for recall, which is made from it, comes on top: some 800 bytes a step."""
    margin: float = 0.1
    """Share of it that is made free at once when it is full, so that not every episode is followed by forgetting."""
    surprise: float = 4.0
    """How much likelier the most surprising episode of an environment stays than the least surprising one."""
    success: float = 4.0
    """How much likelier an episode that succeeded stays; where that is not told, one of at least the median return."""
    recency: float = 4.0
    """How much likelier the newest episode of an environment stays than the oldest."""
    near: float = 0.5
    """How near, in typical strides between moments, an episode lies to another if it is a duplicate; 0 for none."""

    def __post_init__(self) -> None:
        likelier = {name: (1, 1e6) for name in ("surprise", "success", "recency")}
        check_ranges(self, {"steps": (0, 10**12), "margin": (0, 0.9), "near": (0, 100), **likelier})
        if 0 < byte_count(self.bytes) < LEAST:
            number = self.bytes.strip().rstrip("bBiIkK ")
            raise UsageError(f"bytes of {self.bytes} hold nothing: 1MB is the least; did you mean {number}GB?")

    @property
    def limits(self) -> tuple[float, float]:
        """Steps and bytes of data at which a memory is full; infinite where there is no limit."""
        return self.steps or math.inf, FULL * byte_count(self.bytes) or math.inf


def byte_count(text: str) -> int:
    """ "2GB" -> 2,000,000,000; "1GiB" -> 2**30. Raises UsageError for anything else than a number and its unit."""
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?)\s*([kmgt]?)(i?)b?", text.strip().lower())
    if found is None or (found[3] and not found[2]):
        raise UsageError(f"bytes must be a number with or without a unit, such as 500MB, 2GB or 1GiB, not {text!r}")
    unit = 1024 ** list(UNITS).index(found[2]) if found[3] else UNITS[found[2]]
    return int(float(found[1]) * unit)


@dataclass(frozen=True, slots=True)
class Trace:
    """What of an episode decides whether it is kept."""

    id: int
    environment: str
    task: str
    steps: int
    bytes: float
    success: bool | None
    episode_return: float
    surprise: float | None  # root mean square over its steps


@dataclass(frozen=True, slots=True)
class Choice:
    """Episodes to let go of, in the order in which they were chosen."""

    duplicates: list[Trace] = field(default_factory=list)
    others: list[Trace] = field(default_factory=list)

    @property
    def traces(self) -> list[Trace]:
        return self.duplicates + self.others

    @property
    def ids(self) -> list[int]:
        return [trace.id for trace in self.traces]


def choose(
    traces: Sequence[Trace],
    limits: tuple[float, float],
    config: ForgettingConfig,
    alike: Callable[[list[int]], list[int]] = lambda ids: [],
) -> Choice:
    """What to let go of so that the rest has no more than so many steps and bytes.

    Args:
        traces: of all episodes.
        limits: steps and bytes.
        alike: ids, those first that are likeliest to stay -> those of them that are duplicates, in the same order.
    """
    left, choice = {trace.id: trace for trace in traces}, Choice()
    total = np.array([[trace.steps, trace.bytes] for trace in traces]).reshape(-1, 2).sum(0)
    if (total <= limits).all():
        return choice
    keys = _keys(traces, config)
    ranked = sorted(keys, key=lambda id: (-keys[id], -id))
    for id in reversed(alike(ranked)):
        if (total <= limits).all():
            break
        choice.duplicates.append(left.pop(id))
        total = total - (choice.duplicates[-1].steps, choice.duplicates[-1].bytes)
    gone = []
    for size, limit in zip(("steps", "bytes"), limits, strict=True):
        sizes = {trace.id: getattr(trace, size) for trace in left.values()}
        for id in _by_share([left[id] for id in ranked if id in left], sizes, limit):
            gone.append(left.pop(id))
            total = total - (gone[-1].steps, gone[-1].bytes)
    for trace in reversed(gone):  # a large one may have gone last, and left room
        if ((more := total + (trace.steps, trace.bytes)) <= limits).all():
            total = more
        else:
            choice.others.append(trace)
    return choice


def _by_share(ranked: Sequence[Trace], sizes: dict[int, float], limit: float) -> Iterator[int]:
    """Ids to let go of until the sizes of the rest sum to `limit`: of what takes most, the unlikeliest to stay."""
    places: dict[str, dict[str, list[int]]] = {}
    for trace in ranked:
        places.setdefault(trace.environment, {}).setdefault(trace.task, []).append(trace.id)
    of_task = {(at, task): sum(sizes[id] for id in ids) for at, tasks in places.items() for task, ids in tasks.items()}
    of_place = {at: sum(of_task[at, task] for task in tasks) for at, tasks in places.items()}
    counts = {at: sum(map(len, tasks.values())) for at, tasks in places.items()}
    total, share = sum(of_place.values()), limit / max(len(places), 1)
    rank = {trace.id: at for at, trace in enumerate(ranked)}
    while total > limit and places:
        # A task is emptied only once no other that has more than its share can give without that.
        at = max(places, key=lambda of: (counts[of] > len(places[of]) and of_place[of] > share, of_place[of]))
        tasks, part = places[at], share / len(places[at])
        task = max(
            tasks, key=lambda of: (len(tasks[of]) > 1 and of_task[at, of] > part, of_task[at, of], rank[tasks[of][-1]])
        )
        id = tasks[task].pop()
        of_task[at, task] -= sizes[id]
        of_place[at] -= sizes[id]
        counts[at], total = counts[at] - 1, total - sizes[id]
        if not tasks[task]:
            del tasks[task]
        if not tasks:
            del places[at], of_place[at]
        yield id


def _keys(traces: Sequence[Trace], config: ForgettingConfig) -> dict[int, float]:
    """id -> key; those with the largest keys stay.

    They are a weighted sample without replacement (Efraimidis and Spirakis 2006, A-ES) whose random numbers are the
    ids' hashes: the dull are thinned out, not wiped out, and the same memory always forgets the same.
    """
    keys = {}
    for environment in dict.fromkeys(trace.environment for trace in traces):
        here = sorted((trace for trace in traces if trace.environment == environment), key=lambda trace: trace.id)
        told = any(trace.success is not None for trace in here)  # of success, if only where there was one
        middle = math.inf if told else float(np.median([trace.episode_return for trace in here]))
        surprise = _ranks(np.array([math.nan if trace.surprise is None else trace.surprise for trace in here]))
        for trace, surprised, age in zip(here, surprise, _ranks(np.arange(len(here))), strict=True):
            good = bool(trace.success) or trace.episode_return >= middle
            weight = config.surprise**surprised * config.recency**age * config.success ** int(good)
            chance = (int.from_bytes(hashlib.blake2b(str(trace.id).encode(), digest_size=6).digest()) + 0.5) / 2**48
            keys[trace.id] = math.log(chance) / weight
    return keys


def _ranks(values: np.ndarray) -> np.ndarray:
    """(n,) -> the share of the others that is less, 0 to 1; a half where nothing is known."""
    known = np.sort(values[~np.isnan(values)])
    ranks = np.searchsorted(known, values) / max(len(known) - 1, 1)
    return np.where(np.isnan(values), 0.5, ranks)
