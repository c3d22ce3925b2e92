"""A store kept within its capacity: what it holds is looked through, and what must go goes in one transaction."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable

import numpy as np

from ami_agent.errors import LockedError, ResourceError
from ami_agent.memory.database import DamagedMemory
from ami_agent.memory.duplicates import Ends, duplicates
from ami_agent.memory.forgetting import Choice, ForgettingConfig, Trace, byte_count, choose
from ami_agent.memory.store import EpisodeStore
from ami_agent.protocols import Episode

log = logging.getLogger(__name__)
DENSE = 0.8  # of its pages a file holds at least so much data, or it is made smaller


def select(store: EpisodeStore, config: ForgettingConfig, share: float = 1.0) -> Choice:
    """What the store would let go of to hold no more than a `share` of its limits. Episodes that cannot be read are
    left for `memory verify`."""
    traces, ends, encoders = _survey(store)

    def latents(id: int) -> np.ndarray:
        try:
            return np.asarray(store.read(id, encoders[id], senses=False).latent)
        except (KeyError, DamagedMemory):  # another has deleted it since: it covers nothing
            return np.full_like(ends[id].ends, np.nan)

    def alike(ranked: list[int]) -> list[int]:
        return duplicates([ends[id] for id in ranked if id in ends], latents, config.near)

    total = store.steps, store.occupied
    readable = sum(trace.steps for trace in traces), sum(trace.bytes for trace in traces)
    # What cannot be read takes room all the same, but however much it is (or seems to be), half is for what can.
    limits = [
        max(limit * share - max(all - those, 0), limit * share / 2)
        for limit, all, those in zip(config.limits, total, readable, strict=True)
    ]
    return choose(traces, (limits[0], limits[1]), config, alike if config.near else lambda ids: [])


def forget(store: EpisodeStore, config: ForgettingConfig) -> list[int]:
    """Let go of episodes, in one transaction, if the store is full; their ids: none while another that shares it does.
    Raises as the store's `append` does."""
    ids: list[int] = []
    if _full(store, config):
        with store.forgetting() as alone:
            if alone and _full(store, config):  # another may just have made room
                ids = select(store, config, 1 - config.margin).ids
                let_go(store, ids)
    if byte_count(config.bytes):
        give_back(store, byte_count(config.bytes), dense=bool(ids))
    return ids


def let_go(store: EpisodeStore, ids: Iterable[int]) -> None:
    """Delete episodes with all that belongs to them: all of them or, if it fails or is killed, none.

    What another kept of an episode while that was deleted goes with the next.
    """
    gone = [(id,) for id in sorted(ids)]  # in one order, so that two who delete the same wait, and do not deadlock
    with store.transaction() as db:
        for table, column in (("latent", "episode"), ("chunk", "episode"), ("episode", "id")):
            db.executemany(f"DELETE FROM {table} WHERE {column} = ?", gone)
        for table in ("latent", "chunk"):
            db.execute(f"DELETE FROM {table} WHERE NOT EXISTS (SELECT 1 FROM episode WHERE id = {table}.episode)")


def give_back(store: EpisodeStore, most: int = 0, dense: bool = False) -> None:
    """Make the file smaller if it takes more than `most` bytes or, where it is to be `dense`, if its pages are not:
    SQLite fills up a page that is free, but not one that holds a little. Where the disk has no room to do that, free
    pages are used again all the same. A server does so by itself, while others go on writing."""
    if store.path is None:
        return
    try:
        if dense:  # something was deleted, which may still stand in SQLite's log alone
            store.rows("PRAGMA wal_checkpoint(TRUNCATE)")
        if store.path.stat().st_size > most or (dense and sum(_sizes(store).values()) < DENSE * store.occupied):
            store.compact()
    except (LockedError, ResourceError) as error:
        log.warning("the file was not made smaller: %s", error)


def _full(store: EpisodeStore, config: ForgettingConfig) -> bool:
    steps, bytes = config.limits
    return (steps < math.inf and store.steps > steps) or (bytes < math.inf and store.occupied > bytes)


def _survey(store: EpisodeStore) -> tuple[list[Trace], dict[int, Ends], dict[int, str]]:
    """Of all episodes that can be read: their traces; their ends and the encoder of these, by id, where they have
    latents by the encoder that has seen most of their environment."""
    count = (
        "SELECT environment, latent.encoder FROM latent JOIN episode ON id = episode GROUP BY 1, 2 ORDER BY count(*), 2"
    )
    usual = dict(store.rows(count))
    seen = set(store.rows("SELECT episode, encoder FROM latent"))
    sizes = _sizes(store)
    scale = store.occupied / max(sum(sizes.values()), 1)
    traces, ends, encoders = [], {}, {}
    for id, environment in store.rows("SELECT id, environment FROM episode ORDER BY id"):
        if id not in sizes:  # another has added it since, or it is damaged
            continue
        encoder = usual.get(environment)
        for _, episode in store.readable([id], encoder if (id, encoder) in seen else None, senses=False):
            traces.append(_trace(id, episode, sizes[id] * scale))
            if episode.latent is not None:
                ends[id], encoders[id] = _ends(id, episode), episode.encoder
    return traces, ends, encoders


def _sizes(store: EpisodeStore) -> dict[int, int]:
    """Bytes of data of each episode, by id."""
    sizes: dict[int, int] = {}
    for table in ("chunk", "latent"):
        for id, size in store.rows(f"SELECT episode, sum(length(data)) FROM {table} GROUP BY episode"):
            sizes[id] = sizes.get(id, 0) + int(size)
    return sizes


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
