"""Recall by likeness: an index over the latents of one encoder, kept beside the store and rebuilt from it."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from ami_agent.memory.mapped import DamagedIndex, opened, write
from ami_agent.memory.moments import Moments
from ami_agent.memory.neighbours import EXACT_ROWS
from ami_agent.memory.packing import digest
from ami_agent.memory.store import EpisodeStore
from ami_agent.protocols import Episode, Wanted

log = logging.getLogger(__name__)
FORMAT = 1
KEEP_ROWS = 2_000  # moments that may be unwritten, or a 16th of those that are: so much is read again after a kill
KEEP_SHARE = 16
WASTE_SHARE = 4  # rebuilt when as much of it is of episodes that the store no longer has
NEVER = b"\0" * 16  # the print of an episode that the store does not have with these latents


class EpisodicMemory:
    """Every moment of the stored episodes that carry latents by `encoder`, of one environment or (None) of all.

    An episode of T steps has T+1 moments (episode id, t). Latents by another encoder are never taken in.

    A file beside the store holds what was indexed, so that opening reads only what came since. It is a cache: missing,
    damaged or by another encoder or version, it is made anew; episodes that the store no longer has are left out. It is
    written when a good part of the index is new, and not at all where the store is only read, or on a server.

    Among so many that lists are used, a memory with forgotten episodes and one made anew without them may differ in the
    furthest of what they find.
    """

    def __init__(
        self, store: EpisodeStore, encoder: str, environment: str | None = None, exact_rows: int = EXACT_ROWS
    ) -> None:
        self.encoder, self.environment = encoder, environment
        self.store = store  # of the thread that this is used in
        self._exact_rows = exact_rows
        self.path = None if store.path is None else index_path(store.path, encoder, environment)
        self._moments: Moments | None = None  # sized by the first episode
        self._written = (0, 0)  # rows in the file, and how many of them its lists were trained on
        self._unkept: dict[int, Episode] = {}  # those that the store does not have with these latents
        self._open()

    def __len__(self) -> int:
        """Moments that can be recalled."""
        return 0 if self._moments is None else self._moments.there

    def __contains__(self, episode_id: int) -> bool:
        return self._moments is not None and episode_id in self._moments

    def add(self, episode_id: int, episode: Episode) -> None:
        """Take in an episode of the store, with latents by the encoder of this memory, whether or not these are kept
        in the store too. Cheap but where the file is written: lists are trained at the next recall, if at all.

        Raises ValueError if it is known already, or its encoder, environment, latent or action size is another.
        """
        if self._moments is not None and episode_id in self._moments:
            raise ValueError(f"episode {episode_id} is remembered already")
        if episode.latent is None or episode.encoder != self.encoder:
            raise ValueError(f"latents by {self.encoder!r} expected, {episode.encoder!r} came")
        if self.environment not in (None, episode.environment):
            raise ValueError(f"this memory is of {self.environment}, the episode of {episode.environment}")
        mark, created = self._marks(episode_id).get(episode_id, (NEVER, 0.0))
        if mark == NEVER:
            self._unkept[episode_id] = replace(episode, observation={})
        self._take(episode_id, episode, mark, created)
        self._keep()

    def forget(self, episode_id: int) -> None:
        """Recall an episode no more, as the store no longer has it. Raises KeyError if it is not there."""
        if self._moments is None:
            raise KeyError(f"episode {episode_id} is not remembered")
        self._moments.forget(episode_id)
        self._unkept.pop(episode_id, None)
        if self._wasted():
            self._rebuild("much of it is forgotten")

    def recall(
        self, latent: np.ndarray, k: int, wanted: Wanted | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """latent (B, D) -> latents (B, k', D), moments (B, k', 2) int64 (episode id, t), Euclidean distances (B, k').

        Nearest first, ties by age. k' = min(k, moments that are wanted), so it can be 0: look at the shape. Raises
        ValueError for a latent of another size or not finite.
        """
        if self._moments is None:
            batch, size = latent.shape
            nothing = np.empty((batch, 0, size), np.float32), np.empty((batch, 0, 2), np.int64)
            return *nothing, np.empty((batch, 0), np.float32)
        try:
            rows, distances = self._moments.neighbours.search(latent, k, self._moments.mask(wanted or Wanted()))
            return self._moments.neighbours.vectors[rows], self._moments.at(rows), distances
        except DamagedIndex as error:
            self._rebuild(f"it is damaged: {error}")
            return self.recall(latent, k, wanted)

    def continuation(self, moments: np.ndarray, horizon: int) -> np.ndarray:
        """moments (B, k, 2) -> actions (B, k, horizon, A) that followed each, zeros after the episode's end.

        Raises KeyError for an episode that is not in this memory.
        """
        if self._moments is None:
            raise KeyError("the memory is empty: nothing was done in it yet")
        try:
            return self._moments.continuation(moments, horizon)
        except DamagedIndex as error:
            self._rebuild(f"it is damaged: {error}")
            return self.continuation(moments, horizon)

    def succeeds(self, moments: np.ndarray) -> np.ndarray:
        """moments (B, 2) -> (B,) bool: whether its episode went on from there, and succeeded. Raises KeyError for one
        that is not in this memory."""
        if self._moments is None:
            raise KeyError("the memory is empty: nothing was done in it yet")
        return self._moments.succeeds(moments)

    def overview(self, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Latents (n, D) of up to `most` moments, evenly over all, and the success (n,) of their episodes: 1, 0 or,
        where it is not told, -1."""
        if self._moments is None:
            return np.empty((0, 0), np.float32), np.empty(0, np.int64)
        try:
            return self._moments.overview(most)
        except DamagedIndex as error:
            self._rebuild(f"it is damaged: {error}")
            return self.overview(most)

    def _open(self) -> None:
        """Take what the file holds of what the store has, and read the rest from the store."""
        there = self._marks()
        try:
            self._moments = None if self.path is None else self._load(self.path)
        except FileNotFoundError:
            log.info("index %s is missing: made from the store", self.path)
        except (DamagedIndex, OSError) as error:
            log.warning("index %s is made anew from the store: %s", self.path, error)
        if self._moments is not None:
            self._written = len(self._moments), self._moments.neighbours.trained
            for episode_id, mark in self._moments.prints().items():
                if there.get(episode_id, (NEVER,))[0] != mark:
                    self._moments.forget(episode_id)
            if self._wasted():
                log.info("index %s is made anew from the store: much of it is of episodes that are gone", self.path)
                self._moments, self._written = None, (0, 0)
        self._read(there)

    def _rebuild(self, reason: str) -> None:
        log.warning("index %s is made anew from the store: %s", self.path, reason)
        self._moments, self._written = None, (0, 0)
        self._read(self._marks())
        for episode_id, episode in self._unkept.items():
            if self._moments is None or episode_id not in self._moments:
                self._take(episode_id, episode, NEVER, 0.0)

    def _read(self, there: dict[int, tuple[bytes, float]]) -> None:
        """Take in those of the store's episodes that are not known yet."""
        new = [id for id in there if self._moments is None or id not in self._moments]
        for episode_id, episode in self.store.readable(new, self.encoder, senses=False):
            self._take(episode_id, episode, *there[episode_id])
        self._keep()

    def _take(self, episode_id: int, episode: Episode, mark: bytes, created: float) -> None:
        if self._moments is None:
            size = 0 if episode.latent is None else episode.latent.shape[1]
            self._moments = Moments(size, episode.action.shape[1], self._exact_rows)
        self._moments.add(episode_id, episode, mark, created)

    def _wasted(self) -> bool:
        return self._moments is not None and WASTE_SHARE * (len(self._moments) - len(self)) > len(self._moments)

    def _marks(self, only: int | None = None) -> dict[int, tuple[bytes, float]]:
        """Of the store's episodes with latents by this encoder: what changes if they do, and when they were kept."""
        told = f"environment, session, {self.store.task_column}, success, terminated, truncated, episode_return"
        query = (
            f"SELECT episode.id, CAST(created AS DOUBLE PRECISION), {told}, latent.checksum FROM episode "
            "JOIN latent ON latent.episode = episode.id WHERE latent.encoder = ?"
        )
        wanted = {"environment": self.environment, "episode.id": only}
        wanted = {name: value for name, value in wanted.items() if value is not None}
        query += "".join(f" AND {name} = ?" for name in wanted)
        rows = self.store.rows(f"{query} ORDER BY episode.id", self.encoder, *wanted.values())
        return {id: (digest("recall", repr(row).encode()), row[0]) for id, *row in rows}

    def _about(self) -> dict[str, object]:
        """What a file must be of, to be this memory's."""
        return {
            "format": FORMAT,
            "encoder": self.encoder,
            "environment": self.environment,
            "exact_rows": self._exact_rows,
        }

    def _load(self, path: Path) -> Moments:
        """What the file holds. Raises DamagedIndex or OSError."""
        with opened(path) as kept:
            if (came := {name: kept.header.get(name) for name in self._about()}) != self._about():
                raise DamagedIndex(f"{self._about()} expected, it is of {came}")
            try:
                return Moments(kept.header["size"], kept.header["width"], self._exact_rows, kept)
            except (KeyError, TypeError, ValueError) as error:
                raise DamagedIndex(f"its header cannot be: {error}") from error

    def _keep(self) -> None:
        """Write the file, if enough is new; where that fails, one goes without."""
        moments, (rows, trained) = self._moments, self._written
        if self.path is None or moments is None or self.store.read_only or self._unkept:
            return
        if len(moments) - rows < max(KEEP_ROWS, rows // KEEP_SHARE) and trained == moments.neighbours.trained:
            return
        try:
            pieces = moments.pieces()
            header = {**self._about(), "size": moments.size, "width": moments.width, "names": moments.names}
            write(self.path, header, pieces)
            for other in self.path.parent.glob(f"{self.path.name.rpartition('-')[0]}-*"):
                if other != self.path and other.suffix != ".new":  # by encoders that are no more
                    other.unlink()
        except DamagedIndex as error:  # in what was never looked at before
            return self._rebuild(f"it is damaged: {error}")
        except OSError as error:
            log.warning("index %s cannot be written, opening will take longer: %s", self.path, error)
        self._written = len(moments), moments.neighbours.trained


def index_bytes(store: Path) -> int:
    """Room that the indices beside a store take."""
    return sum(file.stat().st_size for file in store.parent.glob(f"{store.name}-index-*"))


def index_path(store: Path, encoder: str, environment: str | None) -> Path:
    """The file of an index, beside its store."""
    names = [digest("index", name.encode(errors="replace")).hex()[:12] for name in (environment or "", encoder)]
    return store.with_name(f"{store.name}-index-{names[0]}-{names[1]}")
