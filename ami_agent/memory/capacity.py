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

    steps, bytes = config.limits
    return choose(traces, (steps * share, bytes * share), config, alike if config.near else lambda ids: [])


def forget(store: EpisodeStore, config: ForgettingConfig) -> list[int]:
    """Let go of episodes, in one transaction, if the store is full; their ids: none while another that shares it does.
    Raises as the store's `append` does."""
    steps, bytes = config.limits
    with store.forgetting() as alone:
        if not alone or not (
            (steps < math.inf and store.steps > steps) or (bytes < math.inf and store.occupied > bytes)
        ):
            return []
        ids = select(store, config, 1 - config.margin).ids
        let_go(store, ids)
    if bytes < math.inf:
        give_back(store, byte_count(config.bytes))
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
            db.execute(f"DELETE FROM {table} WHERE episode NOT IN (SELECT id FROM episode)")


def give_back(store: EpisodeStore, most: int = 0) -> None:
    """Make the file smaller if it takes more than `most` bytes, and empty SQLite's log; where the disk has no room to
    do that, free pages are used again all the same. A server does so by itself, while others go on writing."""
    if store.path is None:
        return
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
            sizes[id] = sizes.get(id, 0) + int(size)
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
