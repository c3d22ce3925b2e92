"""`ami-agent bench ...`: agents x tasks x seeds, each piece in a file; what there is to compare, and with whom."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from ami_agent import console
from ami_agent.bench.results import FOLDER
from ami_agent.bench.suites import SUITES, Suite, Task, find_suite
from ami_agent.commands.common import check_range
from ami_agent.errors import ArtefactError, LockedError, MissingError, UsageError
from ami_agent.signals import graceful

if TYPE_CHECKING:
    from ami_agent.bench.runner import Asked


@dataclass(frozen=True, kw_only=True)
class List:
    """The suites there are, their tasks and agents."""

    json: bool = False
    """Print one JSON object on stdout."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """Run what is missing of a suite; called again, it goes on. The files are for `ami-agent leaderboard build`."""

    suite: str = "core-v1"
    """Of `ami-agent bench list`."""
    agents: str = "ours,sac,random"
    """Who is compared, comma-separated."""
    tasks: str = ""
    """Names or their beginnings, comma-separated; all by default."""
    seeds: str = "5"
    """Of training: how many, from 0 on, or which, comma-separated ("3," is seed 3 alone)."""
    jobs: int = 1
    """Pieces at once."""
    ray: str = ""
    """Run on a Ray cluster at this address, or with "auto" on this machine's (needs the extra `ray`)."""
    steps: int | None = None
    """Learn for as many env steps, in place of the suite's; by env steps, tables read curves where the suite ends."""
    cpu_seconds: float | None = None
    """Stop sooner, at the first point after as many CPU seconds of learning."""
    patience: float = 3600.0
    """Seconds that a piece may write nothing for, neither a point nor a checkpoint nor a line of its log; then it
    is ended, and kept as failed. 0 waits for ever."""
    retry: bool = False
    """Run failed pieces again."""
    results: Path = FOLDER
    """Where the pieces' files are."""
    scratch: Path = Path("runs/bench")
    """Where the runs and checkpoints go."""
    json: bool = False
    """Print one JSON object on stdout."""

    def __post_init__(self) -> None:
        check_range("jobs", self.jobs, 1, 1024)
        check_range("patience", self.patience, 0, 1e9)
        check_range("cpu-seconds", 1.0 if self.cpu_seconds is None else self.cpu_seconds, 1e-3, 1e9)


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Whether B is worse than A beyond chance, before a change is merged; exit code 4 if it is, or lacks a task."""

    places: tyro.conf.Positional[tuple[str, str]]
    """A and B: each FOLDER of results, whose "ours" is meant, or FOLDER:AGENT."""
    partial: bool = False
    """Let B pass, though tasks that A has cannot be compared."""
    json: bool = False
    """Print one JSON object on stdout."""


def main(config: List | Run | Compare) -> int:
    """Do what `config` asks; 0, or 4 if a comparison fails. `_tell` has what `run` ends with."""
    if isinstance(config, Compare):
        return _compare(config)
    return _list(config.json) if isinstance(config, List) else _run(config)


def _compare(config: Compare) -> int:
    from ami_agent.bench.compare import WORSE, agent_in, compare

    before, after = config.places
    was, now = agent_in(before), agent_in(after)
    found, left_out = compare(was, now)
    for side, pieces in (("A", was), ("B", now)):
        for piece in pieces:
            if not piece.counts:
                console.say(f"unfinished, and not counted, in {side}: {piece.task.name}, seed {piece.seed}")
    for told in left_out:
        console.say(f"not compared: {told}")
    worse = any(one.worse for one in found)
    fails = worse or bool(left_out and not config.partial)
    if config.json:
        suites = [
            {
                "suite": one.suite.name,
                "seeds": one.seeds,
                "gain": one.gain,
                "improvement": one.improvement,
                "p": one.p,
                "worse": one.worse,
                "tasks": {
                    change.task.name: {"before": change.before, "after": change.after, "p": change.p}
                    for change in one.changes
                },
            }
            for one in found
        ]
        console.emit({"a": before, "b": after, "worse": worse, "left_out": left_out, "suites": suites})
    else:
        print("\n".join(one.text for one in found))
        if left_out and not config.partial:
            print("not all that A has can be compared, so B does not pass; --partial lets it")
    return WORSE if fails else 0


def _list(json: bool) -> int:
    from ami_agent.bench.contenders import CONTENDERS
    from ami_agent.bench.others import load_agents

    told = {name: who.about for name, who in CONTENDERS.items()}
    for name, kind in load_agents().items():
        if name in CONTENDERS:
            told[f"{name} (plug-in)"] = "broken: the name is taken"
        else:
            told[name] = f"broken: {kind}" if isinstance(kind, str) else (kind.__doc__ or "a plug-in").splitlines()[0]
    if json:
        suites = {
            suite.name: {"about": suite.about, "protocol": suite.protocol, "tasks": [task.name for task in suite.tasks]}
            for suite in SUITES.values()
        }
        console.emit({"suites": suites, "agents": told})
        return 0
    for suite in SUITES.values():
        print(f"{suite.name} ({suite.protocol}): {suite.about}")
        for task in suite.tasks:
            print(f"  {task.name:<40}{task.ability:<12}{task.steps:>9,} env steps")
    print("agents:")
    for name, about in told.items():
        print(f"  {name:<22}{about}")
    return 0


def _run(config: Run) -> int:
    from ami_agent.bench import cluster
    from ami_agent.bench.runner import Plan, run, to_do

    suite = find_suite(config.suite)
    agents = list(dict.fromkeys(name for name in config.agents.split(",") if name))
    if not agents:
        raise UsageError("--agents names nobody; `ami-agent bench list` shows who there is")
    tasks, command = chosen(suite, config.tasks), tuple(sys.argv[1:])
    check_steps(config.steps, tasks)
    limits = config.steps, config.cpu_seconds
    plan = Plan(suite, config.results, config.scratch, *limits, config.retry, config.patience, command)
    asked = to_do(plan, agents, tasks, numbers(config.seeds))
    elsewhere: list[Path] = []
    ray = cluster.connect(config.ray) if config.ray and asked.left else None
    with graceful() as stop:
        if ray:
            elsewhere = cluster.run(plan, asked.left, ray, stop)
        else:
            run(plan, asked, config.jobs, stop)
    if stop.requested:
        console.say("stopped; the same command goes on")
        return stop.exit_code
    return _tell(config, asked, elsewhere)


def _tell(config: Run, asked: Asked, elsewhere: list[Path]) -> int:
    """What came of it, and the exit code that says so."""
    from ami_agent.bench.piece import read
    from ami_agent.bench.schema import DONE, FAILED

    run = {}
    for path in [path for path in asked.left if path not in elsewhere and path.stem not in asked.damaged]:
        try:
            run[path.stem] = read(path)
        except ArtefactError as error:
            asked.damaged[path.stem] = str(error)
    fails = {name: one["reason"] for name, one in run.items() if one["status"] == FAILED}
    failed, left_out = asked.failed | fails, asked.missing | asked.unfit
    unfinished = [name for name, one in run.items() if one["status"] not in (DONE, FAILED)]
    locked = [path.stem for path in elsewhere]
    if config.json:
        why = {"failed": failed, "damaged": asked.damaged, "left_out": left_out}
        more = {"unfinished": unfinished, "locked": locked}
        console.emit({"results": config.results, "pieces": len(run), "done_before": len(asked.done), **why, **more})
    else:
        of_them = f", {len(fails)} of them failed" if fails else ""
        print(f"{len(run)} piece{' was' if len(run) == 1 else 's were'} run{of_them}; results are in {config.results}")
        for what, which in (("failed", failed), ("damaged", asked.damaged), ("left out", left_out)):
            for name, reason in which.items():
                print(f"{what}: {name}: {reason}")
        for name in unfinished:
            print(f"unfinished: {name}; the same command goes on")
        for name in locked:
            print(f"left alone: {name}; another process is at it")
    if failed or unfinished or asked.damaged:
        return ArtefactError.exit_code
    if locked:
        return LockedError.exit_code
    if asked.nothing:
        return MissingError.exit_code if asked.missing else UsageError.exit_code
    return 0


def chosen(suite: Suite, names: str) -> list[Task]:
    """Tasks by comma-separated names or their beginnings, with or without their namespace; all by default."""
    found: dict[str, Task] = {}
    for name in [name for name in names.split(",") if name] or [""]:
        exact = [task for task in suite.tasks if name in (task.name, task.short)]
        begun = [task for task in suite.tasks if task.name.startswith(name) or task.short.startswith(name)]
        found |= {task.name: task for task in exact or begun or [suite.task(name)]}  # the last says what there is
    return list(found.values())


def numbers(text: str) -> list[int]:
    """Seeds from "5", how many, or from "0,3", which."""
    from ami_agent.bench.schema import APART, JUDGED

    most = JUDGED // APART
    try:
        words = [int(word) for word in text.split(",") if word.strip()]
        seeds = words if "," in text else list(range(min(words[0], most + 1)))
    except (ValueError, IndexError):
        seeds = []
    if not seeds or not all(0 <= seed < most for seed in seeds):
        raise UsageError(
            f'--seeds must be how many, such as 5, or which, such as "0,3", from 0 to {most - 1}, not {text!r}'
        )
    return list(dict.fromkeys(seeds))


def check_steps(steps: int | None, tasks: list[Task]) -> None:
    """Raise UsageError unless curves have a point where `steps` end."""
    every = math.lcm(*(task.every for task in tasks))
    if steps is not None and (steps < 1 or steps % every):
        raise UsageError(f"--steps must be a multiple of {every}, where all of these tasks have a point, not {steps}")
