"""The leaderboard: one page that needs no network, made from raw episodes, for a browser or for print."""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import resources
from pathlib import Path

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from ami_agent.bench import curves
from ami_agent.bench.names import CEILINGS, FLOORS, OURS, called
from ami_agent.bench.results import Piece, by_seeds
from ami_agent.bench.schema import visible
from ami_agent.bench.standings import CLAIM, HEADLINE, Entry, Estimate, Gain, Row, Standing
from ami_agent.bench.suites import ABILITIES, ACCURACY, Task
from ami_agent.evaluation.film import data_uri
from ami_agent.evaluation.report import number
from ami_agent.evaluation.statistics import interquartile_mean, performance_profile, probability_of_improvement
from ami_agent.files import write_bytes

METRICS = {
    "return": "return",
    "success": "share of episodes that succeed",
    ACCURACY: "share of impossible events that surprise more than what is possible",
}
SCALES = {
    "return": "where returns count, those listed below the tasks",
    "success": "where success counts, no episode that succeeds and all of them",
    ACCURACY: "where surprise tells the impossible, chance and all of it",
}
PUBLISHED = "TD-MPC2's own runs at 100k env steps with action repeat 2 (Hansen et al., ICLR 2024)"
THRESHOLDS = np.linspace(0, 1, 51)
PROFILE = 340, 260  # pixels of its chart
FILM = 192  # pixels that a small film is drawn up to, an integer times its own
MOST_FILMS = 24 << 20  # bytes of moving pictures on a page


@dataclass(frozen=True)
class Better:
    """How likely a run of `agent` is above one of `other`, over the tasks that both have."""

    agent: Row
    other: Row
    tasks: int
    chance: Estimate


@dataclass(frozen=True)
class Panel:
    task: Task
    label: str
    charts: dict[str, Markup]  # by axis


@dataclass(frozen=True)
class Picture:
    """A moving one of an episode, and how large it is drawn."""

    seed: int
    address: str
    width: int
    height: int

    @classmethod
    def of(cls, seed: int, gif: str) -> Picture:
        """Of a GIF in base64, whose own size stands in its head."""
        content = base64.b64decode(gif)
        wide, high = (int.from_bytes(content[at : at + 2], "little") for at in (6, 8))
        times = max(1, FILM // max(wide, high, 1))
        return cls(seed, data_uri(content, "image/gif"), times * wide, times * high)


@dataclass(frozen=True)
class Film:
    agent: str
    seed: int  # of training
    episodes: dict[str, Picture]  # best, median, worst


@dataclass(frozen=True)
class Batch:
    """What one command made of an agent's pieces."""

    command: str
    pieces: list[Piece]

    @property
    def what(self) -> str:
        """Tasks and seeds: "Reach-v0, Push-v0: seeds 0, 1; Lane-v0: seed 0"."""
        return "; ".join(f"{', '.join(tasks)}: {seeds}" for seeds, tasks in by_seeds(self.pieces).items())

    @property
    def circumstances(self) -> list[str]:
        """Versions, machines and commits."""
        return list(dict.fromkeys(filter(None, map(_circumstances, self.pieces))))


class View:
    """A standing as the page shows it."""

    def __init__(self, standing: Standing, styles: Mapping[str, str], films: int = MOST_FILMS) -> None:
        """`styles` are `curves.styles`, the same for all views of a page."""
        self.suite, self.standing, self.groups, self.styles = standing.suite, standing, standing.groups, styles
        self.rows = standing.rows
        self.tasks = [task for task in self.suite.tasks if any(task.name in row.entries for row in self.rows)]
        self.abilities = list(dict.fromkeys(task.ability for task in self.tasks))
        told = {row.agent for row in self.rows}
        self.references = {agent: called(agent) for agent in (*FLOORS, *CEILINGS) if agent in told}
        self.published = any(task.published is not None for task in self.tasks)
        learned = {task for task, _, entry in self.entries if any(piece.learns for piece in entry.pieces)}
        self.panels = [self._panel(task) for task in self.tasks if task in learned]
        self.untaught = [task for task in self.tasks if task not in learned]
        self.profile = self._profile()
        self.better = list(self._better())
        self.films, self.films_left = self._films(films)
        self.made = [(row, _batches(row)) for group in self.groups for row in group.rows]

    @cached_property
    def entries(self) -> list[tuple[Task, Row, Entry]]:
        """By task, then by row."""
        return [
            (task, row, row.entries[task.name]) for task in self.tasks for row in self.rows if task.name in row.entries
        ]

    def reference(self, agent: str, task: Task) -> float | None:
        """What a floor or a ceiling has on a task, in its metric."""
        return next((entry.value.mean for what, row, entry in self.entries if (what, row.agent) == (task, agent)), None)

    def best(self, ability: str) -> float:
        """The highest score among agents, to mark the leader; of one that is alone there is none."""
        found = [r.abilities[ability].mean for r in self.rows if r.role == "agent" and ability in r.abilities]
        return max(found) if len(found) > 1 else np.inf

    @property
    def machines(self) -> list[str]:
        """Those that learning was timed on."""
        pieces = [piece for group in self.groups for row in group.rows for piece in row.pieces]
        return list(dict.fromkeys(piece.machine for piece in pieces if piece.learns and piece.machine))

    @property
    def scale(self) -> str:
        """What scores 0 and 1, and where the floor is weak."""
        ends = "; ".join(told for metric, told in SCALES.items() if metric in {task.metric for task in self.tasks})
        idle = [(task.short, entry.score.mean) for task, row, entry in self.entries if row.agent == "noop"]
        weak = ", ".join(f"{name} ({shown(score)})" for name, score in idle if score >= 0.005)
        told = f" Doing nothing scores above 0 where the floor is weak: on {weak}." if weak else ""
        return f"Scores 0 and 1 are: {ends}.{told}"

    @property
    def verdict(self) -> str:
        """Whether ours leads the best of Stable-Baselines3, in plain words."""
        gains = self.standing.gains
        if not gains:
            return "Ours and Stable-Baselines3 have no task in common yet, so nothing is said about who leads."
        ahead, behind = ([_aside(gain) for gain in gains if gain.leads is leads] for leads in (True, False))
        unknown = [ability for ability in self.abilities if ability not in {gain.ability for gain in gains}]
        told = f"At equal env steps ours leads the best of Stable-Baselines3 on {len(ahead)} of {len(gains)} abilities"
        told += f": {', '.join(ahead)}" if ahead else ""
        told += f". It does not on {', '.join(behind)}." if behind else "."
        if any(gain.seeds < CLAIM for gain in gains):
            told += f" Under {CLAIM} seeds this is no claim."
        return told + (f" Not compared: {', '.join(unknown)}." if unknown else "")

    def _panel(self, task: Task) -> Panel:
        charts = {}
        metric = METRICS[task.metric]
        for axis, label in curves.AXES.items():
            found = [(row, curves.learned(entry.pieces, axis)) for what, row, entry in self.entries if what == task]
            series = [curves.Series(row.name, self.styles[row.agent], rows) for row, rows in found if len(rows)]
            bounds = None if task.metric == "return" else (0.0, 1.0)
            told = f"{task.short}: {metric} over {label}"
            most = float(task.steps) if axis == "steps" else None
            charts[axis] = Markup(curves.panel(series, label, told, bounds, most=most)) if series else Markup("")
        return Panel(task, metric, charts)

    def _profile(self) -> Markup:
        """Of the agents that are ranked, over the tasks that ranks are over; nothing of one alone."""
        series = []
        for row in self.rows:
            if row.rank is not None:
                scores = [row.entries[task.name].scores() for task in self.groups[0].tasks]
                rows = np.column_stack([THRESHOLDS, performance_profile(scores, THRESHOLDS).T])
                series.append(curves.Series(row.name, self.styles[row.agent], rows))
        told = "Share of runs that score above a threshold"
        return Markup(curves.panel(series, "score", told, (0.0, 1.0), PROFILE)) if len(series) > 1 else Markup("")

    def _better(self) -> list[Better]:
        """Ours, or the first if ours is not there, over each other agent."""
        agents = [row for row in self.rows if row.role == "agent"]
        first = next((row for row in agents if row.agent == OURS), agents[0] if agents else None)
        found = []
        for row in agents:
            both = [name for name in row.entries if first and name in first.entries]
            if row is not first and first and both:
                mine, others = ([one.entries[name].scores() for name in both] for one in (first, row))
                mean, low, high = probability_of_improvement(mine, others)
                told = min(map(len, (*mine, *others))) > 1  # one seed gives no interval
                chance = Estimate(mean, low, high) if told else Estimate(mean, None, None)
                found.append(Better(first, row, len(both), chance))
        return found

    def _films(self, room: int) -> tuple[dict[Task, list[Film]], int]:
        """By task one set an agent, of the first seed that has one, as far as there is room; and how many are left."""
        found: dict[Task, list[Film]] = {task: [] for task in self.tasks}
        left = 0
        for task, row, entry in sorted(self.entries, key=lambda entry: self.rows.index(entry[1])):
            piece = next((piece for piece in entry.pieces if piece.films), None)
            if piece is None:
                continue
            room -= sum(len(gif) for _, gif in piece.films.values())
            if room < 0:
                left += 1
                continue
            pictures = {name: Picture.of(*piece.films[name]) for name in sorted(piece.films)}  # best, median, worst
            found[task].append(Film(row.name, piece.seed, pictures))
        return {task: films for task, films in found.items() if films}, left


def _aside(gain: Gain) -> str:
    chance = "" if gain.known else " (by one seed)" if gain.low is None else " (within chance)"
    return gain.ability + chance


def at_last(entry: Entry) -> float:
    """The share of episodes that succeed at the last step, computed as that of those that do at any time is."""
    values = []
    for piece in entry.pieces:
        judged = [replace(point.judged, successes=point.judged.final_successes) for point in piece.points]
        points = tuple(replace(point, judged=told) for point, told in zip(piece.points, judged, strict=True))
        values.append(replace(piece, points=points).value())
    return interquartile_mean(values)


def _batches(row: Row) -> list[Batch]:
    found: dict[str, list[Piece]] = {}
    for piece in row.pieces:
        command = shlex.join(["ami-agent", *piece.command]) if piece.command else ""
        found.setdefault(command, []).append(piece)
    return [Batch(command, pieces) for command, pieces in found.items()]


def _circumstances(piece: Piece) -> str:
    versions = [f"{name} {version}" for name, version in piece.versions.items()]
    commits = [f"commit {commit[:12]}" for commit in piece.commits]
    return "; ".join(filter(None, [*versions, piece.machine, *commits]))


def render(found: Sequence[Standing], faults: Mapping[Path, Sequence[str]]) -> str:
    """The page. `faults`: what is wrong with files that were left out."""
    style, script = (_part(f"leaderboard.{kind}") for kind in ("css", "js"))
    style += curves.CSS
    styles = curves.styles(row.agent for standing in found for group in standing.groups for row in group.rows)
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    return environment.from_string(_part("leaderboard.html.j2")).render(
        policy=f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'",
        style=Markup(style),
        script=Markup(script),
        views=[View(standing, styles, MOST_FILMS // len(found)) for standing in found if standing.groups],
        empty=[standing for standing in found if not standing.groups],
        faults={visible(path.name): told for path, told in faults.items()},
        abilities=ABILITIES,
        claim=CLAIM,
        headline=HEADLINE,
        axes=curves.AXES,
        number=number,
        shown=shown,
        bar=bar,
        at_last=at_last,
        breakable=breakable,
        brief=lambda value: curves.brief(float(f"{value:.3g}")),
        cited=PUBLISHED,
    )


def write_page(path: Path, found: Sequence[Standing], faults: Mapping[Path, Sequence[str]]) -> None:
    """Write the page, whole or not at all. Raises MissingError or ResourceError if it cannot be written."""
    write_bytes(path, render(found, faults).encode())


def shown(value: float | None, task: Task | None = None) -> str:
    """A score, to two digits; a value of a task: a share in percent, or a return."""
    if value is None:
        return "\N{EN DASH}"
    if task is None:
        return f"{value + 0.0:.2f}".replace("-0.00", "0.00").replace("-", "\N{MINUS SIGN}")
    return number(value).replace("-", "\N{MINUS SIGN}") if task.metric == "return" else f"{100 * value:.0f} %"


def breakable(name: str) -> Markup:
    """A task's name that may go on in the next line between its words."""
    return Markup("<wbr>").join(re.split("(?<=[a-z])(?=[A-Z])|(?<==)", name))


def bar(estimate: Estimate, style: str) -> Markup:
    """A score from 0 to 1 as a dot with its interval; what lies beyond ends at the edge."""

    def place(score: float) -> float:
        return 4 + 112 * float(np.clip(score, 0, 1))

    parts = ['<line class="rail" x1="4" x2="116" y1="8" y2="8"/>']
    if estimate.low is not None and estimate.high is not None:
        low, high = place(estimate.low), place(estimate.high)
        parts.append(f'<line class="range" x1="{low:.1f}" x2="{max(high, low + 0.1):.1f}" y1="8" y2="8"/>')
    parts.append(f'<circle cx="{place(estimate.mean):.1f}" cy="8" r="4"/>')
    return Markup(f'<svg class="bar {style}" viewBox="0 0 120 16" aria-hidden="true">{"".join(parts)}</svg>')


def _part(name: str) -> str:
    return resources.files("ami_agent.bench").joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
