"""What a piece of the benchmark measured, as its file tells it: read with suspicion, for it may come from anybody.

A piece is an agent on a task with a training seed, one JSON file a piece. Nothing in it is believed that follows from
its episodes: means, scores and ranks are computed here and in `standings`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ami_agent.bench.schema import EPISODES, FAILED, UNFINISHED, RefusedResult, faults_of, parse, visible
from ami_agent.bench.suites import SUITES, Suite, Task
from ami_agent.errors import UsageError

FOLDER = Path("results")  # where pieces are kept, in the folder that one works in
LATE = 1.02  # points up to this much beyond a task's env steps count: several worlds end a stretch a little late


@dataclass(frozen=True)
class Judged:
    """Episodes at one point of a curve, an entry an episode; void ones, whose physics failed, are missing."""

    seeds: tuple[int, ...]
    returns: tuple[float, ...]
    successes: tuple[bool | None, ...]  # at any time
    final_successes: tuple[bool | None, ...]  # at the last step
    costs: tuple[float, ...]
    lengths: tuple[int, ...]  # decisions

    def values(self, task: Task) -> Sequence[float]:
        """Of the task's metric, one an episode."""
        return [float(bool(told)) for told in self.successes] if task.metric == "success" else self.returns

    def value(self, task: Task, episodes: int) -> float:
        """Mean of the task's metric over as many episodes; void ones have the value of the floor."""
        values = self.values(task)
        return (sum(values) + (episodes - len(values)) * task.floor) / episodes


@dataclass(frozen=True)
class Point:
    steps: int  # env steps learned
    cpu_seconds: float
    wall_seconds: float
    judged: Judged
    prior: Judged | None = None  # the policy prior alone, with the same weights on the same episodes


@dataclass(frozen=True)
class Piece:
    """An agent on a task with a training seed."""

    suite: Suite
    task: Task
    agent: str
    seed: int
    status: str  # unfinished, done, failed
    reason: str = ""
    points: tuple[Point, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    hardware: dict[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    commits: tuple[str, ...] = ()
    films: dict[str, tuple[int, str]] = field(default_factory=dict)  # best, median, worst: seed, GIF as base64
    path: Path = Path()

    @property
    def key(self) -> tuple[str, str, str, int]:
        return self.suite.name, self.agent, self.task.name, self.seed

    @property
    def counts(self) -> bool:
        """Whether it is at its end; what failed is, too."""
        return self.status != UNFINISHED

    @property
    def failed(self) -> bool:
        return self.status == FAILED

    @property
    def learns(self) -> bool:
        return any(point.steps for point in self.points)

    def along(self, axis: str) -> tuple[Point, ...]:
        """The points that count: by `steps` those within the task's env steps, by `cpu_seconds` all."""
        if axis != "steps":
            return self.points
        return tuple(point for point in self.points if point.steps <= self.task.steps * LATE)

    def at(self, limit: float = math.inf, axis: str = "steps") -> Point | None:
        """The last of them within a limit, too; None where a fault left none."""
        return next((point for point in reversed(self.along(axis)) if getattr(point, axis) <= limit), None)

    def value(self, limit: float = math.inf, axis: str = "steps") -> float:
        """Of the task's metric at that point, or by `cpu_seconds` on the straight line between the points around that
        limit; the floor where there is none."""
        points = self.along(axis)
        if axis == "steps":
            points = () if (last := self.at(limit)) is None else (last,)
        if not points:
            return self.task.floor
        values = [point.judged.value(self.task, self.suite.episodes) for point in points]
        return float(np.interp(limit, [getattr(point, axis) for point in points], values))

    @property
    def harmful(self) -> float:
        """The share of episodes with a cost at the last point; 0 where there is none."""
        point = self.at()
        return 0.0 if point is None else sum(cost > 0 for cost in point.judged.costs) / len(point.judged.costs)

    def score(self, limit: float = math.inf, axis: str = "steps") -> float:
        return self.task.score(self.value(limit, axis))

    @property
    def mujoco(self) -> str:
        return self.versions.get("mujoco", "")

    @property
    def machine(self) -> str:
        """Processor and GPU, as far as they are told."""
        told = {name: self.hardware[name] for name in ("processor", "gpu") if name in self.hardware}
        if "processor" in told:
            cores = self.hardware.get("cores", "?")
            told["processor"] += f", {cores} core{'s' * (cores != '1')}"
        return "; ".join(told.values())


def seeds_told(seeds: Sequence[int]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def by_seeds(pieces: Iterable[Piece]) -> dict[str, list[str]]:
    """The tasks that pieces are of, by which of their seeds: {"seeds 0, 1": ["Reach-v0", "Push-v0"]}."""
    seeds: dict[str, list[int]] = {}
    for piece in pieces:
        seeds.setdefault(piece.task.short, []).append(piece.seed)
    tasks: dict[str, list[str]] = {}
    for task, found in seeds.items():
        tasks.setdefault(seeds_told(found), []).append(task)
    return tasks


@dataclass(frozen=True)
class Loaded:
    """What was found: pieces that are well, and all that is wrong with the others, by file."""

    pieces: list[Piece]
    faults: dict[Path, list[str]]


def file_name(suite: str, agent: str, task: str, seed: int) -> str:
    """What the file of a piece is called: `core-v1--ours--ami-Reach-v0--3.json`."""
    return f"{suite}--{agent}--{re.sub(r'[^A-Za-z0-9._-]', '-', task)}--{seed}.json"


def read(path: Path) -> Piece:
    """One piece. Raises RefusedResult with all that is wrong with its file."""
    facts = parse(path)
    if faults := faults_of(facts):
        raise RefusedResult(path, faults)
    suite = SUITES[facts["suite"]]
    versions = {"python": facts.get("python"), **facts.get("versions", {})}
    films = {name: (film["seed"], film["gif"]) for name, film in (facts.get("films") or {}).items()}
    return Piece(
        suite,
        suite.task(facts["task"]),
        facts["agent"],
        facts["seed"],
        facts["status"],
        visible(facts.get("reason") or ""),
        tuple(_point(one) for one in facts["points"]),
        facts.get("settings") or {},
        {visible(name): visible(version) for name, version in versions.items() if version},
        {visible(name): visible(str(fact)) for name, fact in facts.get("hardware", {}).items() if fact is not None},
        tuple(map(visible, facts.get("command", ()))),
        tuple(visible(commit) for commit in facts.get("commits", ()) if commit),
        films,
        path,
    )


def _point(facts: dict[str, Any]) -> Point:
    prior = _judged(facts["prior"]) if "prior" in facts else None
    return Point(facts["steps"], facts["cpu_seconds"], facts["wall_seconds"], _judged(facts), prior)


def _judged(facts: dict[str, Any]) -> Judged:
    return Judged(*(tuple(facts[name]) for name in EPISODES))


def files_of(paths: Iterable[Path]) -> list[Path]:
    """The files among `paths`, and the *.json of folders among them. Raises UsageError for what is not there."""
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            found |= dict.fromkeys(sorted(path.glob("*.json")))
        elif path.exists():
            found[path] = None
        else:
            raise UsageError(f"{path} is not there; give files of results, or folders of them")
    return list(found)


def load(paths: Sequence[Path]) -> Loaded:
    """All pieces of these files and folders; one that is there twice is a fault of the second."""
    loaded = Loaded([], {})
    first: dict[tuple[str, str, str, int], Path] = {}
    for path in files_of(paths):
        try:
            piece = read(path)
        except RefusedResult as error:
            loaded.faults[path] = error.faults
            continue
        if piece.key in first:
            loaded.faults[path] = [f"the same suite, agent, task and seed as {first[piece.key]}; keep one of them"]
        else:
            first[piece.key] = path
            loaded.pieces.append(piece)
    return loaded
