"""Old episodes by a new encoder: before the agent lives, or by a thread while it does."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ami_agent.memory.episodic import EpisodicMemory
from ami_agent.memory.notes import as_ids, episodes_in, read_note, revise_note
from ami_agent.memory.store import EpisodeStore
from ami_agent.protocols import Episode

Embed = Callable[[dict[str, np.ndarray]], np.ndarray]  # {sense: (n, *shape)} -> latents (n, D)
Fits = Callable[[Episode], bool]  # whether an episode's senses and actions are those of the encoder's world
BLOCK = 512  # moments embedded at a time: a stop waits for no more
MISFITS = "", "misfits"  # of an environment, whatever the task: task and name of the note of them
PATIENCE = 1.0  # seconds for a thread to stop


def unseen(store: EpisodeStore, encoder: str, environment: str) -> int:
    """Moments of an environment that have no latents by `encoder`, and are not known to be of another world's senses or
    actions."""
    without = "NOT EXISTS (SELECT 1 FROM latent WHERE latent.episode = id AND latent.encoder = ?)"
    query = f"SELECT id, coalesce(CAST(steps AS INTEGER), 0) + 1 FROM episode WHERE environment = ? AND {without}"
    known = _misfits(store, encoder, environment)
    return sum(moments for episode_id, moments in store.rows(query, environment, encoder) if episode_id not in known)


def _misfits(store: EpisodeStore, encoder: str, environment: str) -> set[int]:
    """Episodes that `embedded` has found not to fit."""
    return episodes_in(read_note(store, environment, *MISFITS), encoder)


@torch.no_grad()
def embedded(
    store: EpisodeStore, encoder: str, environment: str, embed: Embed, fits: Fits
) -> tuple[EpisodicMemory, int]:
    """The memory of an environment once all that fits has latents by `encoder`, and how many episodes are damaged.

    Latents are kept beside those of other encoders, an episode at a time: what a kill leaves is gone on from. In a
    store that is only read, they are for this memory alone.
    """
    fresh, known, misfits = [], _misfits(store, encoder, environment), []
    for episode_id, episode in store.unembedded(encoder, environment, but=known):
        if not fits(episode):
            misfits.append(episode_id)
            continue
        parts = range(0, len(episode) + 1, BLOCK)
        senses = [{name: value[at : at + BLOCK] for name, value in episode.observation.items()} for at in parts]
        latent = np.concatenate([embed(part) for part in senses])
        if store.read_only:
            fresh.append((episode_id, replace(episode, observation={}, latent=latent, encoder=encoder)))
        else:
            with suppress(KeyError):  # another has forgotten it meanwhile
                store.set_latents(episode_id, latent, encoder)
    damaged = store.skipped
    if misfits and not store.read_only:  # of one encoder at a time: what another found is found again
        revise_note(store, environment, *MISFITS, lambda _: {encoder: as_ids(known.union(misfits))})
    memory = EpisodicMemory(store, encoder, environment)
    damaged += store.skipped
    for episode_id, episode in fresh:
        memory.add(episode_id, episode)
    return memory, damaged


class _Stopped(Exception):
    pass


class _Interruptible(EpisodeStore):
    """A store of which no more is read once `stop` is set."""

    stop: threading.Event

    def readable(self, *arguments: Any, **options: Any) -> Iterator[tuple[int, Episode]]:
        for found in super().readable(*arguments, **options):
            if self.stop.is_set():
                raise _Stopped
            yield found


class BackgroundEmbedding:
    """`embedded` in a thread of low priority, with a connection of its own; `take` gives what comes of it, once.

    `embed` and `fits` are called in that thread.
    """

    def __init__(self, store: EpisodeStore, encoder: str, environment: str, embed: Embed, fits: Fits) -> None:
        self._stop = threading.Event()
        self._done: queue.SimpleQueue[tuple[EpisodicMemory, int] | Exception] = queue.SimpleQueue()

        def embed_on(senses: dict[str, np.ndarray]) -> np.ndarray:
            if self._stop.is_set():  # in the midst of a long episode
                raise _Stopped
            return embed(senses)

        work = store.name, store.read_only, encoder, environment, embed_on, fits
        self._thread = threading.Thread(target=self._run, args=work, name="embedding", daemon=True)
        self._thread.start()

    def _run(self, path: Any, read_only: bool, *work: Any) -> None:
        try:
            with suppress(OSError):  # it may be forbidden
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)  # Linux: of this thread alone
            store = _Interruptible(path, read_only, create=False)
            store.stop = self._stop
            with store:
                self._done.put(embedded(store, *work))
        except _Stopped:
            pass
        except Exception as error:
            self._done.put(error)

    def take(self) -> tuple[EpisodicMemory, int] | None:
        """What `embedded` returned, if it has; raises what it raised."""
        try:
            found = self._done.get_nowait()
        except queue.Empty:
            return None
        if isinstance(found, Exception):
            raise found
        return found

    def close(self) -> None:
        """Stop, within a second: what was embedded so far is kept, and the next process goes on from there."""
        self._stop.set()
        self._thread.join(PATIENCE)
