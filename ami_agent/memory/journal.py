"""Steps as they are lived, kept on disk before the episode they belong to is whole.

An episode that goes on stands step by step in the store's tail; the store takes them out in the transaction that
appends the episode. After a kill in the middle of an episode, `Journal.recover` makes one of what was lived of it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from ami_agent.memory.packing import digest, intact, pack, unpack
from ami_agent.memory.store import EpisodeStore
from ami_agent.protocols import Episode

log = logging.getLogger(__name__)
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
    """The episode of these moments, T+1 of them in order."""
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
        truncated=bool(later[-1].truncated),
        success=bool(any(told)) if told else None,
        seed=seed,
        session=session,
    )


class Journal:
    """Keeps this process's tail of a store: in a file the only one, on a server one of many."""

    def __init__(self, store: EpisodeStore) -> None:
        self._store, self._writes = store, 0

    def write(self, steps: Sequence[Step], void: Sequence[Step] = ()) -> None:
        """Keep these steps, and let go of the episodes of `void` ones; when this returns it outlives the process.

        Raises as the store's `append` does.
        """
        rows = []
        for step in steps:
            key, data = (*step.episode, step.t), _pack(step)
            rows.append((*key, digest(f"tail/{key}", data), data))
        self._writes += 1
        with self._store.transaction(durable=self._writes % SYNC_EVERY == 0) as db:
            db.executemany(db.upsert("tail", "environment, task, session, seed, t, checksum, data"), rows)
            gone = f"environment = ? AND task = ? AND session = ? AND seed = ? AND {db.own}"
            db.executemany(f"DELETE FROM tail WHERE {gone}", [step.episode for step in void])

    def recover(self) -> int:
        """Make episodes of what was lived of those that nobody ended, such as a process that was killed; how many.

        They end where their last readable step does, neither terminated nor truncated unless that step was their last.
        Those that another process still lives are left to it.
        """
        with closing(
            self._store.tails()
        ) as tails:  # a fault leaves the store writing as itself, not as one that is gone
            return sum(self._recover() for _ in tails)

    def _recover(self) -> int:
        """The same, of the tail that is the store's own now."""
        tails: dict[tuple, list[tuple]] = {}
        with self._store.transaction() as db:
            columns = "environment, task, session, seed, t, checksum, data"
            for row in db.rows(f"SELECT {columns} FROM tail WHERE {db.own} ORDER BY session, seed, t"):
                tails.setdefault(row[:4], []).append(row)
        found = 0
        for key, rows in tails.items():
            steps = _readable(key, rows)
            if len(steps) > 1:
                self._store.append(whole(steps))
                found += 1
        with self._store.transaction() as db:  # what could not be made an episode
            db.execute(f"DELETE FROM tail WHERE {db.own}")
        return found


def _readable(key: tuple, rows: list[tuple]) -> list[Step]:
    """The steps of an episode up to the first that is missing, damaged or not finite."""
    steps: list[Step] = []
    for *_, t, checksum, data in rows:
        try:
            if t != len(steps) or not intact(f"tail/{(*key, t)}", data, checksum):
                raise ValueError("damaged, or out of place")
            step = _unpack(key, t, data)
            if not np.isfinite([*([] if step.action is None else step.action), step.reward]).all():
                raise ValueError("not finite")
        except (KeyError, ValueError) as error:
            log.warning("step %s of an episode of %s that was not ended: %s", t, key[0], error)
            break
        steps.append(step)
    return steps


def _pack(step: Step) -> bytes:
    told = {"reward": step.reward, "terminated": step.terminated, "truncated": step.truncated}
    told |= {} if step.success is None else {"success": step.success}
    done = {} if step.action is None else {"action": step.action}
    senses = {f"sense/{name}": np.asarray(value) for name, value in step.observation.items()}
    return pack({**senses, **done, **{name: np.asarray(value) for name, value in told.items()}})


def _unpack(key: tuple, t: int, data: bytes) -> Step:
    arrays = unpack(data)
    senses = {name.removeprefix("sense/"): array for name, array in arrays.items() if name.startswith("sense/")}
    success = bool(arrays["success"]) if "success" in arrays else None
    terminated, truncated = (bool(arrays[name]) for name in ("terminated", "truncated"))
    return Step(key, t, senses, arrays.get("action"), float(arrays["reward"]), terminated, truncated, success)
