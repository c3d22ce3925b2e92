"""Infos of others' environments, of which the agent asks for little."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs

from ami_agent.repeat import AT_ANY, SUMMED


def flag(value: Any) -> bool:
    """Raises TypeError for words, and for NaN, which `bool` takes for true."""
    if isinstance(value, str) or value != value:
        raise TypeError(f"{value!r} is neither true nor false")
    return bool(value)


KINDS: dict[str, Callable[[Any], bool | float]] = {**dict.fromkeys(AT_ANY, flag), **dict.fromkeys(SUMMED, float)}


class Infos(gym.Wrapper, RecordConstructorArgs):
    """One world that tells only what the agent asks for, and that as a plain number; what is none counts as untold.

    What others tell beside may be of another shape at every step, or in every world: it could not be put together.
    """

    def __init__(self, env: gym.Env) -> None:
        RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)

    def reset(self, **how: Any) -> tuple[Any, dict[str, Any]]:
        return self.env.reset(**how)[0], {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        *lived, info = self.env.step(action)
        told: dict[str, Any] = {}
        for name, kind in KINDS.items():
            with suppress(TypeError, ValueError):
                if info.get(name) is not None:
                    told[name] = kind(info[name])
        observation, reward, terminated, truncated = lived
        if reward is None:
            raise TypeError("its step gave None for the reward")
        return observation, reward, terminated, truncated, told
