"""Learning curves as one SVG, small multiples with bands, legible on a light page and a dark one."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np

from ami_agent.bench import curves
from ami_agent.bench.curves import Series, panel
from ami_agent.bench.schema import DONE
from ami_agent.evaluation.statistics import interquartile_mean

COLUMNS = 4
LEAST = 700  # pixels of the legend
WIDE, HIGH, TITLE = 250, 190, 20  # of a panel, and of the title over it
HEAD = 34  # of a block: its title, over the first the legend, too
STYLES = {"ours": "c0", "sac": "c1", "ppo": "c2", "random": "floor"}
AXES = {"steps": "env steps", "cpu_seconds": "CPU seconds of learning"}
CSS = f"""
svg {{ font: 11px system-ui, sans-serif; --ink: #333; color: var(--ink); fill: var(--ink) }}
@media (prefers-color-scheme: dark) {{ svg {{ --ink: #ccc }} }}
.title {{ font-weight: 600 }} .head {{ font-size: 14px; font-weight: 600 }}
{curves.CSS} .line {{ fill: none; stroke: var(--c); stroke-width: 2 }}
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
    others = [agent for agent in names if agent not in STYLES]
    styles = STYLES | {agent: f"c{len(STYLES) - 1 + i % 7}" for i, agent in enumerate(others)}
    columns, rows = min(COLUMNS, len(tasks)), -(-len(tasks) // COLUMNS)
    wide, block = columns * WIDE, HEAD + rows * (HIGH + TITLE)
    body = []
    for b, (axis, title) in enumerate(AXES.items()):
        body.append(f'<text class="head" x="6" y="{b * block + 18}">Return against {title}</text>')
        for i, task in enumerate(tasks):
            x, y = i % COLUMNS * WIDE, b * block + HEAD + i // COLUMNS * (HIGH + TITLE)
            limit = steps[task.name] if axis == "steps" and steps[task.name] else np.inf
            there = {name: found[task.name][name] for name in names if name in found[task.name]}
            series = [Series(names[name], styles[name], _curve(some, axis, limit)) for name, some in there.items()]
            bounds = (0.0, 1000.0) if task.name.startswith("dm_control/") else None
            drawn = panel(series, title, f"{task.short} against {title}", bounds, (WIDE, HIGH))
            place = f'x="{x}" y="{y + TITLE}" width="{WIDE}" height="{HIGH}"'
            body.append(f'<text class="title" x="{x + curves.LEFT}" y="{y + 14}">{escape(task.short)}</text>')
            body.append(drawn.replace("<svg", f"<svg {place}", 1))
    body.append(_legend(names, styles, 2 * block + 12))
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


def _legend(names: dict[str, str], styles: dict[str, str], y: float) -> str:
    parts, at = [], 6
    for agent, name in names.items():
        parts.append(f'<g class="{styles[agent]}"><line class="line" x1="{at}" x2="{at + 18}" y1="{y}" y2="{y}"/></g>')
        parts.append(f'<text x="{at + 23}" y="{y}" dy=".35em">{escape(name)}</text>')
        at += 42 + 7 * len(name)
    told = "line: interquartile mean; band: from the least to the greatest of one seed"
    return "".join(parts) + f'<text x="{at + 10}" y="{y}" dy=".35em">{told}</text>'
