"""Worlds of other packages: what they name under the entry point `ami_agent.envs` is imported, and registers itself."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

import gymnasium as gym

from ami_envs.registry import TASKS

GROUP = "ami_agent.envs"


@dataclass(frozen=True)
class Plugin:
    """One entry point: its name, what it imports, the package that has it, and why it is broken, if it is."""

    name: str
    module: str
    package: str = ""
    fault: str = ""
    version: str = ""
    place: str = ""  # file:line of its own that the fault came up in

    def __str__(self) -> str:
        """What is broken, where, and what to do about it."""
        who = " ".join(filter(None, (self.package or self.name, self.version)))
        cure = f"; mend it, or pip uninstall {self.package}" if self.package else ""
        return f"{who} ({self.place or self.module}): {self.fault}{cure}"


@cache
def load_plugins() -> tuple[Plugin, ...]:
    """Import all plug-ins of this Python, once a process; one that raises is broken, and the others work."""
    try:
        points = sorted(metadata.entry_points(group=GROUP))
    except Exception as error:  # what a damaged package says of itself may be anything
        return (Plugin("?", GROUP, fault=f"an installed package is damaged: {type(error).__name__}: {error}"),)
    return tuple(_load(point) for point in points)


def _load(point: metadata.EntryPoint) -> Plugin:
    package, version = (point.dist.name, point.dist.version) if point.dist else ("", "")
    before = set(TASKS) | set(gym.registry)
    try:
        point.load()
        return Plugin(point.name, point.value, package, "", version)
    except (Exception, SystemExit) as error:  # it is someone else's code
        fault = f"{type(error).__name__}: {' '.join(str(error).split())}"
        if not point.pattern.match(point.value):
            return Plugin(
                point.name,
                point.value,
                package,
                f"its entry point is {point.value!r}, not the name of a module",
                version,
            )
        top = point.module.partition(".")[0]
        _take_out(top, before)
        return Plugin(point.name, point.value, package, fault, version, _place(error, top))


def _take_out(top: str, before: set[str]) -> None:
    """Forget the worlds that a module, or one of its package, registered before it raised."""
    for id in (set(TASKS) | set(gym.registry)) - before:
        made = TASKS.get(id) or gym.registry[id].entry_point
        origin = made if isinstance(made, str) else getattr(made, "__module__", "")
        if origin.partition(":")[0].partition(".")[0] == top:
            TASKS.pop(id, None)
            gym.registry.pop(id, None)


def _place(error: BaseException, top: str) -> str:
    """The file and line of a package's own code that an error came up in; nothing if it is not from there."""
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError):
        frames.append((error.filename or "", error.lineno))
    own = [(file, line) for file, line in frames if top in (Path(file).stem, *Path(file).parts[:-1])]
    return "{}:{}".format(*own[-1]) if own else ""
