"""Ways that failed in a place that stays, kept from life to life, whoever lives there; several may at once."""

from __future__ import annotations

import numpy as np

from ami_agent.memory.landmarks import Landmarks
from ami_agent.memory.notes import read_note, write_note
from ami_agent.memory.store import EpisodeStore


class KeptFailures:
    """The failures of one place, as a note of its task; one for each encoder, for another may go those ways.

    Args:
        place: takes up at once what was kept.
    """

    def __init__(self, store: EpisodeStore, environment: str, task: str, encoder: str, place: Landmarks) -> None:
        self._store, self._note, self._place = store, (environment, task, f"failures of {encoder}"), place
        self._kept = place.failures = self._read()

    def keep(self) -> None:
        """Write what has changed since and, with it, what others have written meanwhile; the place takes that up."""
        if self._place.failures is self._kept:
            return
        known, mine, theirs = (set(map(tuple, rows)) for rows in (self._kept, self._place.failures, self._read()))
        rows = np.array(sorted((mine - (known - theirs)) | (theirs - known))).reshape(-1, self._kept.shape[1])
        write_note(self._store, *self._note, {"ways": rows})
        self._kept = self._place.failures = rows

    def _read(self) -> np.ndarray:
        none = self._place.failures[:0]
        found = read_note(self._store, *self._note).get("ways", none)
        return found if found.shape[1:] == none.shape[1:] else none
