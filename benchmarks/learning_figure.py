"""Learning curves as one SVG, small multiples with bands, legible on a light page and a dark one."""

from __future__ import annotations

from html import escape

from ami_agent.bench import curves
from ami_agent.bench.curves import Series, learned, panel
from ami_agent.bench.standings import Row
from ami_agent.bench.suites import Suite, Task

COLUMNS = 4
LEAST = 700  # pixels of the legend
WIDE, HIGH, TITLE = 250, 190, 20  # of a panel, and of the title over it
HEAD = 34  # of a block: its title, over the first the legend, too
CSS = f"""
svg {{ font: 11px system-ui, sans-serif; --ink: #333; color: var(--ink); fill: var(--ink) }}
@media (prefers-color-scheme: dark) {{ svg {{ --ink: #ccc }} }}
.title {{ font-weight: 600 }} .head {{ font-size: 14px; font-weight: 600 }}
{curves.CSS}
"""


def figure(rows: list[Row], suite: Suite) -> str:
    """Each task's metric, against env steps in the upper rows, against CPU seconds in the lower."""
    colours = curves.styles(row.agent for row in rows)
    styles = {row.name: colours[row.agent] for row in rows}
    tasks = [task for task in suite.tasks if any(task.name in row.entries for row in rows)]
    metrics = " or ".join(dict.fromkeys(task.metric for task in tasks)).capitalize()
    high = HEAD + -(-len(tasks) // COLUMNS) * (HIGH + TITLE)
    body = []
    for b, (axis, title) in enumerate(curves.AXES.items()):
        body.append(f'<text class="head" x="6" y="{b * high + 18}">{metrics} against {title}</text>')
        for i, task in enumerate(tasks):
            x, y = i % COLUMNS * WIDE, b * high + HEAD + i // COLUMNS * (HIGH + TITLE)
            body.append(f'<text class="title" x="{x + curves.LEFT}" y="{y + 14}">{escape(task.short)}</text>')
            place = f'x="{x}" y="{y + TITLE}" width="{WIDE}" height="{HIGH}"'
            body.append(_panel(rows, styles, task, axis).replace("<svg", f"<svg {place}", 1))
    body.append(_legend(styles, 2 * high + 12))
    wide = max(min(COLUMNS, len(tasks)) * WIDE, LEAST)
    box = f'viewBox="0 0 {wide} {2 * high + 24}" role="img" aria-label="Learning curves"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box}><style>{CSS}</style>{"".join(body)}</svg>\n'


def _panel(rows: list[Row], styles: dict[str, str], task: Task, axis: str) -> str:
    """Nothing where no agent got to a point."""
    found = {row.name: learned(row.entries[task.name].pieces, axis) for row in rows if task.name in row.entries}
    series = [Series(name, styles[name], curve) for name, curve in found.items() if len(curve)]
    bounded = task.metric != "return" or task.environment.startswith("dm_control/")
    bounds = (task.floor, task.reference) if bounded else None
    title = curves.AXES[axis]
    return panel(series, title, f"{task.short} against {title}", bounds, (WIDE, HIGH)) if series else ""


def _legend(styles: dict[str, str], y: float) -> str:
    parts, at = [], 6
    for name, style in styles.items():
        parts.append(f'<g class="{style}"><line class="line" x1="{at}" x2="{at + 18}" y1="{y}" y2="{y}"/></g>')
        parts.append(f'<text x="{at + 23}" y="{y}" dy=".35em">{escape(name)}</text>')
        at += 42 + 7 * len(name)
    told = "line: interquartile mean; band: from the least to the greatest of one seed"
    return "".join(parts) + f'<text x="{at + 10}" y="{y}" dy=".35em">{told}</text>'
