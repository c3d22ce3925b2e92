"""What can be read from latents, and how well surprise tells the impossible: numbers, from arrays alone.

A probe is linear on purpose: what it finds lies open in the latent, and is not worked out by the probe (Alain, Bengio,
"Understanding intermediate layers using linear classifier probes", 2016). Intervals are of episodes drawn anew: the
moments of one episode are too much alike to count each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ami_agent.evaluation.statistics import middle_interval

PENALTIES = tuple(10.0**k for k in range(-6, 3))  # of a probe's weights, per moment that it is fitted to
APART = 4  # every fourth episode chooses the penalty
DRAWS = 2000


@dataclass(frozen=True)
class Probe:
    """A linear map: features (m, F) -> guesses (m, K)."""

    mean: np.ndarray  # (F,)
    weights: np.ndarray  # (F, K)
    offset: np.ndarray  # (K,)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        return (features - self.mean) @ self.weights + self.offset


def fit_probe(features: np.ndarray, targets: np.ndarray, episodes: np.ndarray) -> Probe:
    """Ridge regression (Hoerl, Kennard 1970) on features (m, F), each counted in its own spread, for targets (m, K).

    The penalty is the one of `PENALTIES` that serves best in every fourth of the episodes (m,) when the others are
    fitted; then all are. Raises ValueError for fewer than two episodes.
    """
    known, number = np.unique(episodes, return_inverse=True)
    if len(known) < 2:
        raise ValueError(f"a probe is fitted to two episodes at least, not to {len(known)}")
    fit = number % APART != 0
    tried = _ridges(features[fit], targets[fit], PENALTIES)
    errors = [np.square(probe(features[~fit]) - targets[~fit]).sum() for probe in tried]
    return _ridges(features, targets, (PENALTIES[int(np.argmin(errors))],))[0]


def _ridges(features: np.ndarray, targets: np.ndarray, penalties: tuple[float, ...]) -> list[Probe]:
    """A probe for each penalty, from one eigendecomposition of the features' correlations."""
    mean, spread, offset = features.mean(0), features.std(0), targets.mean(0)
    scale = np.where(spread > 1e-9, 1 / np.maximum(spread, 1e-9), 0.0)  # what never changes tells nothing
    x, m = (features - mean) * scale, len(features)
    values, axes = np.linalg.eigh(x.T @ x / m)
    along = axes.T @ (x.T @ (targets - offset)) / m
    shrunk = [along / (np.maximum(values, 0.0) + penalty)[:, None] for penalty in penalties]
    return [Probe(mean, scale[:, None] * (axes @ one), offset) for one in shrunk]


def r2(
    truth: np.ndarray, guess: np.ndarray, episodes: np.ndarray, level: float = 0.95, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float, float]:
    """The share of the variance of truth (m, K) that guesses (m, K) account for, with its interval (bootstrap over
    episodes (m,)).

    1 is perfect, 0 as good as the mean; the coordinates of a quantity count together, in their common unit. Raises
    ValueError for truth that never varies.
    """
    known, number = np.unique(episodes, return_inverse=True)
    centred = truth - truth.mean(0) if len(truth) else truth
    variation = np.square(centred).sum()
    if not variation > 0:
        raise ValueError("truth that never varies has no R2")
    rows = [np.square(truth - guess).sum(1), np.square(centred).sum(1), np.ones(len(truth)), *centred.T]
    missed, square, count, *sums = (np.bincount(number, row, len(known)) for row in rows)

    def share(weights: np.ndarray) -> np.ndarray:
        total = weights @ square - sum(np.square(weights @ one) for one in sums) / (weights @ count)
        varied = total > 1e-9 * variation  # a draw in which nothing varies tells nothing
        return 1 - (weights @ missed)[varied] / total[varied]

    redrawn = share(_times_drawn(len(known), draws, seed))
    return float(share(np.ones((1, len(known))))[0]), *middle_interval(redrawn, level)


def auroc(
    impossible: np.ndarray, possible: np.ndarray, level: float = 0.95, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float, float]:
    """How likely an impossible episode scores above a possible one, equal scores counting half: the area under the
    receiver operating characteristic, with its interval (bootstrap over pairs of twins).

    impossible (n,) and possible (n,) are scores of twins in the same order: both of a pair are drawn together. The area
    is the Mann-Whitney U statistic over the number of pairs (Hanley, McNeil 1982). 0.5 is chance. Raises ValueError
    for no pairs, or scores that are no twins.
    """
    if not len(impossible) or impossible.shape != possible.shape:
        raise ValueError(f"twins come in pairs, not as {len(impossible)} and {len(possible)}")
    wins = (impossible[:, None] > possible) + 0.5 * (impossible[:, None] == possible)
    drawn = _times_drawn(len(wins), draws, seed) / len(wins)
    return float(wins.mean()), *middle_interval(((drawn @ wins) * drawn).sum(1), level)


def normalised(errors: np.ndarray, mean: float, variance: float, rate: float = 0.05) -> np.ndarray:
    """Errors (T, n) in time, each as standard deviations above the running mean of those before it: (T, n).

    Mean and variance begin as given, as they are in ordinary life, and follow each error at `rate`, in each of the n
    episodes for itself (exponentially weighted; Finch, "Incremental calculation of weighted mean and variance", 2009).
    """
    told = np.empty(errors.shape)
    centre, spread = np.full(errors.shape[1], mean), np.full(errors.shape[1], variance)
    for t, error in enumerate(errors):
        step = error - centre
        told[t] = step / np.sqrt(np.maximum(spread, 1e-12))
        centre = centre + rate * step
        spread = (1 - rate) * (spread + rate * step**2)
    return told


def _times_drawn(n: int, draws: int, seed: int) -> np.ndarray:
    """(draws, n): how often each of n is among n drawn with replacement."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws).astype(float)
