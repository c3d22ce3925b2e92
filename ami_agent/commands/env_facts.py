"""What can be said of an environment, as plain values, and tables of such values."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ami_agent import console
from ami_agent.environment import control_period
from ami_envs.core import LIMIT, WorldEnv
from ami_envs.registry import is_ours, load, options
from ami_envs.robots import ROBOTS, Manipulator
from ami_envs.senses import offered
from ami_envs.task import TabletopTask, Task


def overview(id: str) -> dict[str, Any]:
    """A world of ours in a row of the list."""
    task = load(id)
    return {
        "id": id,
        "package": task.__module__.partition(".")[0],
        "robots": robots(task),
        "horizon": task.max_episode_steps,
        "senses": offered(task),
        "own_senses": task.senses,
        "needs": task.needs,
        "success": first_sentence(task).removeprefix("Success: "),
    }


def robots(task: type[Task]) -> list[str]:
    """The robots that a task can be made with, its own first."""
    names = [name for name, kind in ROBOTS.items() if kind is task.robot] or [task.robot.__name__.lower()]
    if issubclass(task, TabletopTask) and "robot" in inspect.signature(task).parameters:
        names += [name for name, kind in ROBOTS.items() if issubclass(kind, Manipulator) and name not in names]
    return names


def first_sentence(thing: Any) -> str:
    """The first sentence of what is written at the head of a class, without its full stop."""
    paragraph = " ".join(inspect.cleandoc(thing.__doc__ or "").split("\n\n")[0].split())
    return paragraph.partition(". ")[0].rstrip(".")


def units(robot: type) -> str:
    """What a robot's class, or the one that it is a kind of, says of its actions in one paragraph."""
    for kind in robot.__mro__:
        for paragraph in inspect.cleandoc(kind.__dict__.get("__doc__") or "").split("\n\n"):
            if found := re.match(r"Actions \(\d+\): (.*)", " ".join(paragraph.split())):
                return found[1].rstrip(".")
    return "see the robot's class"


def facts(spec: EnvSpec, env: gym.Env) -> dict[str, Any]:
    """All that can be said of an environment, as plain JSON values."""
    space = env.observation_space
    senses = space.spaces if isinstance(space, gym.spaces.Dict) else {"observation": space}
    said: dict[str, Any] = {
        "environment": spec.id,
        "horizon": env.spec.max_episode_steps if env.spec else None,
        "period": control_period(env.unwrapped) or None,
        "actions": _space(env.action_space),
        "senses": {name: _space(sense) for name, sense in senses.items()},
        "goal": _space(senses["desired_goal"]) if "desired_goal" in senses else None,
        "oracle": hasattr(env.unwrapped, "oracle"),
    }
    if is_ours(spec):
        engine: WorldEnv = env.unwrapped.engine  # type: ignore[attr-defined]
        said |= _facts_of_ours(spec.id, engine)
        for name, one in engine.readings.items():
            said["senses"][name] |= {
                "hz": 1 / (engine.period * one.sensor.every),
                "delay": one.sensor.delay,
                "about": first_sentence(type(one.sensor)),
            }
    return said


def _facts_of_ours(id: str, engine: WorldEnv) -> dict[str, Any]:
    task, factors = engine.task, engine.causes.factors
    return {
        "package": type(task).__module__.partition(".")[0],
        "robot": type(engine.robot).__name__.lower(),
        "robots": robots(type(task)),
        "units": units(type(engine.robot)),
        "own_senses": task.senses,
        "needs": task.needs,
        "sessions": task.sessions,
        "place": {"entries": task.place, "near": task.near, "goal": task.goes} if task.place else None,
        "hold": task.hold,
        "things": task.things,
        "reward": task.reward_type,
        "terms": _terms(engine),
        "factors": {
            name: {
                "training": one.training,
                "held_out": one.held_out,
                "shape": list(np.shape(one.default)),
                "about": one.about,
            }
            for name, one in factors.items()
        },
        "options": options(id),
        "about": inspect.cleandoc(task.__doc__ or ""),
    }


def _terms(engine: WorldEnv) -> list[str]:
    """The names of the dense reward's terms; none where the task cannot say."""
    with suppress(Exception):  # it may be someone else's, half written
        seen = engine.reset(seeds=[0] * engine.n)
        return list(engine.task.terms(seen["achieved_goal"], seen["desired_goal"], seen["observation"]))
    return []


def _space(space: gym.Space) -> dict[str, Any]:
    if not isinstance(space, gym.spaces.Box):
        return {"kind": str(space)}
    low, high = float(space.low.min()), float(space.high.max())
    bounds = [low, high] if max(-low, high) < LIMIT else None  # a working world comes nowhere near the limit
    return {"shape": list(space.shape), "dtype": str(space.dtype), "bounds": bounds}


def text(value: Any) -> str:
    """A fact as a person reads it."""
    if isinstance(value, dict) and "kind" in value:
        return value["kind"]
    if isinstance(value, dict):
        bounds = " in [{:g}, {:g}]".format(*value["bounds"]) if value["bounds"] else ""
        return f"{tuple(value['shape'])} {value['dtype']}{bounds}"
    if isinstance(value, (tuple, list)):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def fancy() -> bool:
    """Whether stdout is a terminal that may be written to in colours."""
    return console.out.is_terminal and not os.environ.get("NO_COLOR")


def show_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under a header: wrapped at a terminal's width, or where COLUMNS says; else a line each."""
    colours = fancy()
    columns = os.environ.get("COLUMNS", "")
    if console.out.is_terminal or columns.isdigit():
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold" if colours else "")
        for i, name in enumerate(header):
            table.add_column(name, style="cyan" if i == 0 and colours else "", no_wrap=i == 0)
        for row in rows:
            table.add_row(*map(Text, row))
        wide = int(columns) if columns.isdigit() else console.out.width
        plain = Console(file=sys.stdout, width=max(wide, 1), color_system=None, highlight=False)
        if colours:
            console.out.print(table)
            return
        with plain.capture() as capture:
            plain.print(table)
        print("\n".join(line.rstrip() for line in capture.get().splitlines()))
        return
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
