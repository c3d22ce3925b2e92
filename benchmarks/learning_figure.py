"""Learning curves as one SVG, small multiples with bands, legible on a light page and a dark one."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np

from ami_agent.bench.schema import DONE
from ami_agent.evaluation.charts import Axis, linear
from ami_agent.evaluation.statistics import interquartile_mean

COLUMNS = 4
LEAST = 700  # pixels of the legend
WIDE, HIGH = 250, 190  # of a panel, margins and all
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 26, 24  # margins in it
HEAD = 34  # of a block: its title, over the first the legend, too
COLOURS = {"ours": "#e4572e", "sac": "#3b82c4", "ppo": "#3a9d5d", "random": "#8a8a8a"}
MORE = ("#8e6bbf", "#c29a1d", "#1aa3a3", "#c75a93", "#7a8b2f")  # for ours without a part
AXES = {"steps": "env steps", "cpu_seconds": "CPU seconds of learning"}
CSS = """
svg { font: 11px system-ui, sans-serif; --ink: #333; fill: var(--ink) }
@media (prefers-color-scheme: dark) { svg { --ink: #ccc } }
.grid { stroke: var(--ink); opacity: .15 } .title { font-weight: 600 } .head { font-size: 14px; font-weight: 600 }
.line { fill: none; stroke-width: 2; stroke-linejoin: round } .band { opacity: .2 }
"""


def figure(
    found: dict[str, dict[str, list[Any]]],
    tasks: list[Any],
    names: dict[str, str],
    steps: dict[str, float],
) -> str:
    """Return against env steps, up to those that all reached, in the upper rows; against CPU seconds in the lower.

    names: what each agent is called; only those are drawn.
    """
    others = [agent for agent in names if agent not in COLOURS]
    colours = COLOURS | {agent: MORE[i % len(MORE)] for i, agent in enumerate(others)}
    columns, rows = min(COLUMNS, len(tasks)), -(-len(tasks) // COLUMNS)
    wide, block = columns * WIDE, HEAD + rows * HIGH
    body = []
    for b, (axis, title) in enumerate(AXES.items()):
        body.append(f'<text class="head" x="6" y="{b * block + 18}">Return against {title}</text>')
        for i, task in enumerate(tasks):
            place = i % COLUMNS * WIDE, b * block + HEAD + i // COLUMNS * HIGH
            limit = steps[task.name] if axis == "steps" and steps[task.name] else np.inf
            curves = {name: _curve(found[task.name][name], axis, limit) for name in names if name in found[task.name]}
            panel = _panel(task.short, curves, colours, 1000.0 if task.name.startswith("dm_control/") else None)
            body.append(f'<g transform="translate({place[0]} {place[1]})">{panel}</g>')
    body.append(_legend(names, colours, 2 * block + 12))
    box = f'viewBox="0 0 {max(wide, LEAST)} {2 * block + 24}" role="img" aria-label="Learning curves"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box}><style>{CSS}</style>{"".join(body)}</svg>\n'


def _curve(pieces: list[Any], axis: str, limit: float) -> np.ndarray:
    """Rows of x (the median over seeds), interquartile mean over seeds x episodes, and the least and the greatest of
    one seed's; as long as the curves of all seeds go. One that failed keeps its last return, and has no say in x."""
    kept = [[point for point in piece["points"] if point[axis] <= limit] for piece in pieces]
    whole = [points for points, piece in zip(kept, pieces, strict=True) if piece["status"] == DONE]
    whole = whole or [points for points in kept if len(points) == max(map(len, kept))]
    rows = []
    for k in range(min(map(len, whole))):
        returns = [curve[min(k, len(curve) - 1)]["returns"] for curve in kept]
        seeds = [interquartile_mean(one) for one in returns]
        x = np.median([curve[k][axis] for curve in whole])
        rows.append((x, interquartile_mean(np.concatenate(returns)), min(seeds), max(seeds)))
    return np.array(rows)


def _panel(title: str, curves: dict[str, np.ndarray], colours: dict[str, str], top: float | None) -> str:
    """One task. An agent with one point only, such as random actions, is a level line."""
    every = np.concatenate(list(curves.values()))
    most = max(float(every[:, 0].max()), 1.0)
    x = linear(0, most, LEFT, WIDE - RIGHT, tight=True)
    low, high = (0.0, top) if top else (float(every[:, 1:].min()), float(every[:, 1:].max()))
    y = linear(low, high, HIGH - BOTTOM, TOP)
    parts = [f'<text class="title" x="{LEFT}" y="{TOP - 9}">{escape(title)}</text>', _grid(x, y)]
    for name, curve in curves.items():
        if len(curve) == 1:
            curve = np.concatenate([curve, curve])
            curve[1, 0] = most
        band = _path(x, y, curve[:, 0], curve[:, 2]) + _path(x, y, curve[::-1, 0], curve[::-1, 3]).replace("M", "L", 1)
        parts.append(f'<path class="band" fill="{colours[name]}" d="{band}Z"/>')
        line = _path(x, y, curve[:, 0], curve[:, 1])
        parts.append(f'<path class="line" stroke="{colours[name]}" d="{line}"/>')
    return "".join(parts)


def _grid(x: Axis, y: Axis) -> str:
    parts = []
    for tick in y.ticks:
        at = f"{y(tick):.1f}"
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDE - RIGHT}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{at}" dy=".35em" text-anchor="end">{_short(tick)}</text>')
    for tick in x.ticks:
        parts.append(f'<text x="{x(tick):.1f}" y="{HIGH - BOTTOM + 14}" text-anchor="middle">{_short(tick)}</text>')
    return "".join(parts)


def _path(x: Axis, y: Axis, xs: np.ndarray, ys: np.ndarray) -> str:
    return "M" + "L".join(f"{x(float(a)):.1f},{y(float(b)):.1f}" for a, b in zip(xs, ys, strict=True))


def _short(value: float) -> str:
    value = 0.0 if abs(value) < 1e-9 else value
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def _legend(names: dict[str, str], colours: dict[str, str], y: float) -> str:
    parts, at = [], 6
    for agent, name in names.items():
        parts.append(f'<line class="line" x1="{at}" x2="{at + 18}" y1="{y}" y2="{y}" stroke="{colours[agent]}"/>')
        parts.append(f'<text x="{at + 23}" y="{y}" dy=".35em">{escape(name)}</text>')
        at += 42 + 7 * len(name)
    told = "line: interquartile mean; band: from the least to the greatest of one seed"
    return "".join(parts) + f'<text x="{at + 10}" y="{y}" dy=".35em">{told}</text>'
