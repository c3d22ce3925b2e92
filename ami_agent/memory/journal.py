"""Steps as they are lived, kept on disk before the episode they belong to is whole.

An episode that goes on stands step by step in the store's tail; the store takes them out in the transaction that
appends the episode. After a kill in the middle of an episode, `Journal.recover` makes one of what was lived of it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ami_agent.errors import ArtefactError
from ami_agent.memory.packing import digest, pack, unpack
from ami_agent.memory.store import EpisodeStore
from ami_agent.protocols import Episode

log = logging.getLogger(__name__)
EPISODE = "environment = ? AND task = ? AND session = ? AND seed = ?"
SYNC_EVERY = 32  # writes; those between survive the end of the process, and from the next sync on a power cut as well


@dataclass(slots=True)
class Step:
    """One moment of an episode: how it was come to, and what was seen there. Nothing was done before the first."""

    episode: tuple[str, str, str, int]  # its environment, task, session and seed, which tell it from others
    t: int  # of the observation: 0 to T
    observation: dict[str, np.ndarray]  # each of its sense's shape
    action: np.ndarray | None = None  # (A,), from t-1 to t
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    success: bool | None = None


def whole(steps: Sequence[Step]) -> Episode:
    """The episode of these moments, T+1 of them in order; one that no step ended is truncated."""
    first, later = steps[0], steps[1:]
    environment, task, session, seed = first.episode
    told = [step.success for step in later if step.success is not None]
    return Episode(
        environment=environment,
        task=task,
        observation={name: np.stack([step.observation[name] for step in steps]) for name in first.observation},
        action=np.stack([step.action for step in later if step.action is not None]).astype(np.float32),
        reward=np.array([step.reward for step in later], np.float32),
        terminated=bool(later[-1].terminated),
        truncated=bool(later[-1].truncated or not later[-1].terminated),
        success=bool(any(told)) if told else None,
        seed=seed,
        session=session,
    )


class Journal:
    """Keeps the tail of a store that this process alone may write to."""

    def __init__(self, store: EpisodeStore) -> None:
        self._store, self._writes = store, 0

    def write(self, steps: Sequence[Step]) -> None:
        """Keep these steps; when this returns they outlive the process. Raises as the store's `append` does."""
        rows = []
        for step in steps:
            key, data = (*step.episode, step.t), _pack(step)
            rows.append((*key, digest(f"tail/{key}", data), data))
        self._writes += 1
        with self._store.transaction(durable=self._writes % SYNC_EVERY == 0) as db:
            insert = "INSERT OR REPLACE INTO tail (environment, task, session, seed, t, checksum, data) VALUES "
            db.executemany(f"{insert} (?, ?, ?, ?, ?, ?, ?)", rows)

    def forget(self, steps: Sequence[Step]) -> None:
        """Let go of what is still kept of the episodes of these steps: those that nobody is to remember."""
        if not steps:
            return
        with self._store.transaction(durable=False) as db:
            db.executemany(f"DELETE FROM tail WHERE {EPISODE}", [step.episode for step in steps])

    def recover(self) -> int:
        """Make episodes of what was lived of those that nobody ended, such as a process that was killed; how many.

        They end, as truncated, where their last readable step does.
        """
        query = "SELECT environment, task, session, seed FROM tail GROUP BY 1, 2, 3, 4 ORDER BY min(rowid)"
        found = 0
        for key in self._store.rows(query):
            steps = _readable(self._store, key)
            if len(steps) > 1:
                self._store.append(whole(steps))
                found += 1
            else:
                self.forget([Step(key, 0, {})])
        return found


def _readable(store: EpisodeStore, key: tuple[str, str, str, int]) -> list[Step]:
    """The steps of an episode up to the first that is missing or damaged."""
    query = f"SELECT t, checksum, data FROM tail WHERE {EPISODE} ORDER BY t"
    steps: list[Step] = []
    for t, checksum, data in store.rows(query, *key):
        whole = t == len(steps) and digest(f"tail/{(*key, t)}", data) == checksum
        try:
            steps.append(_unpack(key, t, data if whole else b""))
        except (ArtefactError, ValueError):
            log.warning("%s: step %d of an episode that was not ended is damaged or out of place", store.path, t)
            break
    return steps


def _pack(step: Step) -> bytes:
    told = {"reward": step.reward, "terminated": step.terminated, "truncated": step.truncated}
    told |= {} if step.success is None else {"success": step.success}
    done = {} if step.action is None else {"action": step.action}
    senses = {f"sense/{name}": np.asarray(value) for name, value in step.observation.items()}
    return pack({**senses, **done, **{name: np.asarray(value) for name, value in told.items()}})


def _unpack(key: tuple[str, str, str, int], t: int, data: bytes) -> Step:
    arrays = unpack(data)
    senses = {name.removeprefix("sense/"): array for name, array in arrays.items() if name.startswith("sense/")}
    success = bool(arrays["success"]) if "success" in arrays else None
    terminated, truncated = (bool(arrays[name]) for name in ("terminated", "truncated"))
    return Step(key, t, senses, arrays.get("action"), float(arrays["reward"]), terminated, truncated, success)
