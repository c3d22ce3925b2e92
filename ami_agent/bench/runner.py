"""Running a suite: pieces in processes of their own, each kept in its file. Whatever stops it, it goes on when it is
called again: finished pieces are never run twice, one that fails is kept as failed, with its reason."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from ami_agent.bench.contenders import Contender, contender, misfit
from ami_agent.bench.piece import Facts, complete, fail, kept, read, stamp
from ami_agent.bench.process import STOPPED, Process, end_all
from ami_agent.bench.results import file_name
from ami_agent.bench.schema import DONE, FAILED, FORMAT, UNFINISHED
from ami_agent.bench.suites import Suite, Task
from ami_agent.console import progress, say
from ami_agent.environment import Environment
from ami_agent.errors import ArtefactError, LockedError, MissingError, UsageError
from ami_agent.files import plain, remove_asides, write_json
from ami_agent.memory.lock import HomeLock
from ami_agent.signals import Stop


@dataclass(frozen=True)
class Plan:
    """What is run, and where it is kept. `steps` and `cpu_seconds` let agents learn for longer than the suite says, or
    until they have had so much time; by env steps, tables read their curves where the suite ends."""

    suite: Suite
    results: Path
    scratch: Path
    steps: int | None = None
    cpu_seconds: float | None = None
    retry: bool = False  # pieces that failed
    patience: float = 3600.0  # seconds that a piece may write nothing for, or it is ended; 0 for any number
    command: tuple[str, ...] = ()  # that runs it, after `ami-agent`

    def path(self, agent: str, task: Task, seed: int) -> Path:
        return self.results / file_name(self.suite.name, agent, task.name, seed)

    def scratch_of(self, path: Path) -> Path:
        return self.scratch / path.stem

    def limits(self, who: Contender, task: Task) -> Facts:
        if not who.learns:
            return {"steps": 0, "cpu_seconds": None}
        return {"steps": self.steps or task.steps, "cpu_seconds": self.cpu_seconds}

    def fresh(self, agent: str, task: Task, seed: int) -> Facts:
        """A piece as it begins."""
        who = contender(agent)
        settings = {**task.settings, "episodes": self.suite.episodes, "config": who.config(task)}
        named = {"suite": self.suite.name, "protocol": self.suite.protocol, "agent": agent, "task": task.name}
        told = {"limits": self.limits(who, task), "command": list(self.command)}
        return {"format": FORMAT, **named, "seed": seed, "settings": plain(settings), **told, "points": []}


@dataclass
class Asked:
    """What is asked for: pieces to run, by their files, each as one would begin it; and why others are not run."""

    left: dict[Path, Facts] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)  # at their end already
    failed: dict[str, str] = field(default_factory=dict)  # before, and not to be run again
    damaged: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)  # tasks whose world is not here
    unfit: dict[str, str] = field(default_factory=dict)  # agents that a task is not for

    @property
    def nothing(self) -> bool:
        """Whether there is no piece of what is asked for, nor can be."""
        return not (self.left or self.done or self.failed or self.damaged)


@dataclass
class Told:
    """What has been said of a piece: how many of its points, by what its file held at `stamp`."""

    points: int
    stamp: tuple[int, int] | None = None


def to_do(plan: Plan, agents: Sequence[str], tasks: Sequence[Task], seeds: Sequence[int]) -> Asked:
    """What of it is not at its end, all of the first seed first.

    A task whose world is not here is left out, and said by name; so is an agent that a task is not for. Raises
    UsageError if a piece was begun with other settings, or would go on with other versions.
    """
    asked = Asked()
    fits = {task: _fits(task, agents, asked) for task in tasks}
    for seed, task, agent in itertools.product(seeds, tasks, agents):
        if agent in fits[task]:
            _ask(plan, plan.path(agent, task, seed), plan.fresh(agent, task, seed), asked)
    return asked


def _ask(plan: Plan, path: Path, fresh: Facts, asked: Asked) -> None:
    """Add a piece to what is asked for, by what its file says."""
    if path.exists():
        try:
            facts = read(path)
        except ArtefactError as error:
            say(f"left out: {error}; move it away, and it is run anew")
            asked.damaged[path.stem] = str(error)
            return
        _check_same(path, facts, fresh)
        if facts["status"] == FAILED and not plan.retry:
            asked.failed[path.stem] = str(facts.get("reason"))
            say(f"{path.stem}: failed before ({asked.failed[path.stem]}); --retry runs it again")
            return
        if _at_its_end(facts, fresh):
            asked.done.append(path.stem)
            return
        if contender(facts["agent"]).resumes:
            kept(facts, plan.scratch_of(path))
    asked.left[path] = fresh


def _fits(task: Task, agents: Sequence[str], asked: Asked) -> list[str]:
    """The agents that a task is for; none, and told why, if its world is not here."""
    try:
        environment = Environment(task.environment, 1, None, task.repeat)
    except (MissingError, UsageError) as error:
        say(f"{task.name} is left out: {error}")
        asked.missing[task.name] = str(error)
        return []
    reasons = {agent: misfit(contender(agent), task, environment) for agent in agents}
    environment.close()
    for agent, reason in reasons.items():
        if reason:
            say(f"{agent} is left out of {task.name}: {reason}")
            asked.unfit[f"{agent} on {task.name}"] = reason
    return [agent for agent, reason in reasons.items() if not reason]


def _at_its_end(facts: Facts, fresh: Facts) -> bool:
    return facts["status"] == DONE and complete(facts, fresh["limits"])


def _check_same(path: Path, facts: Facts, fresh: Facts) -> None:
    was = {"protocol": facts.get("protocol"), **facts["settings"]}
    for name, value in {"protocol": fresh["protocol"], **fresh["settings"]}.items():
        if was.get(name) != value:
            raise UsageError(
                f"{path} was made with {name} {was.get(name)}, not {value}: what differs cannot be compared; "
                "move it away, or give another --results"
            )


def run(plan: Plan, asked: Asked, jobs: int, stop: Stop) -> None:
    """Run the pieces that are left, `jobs` at once; a fault in one is kept in its file. None of them outlives this
    process. One whose file somebody else spoils meanwhile is ended, and told as damaged."""
    waiting = deque(asked.left)
    running: dict[Path, Process] = {}
    told: dict[Path, Told] = {}
    try:
        with progress(len(asked.left), plan.suite.name) as advance:
            while (waiting or running) and not stop.requested:
                _begin(plan, asked, waiting, running, told, jobs, advance)
                time.sleep(0.2)
                for path, child in list(running.items()):
                    try:
                        code = child.poll()
                        tell(path, told[path])
                        if code is None:
                            continue
                        words = "" if code == LockedError.exit_code else ended(child)
                    except ArtefactError as error:
                        end_all([child])
                        asked.damaged[path.stem] = words = str(error)
                    del running[path]
                    if words:
                        advance(1, f"{path.stem}: {words}")
                    else:
                        waiting.append(path)  # a process that was launched before came first
                        del told[path]
    finally:
        end_all(running.values())


def _begin(
    plan: Plan,
    asked: Asked,
    waiting: deque[Path],
    running: dict[Path, Process],
    told: dict[Path, Told],
    jobs: int,
    advance: Callable[..., None],
) -> None:
    """Launch pieces while there is room. One that another process has goes to the end of the line."""
    for _ in range(len(waiting)):
        if len(running) >= jobs:
            return
        path = waiting.popleft()
        try:
            launched = launch(plan, path, asked.left[path])
        except LockedError as error:
            if path not in told:
                say(f"{path.stem}: {error}; waiting for it")
            told[path] = Told(0)
            waiting.append(path)
            continue
        except ArtefactError as error:
            asked.damaged[path.stem] = str(error)
            advance(1, f"{path.stem}: {error}")
            continue
        if launched is None:
            advance(1)
        else:
            running[path], told[path] = launched


def launch(plan: Plan, path: Path, fresh: Facts) -> tuple[Process, Told] | None:
    """A process for one piece, whose points so far need not be told; None if another had it meanwhile. Raises
    LockedError while another has it."""
    scratch = plan.scratch_of(path)
    with HomeLock(scratch):
        if not prepare(path, fresh, scratch):
            return None
        told = Told(len(read(path)["points"]))
    return Process(path, scratch, plan.patience), told


def prepare(path: Path, fresh: Facts, scratch: Path | None = None) -> bool:
    """Write a piece's file, to begin or to go on in `scratch`; False if it came to its end meanwhile.

    Of one that failed the reason is kept; what had come to its end, and is to live longer from zero, is kept beside.
    """
    remove_asides(path)
    facts = read(path) if path.exists() else fresh
    if _at_its_end({"status": None, **facts}, fresh):
        return False
    now = {"status": UNFINISHED, "reason": None, "limits": fresh["limits"], "command": fresh["command"]}
    if facts.get("status") == FAILED:
        now["failures"] = [*facts.get("failures", []), str(facts["reason"])]
    if facts.get("status") == DONE and not (contender(facts["agent"]).resumes and scratch and kept(facts, scratch)):
        names = (path.with_name(f"{path.name}.before{f'-{n}' if n > 1 else ''}") for n in itertools.count(1))
        write_json(next(name for name in names if not name.exists()), facts)
    write_json(path, {**facts, **now})
    return True


def ended(child: Process) -> str:
    """How a piece's process ended; failed if it did not say itself."""
    if child.poll() in STOPPED:
        return "stopped by a signal; the same command goes on"
    if read(child.path)["status"] == UNFINISHED:
        fail(child.path, child.last_words())
    return read(child.path)["status"]


def tell(path: Path, told: Told) -> None:
    """Say what points are new. A file with films is large, and read only where it has changed."""
    now = stamp(path)
    if now == told.stamp:
        return
    facts = read(path)
    points, value = facts["points"], facts["settings"].get("metric", "return")
    for point in points[told.points :]:
        mean = fmean(point["returns"])
        success = [one for one in point["successes"] if one is not None]
        rate = f", success {sum(success) / len(success):.2f}" if success else ""
        say(
            f"{path.stem}: {point['steps']} env steps, {point['cpu_seconds']:.1f} CPU s of learning, "
            f"{value} {mean:.2f}{rate}"
        )
    told.points, told.stamp = len(points), now
