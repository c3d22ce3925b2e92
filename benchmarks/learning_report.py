"""What the pieces of a suite say together, in Markdown: agents beside one another at equal env steps and at equal CPU
seconds of learning, and planners beside their own policy priors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf, log10
from pathlib import Path
from statistics import fmean
from typing import Any

from learning_made import made, pieces_of

from ami_agent.bench.leaderboard import METRICS, PUBLISHED
from ami_agent.bench.names import called
from ami_agent.bench.results import LATE, Piece
from ami_agent.bench.standings import CLAIM, Entry, Estimate, Row, Standing
from ami_agent.bench.suites import Task
from ami_agent.evaluation.report import number

NONE = "-"
SCORE = ".3f"


@dataclass(frozen=True)
class Race:
    """Agents on a task, each piece read at what all that learn reached along an axis."""

    task: Task
    entries: dict[str, Entry]  # by agent
    axis: str  # steps, cpu_seconds

    @property
    def reached(self) -> float:
        """Infinite where nobody learns."""
        return min(entry.reached(self.axis) for entry in self.entries.values())

    @property
    def limit(self) -> float:
        return self.reached * (LATE if self.axis == "steps" else 1)

    def scores(self, agent: str) -> list[float]:
        return self.entries[agent].scores(self.limit, self.axis)

    def value(self, agent: str) -> str:
        """In the task's metric."""
        if agent not in self.entries:
            return NONE
        values = [piece.value(self.limit, self.axis) for piece in self.entries[agent].pieces]
        return told(Estimate.of([values]), form(self.task))

    def seconds(self, agent: str) -> str:
        """CPU seconds of learning until there, the median over seeds."""
        if agent not in self.entries:
            return NONE
        return number(self.entries[agent].spent("cpu_seconds", self.limit, self.axis))


def report(
    standing: Standing, agents: Sequence[str], timed: Sequence[str], faults: Mapping[Path, Sequence[str]]
) -> str:
    """All of it. timed: who is compared at equal CPU seconds, too; faults: what is wrong with files left out."""
    rows = rows_of(standing, agents)
    clocked = [row for row in rows if row.agent in timed]
    by_steps, by_seconds = _races(standing, rows, "steps"), _races(standing, clocked, "cpu_seconds")
    by_seconds = [race for race in by_seconds if len(race.entries) > 1 and 0 < race.reached < inf]
    parts = [
        [*made(rows)],
        [*_warnings(rows)],
        _steps_table(standing.suite.episodes, rows, by_steps) if rows else ["No piece is at its end yet."],
        _seconds_table(clocked, by_seconds) if by_seconds else [],
        _scores_table(rows, _shared(by_steps, rows), _shared(by_seconds, clocked)),
        _priors_table(rows),
        [*_notes(standing, agents, faults), *_sources([race.task for race in by_steps])],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part)


def rows_of(standing: Standing, agents: Sequence[str]) -> list[Row]:
    """Those of the agents, in their order, that have pieces at their end."""
    rows = {row.agent: row for row in standing.rows}
    return [rows[agent] for agent in agents if agent in rows]


def form(task: Task) -> str:
    """How values are written: to about a thousandth of what lies between floor and reference."""
    return ".0%" if task.metric != "return" else f".{max(0, 3 - int(log10(task.reference - task.floor)))}f"


def told(estimate: Estimate, spec: str, sign: str = "") -> str:
    """A mean with its interval, if it has one."""
    known = [value for value in (estimate.mean, estimate.low, estimate.high) if value is not None]
    mean, *bounds = [format(value, f"{sign}z{spec}").replace("%", " %") for value in known]
    return f"{mean} ({' to '.join(bounds)})" if bounds else mean


def _races(standing: Standing, rows: Sequence[Row], axis: str) -> list[Race]:
    found = []
    for task in standing.suite.tasks:
        if entries := {row.agent: row.entries[task.name] for row in rows if task.name in row.entries}:
            found.append(Race(task, entries, axis))
    return found


def _shared(races: Sequence[Race], rows: Sequence[Row]) -> list[Race]:
    """Those of tasks that all have."""
    return [race for race in races if len(race.entries) == len(rows)]


def _warnings(rows: Sequence[Row]) -> Iterator[str]:
    if few := [row.seeds[0] for row in rows if row.few]:
        seeds = f"{min(few)} seed{'s' * (min(few) > 1)}"
        yield f"**Warning: as few as {seeds} an agent and task; a claim needs at least {CLAIM}.**"


def _steps_table(episodes: int, rows: Sequence[Row], races: Sequence[Race]) -> list[str]:
    learners = [row for row in rows if any(piece.learns for piece in pieces_of([row]))]
    head = ["task", "repeat", "env steps", "seeds", *(row.name for row in rows)]
    head += [f"CPU s of learning: {' / '.join(row.name for row in learners)}", "TD-MPC2 at 100k, published"]
    body = []
    for race in races:
        task, counts = race.task, sorted({len(entry.pieces) for entry in race.entries.values()})
        steps = f"{race.reached:,.0f}" if race.reached < inf else NONE
        seeds = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
        spent = " / ".join(race.seconds(row.agent) for row in learners)
        published = NONE if task.published is None else f"{task.published:g}"
        values = [race.value(row.agent) for row in rows]
        body.append([f"`{task.name}`", task.repeat, steps, seeds, *values, spent or NONE, published])
    metrics = " or ".join(dict.fromkeys(METRICS[race.task.metric] for race in races)).capitalize()
    return [
        f"{metrics}, mean of {episodes} episodes: interquartile mean over seeds with its 95 % interval (bootstrap), "
        "after the env steps (decisions x repeat) that all reached. CPU seconds are medians over seeds.",
        "",
        *_table(head, body),
    ]


def _seconds_table(rows: Sequence[Row], races: Sequence[Race]) -> list[str]:
    body = []
    for race in races:
        body.append([f"`{race.task.name}`", number(race.reached), *(race.value(row.agent) for row in rows)])
    machines = sorted({piece.machine or "unknown" for piece in pieces_of(rows) if piece.points})
    apart = f" They are of different machines: {'; '.join(machines)}." if len(machines) > 1 else ""
    return [
        f"The same for {' and '.join(row.name for row in rows)} at equal CPU seconds of learning, those that all their "
        f"pieces reached on the task. Each piece is read on the straight line between its points.{apart}",
        "",
        *_table(["task", "CPU s", *(row.name for row in rows)], body),
    ]


def _scores_table(rows: Sequence[Row], by_steps: Sequence[Race], by_seconds: Sequence[Race]) -> list[str]:
    """Over the tasks that all who are compared have."""
    columns = {"env steps": by_steps, "CPU seconds": by_seconds}
    columns = {name: races for name, races in columns.items() if races}
    if not columns:
        return []
    body = []
    for row in rows:
        mine = [[race.scores(row.agent) for race in races if row.agent in race.entries] for races in columns.values()]
        body.append([row.name, *(told(Estimate.of(strata), SCORE) if strata else NONE for strata in mine)])
    head = [f"at the {name} above, {len(races)} task{'s' * (len(races) > 1)}" for name, races in columns.items()]
    return [
        "Normalised score over the tasks that all compared have, interquartile mean over tasks x seeds with its 95 % "
        "interval (bootstrap, stratified by task).",
        "",
        *_table(["agent", *head], body),
    ]


def _priors_table(rows: Sequence[Row]) -> list[str]:
    """Planners at their last points, where a policy prior was judged beside them."""
    body = []
    for row in rows:
        gains = []
        for entry in row.entries.values():
            task = entry.task
            if pairs := [pair for piece in entry.pieces if (pair := paired(piece))]:
                planner, prior, gain = (Estimate.of([values]) for values in zip(*pairs, strict=True))
                gains.append([gain / (task.reference - task.floor) for _, _, gain in pairs])
                cells = [told(planner, form(task)), told(prior, form(task)), told(gain, form(task), "+")]
                body.append([row.name, f"`{task.name}`", len(pairs), *cells])
        if len(gains) > 1:
            body.append([row.name, "all, normalised score", "", "", "", told(Estimate.of(gains), SCORE, "+")])
    if not body:
        return []
    return [
        "The planner beside its own policy prior, the same weights on the same episodes, at the last point: means of "
        "the episodes that are void for neither, and their difference; interquartile mean over seeds.",
        "",
        *_table(["agent", "task", "seeds", "planner", "prior alone", "planner - prior"], body),
    ]


def paired(piece: Piece) -> tuple[float, float, float] | None:
    """Means of the planner, of its prior, and their difference, over the episodes that both have; None without any."""
    point = piece.at()
    if point is None or point.prior is None:
        return None
    planner, prior = (dict(zip(one.seeds, one.values(piece.task), strict=True)) for one in (point.judged, point.prior))
    if not (both := planner.keys() & prior.keys()):
        return None
    means = [fmean(values[seed] for seed in both) for values in (planner, prior)]
    return means[0], means[1], means[0] - means[1]


def _notes(standing: Standing, agents: Sequence[str], faults: Mapping[Path, Sequence[str]]) -> Iterator[str]:
    yield from (f"- {note}" for note in standing.notes)
    there = {row.agent for row in standing.rows}
    for agent in agents:
        if agent not in there:
            yield f"- Not shown: {called(agent)} has no result that may stand beside these."
    for path, some in faults.items():
        yield f"- Left out: {path.name}: {'; '.join(some)}."


def _sources(tasks: Sequence[Task]) -> Iterator[str]:
    if any(task.published is not None for task in tasks):
        yield f"- Published: {PUBLISHED}."
    scales: dict[str, list[str]] = {}
    for task in tasks:
        scale = f"0 at {task.floor:g}, 1 at {task.reference:g} ({task.source or 'bounds of the metric'})"
        scales.setdefault(scale, []).append(f"`{task.name}`")
    yield from (f"- Normalised score of {', '.join(names)}: {scale}." for scale, names in scales.items())


def _table(head: Sequence[str], body: Sequence[Sequence[Any]]) -> list[str]:
    rows = [head, ["---"] * len(head), *body]
    return [f"| {' | '.join(map(str, cells))} |" for cells in rows]
