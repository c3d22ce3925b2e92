"""What is known of a task beside its episodes: named arrays, which can be lost without harm."""

from __future__ import annotations

import logging

import numpy as np

from ami_agent.memory.packing import digest, intact, pack, unpack
from ami_agent.memory.store import EpisodeStore

log = logging.getLogger(__name__)


def read_note(store: EpisodeStore, environment: str, task: str, name: str) -> dict[str, np.ndarray]:
    """What `write_note` kept; nothing if there is none, or if it is damaged, which is logged."""
    if store.schema < 3:  # an older one, that is only read, has no notes
        return {}
    query = "SELECT checksum, data FROM note WHERE environment = ? AND task = ? AND name = ?"
    for checksum, data in store.rows(query, environment, task, name):
        if intact(f"note/{(environment, task, name)}", data, checksum):
            return unpack(data)
        log.warning("%s: the note %r of %s is damaged", store.name, name, environment)
    return {}


def write_note(store: EpisodeStore, environment: str, task: str, name: str, arrays: dict[str, np.ndarray]) -> None:
    """Keep arrays under a name, in place of what was kept there before. Raises as the store's `append` does."""
    data = pack(arrays)
    checksum = digest(f"note/{(environment, task, name)}", data)
    with store.transaction() as db:
        insert = db.upsert("note", "environment, task, name, checksum, data")
        db.execute(insert, (environment, task, name, checksum, data))
