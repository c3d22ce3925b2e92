"""What a check needs: the environment under trial, lives lived in it, and what two of them differ in."""

from __future__ import annotations

import copy
import inspect
import re
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import load_env_creator

from ami_envs.faces import BatchEnv, SingleEnv
from ami_envs.registry import CREATOR, is_ours, load, task_of
from ami_envs.senses import offered

STEPS = 200
DECLARED = "let observations lie in the space that is declared, of its shape and dtype"
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Fault(Exception):
    """A promise that is not kept; the message says how that was seen.

    Args:
        message: what was found.
        cure: what mends it, where that is more than the check's own cure says.
    """

    def __init__(self, message: str, cure: str = "") -> None:
        super().__init__(plain(message))
        self.cure = cure


@dataclass(frozen=True)
class Subject:
    """The environment under test: a registered id and the options it is made with."""

    id: str
    options: dict[str, Any]

    @cached_property
    def ours(self) -> bool:
        """Whether it is made of a Task on our engine."""
        return is_ours(gym.spec(self.id))

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
        """The option that asks for every sense the world can have; none for others' environments."""
        return {"sensors": offered(task_of(self.id, self.options))} if self.ours else {}


def plain(message: str) -> str:
    """A message without a terminal's codes for colours, which Gymnasium's have."""
    return COLOURS.sub("", message)


def words(error: BaseException, subject: Subject) -> str:
    """What an error says, and where in the code of the environment's author it came up, if there."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return f"{type(error).__name__}: {plain(text).partition(CREATOR)[0]}{place(error, subject)}"


def place(error: BaseException | None, subject: Subject) -> str:
    """The line of its author's own code, or nothing if the error is not from there."""
    entry = gym.spec(subject.id).entry_point
    kind: Any = load(subject.id) if subject.ours else load_env_creator(entry) if isinstance(entry, str) else entry
    written = inspect.isclass(kind) or inspect.isfunction(kind)
    home = Path(inspect.getfile(kind)).resolve().parent if written else None
    found = ""
    while error is not None:  # Gymnasium raises some anew
        for frame in traceback.extract_tb(error.__traceback__):
            if Path(frame.filename).resolve().parent == home:
                found = f" ({frame.filename}, line {frame.lineno}, in {frame.name})"
        error = error.__cause__
    return found


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
    """Fault with the first thing that differs."""
    if (found := difference(one, other)) is not None:
        raise Fault(f"{where}: {found} differs")


def live(env: gym.Env, seed: int | None, steps: int = STEPS) -> list[tuple]:
    """Everything an environment tells while it lives `steps` steps of chance; Fault outside its own space."""
    told: list[tuple] = [copy.deepcopy(env.reset(seed=seed))] if seed is not None else []
    rng = np.random.default_rng(0)
    for step in range(steps):
        told.append(copy.deepcopy(env.step(chance(env, rng))))
        if wrong := outside(env.observation_space, told[-1][0]):
            raise Fault(f"at step {step} {wrong}", DECLARED)
        if told[-1][2] or told[-1][3]:
            told.append(copy.deepcopy(env.reset()))
    return told


def outside(space: gym.Space, value: Any, name: str = "the observation") -> str:
    """In what an observation is not of its space; nothing where it is."""
    if isinstance(space, gym.spaces.Dict) and isinstance(value, dict) and value.keys() == space.spaces.keys():
        return next(filter(None, (outside(space[key], value[key], f"sense {key!r}") for key in value)), "")
    if isinstance(value, (list, tuple)) and isinstance(space, gym.spaces.Box):
        return f"{name} is a {type(value).__name__}, not an array"
    if value in space:
        return ""
    if not isinstance(space, gym.spaces.Box) or not isinstance(value, np.ndarray):
        return f"{name} is {value!r}, outside {space}"
    if value.shape != space.shape or not np.can_cast(value.dtype, space.dtype):
        return f"{name} is of shape {value.shape} and {value.dtype}, its space of {space.shape} and {space.dtype}"
    entry = np.argwhere(~((value >= space.low) & (value <= space.high)))[0].tolist()
    low, high = space.low[tuple(entry)], space.high[tuple(entry)]
    return f"{name} has {value[tuple(entry)]} as entry {entry}, where its space goes from {low} to {high}"


def chance(env: gym.Env, rng: np.random.Generator) -> Any:
    """A random action that the generator alone decides."""
    space = env.action_space
    if not isinstance(space, gym.spaces.Box):
        space.seed(int(rng.integers(2**31)))
        return space.sample()
    low, high = np.maximum(space.low, -1e3), np.minimum(space.high, 1e3)
    return rng.uniform(low, high).astype(space.dtype)


def expect_same_from_here(one: gym.Env, other: gym.Env, steps: int = STEPS) -> None:
    """Fault if two environments, as they stand, do not go on alike under the same actions."""
    lives = [[*live(env, None, steps), env.reset(), *live(env, None, steps=20)] for env in (one, other)]
    for step, (here, there) in enumerate(zip(*lives, strict=True)):
        expect_same(here, there, f"step {step}")


def transitions(env: gym.Env, steps: int) -> list[tuple[dict, float, dict]]:
    """Observation, reward and info of each step of a life of chance."""
    told = [one for one in live(env, seed=0, steps=steps) if len(one) == 5]
    return [(observation, reward, info) for observation, reward, _, _, info in told]


def arrays_in(value: Any, name: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """The arrays in a nest of dicts and tuples, each with its place."""
    if isinstance(value, np.ndarray):
        yield name, value
    elif isinstance(value, (dict, tuple)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from arrays_in(item, f"{name} {key}".strip())


def rows(told: Any, ids: list[int]) -> Any:
    """What is told of some worlds only."""
    return {name: value[ids] for name, value in told.items()} if isinstance(told, dict) else told[ids]


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
        _, _, terminated, truncated, info = env.step(act(env))
        over = terminated | truncated
        won |= info["success"] & ~done
        done |= over
        if over.any():
            env.reset(options={"reset_mask": over})
    return float(won.mean())
