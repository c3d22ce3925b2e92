"""`ami-agent env list|info|check`: the environments there are, and what can be said of one."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import gymnasium as gym
import tyro
from rich.text import Text

from ami_agent import console
from ami_agent.angles import angles_of
from ami_agent.commands.common import parse_options
from ami_agent.commands.env_facts import facts, fancy, overview, show_table, text
from ami_agent.environment import Environment, all_senses, find, make
from ami_agent.errors import ArtefactError, UsageError
from ami_agent.foreign.faults import close
from ami_envs.plugins import Plugin, load_plugins
from ami_envs.registry import ENGINE_OPTIONS, TASKS

if TYPE_CHECKING:
    from ami_envs.checks import Finding

T = TypeVar("T")
OURS = "ami_envs"  # the package whose worlds need no mark
SESSIONS = "yes: something stays the same over a session's episodes; reset() visits it again, as does session=k"
ENGINE_ABOUT = {
    "sensors": 'senses beside the goal\'s, e.g. ["rgb"] or {"rgb": {"size": 64}}; the world\'s own if not given',
    "threads": "of the physics, where there are many worlds; the result is the same",
    "strict": "true: refuse actions outside [-1, 1] instead of clipping them",
    "factors": 'causes of every episode: {"mass": 2.0}, or "training" or "held_out" to draw them from these ranges',
    "session": "a number: every episode is a visit of that session",
    "render_mode": '"rgb_array": render() gives a picture',
    "renderer": '"ray" needs no driver; "gl" draws shadows by OpenGL',
    "width": "of a picture, pixels",
    "height": "of a picture, pixels",
}


@dataclass(frozen=True)
class List:
    """The environments there are."""

    all: bool = False
    """Gymnasium's own, too, and those of installed packages."""
    json: bool = False
    """Print one JSON object on stdout."""


@dataclass(frozen=True)
class Info:
    """An environment's senses, actions, goal, factors and options."""

    id: tyro.conf.Positional[str]
    """Which one, e.g. ami/Push-v0, or module:namespace/Name-v0 for one that a module registers."""
    options: str = "{}"
    """What it is made with, as JSON, e.g. '{"size": 6}'."""
    json: bool = False
    """Print one JSON object on stdout."""


@dataclass(frozen=True)
class Check:
    """Prove that an environment keeps its promises; a failed check is exit code 4."""

    id: tyro.conf.Positional[str]
    """Which one, e.g. ami/Push-v0, or module:namespace/Name-v0 for one that a module registers."""
    options: str = "{}"
    """What it is made with, as JSON, e.g. '{"size": 6}'."""
    json: bool = False
    """Print one JSON object on stdout."""


def main(config: List | Info | Check) -> int:
    """Do what `config` asks; 0, or 4 if a check found a fault."""
    if isinstance(config, List):
        return _list(config)
    if isinstance(config, Info):
        return _info(config)
    return _check(config)


def _list(config: List) -> int:
    odd = [plugin for plugin in load_plugins() if plugin.fault]
    rows = []
    for id in TASKS:
        try:
            rows.append(overview(id))
        except Exception as error:  # a world may be someone else's, half written
            odd.append(Plugin(id, str(TASKS[id]), fault=f"{type(error).__name__}: {error}"))
    broken = [asdict(plugin) for plugin in odd]
    others = sorted(set(gym.registry) - set(TASKS)) if config.all else []
    if config.json:
        console.emit({"environments": rows, "broken": broken, "others": others})
        return 0
    foreign = any(row["package"] != OURS for row in rows)
    header = ["world", *(["from"] if foreign else []), "robots", "steps", "senses (if asked for)", "success"]
    show_table(header, [_cells(row, foreign) for row in rows])
    for plugin in odd:
        print(f"\nbroken: {plugin}")
    if others:
        print("\nOther environments (`ami-agent env info ID` says what one is like):")
        print("\n".join(f"  {id}" for id in others))
    return 0


def _cells(row: dict[str, Any], foreign: bool) -> list[str]:
    others = ", ".join(name for name in row["senses"] if name not in row["own_senses"])
    senses = " ".join(filter(None, (", ".join(row["own_senses"]), f"({others})" if others else "")))
    success = row["success"] + (f" (needs {row['needs']})" if row["needs"] else "")
    origin = [_origin(row["package"])] if foreign else []
    return [row["id"], *origin, ", ".join(row["robots"]), str(row["horizon"]), senses, success]


def _origin(module: str) -> str:
    """The package that a world comes from, as `pip` calls it; nothing for ours."""
    packages = {re.split("[.:]", plugin.module)[0]: plugin.package for plugin in load_plugins()}
    return "" if module == OURS else packages.get(module) or module


def _info(config: Info) -> int:
    spec = find(config.id)
    chosen = parse_options(config.options)
    asked = all_senses(spec, chosen) | chosen
    env = make(spec, asked)
    said = facts(spec, env)
    sizes = {name: one["shape"][0] for name, one in said["senses"].items() if len(one.get("shape", ())) == 1}
    for name, entries in angles_of(spec.id, env, partial(make, spec), asked, sizes).items():
        said["senses"][name]["angles"] = list(entries)
    close(env, spec.id)
    if config.json:
        console.emit(said)
    else:
        _tell(said)
    return 0


def _tell(said: dict[str, Any]) -> None:
    """An environment's facts as a page to read."""
    ours = "robot" in said
    _heading(said["environment"])
    if ours:
        print(f"{said['about']}\n")
    period, horizon = said["period"], said["horizon"]
    lines = {
        "actions": f"{text(said['actions'])}" + (f", {1 / period:g} a second" if period else ""),
        "episode": f"{text(horizon)} steps" + (f", {horizon * period:g} s" if horizon and period else ""),
        "goal": text(said["goal"]),
        "oracle": text(said["oracle"]),
    }
    if ours:
        held = f", held for {said['hold']} steps" if said["hold"] > 1 else ""
        others = [name for name in said["robots"] if name != said["robot"]]
        lines |= {
            "robot": said["robot"] + (f" (or {', '.join(others)})" if others else ""),
            "each action": said["units"],
            "success ends": f"the episode{held}",
            "reward": "0 at success, else -1" if said["reward"] == "sparse" else f"the sum of {text(said['terms'])}",
            "needs": said["needs"] or "nothing special",
            "sessions": SESSIONS if said["sessions"] else "no",
        }
    for name, line in lines.items():
        print(f"{name:<14}{line}")
    _heading("\nsenses")
    show_table(("sense", "shape", "rate", "what"), [_sense(said, name) for name in said["senses"]])
    if ours:
        _tell_choices(said)


def _sense(said: dict[str, Any], name: str) -> tuple[str, str, str, str]:
    sense = said["senses"][name]
    asked = "" if "hz" not in sense or name in said["own_senses"] else " (if asked for)"
    turned = f"angles that go round, learned from as sine and cosine: {text(sense.get('angles'))}"
    about = [sense.get("about"), turned if "angles" in sense else ""]
    return name + asked, text(sense), f"{sense['hz']:g} Hz" if "hz" in sense else "", "; ".join(filter(None, about))


def _tell_choices(said: dict[str, Any]) -> None:
    """What can be set: factors and options."""
    _heading("\nfactors: causes that can be set, with a range to learn in and one to be tested in")
    rows = [
        (name, "{:g} to {:g}".format(*one["training"]), "{:g} to {:g}".format(*one["held_out"]), one["about"])
        for name, one in said["factors"].items()
    ]
    show_table(("factor", "training", "held out", "what"), rows)
    _heading("\noptions")
    show_table(("option", "default"), [(name, repr(value)) for name, value in said["options"].items()])
    print("\nand of every world:")
    show_table(("option", "what"), [(name, ENGINE_ABOUT.get(name, "")) for name in ENGINE_OPTIONS])


def _heading(line: str) -> None:
    console.out.print(Text(line, style="bold" if fancy() else ""), soft_wrap=True)


def _quietly(findings: Iterator[T]) -> Iterator[T]:
    """The same, without the warnings that come up on the way: the findings tell what matters."""
    while True:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                finding = next(findings)
            except StopIteration:
                return
        yield finding


def _check(config: Check) -> int:
    from ami_envs.checks import examine

    spec = find(config.id)
    findings = []
    try:
        env = make(spec, parse_options(config.options))
    except UsageError as error:
        if config.options != Check.options or "--options" in str(error):  # an option is not the environment's fault
            raise
    else:
        with suppress(Exception, SystemExit):  # what it raises is found below
            env.close()
    for finding in _quietly(examine(spec.id, parse_options(config.options))):
        findings.append(finding)
        if not config.json:
            _say(finding)
    faults = sum(bool(finding.fault) for finding in findings)
    misfit = None if faults == len(findings) else _misfit(config)
    if config.json:
        told = {"faults": faults, "misfit": misfit, "findings": [asdict(one) for one in findings]}
        console.emit({"environment": spec.id, **told})
    else:
        _sum_up(spec.id, findings, faults)
        if misfit:
            print(f"but the agent cannot live there: {misfit}")
    return ArtefactError.exit_code if faults else 0


def _misfit(config: Check) -> str | None:
    """Why the agent cannot live in an environment, whatever that promises; None if it can."""
    try:
        Environment(config.id, 1, parse_options(config.options)).close()
    except UsageError as error:
        return str(error)
    return None


def _say(finding: Finding) -> None:
    mark = "FAULT" if finding.fault else "-" if finding.waits_for else "ok"
    print(f"{mark:<7}{finding.promise}")
    if finding.fault:
        print(f"{'':<7}found: {' '.join(finding.fault.split())}\n{'':<7}cure: {finding.cure}")
    sys.stdout.flush()  # checks take seconds each


def _sum_up(id: str, findings: list[Finding], faults: int) -> None:
    waiting = sum(bool(finding.waits_for) for finding in findings)
    if faults == len(findings):
        print(f"{id} does not work yet; its other promises could not be tried")
        return
    print(f"{id} keeps {len(findings) - faults - waiting} of {len(findings)} promises")
    if waiting:
        print(f"{waiting} (-) cannot be tried before the faults above are mended: then check again")
