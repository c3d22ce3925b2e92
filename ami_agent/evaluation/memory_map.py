"""What is remembered as a map of latents: each dot a moment, near others that are like it, coloured by outcome."""

from __future__ import annotations

import numpy as np

WIDTH, MARGIN = 520, 12  # pixels; the height follows from the moments
KINDS = {1: "good", 0: "bad", -1: "untold"}

CSS = """
.moments circle { fill-opacity: .55 } .moments .good { fill: var(--good) } .moments .bad { fill: var(--bad) }
.moments .untold { fill: var(--accent) }
"""


def memory_map(latents: np.ndarray, success: np.ndarray) -> str:
    """An `<svg>` of latents (n, D) along their two main axes (principal components), with the success (n,) of their
    episodes: 1, 0 or, where it is not told, -1. Nothing for fewer than three moments, or such as are all the same."""
    if len(latents) < 3 or not np.ptp(latents, axis=0).any():
        return ""
    centred = latents.astype(np.float64) - latents.mean(0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    flat = centred @ axes.T
    low, span = flat.min(0), np.maximum(np.ptp(flat, axis=0), 1e-9)
    spots = MARGIN + (flat - low) * (WIDTH - 2 * MARGIN) / span[0]
    height = spots[:, 1].max() + MARGIN
    dots = [
        f'<circle class="{KINDS[int(kind)]}" r="2.5" cx="{x:.1f}" cy="{height - y:.1f}"/>'
        for (x, y), kind in zip(spots, success, strict=True)
    ]
    told = ", ".join(f"{int((success == kind).sum())} {name}" for kind, name in KINDS.items())
    view = f'viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="Map of {len(latents)} moments: {told}"'
    return f'<svg class="chart moments" {view}>{"".join(dots)}</svg>'
