"""Many curves in one small picture: a line and a band an agent, as SVG whose colours come from the page (`CSS`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from ami_agent.bench.names import CEILINGS, FLOORS, OURS, SB3
from ami_agent.bench.results import Piece
from ami_agent.evaluation.charts import Axis, linear
from ami_agent.evaluation.statistics import interquartile_mean

SIZE = 288, 196  # of a panel, margins and all
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 34  # margins in it
COLOURS = 11  # agents told apart by colour
KNOWN = (OURS, *SB3)  # the first of them are theirs
AXES = {"steps": "env steps", "cpu_seconds": "CPU seconds of learning"}
CSS = """
.c0 { --c: #d9480f } .c1 { --c: #1c6fc4 } .c2 { --c: #2b8a3e } .c3 { --c: #8250c4 } .c4 { --c: #a77b06 }
.c5 { --c: #0c8599 } .c6 { --c: #c2255c } .c7 { --c: #6a7d1c } .c8 { --c: #8a5a3c } .c9 { --c: #4c5fd7 }
.c10 { --c: #a3479f } .random, .oracle { --c: #7f8a96 } .noop, .oracle-planner { --c: #3f4a56 }
@media (prefers-color-scheme: dark) {
.c0 { --c: #ff8a5b } .c1 { --c: #62a8f5 } .c2 { --c: #5cc773 } .c3 { --c: #b794f6 } .c4 { --c: #e0b341 }
.c5 { --c: #45c4d4 } .c6 { --c: #f783ac } .c7 { --c: #b3c94a } .c8 { --c: #cf9f7f } .c9 { --c: #93a1ff }
.c10 { --c: #dc94d8 } .random, .oracle { --c: #8794a3 } .noop, .oracle-planner { --c: #d3dae2 } }
svg.panel { width: 100%; height: auto; display: block; font: 12px system-ui, sans-serif; fill: currentColor }
.panel text { opacity: .75 } .panel .grid { stroke: currentColor; opacity: .12 }
.panel .band { fill: var(--c); opacity: .16 }
.line { fill: none; stroke: var(--c); stroke-width: 2; stroke-linejoin: round; stroke-linecap: round }
.random .line { stroke-dasharray: 1 5 } .noop .line { stroke-dasharray: 8 4 1 4 }
.oracle .line { stroke-dasharray: 9 5 } .oracle-planner .line { stroke-dasharray: 3 4 }
"""


def styles(agents: Iterable[str]) -> dict[str, str]:
    """A class by agent, that of its colour: the same for those well known wherever they are, the others' by name."""
    agents, references = set(agents), (*FLOORS, *CEILINGS)
    others = sorted(agents.difference(KNOWN, references))
    free = COLOURS - len(KNOWN)
    found = {agent: f"c{i}" for i, agent in enumerate(KNOWN)} | {agent: agent for agent in references}
    found |= {agent: f"c{len(KNOWN) + i % free}" for i, agent in enumerate(others)}
    return {agent: found[agent] for agent in agents}


@dataclass(frozen=True)
class Series:
    """One agent's: rows of x, value, and the least and the greatest of its band."""

    name: str
    style: str  # its class
    rows: np.ndarray


def learned(pieces: Sequence[Piece], axis: str) -> np.ndarray:
    """An agent's curve on a task: rows of x along one of `AXES` (the median over seeds), the interquartile mean over
    seeds of the task's metric, and the least and the greatest of one seed; as long as the curves of all seeds go.

    A seed that failed keeps its last value and has no say in x. Empty where no piece has a point.
    """
    suite, task = pieces[0].suite, pieces[0].task
    kept = [(points, piece.failed) for piece in pieces if (points := piece.along(axis))]
    if not kept:
        return np.empty((0, 4))
    curves = [points for points, _ in kept]
    whole = [points for points, failed in kept if not failed] or [max(curves, key=len)]
    rows = []
    for k in range(min(map(len, whole))):
        values = [curve[min(k, len(curve) - 1)].judged.value(task, suite.episodes) for curve in curves]
        x = np.median([getattr(curve[k], axis) for curve in whole])
        rows.append((x, interquartile_mean(values), min(values), max(values)))
    return np.array(rows)


def panel(
    series: Sequence[Series],
    x_label: str,
    label: str,
    bounds: tuple[float, float] | None = None,
    size: tuple[int, int] = SIZE,
    most: float | None = None,
) -> str:
    """An `<svg>` of the series over one another, up to `most` of x, or as far as they go. One with a single row, of an
    agent that does not learn, is level."""
    every = np.concatenate([one.rows for one in series])
    most = most or float(every[:, 0].max()) or 1.0
    wide, high = size
    x = linear(0, most, LEFT, wide - RIGHT, tight=True)
    low, top = bounds or (float(every[:, 1:].min()), float(every[:, 1:].max()))
    y = linear(low, top, high - BOTTOM, TOP)
    parts = [_grid(x, y, x_label)]
    for one in series:
        rows = one.rows if len(one.rows) > 1 else np.repeat(one.rows, 2, axis=0)
        if len(one.rows) == 1:
            rows[1, 0] = most
        band = _path(x, y, rows[:, 0], rows[:, 2]) + _path(x, y, rows[::-1, 0], rows[::-1, 3]).replace("M", "L", 1)
        line = _path(x, y, rows[:, 0], rows[:, 1])
        title = f"<title>{escape(one.name)}</title>"
        drawn = f'<path class="band" d="{band}Z"/><path class="line" d="{line}"/>'
        parts.append(f'<g class="{escape(one.style)}">{title}{drawn}</g>')
    box = f'viewBox="0 0 {wide} {high}" role="img" aria-label="{escape(label)}"'
    return f'<svg class="panel" {box}>{"".join(parts)}</svg>'


def _grid(x: Axis, y: Axis, x_label: str) -> str:
    parts = []
    for tick in y.ticks:
        at = f"{y(tick):.1f}"
        parts.append(f'<line class="grid" x1="{x.start}" x2="{x.end}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text x="{x.start - 5}" y="{at}" dy=".35em" text-anchor="end">{brief(tick)}</text>')
    for tick in x.ticks:
        parts.append(f'<text x="{x(tick):.1f}" y="{y.start + 14}" text-anchor="middle">{brief(tick)}</text>')
    middle = (x.start + x.end) / 2
    parts.append(f'<text x="{middle}" y="{y.start + 29}" text-anchor="middle">{escape(x_label)}</text>')
    return "".join(parts)


def _path(x: Axis, y: Axis, xs: np.ndarray, ys: np.ndarray) -> str:
    return "M" + "L".join(f"{x(float(a)):.1f},{y(float(b)):.1f}" for a, b in zip(xs, ys, strict=True))


def brief(value: float) -> str:
    """A number in few letters: 2.1M, 36k, 0.25."""
    value = 0.0 if abs(value) < 1e-9 else value
    size, unit = next((told for told in ((1e6, "M"), (1e3, "k")) if abs(value) >= told[0]), (1.0, ""))
    return f"{value / size:.{4 if unit else 6}g}{unit}".replace("-", "\N{MINUS SIGN}")
