"""The leaderboard: one page that needs no network, made from raw episodes, for a browser or for print."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from ami_agent.bench import curves
from ami_agent.bench.results import Piece
from ami_agent.bench.schema import visible
from ami_agent.bench.standings import CEILINGS, CLAIM, FLOORS, HEADLINE, OURS, Entry, Estimate, Row, Standing, called
from ami_agent.bench.suites import ABILITIES, Task
from ami_agent.evaluation.film import data_uri
from ami_agent.evaluation.report import number
from ami_agent.evaluation.statistics import performance_profile, probability_of_improvement
from ami_agent.files import write_bytes

METRICS = {"return": "return", "success": "share of episodes that succeed"}
PUBLISHED = "TD-MPC2's own runs at 100k env steps with action repeat 2 (Hansen et al., ICLR 2024)"
THRESHOLDS = np.linspace(0, 1, 51)
PROFILE = 460, 300  # pixels of its chart
MOST_FILMS = 24 << 20  # bytes of moving pictures on a page


@dataclass(frozen=True)
class Better:
    """How likely a run of `agent` is above one of `other`, over the tasks that both have."""

    agent: str
    other: str
    tasks: int
    chance: Estimate


@dataclass(frozen=True)
class Panel:
    task: Task
    label: str
    charts: dict[str, Markup]  # by axis


@dataclass(frozen=True)
class Film:
    agent: str
    task: Task
    seed: int  # of training
    episodes: dict[str, tuple[int, str]]  # best, median, worst: its seed, address


@dataclass(frozen=True)
class Made:
    """How an agent's rows were made."""

    row: Row
    commands: list[str]
    circumstances: list[str]


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
        self.panels = [self._panel(task) for task in self.tasks]
        self.profile = self._profile()
        self.better = list(self._better())
        self.films, self.films_left = self._films(films)
        self.made = [_made(row) for group in self.groups for row in group.rows]

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
        """The highest score among agents, to mark the leader."""
        return max(
            (r.abilities[ability].mean for r in self.rows if r.role == "agent" and ability in r.abilities),
            default=np.inf,
        )

    @property
    def verdict(self) -> str:
        """Whether ours leads the best of Stable-Baselines3, in plain words."""
        gains = self.standing.gains
        if not gains:
            return "Ours and Stable-Baselines3 have no task in common yet, so nothing is said about who leads."
        ahead = [gain.ability + ("" if gain.known else " (within chance)") for gain in gains if gain.leads]
        behind = [gain.ability + ("" if gain.known else " (within chance)") for gain in gains if not gain.leads]
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
            bounds = (0.0, 1.0) if task.metric == "success" else None
            told = f"{task.short}: {metric} over {label}"
            charts[axis] = Markup(curves.panel(series, label, told, bounds)) if series else Markup("")
        return Panel(task, metric, charts)

    def _profile(self) -> Markup:
        """Of the agents that are ranked, over the tasks that ranks are over."""
        series = []
        for row in self.rows:
            if row.rank is not None:
                scores = [row.entries[task.name].scores() for task in self.groups[0].tasks]
                rows = np.column_stack([THRESHOLDS, performance_profile(scores, THRESHOLDS).T])
                series.append(curves.Series(row.name, self.styles[row.agent], rows))
        told = "Share of runs that score above a threshold"
        return Markup(curves.panel(series, "score", told, (0.0, 1.0), PROFILE)) if series else Markup("")

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
                found.append(Better(first.name, row.name, len(both), chance))
        return found

    def _films(self, room: int) -> tuple[list[Film], int]:
        """One set an agent and task, of the first seed that has one, as far as there is room; and how many are left."""
        found, left = [], 0
        for task, row, entry in sorted(self.entries, key=lambda entry: self.rows.index(entry[1])):
            piece = next((piece for piece in entry.pieces if piece.films), None)
            if piece is None:
                continue
            room -= sum(len(gif) for _, gif in piece.films.values())
            if room < 0:
                left += 1
                continue
            shown: dict[str, tuple[int, str]] = {}
            for name in sorted(piece.films):  # best, median, worst
                seed, gif = piece.films[name]
                shown[name] = seed, data_uri(base64.b64decode(gif), "image/gif")
            found.append(Film(row.name, task, piece.seed, shown))
        return found, left


def _made(row: Row) -> Made:
    pieces = [piece for entry in row.entries.values() for piece in entry.pieces]
    commands = dict.fromkeys(shlex.join(["ami-agent", *piece.command]) for piece in pieces if piece.command)
    return Made(row, list(commands), list(dict.fromkeys(filter(None, map(_circumstances, pieces)))))


def _circumstances(piece: Piece) -> str:
    """Versions, machine and commit."""
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
    return f"{100 * value:.0f} %" if task.metric == "success" else number(value).replace("-", "\N{MINUS SIGN}")


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
