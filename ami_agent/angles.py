"""Which entries of an environment's senses are angles that go round and round.

A joint without limits may be turned on and on, and its angle grows with every turn, while all is as it was before. What
is learned at one turn then holds at no other, unless it is known to be an angle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from operator import index
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np

from ami_agent.errors import UsageError

EPISODES, STEPS = 3, 20  # that are tried
EXACT = 1e-5  # how near an entry is to the joint's angle, where that is what it tells
GOALS = {"achieved_goal", "desired_goal"}  # these are compared as the environment compares them
Angles = dict[str, tuple[int, ...]]


def angles_of(
    id: str,
    world: gym.Env,
    make: Callable[[dict[str, Any]], gym.Env],
    options: dict[str, Any],
    sizes: Mapping[str, int],
) -> Angles:
    """{sense: entries} of a world: those that `metadata["angles"]` names, in radians. Where it names none, and MuJoCo
    moves the world, those that tell the angles of hinges which nothing limits or holds; for that a second world is made
    and tried at random. What fails there is found by whoever lives in the first, and no angle is.

    Args:
        make: another such world, from options.
        options: what the world was made with; the second one is not shown.
        sizes: of the senses; goals are never taken for angles.

    Raises:
        UsageError: the metadata names what is not there.
    """
    sizes = {name: size for name, size in sizes.items() if name not in GOALS}
    told = (world.unwrapped.metadata or {}).get("angles")
    if told is not None:
        return _named(id, told, sizes)
    found: Angles = {}
    with suppress(Exception, SystemExit):
        physics = _physics(world)
        if physics is not None and len(_hinges(physics.model)):
            unseen = {name: value for name, value in options.items() if name != "render_mode"}
            with closing(make(unseen)) as other:
                found = _found(other, sizes)
    return found


def _named(id: str, told: Any, sizes: Mapping[str, int]) -> Angles:
    try:
        angles = {sense: tuple(sorted({index(entry) for entry in entries})) for sense, entries in told.items()}
        there = all(0 <= entry < sizes[sense] for sense, entries in angles.items() for entry in entries)
    except (AttributeError, KeyError, TypeError):
        there = False
    if not there:
        raise UsageError(f'{id}: metadata["angles"] is {told!r}; it is {{sense: entries}}, of {dict(sizes)}')
    return {sense: entries for sense, entries in angles.items() if entries}


def _found(world: gym.Env, sizes: Mapping[str, int]) -> Angles:
    """By what is sensed in a few moments, and where the hinges are then."""
    moments = list(_moments(world))
    hinges = np.array([turned for _, turned in moments])  # (moments, hinges)
    hinges = hinges[:, np.ptp(hinges, axis=0) > 100 * EXACT]  # of others it cannot be told what tells them
    told = {name: np.array([np.ravel(seen[name]) for seen, _ in moments], np.float64) for name in sizes}
    angles = {name: _same(values, hinges) for name, values in told.items()}
    return {name: entries for name, entries in angles.items() if entries}


def _moments(world: gym.Env) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """What is sensed, and the angles of the hinges, in radians."""
    world.action_space.seed(0)
    for seed in range(EPISODES):
        seen, ended = world.reset(seed=seed)[0], False
        physics = _physics(world)
        hinges = _hinges(physics.model)
        for _ in range(STEPS):
            yield seen if isinstance(seen, dict) else {"observation": seen}, _state(physics)[hinges]
            if ended:
                break
            seen, _, terminated, truncated, _ = world.step(world.action_space.sample())
            ended = terminated or truncated


def _same(values: np.ndarray, hinges: np.ndarray) -> tuple[int, ...]:
    """Which columns of values (m, N) are some column of hinges (m, h)."""
    off = np.abs(values[:, :, None] - hinges[:, None]).max(axis=0)
    return tuple(np.flatnonzero((off < EXACT * (1 + np.abs(hinges).max(axis=0))).any(axis=1)).tolist())


def _physics(world: gym.Env) -> Any:
    """What holds MuJoCo's `model` of a world, and its `data` or, in our engine, its `batch`; None without MuJoCo."""
    own: Any = world.unwrapped
    shimmy = getattr(getattr(own, "_env", None), "physics", None)  # which keeps dm_control's environment so
    held = (getattr(own, "engine", None), shimmy, own)
    return next((one for one in held if hasattr(getattr(one, "model", None), "jnt_type")), None)


def _state(physics: Any) -> np.ndarray:
    """A copy of `qpos`."""
    return np.array(physics.batch.bind("qpos")[0] if hasattr(physics, "batch") else physics.data.qpos, np.float64)


def _hinges(model: Any) -> np.ndarray:
    """Where in `qpos` the hinges are that have no limits, springs or servos."""
    limits = np.array(model.jnt_limited).astype(bool) | (np.array(model.jnt_stiffness) != 0)
    by_joint = np.array(model.actuator_trntype) == mujoco.mjtTrn.mjTRN_JOINT
    servos = by_joint & (np.array(model.actuator_biasprm)[:, 1] != 0)
    limits[np.array(model.actuator_trnid)[servos, 0]] = True
    return np.array(model.jnt_qposadr)[(np.array(model.jnt_type) == mujoco.mjtJoint.mjJNT_HINGE) & ~limits]
