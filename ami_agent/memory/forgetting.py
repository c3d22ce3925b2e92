"""Forgetting: what a memory lets go of where it may not grow on, chosen by the store's content alone.

Near duplicates go first. Then the environment that takes most room gives, in it the task that does, so that none is
emptied while others have more than their share; within a task, what is recent, went well or surprised is likelier to
stay. Steps of episodes that still go on are not looked at.
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ami_agent.errors import LockedError, ResourceError, UsageError, check_ranges
from ami_agent.memory.duplicates import Ends, duplicates
from ami_agent.memory.store import EpisodeStore
from ami_agent.protocols import Episode

log = logging.getLogger(__name__)
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
FULL = 0.95  # of the capacity in bytes: the rest is for SQLite's log and for the episode that comes next


@dataclass(frozen=True)
class ForgettingConfig:
    steps: int = 0
    """Steps that a memory may hold; 0 for any number."""
    bytes: str = "0"
    """Room that a memory may take on the disk, such as 500MB or 2GB; 0 for any."""
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
        byte_count(self.bytes)

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
        untold = [trace.episode_return for trace in here if trace.success is None]
        middle = float(np.median(untold)) if untold else math.inf
        surprise = _ranks(np.array([math.nan if trace.surprise is None else trace.surprise for trace in here]))
        for trace, surprised, age in zip(here, surprise, _ranks(np.arange(len(here))), strict=True):
            good = trace.episode_return >= middle if trace.success is None else trace.success
            weight = config.surprise**surprised * config.recency**age * config.success ** int(good)
            chance = (int.from_bytes(hashlib.blake2b(str(trace.id).encode(), digest_size=6).digest()) + 0.5) / 2**48
            keys[trace.id] = math.log(chance) / weight
    return keys


def _ranks(values: np.ndarray) -> np.ndarray:
    """(n,) -> the share of the others that is less, 0 to 1; a half where nothing is known."""
    known = np.sort(values[~np.isnan(values)])
    ranks = np.searchsorted(known, values) / max(len(known) - 1, 1)
    return np.where(np.isnan(values), 0.5, ranks)


def select(store: EpisodeStore, config: ForgettingConfig, share: float = 1.0) -> Choice:
    """What the store would let go of to hold no more than a `share` of its limits. Episodes that cannot be read are
    left for `memory verify`."""
    traces, ends, encoders = _survey(store)

    def latents(id: int) -> np.ndarray:
        return np.asarray(store.read(id, encoders[id], senses=False).latent)

    def alike(ranked: list[int]) -> list[int]:
        return duplicates([ends[id] for id in ranked if id in ends], latents, config.near)

    steps, bytes = config.limits
    return choose(traces, (steps * share, bytes * share), config, alike if config.near else lambda ids: [])


def forget(store: EpisodeStore, config: ForgettingConfig) -> list[int]:
    """Let go of episodes, in one transaction, if the store is full; their ids. Raises as the store's `append` does."""
    steps, bytes = config.limits
    if not ((steps < math.inf and store.steps > steps) or (bytes < math.inf and occupied(store) > bytes)):
        return []
    ids = select(store, config, 1 - config.margin).ids
    let_go(store, ids)
    if bytes < math.inf:
        give_back(store, byte_count(config.bytes))
    return ids


def let_go(store: EpisodeStore, ids: Iterable[int]) -> None:
    """Delete episodes with all that belongs to them: all of them or, if it fails or is killed, none."""
    with store.transaction() as db:
        for table, column in (("latent", "episode"), ("chunk", "episode"), ("episode", "id")):
            db.executemany(f"DELETE FROM {table} WHERE {column} = ?", [(id,) for id in ids])


def occupied(store: EpisodeStore) -> int:
    """Bytes of the file that hold something: its free pages are used again before it grows."""
    pages, free, size = (store.rows(f"PRAGMA {name}")[0][0] for name in ("page_count", "freelist_count", "page_size"))
    return (pages - free) * size


def give_back(store: EpisodeStore, most: int = 0) -> None:
    """Make the file smaller if it takes more than `most` bytes, and empty SQLite's log; where the disk has no room to
    do that, free pages are used again all the same."""
    try:
        store.rows("PRAGMA wal_checkpoint(TRUNCATE)")
        if store.path.stat().st_size > most:
            store.compact()
    except (LockedError, ResourceError) as error:
        log.warning("the file was not made smaller: %s", error)


def _survey(store: EpisodeStore) -> tuple[list[Trace], dict[int, Ends], dict[int, str]]:
    """Of all episodes that can be read: their traces; their ends and the encoder of these, by id, where they have
    latents by the encoder that has seen most of their environment."""
    count = (
        "SELECT environment, latent.encoder FROM latent JOIN episode ON id = episode GROUP BY 1, 2 ORDER BY count(*), 2"
    )
    usual = dict(store.rows(count))
    seen = set(store.rows("SELECT episode, encoder FROM latent"))
    sizes: dict[int, int] = {}
    for table in ("chunk", "latent"):
        for id, size in store.rows(f"SELECT episode, sum(length(data)) FROM {table} GROUP BY episode"):
            sizes[id] = sizes.get(id, 0) + size
    scale = occupied(store) / max(sum(sizes.values()), 1)
    traces, ends, encoders = [], {}, {}
    for id, environment in store.rows("SELECT id, environment FROM episode ORDER BY id"):
        encoder = usual.get(environment)
        for _, episode in store.readable([id], encoder if (id, encoder) in seen else None, senses=False):
            traces.append(_trace(id, episode, sizes[id] * scale))
            if episode.latent is not None:
                ends[id], encoders[id] = _ends(id, episode), episode.encoder
    return traces, ends, encoders


def _trace(id: int, episode: Episode, bytes: float) -> Trace:
    surprise = (
        None if episode.surprise is None else float(np.sqrt(np.square(episode.surprise, dtype=np.float64).mean()))
    )
    total = float(episode.reward.sum(dtype=np.float64))
    return Trace(id, episode.environment, episode.task, len(episode), bytes, episode.success, total, surprise)


def _ends(id: int, episode: Episode) -> Ends:
    latent = np.asarray(episode.latent)
    kind = episode.encoder, episode.environment, episode.task, episode.success, episode.terminated
    return Ends(id, kind, latent[[0, -1]], float(np.median(np.linalg.norm(np.diff(latent, axis=0), axis=1))))
