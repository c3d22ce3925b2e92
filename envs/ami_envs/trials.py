"""What a check needs: the environment under trial, lives lived in it, and what two of them differ in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import gymnasium as gym
import numpy as np

from ami_envs.faces import BatchEnv, SingleEnv
from ami_envs.registry import load
from ami_envs.sensors import offered

STEPS = 200


class Fault(Exception):
    """A promise that is not kept; the message says how that was seen."""


@dataclass(frozen=True)
class Subject:
    """The environment under test: a registered id and the options it is made with."""

    id: str
    options: dict[str, Any]

    @cached_property
    def ours(self) -> bool:
        """Whether it is made of a Task on our engine."""
        return gym.spec(self.id).entry_point == "ami_envs.registry:make_single"

    def make(self, **more: Any) -> gym.Env:
        """One world, by default with every sense it can have."""
        return gym.make(self.id, **self.all_senses() | self.options | more)

    def single(self, **more: Any) -> SingleEnv:
        """One of our worlds, without Gymnasium's wrappers."""
        return self.make(**more).unwrapped  # type: ignore[return-value]

    def batch(self, n: int, **more: Any) -> BatchEnv:
        """n of our worlds, by default without senses that no one asked for."""
        return gym.make_vec(self.id, n, **self.options | more)  # type: ignore[return-value]

    def all_senses(self) -> dict[str, Any]:
        return {"sensors": offered(load(gym.spec(self.id).id).robot)} if self.ours else {}


def difference(one: Any, other: Any, name: str = "") -> str | None:
    """The name of the first thing in two nests of dicts, tuples and arrays that is not exactly equal, or None."""
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys():
            return f"{name} has {sorted(map(str, one.keys() ^ other.keys()))} on one side only"
        pairs = [(one[key], other[key], f"{name} {key}".strip()) for key in one]
    elif isinstance(one, (tuple, list)) and isinstance(other, (tuple, list)) and len(one) == len(other):
        pairs = [(a, b, name) for a, b in zip(one, other, strict=True)]
    else:
        a, b = np.asarray(one), np.asarray(other)
        equal = a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        return None if equal else name or "value"
    return next((found for pair in pairs if (found := difference(*pair)) is not None), None)


def expect_same(one: Any, other: Any, where: str) -> None:
    if (found := difference(one, other)) is not None:
        raise Fault(f"{where}: {found} differs")


def live(env: gym.Env, seed: int | None, steps: int = STEPS) -> list[tuple]:
    """Everything an environment tells while it lives `steps` steps of chance; Fault outside its own space."""
    told: list[tuple] = [env.reset(seed=seed)] if seed is not None else []
    rng = np.random.default_rng(0)
    for step in range(steps):
        told.append(env.step(chance(env, rng)))
        if told[-1][0] not in env.observation_space:
            raise Fault(f"the observation of step {step} is outside the observation space")
        if told[-1][2] or told[-1][3]:
            told.append(env.reset())
    return told


def chance(env: gym.Env, rng: np.random.Generator) -> Any:
    space = env.action_space
    if not isinstance(space, gym.spaces.Box):
        space.seed(int(rng.integers(2**31)))
        return space.sample()
    low, high = np.maximum(space.low, -1e3), np.minimum(space.high, 1e3)
    return rng.uniform(low, high).astype(space.dtype)


def expect_same_from_here(one: gym.Env, other: gym.Env) -> None:
    for step, told in enumerate(zip(live(one, None), live(other, None), strict=True)):
        expect_same(*told, f"step {step}")


def transitions(env: gym.Env, steps: int) -> list[tuple[dict, float, dict]]:
    told = [one for one in live(env, seed=0, steps=steps) if len(one) == 5]
    return [(observation, reward, info) for observation, reward, _, _, info in told]


def arrays_in(value: Any, name: str = "") -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(value, np.ndarray):
        yield name, value
    elif isinstance(value, (dict, tuple)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from arrays_in(item, f"{name} {key}".strip())


def rows(observation: dict[str, np.ndarray], rows: list[int]) -> dict[str, np.ndarray]:
    return {name: value[rows] for name, value in observation.items()}


def refusal(work: Callable[[], Any], what: str) -> str:
    """The message that `work` is refused with; Fault if it is not."""
    try:
        work()
    except (ValueError, RuntimeError, gym.error.Error) as error:
        return str(error)
    raise Fault(f"{what} is not refused")


def success_rate(env: BatchEnv, act: Callable[[BatchEnv], np.ndarray]) -> float:
    """Share of episodes, one a world, that end in success."""
    env.reset(seed=0)
    done, won = np.zeros(env.num_envs, bool), np.zeros(env.num_envs, bool)
    for _ in range(env.limit):
        _, _, terminated, _, _ = env.step(act(env))
        won |= terminated & ~done
        done |= terminated
        if terminated.any():
            env.reset(options={"reset_mask": terminated})
    return float(won.mean())
