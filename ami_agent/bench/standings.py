"""From pieces to standings: who scores what, on what, after how much experience, and how sure that is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from statistics import median

import numpy as np

from ami_agent.bench.names import CEILINGS, FLOORS, OURS, SB3, called
from ami_agent.bench.results import LATE, Piece, seeds_told
from ami_agent.bench.suites import SUITES, Suite, Task
from ami_agent.evaluation.statistics import alike, difference_of_means, interquartile_mean, stratified_bootstrap

CLAIM, HEADLINE = 5, 10  # seeds that a claim needs, and a headline
REASON = 300  # characters of why a piece failed
SHORT = 0.98  # of a task's env steps: who learned for less is said to


@dataclass(frozen=True)
class Estimate:
    """An interquartile mean and its 95 % interval, which runs of one seed alone do not give."""

    mean: float
    low: float | None
    high: float | None

    @classmethod
    def of(cls, strata: Sequence[Sequence[float]]) -> Estimate:
        """Of ``strata[task][run]``, by stratified bootstrap; see `alike`."""
        equal = alike(strata)
        mean = interquartile_mean(np.concatenate(equal))
        if len(equal[0]) < 2:
            return cls(mean, None, None)
        return cls(mean, *stratified_bootstrap([[*runs[:, None]] for runs in equal]))


@dataclass(frozen=True)
class Entry:
    """An agent on a task: its pieces that are at their end, by seed."""

    task: Task
    pieces: tuple[Piece, ...]

    @property
    def measured(self) -> bool:
        """Whether any of its pieces got to a point."""
        return any(piece.points for piece in self.pieces)

    @property
    def seeds(self) -> list[int]:
        return [piece.seed for piece in self.pieces]

    def scores(self, limit: float = np.inf, axis: str = "steps") -> list[float]:
        return [piece.score(limit, axis) for piece in self.pieces]

    @cached_property
    def score(self) -> Estimate:
        return Estimate.of([self.scores()])

    @cached_property
    def value(self) -> Estimate:
        """In the task's metric: score is a straight line of it."""
        width = self.task.reference - self.task.floor
        bounds = (self.score.mean, self.score.low, self.score.high)
        return Estimate(*(None if s is None else self.task.floor + s * width for s in bounds))  # type: ignore[arg-type]

    @property
    def harmful(self) -> float:
        """The share of episodes with a cost, interquartile mean over seeds."""
        return interquartile_mean([piece.harmful for piece in self.pieces])

    def spent(self, name: str, limit: float = np.inf, axis: str = "steps") -> float:
        """Median over seeds of `steps`, `cpu_seconds` or `wall_seconds` at the point that is judged."""
        points = [piece.at(limit, axis) for piece in self.pieces]
        return median(getattr(point, name) for point in points if point) if any(points) else 0.0

    def reached(self, axis: str = "steps") -> float:
        """How far all of its pieces learned that did not fail; infinite for those that do not learn."""
        points = [piece.at(axis=axis) for piece in self.pieces if piece.learns and not piece.failed]
        return min((getattr(point, axis) for point in points if point), default=np.inf)


@dataclass(frozen=True)
class Row:
    """An agent in a suite."""

    agent: str
    entries: dict[str, Entry]  # by name of task
    rank: int | None = None
    over: tuple[str, ...] = ()  # the tasks that ranks are over, if it has one

    @property
    def name(self) -> str:
        return called(self.agent)

    @property
    def pieces(self) -> list[Piece]:
        return [piece for entry in self.entries.values() for piece in entry.pieces]

    @property
    def role(self) -> str:
        return "floor" if self.agent in FLOORS else "ceiling" if self.agent in CEILINGS else "agent"

    @property
    def seeds(self) -> tuple[int, int]:
        """The fewest and the most of a task."""
        counts = [len(entry.pieces) for entry in self.entries.values()]
        return min(counts), max(counts)

    @property
    def few(self) -> bool:
        return self.role == "agent" and self.seeds[0] < CLAIM

    @cached_property
    def overall(self) -> Estimate:
        """Over the tasks that ranks are over or, without a rank, over its own."""
        return Estimate.of([self.entries[name].scores() for name in self.over or self.entries])

    @cached_property
    def abilities(self) -> dict[str, Estimate]:
        found: dict[str, list[list[float]]] = {}
        for entry in self.entries.values():
            found.setdefault(entry.task.ability, []).append(entry.scores())
        return {ability: Estimate.of(strata) for ability, strata in found.items()}

    def spent(self, name: str) -> float:
        """Of one seed over all its tasks."""
        return sum(entry.spent(name) for entry in self.entries.values())


@dataclass(frozen=True)
class Gain:
    """Ours against an agent of Stable-Baselines3 in an ability, over the tasks that both have, at equal env steps."""

    ability: str
    rival: str
    tasks: int
    ours: float
    theirs: float
    mean: float
    low: float | None
    high: float | None
    seeds: int  # the fewest of a task, of either

    @property
    def sentence(self) -> str:
        ours, rival = f"Ours scores {self.ours:.2f}", called(self.rival)
        told = f"{ours}, {rival} {self.theirs:.2f}, over {self.tasks} task{'s' * (self.tasks > 1)}"
        interval = "; one seed gives no interval"
        if self.low is not None and self.high is not None:
            interval = f"; the difference is {self.mean:+.2f} ({self.low:+.2f} to {self.high:+.2f})"
        few = f" Only {self.seeds} seed{'s' * (self.seeds > 1)}: no ground for a claim." if self.seeds < CLAIM else ""
        return f"{self._verdict}. {told}{interval}.{few}".replace(" -", " \N{MINUS SIGN}").replace(
            "(-", "(\N{MINUS SIGN}"
        )

    @property
    def leads(self) -> bool:
        return self.mean > 0

    @property
    def known(self) -> bool:
        """Whether the difference is beyond chance."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    @property
    def _verdict(self) -> str:
        if self.mean == 0:
            return "Ours does not lead: both are level"
        chance = "" if self.known else ", by one seed" if self.low is None else ", within chance"
        return ("Ours leads" if self.leads else "Ours does not lead") + chance


@dataclass(frozen=True)
class Group:
    """Rows that may be ranked together: every task was measured with one version of MuJoCo."""

    label: str
    rows: tuple[Row, ...]
    tasks: tuple[Task, ...]  # those that ranks are over


@dataclass(frozen=True)
class Standing:
    """One suite's."""

    suite: Suite
    groups: tuple[Group, ...]
    gains: tuple[Gain, ...]  # of the first group
    notes: tuple[str, ...]

    @property
    def rows(self) -> tuple[Row, ...]:
        """Of the first group, whose MuJoCo most have."""
        return self.groups[0].rows if self.groups else ()


def standings(pieces: Iterable[Piece]) -> list[Standing]:
    """By suite, in the order in which suites are listed; a suite without a piece at its end has no groups."""
    by_suite: dict[str, list[Piece]] = {}
    for piece in sorted(pieces, key=lambda piece: (piece.agent, piece.task.name, piece.seed)):
        by_suite.setdefault(piece.suite.name, []).append(piece)
    return [_standing(by_suite[name]) for name in SUITES if name in by_suite]


def _standing(pieces: list[Piece]) -> Standing:
    suite, counted = pieces[0].suite, [piece for piece in pieces if piece.counts]
    usual = _usual(counted)
    split: dict[str, list[Piece]] = {}
    for piece in counted:
        other = piece.mujoco and piece.mujoco != usual.get(piece.task.name)
        split.setdefault(piece.mujoco if other else "", []).append(piece)
    groups = tuple(_group(suite, split[label]) for label in sorted(split))
    gains = tuple(_gains(suite, groups[0].rows)) if groups else ()
    return Standing(suite, groups, gains, tuple(_notes(suite, pieces, groups)))


def _usual(pieces: list[Piece]) -> dict[str, str]:
    """Of each task, the MuJoCo that most agents have there, the newer of two alike."""
    agents: dict[str, Counter[str]] = {}
    for task, mujoco, _ in {(piece.task.name, piece.mujoco, piece.agent) for piece in pieces if piece.mujoco}:
        agents.setdefault(task, Counter())[mujoco] += 1
    return {task: max(found, key=lambda v: (found[v], _parts(v))) for task, found in agents.items()}


def _parts(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d{1,9}", version)]


def _group(suite: Suite, pieces: list[Piece]) -> Group:
    """Ranks are over the most tasks that two agents share; who lacks one of those is shown without a rank."""
    by_agent: dict[str, dict[str, list[Piece]]] = {}
    for piece in pieces:
        by_agent.setdefault(piece.agent, {}).setdefault(piece.task.name, []).append(piece)
    rows = []
    for agent, found in by_agent.items():
        entries = {task.name: Entry(task, tuple(found[task.name])) for task in suite.tasks if task.name in found}
        rows.append(Row(agent, entries))
    shared = _shared([row for row in rows if row.role == "agent"])
    rows = [replace(row, over=shared) if shared and _is_ranked(row, shared) else row for row in rows]
    ranked = [row for row in rows if row.over]
    places = {row.agent: 1 + sum(o.overall.mean > row.overall.mean for o in ranked) for row in ranked}
    rows = [replace(row, rank=places.get(row.agent)) for row in rows]
    rows.sort(key=lambda row: (row.role != "agent", row.rank or np.inf, -row.overall.mean, row.agent))
    return Group(_versions(pieces), tuple(rows), tuple(task for task in suite.tasks if task.name in shared))


def _shared(rows: Sequence[Row]) -> tuple[str, ...]:
    """The most tasks that two of the agents were measured on; those of one that is alone."""
    found = [[name for name, entry in row.entries.items() if entry.measured] for row in rows]
    measured = [names for names in found if names]
    common = [[name for name in one if name in other] for one, other in combinations(measured, 2)]
    return max(map(tuple, common or measured), key=len, default=())


def _is_ranked(row: Row, tasks: Sequence[str]) -> bool:
    return row.role == "agent" and row.entries.keys() >= {*tasks}


def _versions(pieces: list[Piece]) -> str:
    return ", ".join(sorted({piece.mujoco for piece in pieces if piece.mujoco}, key=_parts)) or "unknown"


def _gains(suite: Suite, rows: Sequence[Row]) -> Iterator[Gain]:
    ours = next((row for row in rows if row.agent == OURS), None)
    rivals = [row for row in rows if row.agent in SB3]
    for ability in dict.fromkeys(task.ability for task in suite.tasks) if ours else ():
        found = [gain for row in rivals if (gain := _gain(ours, row, ability))]  # type: ignore[arg-type]
        if found:
            yield min(found, key=lambda gain: gain.mean)


def _gain(ours: Row, theirs: Row, ability: str) -> Gain | None:
    """Over the tasks of an ability that both have; None where there are none."""
    both = [name for name in ours.entries if name in theirs.entries and ours.entries[name].task.ability == ability]
    if not both:
        return None
    pairs = [shared_scores(ours.entries[name], theirs.entries[name]) for name in both]
    mine, others = ([pair[k] for pair in pairs] for k in (0, 1))
    means = [interquartile_mean(np.concatenate(alike(some))) for some in (mine, others)]
    known = all(min(map(len, some)) > 1 for some in (mine, others))
    mean, low, high = difference_of_means(mine, others) if known else (means[0] - means[1], None, None)
    seeds = min(map(len, (*mine, *others)))
    return Gain(ability, theirs.agent, len(both), means[0], means[1], mean, low, high, seeds)


def shared_scores(one: Entry, other: Entry) -> tuple[list[float], list[float]]:
    """Of both, at equal env steps: where the one that learned for less ended, give or take the end of a stretch."""
    limit = min(one.reached(), other.reached()) * LATE
    return one.scores(limit), other.scores(limit)


def _notes(suite: Suite, pieces: list[Piece], groups: Sequence[Group]) -> Iterator[str]:
    """What must be known to read the numbers rightly, by name."""
    for piece in pieces:
        name = f"{called(piece.agent)} on {piece.task.short}, seed {piece.seed}"
        point = piece.at()
        if piece.failed:
            got = f"counted with what it got to, {point.steps:,} env steps" if point else "counted as the floor"
            yield f"Failed: {name}: {piece.reason[:REASON]} ({got})."
        elif not piece.counts:
            yield f"Unfinished, not counted: {name}."
        elif piece.learns and point and point.steps < piece.task.steps * SHORT:
            yield f"Judged early: {name}, after {point.steps:,} of {piece.task.steps:,} env steps."
        void = suite.episodes - len(point.judged.seeds) if point else 0
        if void and piece.counts:
            yield f"Void: the physics failed in {void} of {suite.episodes} episodes of {name}; they count as the floor."
    for group in groups[1:]:
        names = ", ".join(row.name for row in group.rows)
        yield f"Not ranked with the others, made with MuJoCo {group.label}: {names}."
    for group in groups:
        for row in group.rows:
            yield from _gaps(row, group)


def _gaps(row: Row, group: Group) -> Iterator[str]:
    others = [other.entries for other in group.rows if other.role == "agent"]
    known = {name: entry.task.short for entries in others for name, entry in entries.items()}
    lacking = [short for name, short in known.items() if name not in row.entries]
    if lacking and row.role == "agent":
        yield f"{'Not ranked' if row.rank is None else 'Not on all'}: {row.name} has no result on {', '.join(lacking)}."
    entries = row.entries.values()
    every = sorted({seed for other in group.rows for entry in other.entries.values() for seed in entry.seeds})
    nowhere = [seed for seed in every if not any(seed in entry.seeds for entry in entries)]
    if nowhere:
        yield f"Missing: {row.name}, {seeds_told(nowhere)}."
    for entry in entries:
        if gone := [seed for seed in every if seed not in (*entry.seeds, *nowhere)]:
            yield f"Missing: {row.name} on {entry.task.short}, {seeds_told(gone)}."
        if any(piece.settings != entry.pieces[0].settings for piece in entry.pieces):
            yield f"Not one agent: the seeds of {row.name} on {entry.task.short} were made with different settings."
    fewest, most = row.seeds
    if fewest < most:
        yield f"In means over tasks the first {fewest} of the seeds of {row.name} count on each."
