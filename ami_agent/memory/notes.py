"""What is known of a task beside its episodes: named arrays, which can be lost without harm."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import numpy as np

from ami_agent.memory.packing import digest, intact, pack, unpack
from ami_agent.memory.store import EpisodeStore

log = logging.getLogger(__name__)


def read_note(store: EpisodeStore, environment: str, task: str, name: str) -> dict[str, np.ndarray]:
    """What `revise_note` kept; nothing if there is none, or if it is damaged, which is logged."""
    if store.schema < 3:  # an older one, that is only read, has no notes
        return {}
    query = "SELECT checksum, data FROM note WHERE environment = ? AND task = ? AND name = ?"
    for checksum, data in store.rows(query, environment, task, name):
        if intact(f"note/{(environment, task, name)}", data, checksum):
            return unpack(data)
        log.warning("%s: the note %r of %s is damaged", store.name, name, environment)
    return {}


def revise_note(
    store: EpisodeStore,
    environment: str,
    task: str,
    name: str,
    change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]],
) -> dict[str, np.ndarray]:
    """Keep what `change` makes of what is kept under a name, and return it; whoever else revises it waits meanwhile.
    Raises as the store's `append` does."""
    key, empty = (environment, task, name), pack({})
    digested = partial(digest, f"note/{key}")
    begin = "INSERT INTO note (environment, task, name, checksum, data) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
    with store.transaction() as db:
        db.execute(begin, (*key, digested(empty), empty))
        db.execute("UPDATE note SET name = name WHERE environment = ? AND task = ? AND name = ?", key)  # its lock
        arrays = change(read_note(store, *key))
        data = pack(arrays)
        insert = db.upsert("note", "environment, task, name, checksum, data")
        db.execute(insert, (*key, digested(data), data))
    return arrays


def episodes_in(note: dict[str, np.ndarray], name: str) -> set[int]:
    """The ids of episodes that stand in a note under a name; none if there is none."""
    return set(note.get(name, np.empty(0, np.int64)).ravel().tolist())


def as_ids(episodes: set[int]) -> np.ndarray:
    """Ids of episodes, (n,) int64 and ascending, as a note keeps them."""
    return np.array(sorted(episodes), np.int64)
