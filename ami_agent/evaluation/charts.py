"""Small line charts as inline SVG: no library, no script; colours come from the page (`CSS`), in light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

import numpy as np

WIDTH, HEIGHT = 520, 360
LEFT, RIGHT, TOP, BOTTOM = 66, 14, 14, 46  # margins around the plot
LEAST = 1e-290  # what is smaller has no ticks: their size would not be a number any more
POINTS = 400  # a longer line is thinned: more than the plot's pixels cannot be seen

CSS = """
svg.chart { width: 100%; height: auto; display: block; font: 13px system-ui, sans-serif; fill: currentColor }
.chart text { opacity: .75 } .chart .grid { stroke: currentColor; opacity: .12 } .chart path { fill: none }
.chart .axis { stroke: currentColor; opacity: .45 } .chart .faint { stroke: var(--accent); opacity: .28 }
.chart .bold { stroke: var(--accent); stroke-width: 2.5; stroke-linejoin: round }
.chart .mark { fill: var(--page); stroke: var(--accent); stroke-width: 2 } .chart .mark.bad { stroke: var(--bad) }
.chart .mark.good { fill: var(--good); stroke: var(--good) }
"""


@dataclass(frozen=True)
class Line:
    """One curve. Values that are not finite (or not positive, on a log scale) leave a gap."""

    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    style: str = "bold"  # or "faint"


@dataclass(frozen=True)
class Mark:
    """One dot with a word for whoever points at it; neither good nor bad if that is None."""

    x: float
    y: float
    good: bool | None
    text: str


@dataclass(frozen=True)
class Axis:
    """Values to pixels along one side of the plot."""

    low: float
    high: float
    start: float  # pixel of `low`
    end: float  # pixel of `high`
    ticks: tuple[float, ...]
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = (log10(self.low), log10(self.high)) if self.log else (self.low, self.high)
        place = log10(value) if self.log else value
        return self.start + (place - low) / (high - low) * (self.end - self.start)


def chart(
    lines: Sequence[Line], x_label: str, y_label: str, marks: Sequence[Mark] = (), log: bool | None = None
) -> str:
    """An `<svg>` of the lines over one another with axes, ticks and labels; says so where there is nothing to draw.

    `log` makes y logarithmic; by default it is when all values are positive and span over two decades.
    """
    lines = [Line(_clean(line.x), _clean(line.y), line.style) for line in lines]
    xs = np.concatenate([*(line.x for line in lines), _clean([mark.x for mark in marks])])
    ys = np.concatenate([*(line.y for line in lines), _clean([mark.y for mark in marks])])
    xs, ys = xs[np.isfinite(xs)], ys[np.isfinite(ys)]
    if not (xs.size and ys.size):
        return f'<p class="empty">No {escape(y_label)} was recorded.</p>'
    if log is None:
        log = bool(ys.min() > 0 and ys.max() / ys.min() > 100)
    if log:
        ys = ys[ys > 0] if (ys > 0).any() else np.ones(1)
    x = linear(xs.min(), xs.max(), LEFT, WIDTH - RIGHT, tight=True, whole=bool((xs == xs.round()).all()))
    y = (logarithmic if log else linear)(ys.min(), ys.max(), HEIGHT - BOTTOM, TOP)
    body = [_frame(x, y, x_label, y_label + (" (log scale)" if log else ""))]
    body += [f'<path class="{line.style}" d="{_path(line, x, y)}"/>' for line in lines]
    for mark in marks:
        at = _clean([mark.x, mark.y])
        if np.isfinite(at).all() and (at[1] > 0 or not log):
            place = f'cx="{x(at[0]):.1f}" cy="{y(at[1]):.1f}"'
            kind = "mark" if mark.good is None else "mark good" if mark.good else "mark bad"
            body.append(f'<circle class="{kind}" r="4" {place}><title>{escape(mark.text)}</title></circle>')
    label = escape(f"{y_label} over {x_label}", quote=True)
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(body)}</svg>'


def linear(low: float, high: float, start: float, end: float, tight: bool = False, whole: bool = False) -> Axis:
    """An axis with about five round ticks (1, 2 or 5 times a power of ten; integers if `whole`), the first and last of
    them at its ends unless it is `tight`."""
    if high - low <= max(1e-12 * max(abs(low), abs(high)), LEAST):
        pad = 1.0 if whole or abs(low) < LEAST else abs(low) / 2
        low, high = (low if tight else low - pad), low + pad
    raw = (high - low) / 5
    power = 10.0 ** floor(log10(raw))
    step = min((m * power for m in (1, 2, 5, 10)), key=lambda size: abs(log10(size / raw)))
    step = max(step, 1.0) if whole else step
    if not tight:
        low, high = floor(low / step) * step, ceil(high / step) * step
    ticks = tuple(step * i for i in range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1))
    return Axis(low, high, start, end, ticks)


def logarithmic(low: float, high: float, start: float, end: float) -> Axis:
    """An axis over whole decades, with a tick at each, or at every second, third, ... if there are many."""
    first, last = floor(log10(low)), ceil(log10(high))
    last = max(last, first + 1)
    stride = ceil((last - first) / 8)
    return Axis(10.0**first, 10.0**last, start, end, tuple(10.0**e for e in range(first, last + 1, stride)), log=True)


def thin(y: np.ndarray, limit: int = POINTS) -> np.ndarray:
    """Indices of at most `limit` values of y that keep its outline: the least and the greatest of each stretch."""
    if len(y) <= limit:
        return np.arange(len(y))
    keep: set[int] = {0, len(y) - 1}
    for part in np.array_split(np.arange(len(y)), limit // 2 - 1):
        if np.isfinite(y[part]).any():
            keep |= {int(part[np.nanargmin(y[part])]), int(part[np.nanargmax(y[part])])}
    return np.array(sorted(keep))


def _clean(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """As float64; what no measurement can be (not finite, or beyond 1e150) is NaN, what is next to nothing is 0."""
    array = np.asarray(values, np.float64).ravel()
    with np.errstate(invalid="ignore"):
        array = np.where(np.abs(array) < 1e150, array, np.nan)
        return np.where(np.abs(array) < 1e-150, 0.0, array)


def _path(line: Line, x: Axis, y: Axis) -> str:
    kept = thin(np.asarray(line.y))
    values, places = np.asarray(line.y)[kept], np.asarray(line.x)[kept]
    drawn = np.isfinite(values) & np.isfinite(places) & ((values > 0) | (not y.log))
    commands, pen = [], "M"
    for i, visible in enumerate(drawn):
        if visible:
            commands.append(f"{pen}{x(places[i]):.1f},{y(values[i]):.1f}")
        pen = "L" if visible else "M"
    return "".join(commands)


def _frame(x: Axis, y: Axis, x_label: str, y_label: str) -> str:
    parts = []
    for tick in y.ticks:
        at = f"{y(tick):.1f}"
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text x="{LEFT - 7}" y="{at}" dy=".35em" text-anchor="end">{_tick(tick, y)}</text>')
    for tick in x.ticks:
        at = f"{x(tick):.1f}"
        parts.append(f'<line class="axis" x1="{at}" x2="{at}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM + 4}"/>')
        parts.append(f'<text x="{at}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">{_tick(tick, x)}</text>')
    base, middle = HEIGHT - BOTTOM, (TOP + HEIGHT - BOTTOM) / 2
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>')
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>'
    )
    turned = f'transform="translate(14 {middle}) rotate(-90)" text-anchor="middle"'
    parts.append(f"<text {turned}>{escape(y_label)}</text>")
    return "".join(parts)


def _tick(value: float, axis: Axis) -> str:
    """Short and exact enough to tell neighbours apart."""
    step = axis.high - axis.low
    return "0" if not axis.log and abs(value) < 1e-9 * step else f"{value:.6g}".replace("-", "\N{MINUS SIGN}")
