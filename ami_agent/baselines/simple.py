"""The floors and the ceiling beside every score: random, do-nothing, and the world's own scripted oracle."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


class RandomAgent:
    """Uniform actions."""

    def __init__(self, action_size: int, seed: int) -> None:
        self._size, self._generator = action_size, np.random.default_rng(seed)

    def reset(self, done: np.ndarray) -> None:
        """Nothing to forget."""

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        batch = len(next(iter(observation.values())))
        return self._generator.uniform(-1, 1, (batch, self._size)).astype(np.float32)


class NoopAgent:
    """Does nothing, the middle of every action's range, and expects that nothing changes."""

    def __init__(self, action_size: int) -> None:
        self._size = action_size

    def reset(self, done: np.ndarray) -> None:
        """Nothing to forget."""

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        return np.zeros((len(next(iter(observation.values()))), self._size), np.float32)

    def surprise(self, observation: dict[str, np.ndarray], action: np.ndarray, reward: np.ndarray) -> np.ndarray:
        """{sense: (T+1, B, size)} -> how much the senses changed with each step, root mean square, (T, B)."""
        change = np.diff(np.concatenate(list(observation.values()), axis=-1), axis=0)
        return np.sqrt(np.square(change).mean(-1))


class OracleAgent:
    """Asks the world itself; `expert()` returns the actions (B, A)."""

    def __init__(self, expert: Callable[[], np.ndarray]) -> None:
        self._expert = expert

    def reset(self, done: np.ndarray) -> None:
        """Nothing to forget."""

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        return self._expert()
