"""Doing again what went well: episodic control (Lengyel, Dayan 2007; Blundell et al. 2016)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ami_agent.memory.episodic import EpisodicMemory
from ami_agent.memory.notes import as_ids, episodes_in, read_note, revise_note
from ami_agent.memory.store import EpisodeStore
from ami_agent.protocols import Spec, Wanted

NOTE = "", "followed in vain"  # of an environment, whatever the task: its task and its name
EPISODES = "episodes"  # what it has


@dataclass(frozen=True)
class Recalled:
    """What was done in the P moments most like those of B worlds, of episodes that went well, the nearest first."""

    actions: np.ndarray  # (B, P, T, A)
    distances: np.ndarray  # (B, P)
    episodes: np.ndarray  # (B, P)
    again: np.ndarray  # (B,): whether the nearest may be followed


class EpisodicControl:
    """An episode may be followed that went on from the moment recalled, and succeeded; unless it was followed before,
    and in vain: the world may be another by now. A store keeps which were, from life to life.
    """

    def __init__(self, k: int, horizon: int, spec: Spec, store: EpisodeStore | None = None) -> None:
        self._k, self._shape, self._store, self._environment = k, (horizon, spec.action_size), store, spec.environment
        self._followed: set[int] = set()  # in the episodes that go on
        self._vain = set() if store is None else episodes_in(read_note(store, spec.environment, *NOTE), EPISODES)

    def recall(self, memory: EpisodicMemory, latent: np.ndarray, task: str | None) -> Recalled:
        """Latents (B, D), in a task. P is as many as there are, up to k. Of no task (None) all are recalled, and none
        may be followed: what went well in one may be wrong in another."""
        _, moments, distances = memory.recall(latent, self._k, Wanted(good=True, task=task))
        if not moments.shape[1]:
            return self.nothing(len(latent))
        episodes = moments[..., 0]
        again = memory.succeeds(moments[:, 0]) & ~np.isin(episodes[:, 0], list(self._vain)) & (task is not None)
        return Recalled(memory.continuation(moments, self._shape[0]), distances, episodes, again)

    def nothing(self, worlds: int) -> Recalled:
        actions = np.empty((worlds, 0, *self._shape), np.float32)
        return Recalled(
            actions, np.empty((worlds, 0), np.float32), np.empty((worlds, 0), np.int64), np.zeros(worlds, bool)
        )

    def took(self, recalled: Recalled, plan: np.ndarray) -> None:
        """What was planned then, (B, T, A): whether it was what is recalled."""
        same = recalled.again & (plan == recalled.actions[:, 0]).all((1, 2))
        self._followed.update(recalled.episodes[same, 0].tolist())

    def end(self, success: bool | None) -> None:
        """An episode is over. With several worlds at once, what others follow counts as followed in it, too. Raises as
        the store's `append` does."""
        if success is False and not self._followed <= self._vain:
            self._vain |= self._followed
            if self._store is not None and not self._store.read_only:
                note = revise_note(self._store, self._environment, *NOTE, self._revised)
                self._vain = episodes_in(note, EPISODES)
        self._followed.clear()

    def _revised(self, note: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {EPISODES: as_ids(self._vain | episodes_in(note, EPISODES))}
