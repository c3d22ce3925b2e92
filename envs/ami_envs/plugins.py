"""Worlds of other packages: what they name under the entry point `ami_agent.envs` is imported, and registers itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import metadata

GROUP = "ami_agent.envs"


@dataclass(frozen=True)
class Plugin:
    """One entry point: its name, what it imports, the package that has it, and why it is broken, if it is."""

    name: str
    module: str
    package: str = ""
    fault: str = ""


@cache
def load_plugins() -> tuple[Plugin, ...]:
    """Import all plug-ins of this Python, once a process; one that raises is broken, and the others work."""
    try:
        points = sorted(metadata.entry_points(group=GROUP))
    except Exception as error:  # what a damaged package says of itself may be anything
        return (Plugin("?", GROUP, fault=f"an installed package is damaged: {type(error).__name__}: {error}"),)
    return tuple(_load(point) for point in points)


def _load(point: metadata.EntryPoint) -> Plugin:
    package = point.dist.name if point.dist else ""
    try:
        point.load()
        fault = ""
    except (Exception, SystemExit) as error:  # it is someone else's code
        fault = f"{type(error).__name__}: {' '.join(str(error).split())}"
        if not point.pattern.match(point.value):
            fault = f"its entry point is {point.value!r}, not the name of a module"
    return Plugin(point.name, point.value, package, fault)
