"""What is wrong with a memory, and what is left of one whose list of episodes is damaged."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ami_agent.memory.database import DamagedMemory
from ami_agent.memory.packing import check, intact

if TYPE_CHECKING:
    from ami_agent.memory.store import EpisodeStore

KEYS = {"tail": "environment, task, session, seed, t", "note": "environment, task, name"}


def faults_of(store: EpisodeStore) -> list[str]:
    """Read everything and return what its checksums tell, a line each."""
    faults = []
    try:
        for episode_id in store.ids():
            faults += _faults(store, episode_id)
        for table in ("chunk", "latent"):
            query = f"SELECT episode FROM {table} EXCEPT SELECT id FROM episode ORDER BY 1"
            faults += [f"episode {row[0]}: a {table} without an episode" for row in store.rows(query)]
        for table, key in KEYS.items() if store.schema > 2 else ():
            for *place, checksum, data in store.rows(f"SELECT {key}, checksum, data FROM {table}"):
                if not intact(f"{table}/{tuple(place)}", data, checksum):
                    faults.append(f"{table} {tuple(place)}: bad checksum")
    except DamagedMemory as error:
        faults.append(error.reason)
    return faults


def _faults(store: EpisodeStore, episode_id: int) -> list[str]:
    try:
        for encoder in [None, *store.encoders(episode_id)]:
            check(store.read(episode_id, encoder))
    except (DamagedMemory, ValueError, KeyError) as error:
        told = error.reason if isinstance(error, DamagedMemory) else f"episode {episode_id}: {error}"
        return [] if store.gone(episode_id) else [told]
    return []


def listed(store: EpisodeStore) -> bool:
    """Whether the list of episodes can be read from end to end, without which nothing lives in a memory."""
    try:
        store.rows("SELECT sum(steps) FROM episode")
    except DamagedMemory:
        return False
    return True


def left_of(store: EpisodeStore, where: str, values: Sequence[Any]) -> list[int]:
    """Ascending ids of the episodes that match, each looked up by itself: those that stand in damaged pages are passed
    over."""
    found: list[tuple] = []
    for (episode_id,) in store.rows("SELECT DISTINCT episode FROM chunk ORDER BY 1"):
        with suppress(DamagedMemory):
            found += store.rows(f"SELECT id FROM episode WHERE id = ? AND {where}", episode_id, *values)
    return [row[0] for row in found]
