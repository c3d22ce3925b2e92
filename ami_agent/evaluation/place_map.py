"""What is remembered of a place as a map: landmarks, the ways between them, and ways that failed."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

WIDTH, MARGIN = 520, 16  # pixels; the height follows from the place
TALLEST = 900

CSS = """
.map .way { stroke: var(--accent); opacity: .35 } .map .failed { stroke: var(--bad); stroke-dasharray: 3 3 }
.map .landmark { fill: var(--accent) }
"""


def place_map(places: np.ndarray, ways: Iterable[tuple[int, int]], failures: np.ndarray) -> str:
    """An `<svg>`, to scale; nothing for places that are not in a plane.

    Args:
        places: (n, G), of which the first two axes are drawn, if there are no more than three.
        ways: from and to, numbers of landmarks.
        failures: (m, 2 G), from where, to where one did not get.
    """
    if not len(places) or not 2 <= places.shape[1] <= 3:
        return ""
    left, sought = (ends[:, :2] for ends in np.split(failures, 2, axis=1))
    flat = places[:, :2]
    low = np.concatenate([flat, left, sought]).min(0)
    span = np.maximum(np.concatenate([flat, left, sought]).max(0) - low, 1e-9)
    scale = min((WIDTH - 2 * MARGIN) / span[0], (TALLEST - 2 * MARGIN) / span[1])
    height = span[1] * scale + 2 * MARGIN

    def at(points: np.ndarray) -> np.ndarray:
        """To pixels, y upwards."""
        placed = MARGIN + (points - low) * scale
        return np.stack([placed[:, 0], height - placed[:, 1]], 1)

    spots = at(flat)
    lines = [_line(spots[i], spots[j], "way") for i, j in {tuple(sorted(way)) for way in ways}]
    lines += [_line(*ends, "failed") for ends in zip(at(left), at(sought), strict=True)]
    dots = [f'<circle class="landmark" r="3" cx="{x:.1f}" cy="{y:.1f}"/>' for x, y in spots]
    words = f"Map of {len(places)} landmarks, {len(failures)} ways that failed"
    view = f'viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{words}"'
    return f'<svg class="chart map" {view}>{"".join([*lines, *dots])}</svg>'


def _line(start: np.ndarray, end: np.ndarray, kind: str) -> str:
    (x1, y1), (x2, y2) = start, end
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'
