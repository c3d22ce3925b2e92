"""A piece of a benchmark: an agent on a task with a seed, in a file of its own that is written anew, whole, after every
point of its curve. The runner writes it first; a process of its own then learns, and is judged, to its end."""

from __future__ import annotations

import json
import time
from importlib import metadata
from pathlib import Path
from statistics import fmean
from typing import Any, cast

import numpy as np

from ami_agent.bench.judge import films, judged
from ami_agent.bench.schema import DONE, FAILED, evaluation_seeds
from ami_agent.bench.suites import ACCURACY
from ami_agent.bench.surprise import Expecting, discerned
from ami_agent.environment import Environment
from ami_agent.errors import ArtefactError, UsageError
from ami_agent.files import write_json
from ami_agent.protocols import Agent
from ami_agent.runs import Run, git_commit
from ami_agent.signals import Stop

OTHERS = ("stable-baselines3", "dm-control", "shimmy")  # packages that results depend on, too
Facts = dict[str, Any]


def read(path: Path) -> Facts:
    """A piece's file. Raises ArtefactError if it is damaged."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        needed = [facts[name] for name in ("agent", "task", "seed", "settings", "status")]
        needed += [point[name] for point in facts["points"] for name in ("steps", "cpu_seconds", "successes")]
        needed += [fmean(point["returns"]) for point in facts["points"]]
        return {**facts, "points": list(facts["points"]), "settings": {**facts["settings"]}}
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ArtefactError(f"{path} is damaged: {type(error).__name__}: {error}") from error


def stamp(path: Path) -> tuple[int, int]:
    """When a piece's file was changed last (ns), and its size (bytes). Raises ArtefactError if it is gone."""
    try:
        found = path.stat()
    except OSError as error:
        raise ArtefactError(f"{path} is gone: {error.strerror}") from error
    return found.st_mtime_ns, found.st_size


def reached(facts: Facts, steps: int, cpu: float) -> bool:
    """Whether a piece has learned for as long as its limits say."""
    limits = facts["limits"]
    return steps >= limits["steps"] or (limits["cpu_seconds"] is not None and cpu >= limits["cpu_seconds"])


def complete(facts: Facts, limits: Facts) -> bool:
    """Whether a piece has got as far as `limits`."""
    last = facts["points"][-1] if facts["points"] else None
    return last is not None and reached({"limits": limits}, last["steps"], last["cpu_seconds"])


def kept(facts: Facts, scratch: Path) -> Path | None:
    """The folder of the run that a piece was in, if it has a checkpoint to go on from.

    Raises UsageError if it was made with other versions than those that are here.
    """
    folder = scratch / str(facts.get("run"))
    if not (folder / "run.json").is_file() or not any((folder / "checkpoints").glob("ckpt-*")):
        return None
    here = {name: _version(name) for name in facts["versions"]}
    other = [f"{name} {was}, here {here[name]}" for name, was in facts["versions"].items() if here[name] != was]
    if other:
        name = f"{facts['agent']} on {facts['task']}, seed {facts['seed']},"
        cure = "install those versions again, or move its file away, and it begins from zero"
        raise UsageError(f"{name} cannot go on, it was made with {'; '.join(other)}: {cure}")
    return folder


class OpenPiece:
    """A piece while it is run: its file, its clock, and the worlds it is judged in."""

    def __init__(self, path: Path, scratch: Path, stop: Stop, at_once: int | None = None) -> None:
        self.path, self.scratch, self.stop, self.facts = path, scratch, stop, read(path)
        self.seed, self.settings = self.facts["seed"], self.facts["settings"]
        self.environment, self.repeat = self.settings["environment"], self.settings["repeat"]
        self.every, self.perceives = self.settings["every"], self.settings.get("metric") == ACCURACY
        self.options: dict[str, Any] = json.loads(self.settings["options"])
        self.judged_options = self.options | json.loads(self.settings["judged"])
        self.seeds = evaluation_seeds(self.seed, self.settings["episodes"])
        self.judge = Environment(self.environment, at_once or len(self.seeds), self.judged_options, self.repeat)
        self._learned = np.zeros(2)  # CPU and wall seconds of learning before `_since`
        self._since = _now()

    @property
    def complete(self) -> bool:
        return complete(self.facts, self.facts["limits"])

    def begin(self) -> Run:
        """From nothing, in a new folder."""
        run = Run.create(self.scratch, "bench", self.environment, self.facts["agent"], self.seed, self.settings)
        others = {name: _version(name) for name in OTHERS}
        told = {name: run.info[name] for name in ("start", "python", "hardware")}
        told |= {"versions": run.info["versions"] | others, "commits": [git_commit()], "run": run.folder.name}
        seeds = [self.seeds.start, self.seeds.stop - 1]
        self.facts |= {**told, "points": [], "learned": [0.0, 0.0], "evaluation_seeds": seeds, "checkpoint": None}
        self._tick()
        return run

    def resume(self) -> Run | None:
        """The run that was interrupted, if it has a checkpoint. Raises UsageError if other versions made it."""
        folder = kept(self.facts, self.scratch)
        if folder is None:
            return None
        self._learned = np.array(self.facts["learned"])
        self.facts["commits"] = list(dict.fromkeys([*self.facts["commits"], git_commit()]))
        self._tick()
        return Run.open(folder, resume=True)

    def learned(self, begun: bool = True) -> None:
        """Write down how long learning took, so that what is now safe in a checkpoint keeps its price.

        What passed before it has begun, in setting up, does not count.
        """
        self._learned += (_now() - self._since) * begun
        self._tick()
        self.facts["learned"] = self._learned.tolist()
        write_json(self.path, self.facts)

    def point(self, steps: int, agent: Agent, prior: Agent | None = None) -> bool:
        """Judge the agent after `steps` env steps, at the last point its policy prior too; whether to go on learning.

        The clock of learning stands still meanwhile; it starts with the first point.
        """
        self.learned(begun=steps > 0)
        cpu, wall = self._learned.tolist()
        point = {"steps": steps, "decisions": steps // self.repeat, "cpu_seconds": cpu, "wall_seconds": wall}
        last = reached(self.facts, steps, cpu)
        if self.perceives:
            told: Facts = discerned(self.judge, cast(Expecting, agent), self.seeds, self.stop)
        else:
            told = self._lived(agent, prior, last)
        self.facts["points"].append(point | told)
        write_json(self.path, self.facts)
        self._tick()
        return not last

    def _lived(self, agent: Agent, prior: Agent | None, last: bool) -> Facts:
        """How the agent does by acting; at the last point its prior, too, and for the first seed films."""
        lists, episodes = judged(self.judge, agent, self.seeds, self.stop)
        told: Facts = {**lists}
        if last and prior is not None:
            told["prior"] = judged(self.judge, prior, self.seeds, self.stop)[0]
        if last and self.seed == 0:
            period = self.judge.spec.control_period
            self.facts["films"] = films(episodes, self.judged_options, self.environment, period)
        return told

    def on_the_way(self, steps: int, agent: Agent) -> bool:
        """As it learns: judge the agent if a point is due after `steps` env steps; whether to go on."""
        due = steps // self.every > self.facts["points"][-1]["steps"] // self.every
        return not self.stop.requested and (self.point(steps, agent) if due else not self.complete)

    def finish(self, run: Run) -> None:
        """Only now is it done: after the last point a kill may still come before its checkpoint is kept."""
        self.facts["status"] = DONE
        write_json(self.path, self.facts)
        run.finish("done")

    def _tick(self) -> None:
        self._since = _now()


def fail(path: Path, reason: str) -> None:
    """Keep a piece as failed, with what it got to."""
    write_json(path, {**read(path), "status": FAILED, "reason": reason})


def _now() -> np.ndarray:
    return np.array([time.process_time(), time.monotonic()])


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
