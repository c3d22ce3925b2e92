"""Which entries of an environment's senses are angles that go round and round.

A joint without limits may be turned on and on, and its angle grows with every turn, while all is as it was before. What
is learned at one turn then holds at no other, unless it is known to be an angle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

import gymnasium as gym
import numpy as np

from ami_agent.errors import UsageError

HINGE = 3  # MuJoCo's mjJNT_HINGE
EPISODES, STEPS = 3, 4  # that are tried
EXACT = 1e-5  # how near an entry is to the joint's angle, where that is what it tells
Angles = dict[str, tuple[int, ...]]


def angles_of(id: str, world: gym.Env, make: Callable[[], gym.Env], sizes: Mapping[str, int]) -> Angles:
    """{sense: entries} of a world: those that `metadata["angles"]` names, in radians; or, where MuJoCo moves it, those
    that tell the angles of hinges without limits, which a second world is made and tried for.

    Args:
        sizes: of the senses.

    Raises:
        UsageError: the metadata names what is not there.
    """
    told = (world.unwrapped.metadata or {}).get("angles")
    if told is not None:
        return _named(id, told, sizes)
    if not len(_hinges(world)):
        return {}
    try:
        with closing(make()) as other:
            return _found(other, sizes)
    except (Exception, SystemExit):
        return {}  # there may be one only, or it fails: who lives in the first is told of its faults


def _named(id: str, told: Any, sizes: Mapping[str, int]) -> Angles:
    try:
        angles = {str(sense): tuple(sorted({int(entry) for entry in entries})) for sense, entries in told.items()}
    except (AttributeError, TypeError, ValueError):
        angles = {"": ()}
    if not all(sense in sizes and all(0 <= entry < sizes[sense] for entry in angles[sense]) for sense in angles):
        raise UsageError(f'{id}: metadata["angles"] is {told!r}; it is {{sense: entries}}, of {dict(sizes)}')
    return angles


def _found(world: gym.Env, sizes: Mapping[str, int]) -> Angles:
    """By what is sensed in a few moments, and where the hinges are then."""
    world.action_space.seed(0)
    turned, seen = [], []
    for seed in range(EPISODES):
        moment = world.reset(seed=seed)[0]
        for _ in range(STEPS):
            turned.append(_hinges(world))
            seen.append(moment if isinstance(moment, dict) else {"observation": moment})
            seen[-1] = {name: np.array(seen[-1][name], np.float64).ravel() for name in sizes}
            moment = world.step(world.action_space.sample())[0]
    hinges = np.array(turned)  # (moments, hinges)
    hinges = hinges[:, np.ptp(hinges, axis=0) > 100 * EXACT]  # of others it cannot be told what tells them
    angles = {name: _same(np.array([moment[name] for moment in seen]), hinges) for name in sizes}
    return {name: entries for name, entries in angles.items() if entries}


def _same(values: np.ndarray, hinges: np.ndarray) -> tuple[int, ...]:
    """Which columns of values (m, N) are some column of hinges (m, h)."""
    off = np.abs(values[:, :, None] - hinges[:, None]).max(axis=0)
    return tuple(np.flatnonzero((off < EXACT * (1 + np.abs(hinges).max(axis=0))).any(axis=1)).tolist())


def _hinges(world: gym.Env) -> np.ndarray:
    """The angles of a world's hinges without limits, in radians; none if no MuJoCo is seen behind it."""
    own: Any = world.unwrapped
    physics = getattr(getattr(own, "_env", None), "physics", own)  # Shimmy keeps dm_control's environment so
    model, data = getattr(physics, "model", None), getattr(physics, "data", None)
    try:
        free = (np.array(model.jnt_type) == HINGE) & (np.array(model.jnt_limited) == 0)  # type: ignore[union-attr]
        return np.array(data.qpos, np.float64)[np.array(model.jnt_qposadr)[free]]  # type: ignore[union-attr]
    except (AttributeError, IndexError, TypeError, ValueError):
        return np.empty(0)
