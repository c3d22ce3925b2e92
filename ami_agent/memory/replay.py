"""Training windows from RAM: episodes of the store in contiguous arrays, read by index arithmetic alone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ami_agent.errors import ArtefactError
from ami_agent.memory.database import DamagedMemory
from ami_agent.memory.rows import Ring, Rows
from ami_agent.memory.store import EpisodeStore
from ami_agent.protocols import Batch, Episode

log = logging.getLogger(__name__)
Shape = tuple[dict[str, tuple[int, ...]], tuple[int, ...]]  # of each sense and of the action, without T


class Replay:
    """The latest episodes, as many whole ones as fit in `capacity` rows; an episode of T steps takes T+1 rows.

    What is sampled depends on the kept episodes and the generator only, never on where in the ring they lie: after
    `restore` training goes on exactly as if it had not stopped. Images stay uint8 here and become float32 (0 to 255)
    when read; every other sense is kept as float32.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.skipped = 0  # episodes that `load` left out
        self._senses: dict[str, Ring] = {}
        self._action = self._reward = Ring(0, (), np.float32)  # sized by the first episode
        self._table = Rows((5,), np.int64)  # an episode each: id, first row, T, terminated, steps of all time with it
        self._facts = Rows((3,), np.float64)  # of each: how far what was achieved moved, least and greatest reward
        self._oldest = 0  # the first entry of the two that is still kept
        self._before = 0  # steps of all time that `restore` did not find any more

    @classmethod
    def load(
        cls,
        store: EpisodeStore,
        environment: str,
        capacity: int,
        senses: dict[str, tuple[int, ...]] | None = None,
        action_size: int | None = None,
        tasks: Sequence[str] | None = None,
    ) -> Replay:
        """The latest episodes of an environment that fit, or of some of its tasks.

        Left out, and counted in `skipped`, are those that are damaged, longer than the capacity, or of other senses
        (name: shape without T) or another action size than given; by default than the newest readable one has.
        """
        replay = cls(capacity)
        each = [store.lengths(environment, task) for task in ([None] if tasks is None else tasks)]
        lengths = np.concatenate([np.empty((0, 2), np.int64), *each])
        lengths = lengths[np.argsort(lengths[:, 0])]
        short = lengths[lengths[:, 1] < capacity]
        ids = short[np.cumsum(short[::-1, 1] + 1)[::-1] <= capacity, 0].tolist()
        shape = _newest_shape(store, ids, senses, action_size)
        if shape is not None:
            for episode_id, episode in store.readable(ids):
                if _shape(episode) == shape and len(episode) < capacity:
                    replay.add(episode_id, episode)
        replay.skipped = len(lengths) - len(short) + len(ids) - len(replay)
        if replay.skipped:
            log.warning(
                "%d episodes of %s cannot be learned from: damaged or shaped otherwise", replay.skipped, environment
            )
        return replay

    @classmethod
    def restore(cls, store: EpisodeStore, state: dict[str, Any]) -> Replay:
        """Exactly the replay that `state` was taken of. Raises ArtefactError if an episode is gone or damaged."""
        try:
            replay = cls(state["capacity"])
            for episode_id in state["ids"]:
                replay.add(episode_id, store.read(episode_id))
            replay._before = int(state.get("lived", replay.steps)) - replay.steps
        except (KeyError, TypeError, ValueError) as error:
            reason = error.args[0] if error.args else error
            raise ArtefactError(f"what {store.name} holds is not what was learned from: {reason}") from error
        return replay

    def state(self) -> dict[str, Any]:
        """Plain JSON values which, with the store, are enough for `restore`."""
        return {"capacity": self.capacity, "ids": self._kept[:, 0].tolist(), "lived": self.lived}

    @property
    def _kept(self) -> np.ndarray:
        return self._table.view[self._oldest :]

    def __len__(self) -> int:
        """Episodes kept."""
        return len(self._kept)

    @property
    def steps(self) -> int:
        """Lived steps that can be sampled."""
        return int(self._kept[:, 2].sum())

    @property
    def lived(self) -> int:
        """Lived steps that were ever taken in, kept or not."""
        return self._before + (int(self._kept[-1, 4]) if len(self) else 0)

    @property
    def indifferent(self) -> bool:
        """Whether nothing kept was better than anything else: all rewards are the same, and nothing has ended."""
        facts = self._facts.view[self._oldest :]
        return not len(facts) or (facts[:, 1].min() == facts[:, 2].max() and not self._kept[:, 3].any())

    def add(self, episode_id: int, episode: Episode) -> None:
        """Take in an episode of the store, dropping the oldest ones beyond the capacity.

        Raises ValueError if it is longer than the capacity, not newer than the last one, or of other senses or shapes.
        """
        steps, kept = len(episode), self._kept
        if steps + 1 > self.capacity:
            raise ValueError(f"an episode of {steps} steps does not fit in a replay of {self.capacity} rows")
        if len(kept) and episode_id <= kept[-1, 0]:
            raise ValueError(f"episode {episode_id} came after {kept[-1, 0]}: ids must ascend")
        if not self._senses:
            self._allocate(episode)
        came = _shape(episode)
        expected = {name: ring.shape for name, ring in self._senses.items()}, self._action.shape
        if came != expected:
            raise ValueError(f"episode {episode_id} has senses and actions {came}, {expected} expected")
        start = int(kept[-1, 1] + kept[-1, 2] + 1) if len(kept) else 0
        lived = int(kept[-1, 4]) if len(kept) else 0
        for name, array in episode.observation.items():
            self._senses[name].write(start, array)
        self._action.write(start, np.concatenate([episode.action, np.zeros_like(episode.action[:1])]))
        self._reward.write(start, np.append(episode.reward, 0))
        self._table.append(np.array([[episode_id, start, steps, episode.terminated, lived + steps]], np.int64))
        achieved = episode.observation.get("achieved_goal", np.zeros((1, 1))).astype(np.float64)
        moved, reward = np.linalg.norm(achieved - achieved[0], axis=-1).max(), _whole(episode)
        self._facts.append(np.array([[moved, reward.min(), reward.max()]]))
        self._drop(start + steps + 1 - self.capacity)

    def _allocate(self, episode: Episode) -> None:
        for name, array in episode.observation.items():
            dtype = np.uint8 if array.dtype == np.uint8 else np.float32
            self._senses[name] = Ring(self.capacity, array.shape[1:], dtype)
        self._action = Ring(self.capacity, episode.action.shape[1:], np.float32)
        self._reward = Ring(self.capacity, (), np.float32)

    def _drop(self, row: int) -> None:
        """Forget the episodes that begin before a row: they are overwritten, in part at least."""
        self._oldest += int(np.searchsorted(self._kept[:, 1], row))
        if self._oldest > 64 and self._oldest > len(self._table) // 2:
            kept, facts = self._kept.copy(), self._facts.view[self._oldest :].copy()
            self._table, self._facts, self._oldest = Rows((5,), np.int64), Rows((3,), np.float64), 0
            self._table.append(kept)
            self._facts.append(facts)

    def sample(self, batch: int, generator: np.random.Generator, moved: float = 0.0) -> np.ndarray:
        """Moments (batch, 2) int64 as (episode id, t), uniform over all lived steps: 0 <= t < T.

        A share `moved` of them, the first, are of episodes drawn by how far what was achieved moved in them: where
        little is ever achieved, what is learned most from. Any step may begin a window: `read` pads those that run
        past the episode's end, so that its last steps are learned from as often as its first. Raises ValueError if
        the replay is empty.
        """
        kept = self._kept
        if not len(kept):
            raise ValueError("the replay is empty: nothing to sample")
        before = kept[:, 4] - kept[:, 2]
        lived = generator.integers(0, self.steps, batch) + before[0]
        slot = np.searchsorted(kept[:, 4], lived, side="right")
        t = lived - before[slot]
        share = round(moved * batch)
        if share and (far := self._facts.view[self._oldest :, 0].cumsum())[-1] > 0:
            slot[:share] = np.searchsorted(far[:-1], generator.random(share) * far[-1], side="right")
            t[:share] = (generator.random(share) * kept[slot[:share], 2]).astype(np.int64)
        return np.stack([kept[slot, 0], t], axis=1)

    def read(self, moments: np.ndarray, steps: int) -> Batch:
        """Windows of `steps` actions from moments (B, 2). After an episode's end its last observation repeats, actions
        and rewards are 0 and so is the mask. Raises KeyError for an episode not kept, ValueError for t outside it.
        """
        start, length, terminated = self._find(moments)
        t = moments[:, 1:] + np.arange(steps + 1)
        rows = start + np.minimum(t, length)  # action and reward are 0 in the row after the last step
        t, before = t[:, :-1], rows[:, :-1]
        return Batch(
            observation={name: _tensor(ring[rows]) for name, ring in self._senses.items()},
            action=_tensor(self._action[before]),
            reward=_tensor(self._reward[before]),
            terminated=_tensor((t == length - 1) & (terminated == 1)),
            mask=_tensor(t < length),
        )

    def future(self, moments: np.ndarray, generator: np.random.Generator, key: str) -> Tensor:
        """Sense `key` (B, ...) at a uniformly random later observation, t+1 to T, of the same episode as each moment.

        For hindsight goals. Raises as `read` does, KeyError also for an unknown sense.
        """
        start, length, _ = self._find(moments)
        later = generator.integers(moments[:, 1:] + 1, length + 1)
        return _tensor(self._senses[key][(start + later)[:, 0]])

    def _find(self, moments: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """moments (B, 2) -> first row, T and terminated of their episodes, each (B, 1)."""
        kept = self._kept
        slot = np.searchsorted(kept[:, 0], moments[:, 0])
        known = slot < len(kept)
        known[known] = kept[slot[known], 0] == moments[known, 0]
        if not known.all():
            raise KeyError(f"episode {moments[~known][0, 0]} is not in the replay")
        found = kept[slot]
        if ((moments[:, 1] < 0) | (moments[:, 1] >= found[:, 2])).any():
            raise ValueError("a moment lies outside the steps of its episode")
        return found[:, 1:2], found[:, 2:3], found[:, 3:4]


def _whole(episode: Episode) -> np.ndarray:
    """The rewards (T,) of decisions that are alike. Where an action is held for several env steps ("ID@4"), a limit may
    cut the last short: what it got is then a part of what another gets."""
    reward = episode.reward
    if "@" not in episode.environment or episode.terminated or len(reward) < 2:
        return reward
    least, most = sorted((0.0, float(reward[-2])))
    return reward[:-1] if least <= reward[-1] <= most else reward


def _shape(episode: Episode) -> Shape:
    return {name: array.shape[1:] for name, array in episode.observation.items()}, episode.action.shape[1:]


def _newest_shape(
    store: EpisodeStore, ids: list[int], senses: dict[str, tuple[int, ...]] | None, action_size: int | None
) -> Shape | None:
    """What the newest readable episode is shaped like that has the senses and action size asked for; None if none."""
    for episode_id in reversed(ids):
        with suppress(DamagedMemory, KeyError):
            found = _shape(store.read(episode_id))
            if senses in (None, found[0]) and action_size in (None, *found[1]):
                return found
    return None


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.astype(np.float32, copy=False))
