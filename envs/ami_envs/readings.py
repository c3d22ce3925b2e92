"""From sensors to what is told of them: each sense at its own rate, late by its own delay, with its own noise."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

if TYPE_CHECKING:
    from ami_envs.core import WorldEnv
    from ami_envs.senses import Sensor


class Readings:
    """The latest readings of one sense in n worlds, newest first: (n, depth, *shape).

    Only as many are kept as the longest delay in use needs. The noise of a reading is drawn from the world's noise key,
    the step and the sense alone, so that it disturbs no other chance and a snapshot repeats it.

    Args:
        sensor: reads them.
        n: number of worlds.
        name: the sense's.
    """

    def __init__(self, sensor: Sensor, n: int, name: str) -> None:
        self.sensor, self._key = sensor, crc32(name.encode())
        self.kept = np.zeros((n, 1 + sensor.delay, *sensor.space.shape), sensor.space.dtype)

    def fill(self, env: WorldEnv, ids: np.ndarray) -> None:
        """Read worlds `ids` as an episode begins: nothing older is remembered."""
        if len(ids):
            self.kept[ids] = self._read(env, ids)[:, None]

    def refresh(self, env: WorldEnv, mask: np.ndarray | None, broken: np.ndarray | None) -> None:
        """Take in a step of the worlds of `mask`; those that broke are read anew."""
        every, deep = self.sensor.every, self.kept.shape[1] > 1
        if every == 1 and mask is None and not deep:
            self.kept[:, 0] = self._read(env, env.all)
            return
        moved = env.all if mask is None else np.flatnonzero(mask)
        if deep:
            self.kept[moved, 1:] = self.kept[moved, :-1]
        due = moved[env.steps[moved] % every == 0]
        if len(due):
            self.kept[due, 0] = self._read(env, due)
        if broken is not None:
            self.fill(env, np.flatnonzero(broken))

    def told(self, env: WorldEnv) -> np.ndarray:
        """What the agent is told now, (n, *shape), a fresh array."""
        if self.kept.shape[1] == 1:
            return self.kept[:, 0].copy()
        return self.kept[env.all, self.sensor.delay + env.factors["delay"].astype(int)]

    def deepen(self, delay: int) -> None:
        """Keep enough for a delay by `delay` steps more than the sense's own."""
        missing = 1 + self.sensor.delay + delay - self.kept.shape[1]
        if missing > 0:
            self.kept = np.concatenate([self.kept, np.repeat(self.kept[:, -1:], missing, axis=1)], axis=1)

    def depth(self, env: WorldEnv, world: int) -> int:
        """How many readings of a world may still be told."""
        return 1 + self.sensor.delay + int(env.factors["delay"][world])

    def fits(self, kept: np.ndarray) -> bool:
        """Whether readings (depth, *shape) of a snapshot are of this sense as it is here."""
        return kept.shape[1:] == self.kept.shape[2:] and kept.dtype == self.kept.dtype

    def forget(self, world: int, delay: int) -> None:
        """Hold nothing older than what a world with that delay was told last, as if no more had been kept."""
        newest = self.sensor.delay + delay
        self.kept[world, newest + 1 :] = self.kept[world, newest]

    def restore(self, ids: np.ndarray, kept: np.ndarray) -> None:
        """Let worlds `ids` have kept what a snapshot's had, (depth, *shape)."""
        self.deepen(len(kept) - 1 - self.sensor.delay)
        depth = self.kept.shape[1]
        self.kept[ids, : len(kept)] = kept[:depth]
        self.kept[ids, len(kept) :] = kept[-1]

    def _read(self, env: WorldEnv, ids: np.ndarray) -> np.ndarray:
        reading = self.sensor.read(env, ids)
        if not (env.noisy or self.sensor.noise):
            return reading
        noise = self.sensor.noise + env.factors["noise"][ids]
        space, span = self.sensor.space, self.sensor.span
        for row, (i, share) in enumerate(zip(ids, noise, strict=True)):
            if share * span == 0:
                continue
            rng = np.random.default_rng([*env.noise_keys[i], env.steps[i], self._key])
            noisy = reading[row] + share * span * rng.standard_normal(space.shape)
            noisy = np.rint(noisy) if np.issubdtype(space.dtype, np.integer) else noisy
            reading[row] = np.clip(noisy, space.low, space.high)
        return reading


def follow(env: WorldEnv, before: np.ndarray | None = None) -> None:
    """Let all senses follow the factors: keep as many readings as the longest delay needs, and be noisy or not.

    Where a delay has grown from `before` (n,), what is older than that is forgotten: it may not have been kept.
    """
    delay, env.noisy = env.factors["delay"].astype(int), bool(env.factors["noise"].any())
    for one in env.readings.values():
        one.deepen(int(delay.max()))
        if before is not None:
            for i in np.flatnonzero(delay > before):
                one.forget(int(i), int(before[i]))


def noise_key(rng: np.random.Generator) -> np.ndarray:
    """What stands for a generator's state, without drawing from it, (2,) uint64."""
    return np.frombuffer(sha256(repr(rng.bit_generator.state).encode()).digest()[:16], np.uint64)
