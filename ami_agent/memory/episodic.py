"""Recall by likeness: an index over the latents of one encoder, rebuilt from the store whenever it is opened."""

from __future__ import annotations

import numpy as np

from ami_agent.memory.neighbours import EXACT_ROWS, Neighbours
from ami_agent.memory.rows import Rows
from ami_agent.memory.store import EpisodeStore
from ami_agent.protocols import Episode

UNTOLD = -1  # success, where the environment does not tell


class EpisodicMemory:
    """Every moment of the stored episodes that carry latents by `encoder`, of one environment or (None) of all.

    An episode of T steps has T+1 moments (episode id, t). Latents by another encoder are never taken in.
    """

    def __init__(
        self, store: EpisodeStore, encoder: str, environment: str | None = None, exact_rows: int = EXACT_ROWS
    ) -> None:
        self.encoder = encoder
        self.environment = environment
        self._exact_rows = exact_rows
        self._places: dict[int, tuple[int, int]] = {}  # episode id -> its first row, T
        self._codes: dict[str, int] = {}  # of the names of environments and sessions
        self._episodes = Rows((5,), np.int64)  # id, T+1, environment, session, success
        self._returns = Rows((), np.float64)  # of the episodes
        self._moments = Rows((2,), np.int64)  # episode id, t
        self._neighbours: Neighbours | None = None  # sized by the first latent
        self._actions: Rows | None = None  # a row a moment; the last of an episode is zero
        for episode_id, episode in store.episodes(senses=False, encoder=encoder, environment=environment):
            self.add(episode_id, episode)

    def __len__(self) -> int:
        """Moments that can be recalled."""
        return len(self._moments)

    def __contains__(self, episode_id: int) -> bool:
        return episode_id in self._places

    def add(self, episode_id: int, episode: Episode) -> None:
        """Take in an episode of the store, with latents by the encoder of this memory, whether or not these are kept
        in the store too. Cheap: lists are trained at the next recall, if at all.

        Raises ValueError if it is known already, or its encoder, environment, latent or action size is another.
        """
        if episode_id in self._places:
            raise ValueError(f"episode {episode_id} is remembered already")
        if episode.latent is None or episode.encoder != self.encoder:
            raise ValueError(f"latents by {self.encoder!r} expected, {episode.encoder!r} came")
        if self.environment not in (None, episode.environment):
            raise ValueError(f"this memory is of {self.environment}, the episode of {episode.environment}")
        steps, width = episode.action.shape
        if self._neighbours is None or self._actions is None:
            self._neighbours = Neighbours(episode.latent.shape[1], self._exact_rows)
            self._actions = Rows((width,), np.float32)
        if self._actions.view.shape[1] != width:
            raise ValueError(f"actions of size {width} came, {self._actions.view.shape[1]} expected")
        self._neighbours.add(episode.latent)
        self._actions.append(np.concatenate([episode.action, np.zeros((1, width), np.float32)]))
        self._places[episode_id] = (len(self), steps)
        self._moments.append(np.stack([np.full(steps + 1, episode_id), np.arange(steps + 1)], axis=1))
        names = [self._codes.setdefault(name, len(self._codes)) for name in (episode.environment, episode.session)]
        success = UNTOLD if episode.success is None else int(episode.success)
        if success == UNTOLD and not (episode.terminated or episode.truncated):
            success = int(False)  # cut short, its return says nothing
        self._episodes.append(np.array([[episode_id, steps + 1, *names, success]]))
        self._returns.append(np.array([episode.reward.sum(dtype=np.float64)]))

    def recall(
        self,
        latent: np.ndarray,
        k: int,
        success: bool | None = None,
        good: bool = False,
        environment: str | None = None,
        session: str | None = None,
        episode: int | None = None,
        but: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """latent (B, D) -> latents (B, k', D), moments (B, k', 2) int64 (episode id, t), Euclidean distances (B, k').

        Nearest first, ties by age. Filters: episodes that succeeded (or did not), as far as their environment told;
        `good` ones, which succeeded or, where that is not told, have at least the median return of such; those lived
        in an `environment` or a `session`; the one `episode`, or any `but` one. k' = min(k, moments that match), so it
        can be 0: look at the shape. Raises ValueError for a latent of another size or not finite.
        """
        if self._neighbours is None:
            batch, size = latent.shape
            nothing = np.empty((batch, 0, size), np.float32), np.empty((batch, 0, 2), np.int64)
            return *nothing, np.empty((batch, 0), np.float32)
        wanted = self._wanted(success, good, environment, session, episode, but)
        rows, distances = self._neighbours.search(latent, k, wanted)
        return self._neighbours.vectors[rows], self._moments.view[rows], distances

    def continuation(self, moments: np.ndarray, horizon: int) -> np.ndarray:
        """moments (B, k, 2) -> actions (B, k, horizon, A) that followed each, zeros after the episode's end.

        Raises KeyError for an episode that is not in this memory.
        """
        if self._actions is None:
            raise KeyError("the memory is empty: nothing was done in it yet")
        places = np.array([self._places[int(i)] for i in moments[..., 0].ravel()], np.int64).reshape(-1, 2)
        first, steps = (places[:, at].reshape(*moments.shape[:-1], 1) for at in (0, 1))
        t = np.minimum(moments[..., 1:] + np.arange(horizon), steps)  # the row at T is zero
        return self._actions.view[first + t]

    def _wanted(
        self,
        success: bool | None,
        good: bool,
        environment: str | None,
        session: str | None,
        episode: int | None,
        but: int | None,
    ) -> np.ndarray | None:
        """Mask (n,) over the moments, None if all match."""
        id, moments, *told = self._episodes.view.T
        names = [None if name is None else self._codes.get(name, -1) for name in (environment, session)]
        pairs = zip((id, *told), (episode, *names, success), strict=True)
        tests = [fact == value for fact, value in pairs if value is not None]
        if but is not None:
            tests.append(id != but)
        if good:
            tests.append(self._good(told[-1]))
        return np.repeat(np.logical_and.reduce(tests), moments) if tests else None

    def _good(self, success: np.ndarray) -> np.ndarray:
        """success (episodes,) as told -> mask (episodes,)."""
        untold, returns = success == UNTOLD, self._returns.view
        middle = np.median(returns[untold]) if untold.any() else np.inf
        return (success == 1) | (untold & (returns >= middle))
