"""Gymnasium environments on the agent's terms: vectors as senses, actions in [-1, 1], worlds that reset one by one.

`find` and `make` are the one way from a name to an environment, for every command.
"""

from __future__ import annotations

import importlib
import json
import math
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Dict
from gymnasium.vector import AutoresetMode, VectorEnv

from ami_agent import console, foreign
from ami_agent.angles import angles_of
from ami_agent.errors import NumericalError, UsageError, nearest
from ami_agent.foreign.faults import close, explained, living
from ami_agent.foreign.infos import Infos
from ami_agent.foreign.judging import judged
from ami_agent.places import place_of, stays
from ami_agent.protocols import Spec
from ami_agent.repeat import Repeated, RepeatedBatch, kept_as
from ami_envs import registry
from ami_envs.inputs import check_action
from ami_envs.plugins import load_plugins
from ami_envs.senses import offered
from ami_envs.task import says

GOAL_KEYS = {"observation", "achieved_goal", "desired_goal"}
NO_LIMIT = 1000  # steps of an episode where an environment sets no limit: without one it might never end
OWN_LIMIT = "--options '{\"max_episode_steps\": N}', or max_episode_steps where it is registered, sets one"
LARGEST_BOUND = 1e6  # of an action: a box that is larger is unbounded in all but name
MAX_VOID = 10  # episodes in a row that may end in a physics error
LARGEST_TABLE = 1024  # numbers in a sense of two or more axes: what is larger is a picture, whatever its dtype


class Environment:
    """n copies of one Gymnasium environment.

    Args:
        name: the id, or "module:id" to import the module that registers it; kept as `name`, the id alone as `id`.
        n: how many worlds.
        options: what the environment is made with.
        repeat: env steps that each action is held for: its rewards add, and a success in any of them counts.

    Raises:
        UsageError: the id is unknown (with the nearest names), or its spaces are not supported (with what is).
        MissingError: it needs a package that is not installed.
    """

    def __init__(self, name: str, n: int = 1, options: dict[str, Any] | None = None, repeat: int = 1) -> None:
        found = find(name)
        kept = kept_as(found.id, repeat)
        self.name, self.id, self.n = name, found.id, n
        self.task = json.dumps(options, sort_keys=True, default=str) if options else ""
        given, options = options or {}, _limited(found, options or {})
        ours = registry.is_ours(found)
        own_end = ours or foreign.knows(self.id) or found.max_episode_steps or "max_episode_steps" in given
        if not own_end:
            console.say(f"{self.id} sets no time limit: episodes are cut after {NO_LIMIT} env steps; " + OWN_LIMIT)
        self._vector = _make_vector(found, n, options, repeat)
        space = self._vector.single_action_space
        _check_actions(self.id, space)
        self._box: Box = space  # type: ignore[assignment]
        world: Any = self.vector if ours else self.vector.envs[0]  # type: ignore[attr-defined]
        self._reward_of, self._end_of = _method(world, "compute_reward"), _method(world, "compute_terminated")
        place = (world.unwrapped.metadata or {}).get("place")
        task = registry.task_of(found.id, given) if ours else None
        self.stays = stays(place) if task is None else task.sessions  # one place, all episodes
        self._free = task is not None and not says(task, "cost")  # ours always tell a cost, most of them none
        boxes = _boxes(self.id, self._vector.single_observation_space)
        goals = boxes.keys() >= GOAL_KEYS and boxes["achieved_goal"].shape == boxes["desired_goal"].shape
        self._many = task is not None  # ours judge many pairs of goals at once
        self._goal = boxes["desired_goal"].shape if goals else ()
        sizes = {sense: math.prod(box.shape) for sense, box in boxes.items()}
        self.spec = Spec(
            environment=kept,
            senses={sense: (size,) for sense, size in sizes.items()},
            action_size=math.prod(self._box.shape),
            goals=goals and self._reward_of is not None,
            max_episode_steps=math.ceil(options["max_episode_steps"] / repeat),
            control_period=control_period(world.unwrapped) * repeat,
            action_repeat=repeat,
            angles=angles_of(self.id, world, partial(make, found), given, sizes),
            **place_of(self.id, place, boxes),
        )
        self.void = self._void_in_a_row = 0  # episodes that ended in a physics error
        self._stillborn = np.zeros(n, bool)  # the worlds whose episode began with a value that is not finite
        self.fault = ""  # what was wrong in the latest of them, where it was a value that is not finite
        self.tells_success = self.tells_cost = False  # whether any step's info has

    def reset(self, mask: np.ndarray | None = None, seeds: list[int] | None = None) -> dict[str, np.ndarray]:
        """Start new episodes in the worlds of the mask (all by default), a seed each; observation of all worlds.

        An episode that begins with a value that is not finite ends with its first step, as a physics error.
        """
        mask = np.ones(self.n, bool) if mask is None else mask
        with living(self.id):
            observation, _ = self._vector.reset(seed=seeds, options={"reset_mask": mask})  # type: ignore[arg-type]
        senses, broken = self._senses(observation)
        self._stillborn = np.where(mask, self._told_of(broken), self._stillborn)
        return senses

    def step(
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """actions (B, A) in [-1, 1] -> observation, reward, terminated, truncated (B,), info.

        info has `success` and `physics_error` (B,) bool, whatever the environment calls them, and `cost` (B,), 0 where
        it tells none. Where a sense, the reward or the cost is not finite, that is a physics error: 0 stands for the
        value, and the episode is truncated.
        Raises ValueError for an action of another shape or that is not finite, NumericalError once the physics has
        failed in too many episodes in a row.
        """
        action, _ = check_action(action, (self.n, self.spec.action_size), None, strict=False)
        with living(self.id):
            observation, reward, terminated, truncated, info = self._vector.step(to_box(action, self._box))
        senses, broken = self._senses(observation)
        reward = _float32(np.asarray(reward))
        broken["its reward"] = ~np.isfinite(reward)
        cost = np.asarray(info.get("cost", np.zeros(self.n)), np.float64)
        broken["its cost"] = ~np.isfinite(cost)
        lost = self._told_of(broken) | self._stillborn
        success = info.get("success", info.get("is_success"))
        self.tells_success |= success is not None
        self.tells_cost |= "cost" in info and not self._free
        told = {
            "success": np.zeros(self.n, bool) if success is None else np.asarray(success, dtype=bool),
            "physics_error": np.asarray(info.get("physics_error", np.zeros(self.n, bool)), dtype=bool) | lost,
            "cost": np.where(np.isfinite(cost), cost, 0.0),
        }
        terminated, truncated = terminated & ~lost, truncated | lost
        for failed in told["physics_error"][terminated | truncated]:
            self.void, self._void_in_a_row = self.void + int(failed), self._void_in_a_row + 1 if failed else 0
        if self._void_in_a_row > MAX_VOID:
            why = f": {self.fault}" if self.fault else ""
            raise NumericalError(f"the physics failed in {self._void_in_a_row} episodes of {self.id} in a row{why}")
        return senses, np.where(np.isfinite(reward), reward, 0), terminated, truncated, told

    def compute_reward(self, achieved: np.ndarray, desired: np.ndarray, info: dict[str, np.ndarray]) -> np.ndarray:
        """Reward of (n, goal) pairs, (n,) float32; only where `spec.goals`.

        Of an action that is held it is an estimate: each env step is worth what the last is, unless that ends the task.
        """
        reward, repeat = self._judge(self._reward_of, achieved, desired, info), self.spec.action_repeat
        if repeat > 1:
            reward = reward * np.where(self.compute_terminated(achieved, desired, info), 1, repeat)
        return reward.astype(np.float32)

    def compute_terminated(self, achieved: np.ndarray, desired: np.ndarray, info: dict[str, np.ndarray]) -> np.ndarray:
        """Whether the task has ended at (n, goal) pairs, (n,) bool; never, where the environment does not say."""
        if self._end_of is None:
            return np.zeros(len(achieved), bool)
        return self._judge(self._end_of, achieved, desired, info).astype(bool)

    @property
    def vector(self) -> VectorEnv:
        """The Gymnasium environment itself, for what only some have: oracle, snapshots, pictures. Repeats nothing."""
        return self._vector.unwrapped

    def close(self) -> None:
        """Close the worlds, each once."""
        if not self.vector.closed:
            for world in getattr(self.vector, "envs", [self._vector]):
                close(world, self.id)
            self.vector.closed = True

    def _senses(self, observation: Any) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """{sense: (n, size)}, 0 for what is not finite; and for each sense, in words, the worlds (n,) where it was."""
        if not isinstance(observation, dict):
            observation = {"observation": observation}
        senses, broken = {}, {}
        for name in self.spec.senses:
            value = observation[name].reshape(self.n, -1)
            value = value if value.dtype == np.uint8 else _float32(value)
            finite = np.isfinite(value)
            broken[f"sense {name!r}"] = worlds = ~finite.all(axis=1)
            senses[name] = np.where(finite, value, 0) if worlds.any() else value
        return senses, broken

    def _told_of(self, broken: dict[str, np.ndarray]) -> np.ndarray:
        """The worlds (n,) in which anything was not finite; the first of what was is the fault."""
        for name in [name for name, worlds in broken.items() if worlds.any()][:1]:
            self.fault = f"{name} is not finite, in 32 bits"
        return np.logical_or.reduce(list(broken.values()))

    def _judge(self, judge: Callable | None, achieved: np.ndarray, desired: np.ndarray, info: dict) -> np.ndarray:
        """What the environment says of n pairs of goals, (n,)."""
        if judge is None:
            raise ValueError(f"{self.id} has no goals to judge by")
        achieved, desired = (goals.reshape(len(goals), *self._goal) for goals in (achieved, desired))
        with living(self.id):
            return judged(judge, achieved, desired, info, self._many)


def find(name: str) -> EnvSpec:
    """The environment registered as `name`, ours or not; "module:id" imports the module first, also from this folder.

    Raises UsageError for an unknown id (with the nearest names) or module, MissingError for a package not here.
    """
    module, _, id = name.rpartition(":")
    foreign.register(id)
    if module:
        _import(module)
    try:
        return registry.find(id)
    except gym.error.Error:
        plugins = load_plugins()
    try:
        return registry.find(id)
    except gym.error.Error as error:
        for plugin in plugins:
            if plugin.fault:
                console.say(f"broken plug-in: {plugin}")
        broken = any(plugin.fault for plugin in plugins)  # the id may well be one of its: no far-fetched guesses
        guesses = nearest(id, [*registry.TASKS, *gym.registry], cutoff=0.8 if broken else 0.5)
        near = " or ".join(_with_module(guess, module) for guess in guesses)
        hint = f"did you mean {near}?" if near else "`ami-agent env list --all` shows them"
        if module and getattr(sys.modules[module], "__file__", None) is None:
            hint = f"{module} is only a folder here; go into it first, cd {module.partition('.')[0]}"
        raise UsageError(f"no environment {name!r}; {hint}") from error


def _with_module(id: str, module: str) -> str:
    """An id, with the module that has to be imported for it to be known."""
    entry = gym.registry[id].entry_point if id in gym.registry else ""
    home = entry.partition(":")[0] if isinstance(entry, str) else getattr(entry, "__module__", "")
    return f"{module}:{id}" if module and f"{home}.".startswith(f"{module}.") else id


def make(spec: EnvSpec, options: dict[str, Any], repeat: int = 1, **more: Any) -> gym.Env:
    """One world, with a time limit in any case, each action held for `repeat` env steps.

    Raises UsageError for options it does not take, MissingError for a package it needs.
    """
    with explained(spec.id):
        env = gym.make(spec, disable_env_checker=True, **_limited(spec, options) | more)
    for name in ("observation_space", "action_space"):
        if not isinstance(getattr(env, name, None), gym.Space):
            raise UsageError(f"{spec.id} has no {name}: that must be a space of Gymnasium's")
    return Repeated(env, repeat) if repeat > 1 else env


def all_senses(spec: EnvSpec, options: dict[str, Any]) -> dict[str, Any]:
    """The option that asks one of our worlds for every sense it can have; none for others' environments.

    Raises UsageError for options that its task does not take.
    """
    with explained(spec.id):
        return {"sensors": offered(registry.task_of(spec.id, options))} if registry.is_ours(spec) else {}


def to_box(action: np.ndarray, box: Box) -> np.ndarray:
    """Actions (..., A) in [-1, 1] -> the box's own units and dtype, never outside it; whole numbers are rounded to."""
    low, high = box.low.astype(np.float64), box.high.astype(np.float64)
    raw = (high + low) / 2 + (high - low) / 2 * np.clip(np.asarray(action, np.float64), -1.0, 1.0)
    raw = np.clip(raw, low, high)
    return (raw if np.issubdtype(box.dtype, np.floating) else np.rint(raw)).astype(box.dtype)


def control_period(world: Any) -> float:
    """Seconds an action lasts in an unwrapped environment, ours or not; 0 if it does not say."""
    for period in (getattr(getattr(world, "engine", None), "period", None), getattr(world, "dt", None)):
        if isinstance(period, (int, float, np.floating)) and 0 < period < math.inf:
            return float(period)
    fps = (world.metadata or {}).get("render_fps")
    return 1.0 / fps if isinstance(fps, (int, float, np.number)) and 0 < fps < math.inf else 0.0


def _method(world: Any, name: str) -> Callable | None:
    """A method of a world, or of the outermost wrapper around it that has one; None if there is none."""
    try:
        found = world.get_wrapper_attr(name) if isinstance(world, gym.Env) else getattr(world, name)
    except AttributeError:
        return None
    return found if callable(found) else None


def _import(module: str) -> None:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # where a user's own module lies
    try:
        importlib.import_module(module)
    except (Exception, SystemExit) as error:  # a user's module may raise anything
        missing = isinstance(error, ModuleNotFoundError) and error.name == module.partition(".")[0]
        cure = "; run this in the folder that it lies in" if missing else ""
        raise UsageError(f"module {module} cannot be imported: {type(error).__name__}: {error}{cure}") from error


def _limited(spec: EnvSpec, options: dict[str, Any]) -> dict[str, Any]:
    """The options, and among them the limit of an episode: their own, else the environment's, else ours."""
    with explained(spec.id):
        own = registry.task_of(spec.id, options).max_episode_steps if registry.is_ours(spec) else spec.max_episode_steps
    limit = next((one for one in (options.get("max_episode_steps"), own) if one is not None), NO_LIMIT)
    if not isinstance(limit, int) or limit < 1:
        raise UsageError(f"{spec.id}: max_episode_steps must be a whole number of at least 1, not {limit!r}")
    return {**options, "max_episode_steps": limit}


def _make_vector(spec: EnvSpec, n: int, options: dict[str, Any], repeat: int) -> VectorEnv:
    """n worlds that are reset one by one; ours in one engine, others one after the other."""
    mode = AutoresetMode.DISABLED
    with explained(spec.id):
        if registry.is_ours(spec):
            batch = gym.make_vec(spec, n, autoreset_mode=mode, **options)
            return RepeatedBatch(batch, repeat) if repeat > 1 else batch
        wrappers = [Infos, *([lambda env: Repeated(env, repeat)] if repeat > 1 else [])]
        how: dict[str, Any] = {"vectorization_mode": "sync", "vector_kwargs": {"autoreset_mode": mode}}
        return gym.make_vec(spec, n, **how, wrappers=wrappers, disable_env_checker=True, **options)


def _check_actions(id: str, space: gym.Space) -> None:
    if not isinstance(space, Box) or len(space.shape) != 1 or not space.shape[0]:
        raise UsageError(f"{id}: its actions are {space}; supported is a flat Box with finite bounds")
    if not max(-float(space.low.min()), float(space.high.max())) <= LARGEST_BOUND:
        raise UsageError(f"{id}: its actions are unbounded ({space}); supported are bounds within {LARGEST_BOUND:g}")


def _boxes(id: str, space: gym.Space) -> dict[str, Any]:
    """The agent's senses, each a Box; says which are left out because they are pictures."""
    boxes: dict[str, Any] = dict(space.spaces) if isinstance(space, Dict) else {"observation": space}
    bad = [name for name, box in boxes.items() if not isinstance(box, Box)]
    if bad:
        raise UsageError(f"{id}: sense {bad[0]!r} is {boxes[bad[0]]}; supported are Box and flat Dict of Box")
    if not boxes:
        raise UsageError(f"{id}: it has no senses: its observation space is empty")
    pictures = {name: box.shape for name, box in boxes.items() if _is_picture(box)}
    if len(pictures) == len(boxes):
        raise UsageError(f"{id}: it shows images only ({pictures}); supported are senses that are vectors")
    if pictures:
        console.say(f"{id}: images are not learned from yet; ignored: {', '.join(pictures)}")
    return {name: box for name, box in boxes.items() if name not in pictures}


def _is_picture(box: Box) -> bool:
    return len(box.shape) > 1 and (box.dtype == np.uint8 or math.prod(box.shape) > LARGEST_TABLE)


def _float32(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # too large for float32 is as good as infinite
        return values.astype(np.float32, copy=False)
