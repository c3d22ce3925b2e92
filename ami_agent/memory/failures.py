"""Ways that failed in a place that stays, kept from life to life, whoever lives there; several may at once."""

from __future__ import annotations

import numpy as np

from ami_agent.memory.landmarks import Landmarks
from ami_agent.memory.notes import read_note, revise_note
from ami_agent.memory.store import EpisodeStore


class KeptFailures:
    """The failures of one place, as a note of its task; one for each encoder, for another may go those ways.

    Args:
        place: takes up at once what was kept.
    """

    def __init__(self, store: EpisodeStore, environment: str, task: str, encoder: str, place: Landmarks) -> None:
        self._store, self._note, self._place = store, (environment, task, f"failures of {encoder}"), place
        self._kept = place.failures = self._ways(read_note(store, *self._note))

    def keep(self) -> None:
        """Write what has changed since, behind what others have written meanwhile; the place takes that up."""
        if self._place.failures is not self._kept:
            self._kept = self._place.failures = revise_note(self._store, *self._note, self._revised)["ways"]

    def _revised(self, note: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        known, mine, theirs = (  # as keys, the latest last
            dict.fromkeys(map(tuple, rows)) for rows in (self._kept, self._place.failures, self._ways(note))
        )
        left = [way for way in theirs if way in mine or way not in known]
        left += [way for way in mine if way not in known and way not in theirs]
        return {"ways": np.array(left[-self._place.most :]).reshape(-1, self._kept.shape[1])}

    def _ways(self, note: dict[str, np.ndarray]) -> np.ndarray:
        none = self._place.failures[:0]
        found = note.get("ways", none)
        return found[-self._place.most :] if found.shape[1:] == none.shape[1:] else none
