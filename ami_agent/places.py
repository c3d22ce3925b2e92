"""A world as places to get to: where an environment says what in `observation` is the place of a body that moves about.

How to get to a place is learned once, whatever the task is. Which place to go to, memory tells.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium.spaces import Box

from ami_agent.errors import UsageError
from ami_agent.protocols import Spec


def place_of(id: str, told: Any, senses: Mapping[str, Box]) -> dict[str, Any]:
    """What `metadata["place"]` of an environment says, as the fields of `Spec`; nothing where it says nothing.

    Raises UsageError if that cannot be.
    """
    if told is None:
        return {}
    try:
        entries, near, goes = tuple(int(entry) for entry in told["entries"]), float(told["near"]), bool(told["goal"])
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f'{id}: metadata["place"] needs entries, near and goal, not {told!r}') from error
    size = math.prod(senses["observation"].shape) if "observation" in senses else 0
    if not entries or not all(0 <= entry < size for entry in entries) or not 0 < near < math.inf:
        raise UsageError(f'{id}: metadata["place"] is {told!r}; entries are of {size} in observation, near is above 0')
    goals = [senses[name].shape if name in senses else () for name in ("achieved_goal", "desired_goal")]
    if goes and goals != [(len(entries),)] * 2:
        raise UsageError(f"{id}: its goals are said to be places of {len(entries)} entries, and are of shapes {goals}")
    return {"place": entries, "near": near, "goes": goes}


def stays(told: Any) -> bool:
    """Whether what `metadata["place"]` says is that all episodes are in one place: its entry "stays"."""
    return isinstance(told, Mapping) and bool(told.get("stays", False))


def by_places(spec: Spec) -> bool:
    """Whether an environment tells the agent's place, and has goals that are something else."""
    return bool(spec.place) and spec.goals and not spec.goes


def as_places(spec: Spec) -> Spec:
    """A spec of such an environment, as one whose goals are its places; any other as it is."""
    if not by_places(spec):
        return spec
    size = (len(spec.place),)
    return replace(spec, senses={**spec.senses, "achieved_goal": size, "desired_goal": size}, goes=True)


def seen_as_places(
    observation: Mapping[str, np.ndarray], spec: Spec, goal: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """An observation, each sense (..., *shape), in which a place (..., G) is the goal: by default the one where one
    is."""
    here = observation["observation"][..., list(spec.place)]
    return {**observation, "achieved_goal": here, "desired_goal": here if goal is None else goal}
