"""The shell game: cups in a round change places in plain sight, a ball goes with one of them. Pure functions of time.

Cups are alike, so they are told by their places alone: "cup 2" is whichever one is nearest to the third place. When two
have passed each other, halfway through a swap, each takes the other's number. So no number tells, after a swap, which
cup it was before.
"""

from __future__ import annotations

import numpy as np

SWAP = 10  # env steps that it takes two cups to change places
PASSING = 0.035  # metres that each of them goes aside to pass the other


def draw(rng: np.random.Generator, n: int, ball: int, swaps: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of n cups changes places with the next, swap by swap, (swaps,), and the cup that the ball is under before
    and after each, (swaps + 1,). The ball is in the first swap: where it was seen is not where it is.

    The next of the last is the first: so all cups are alike, and a ball that starts anywhere ends anywhere, as likely.
    """
    first, under = np.zeros(swaps, np.int64), np.full(swaps + 1, ball)
    for swap in range(swaps):
        one = int(ball - rng.integers(2)) % n if swap == 0 else int(rng.integers(n))
        other = (one + 1) % n
        first[swap], ball = one, {one: other, other: one}.get(ball, ball)
        under[swap + 1] = ball
    return first, under


def places(rest: np.ndarray, first: np.ndarray, since: np.ndarray) -> np.ndarray:
    """Where the cups are `since` (k,) steps after the first swap began: (k, n, 2) metres.

    Args:
        rest: their places before and after swaps, (k, n, 2) metres.
        first: the swaps, (k, swaps).
        since: at each multiple of SWAP, and after the last swap, the cups are exactly at rest.
    """
    out, swap = rest.copy(), since // SWAP
    rows = np.flatnonzero((swap < first.shape[1]) & (since % SWAP > 0))
    if len(rows):
        phase, one = since[rows] % SWAP / SWAP, first[rows, swap[rows]]
        other = (one + 1) % rest.shape[1]
        a, b = rest[rows, one], rest[rows, other]
        part = np.minimum(phase, 1 - phase)[:, None]  # of the way to the other's place, and back by the new number
        aside = (b - a)[:, ::-1] * [1.0, -1.0]
        aside *= np.where(phase < 0.5, 1, -1)[:, None] * PASSING * 4 * part * (1 - part)
        aside /= np.sqrt(np.vecdot(b - a, b - a))[:, None]
        out[rows, one] = a + part * (b - a) + aside
        out[rows, other] = b + part * (a - b) - aside
    return out


def ball_under(under: np.ndarray, since: np.ndarray) -> np.ndarray:
    """The cup (k,) that the ball is under, from `under` (k, swaps + 1), at the same times as `places`."""
    return under[np.arange(len(under)), np.minimum((since + SWAP // 2) // SWAP, under.shape[1] - 1)]
