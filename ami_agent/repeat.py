"""Action repeat: an action is held for several env steps, which together are one decision of the agent's.

What is lived and learned so is kept under a name of its own, "ID@4" for a repeat of 4 (Gymnasium allows no "@" in an
id): decisions of different lengths are never mixed.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorWrapper

from ami_agent.errors import UsageError

MOST = 100  # env steps a decision
AT_ANY = ("success", "is_success", "physics_error")  # of an info: true if at any env step of the decision
SUMMED = ("cost",)  # of an info, as the reward is; of all else the last env step tells


def kept_as(id: str, repeat: int) -> str:
    """The name that an environment's episodes and brains are kept under. Raises UsageError for an odd repeat."""
    if not isinstance(repeat, int) or not 1 <= repeat <= MOST:
        raise UsageError(f"{id}: the action repeat must be a whole number from 1 to {MOST}, not {repeat!r}")
    return id if repeat == 1 else f"{id}@{repeat}"


def split(name: str) -> tuple[str, int]:
    """The id and the action repeat of what is kept under a name."""
    id, _, repeat = name.partition("@")
    return id, int(repeat) if repeat.isdecimal() else 1


class Repeated(gym.Wrapper, RecordConstructorArgs):
    """One world in which each action is held for `repeat` env steps, or until the episode ends. Rewards add.

    Put it around everything else: the limits inside it count env steps.
    """

    def __init__(self, env: gym.Env, repeat: int) -> None:
        RecordConstructorArgs.__init__(self, repeat=repeat)
        gym.Wrapper.__init__(self, env)
        self.repeat = repeat

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        total = float(reward)
        for _ in range(self.repeat - 1):
            if terminated or truncated:
                break
            observation, reward, terminated, truncated, fresh = self.env.step(action)
            total += float(reward)
            info = _joined(info, fresh)
        return observation, total, terminated, truncated, info


class RepeatedBatch(VectorWrapper):
    """n worlds of our engine that are reset by hand, as `Repeated`: a world whose episode ends stands still, and shows
    what it ended with, while the others go on."""

    def __init__(self, env: gym.vector.VectorEnv, repeat: int) -> None:
        super().__init__(env)
        self.repeat = repeat
        self._batch: Any = env  # whose step takes a mask

    def step(self, actions: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict]:
        observation, reward, terminated, truncated, info = self._batch.step(actions)
        for _ in range(self.repeat - 1):
            going = ~(terminated | truncated)
            if not going.any():
                break
            seen, more, ended, cut, fresh = self._batch.step(actions, going)
            observation = {name: _where(going, value, observation[name]) for name, value in seen.items()}
            reward = reward + np.where(going, more, 0.0)
            terminated, truncated = terminated | (ended & going), truncated | (cut & going)
            info = _joined(info, fresh, going)
        return observation, reward, terminated, truncated, info


def _joined(info: dict[str, Any], fresh: dict[str, Any], going: np.ndarray | None = None) -> dict[str, Any]:
    """What is told of two env steps in a row; of many worlds, (n, ...) each, those that are `going` lived both."""
    joined = dict(info)
    for name, value in fresh.items():
        old = info.get(name)
        if old is None:
            joined[name] = value
        elif name in AT_ANY:  # whatever its type: others tell success by a number
            joined[name] = bool(old) or bool(value) if going is None else old | (value & going)
        elif name in SUMMED:
            joined[name] = old + value if going is None else old + value * going
        elif not name.startswith("_"):  # the masks of who is told of: all worlds, from the first step on
            joined[name] = value if going is None else _where(going, value, old)
    return joined


def _where(mask: np.ndarray, new: np.ndarray, old: np.ndarray) -> np.ndarray:
    """Rows (n, ...) of `new` where the mask (n,) is, else of `old`."""
    return new if mask.all() else np.where(mask.reshape(-1, *[1] * (new.ndim - 1)), new, old)
