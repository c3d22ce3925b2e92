"""What a handful of episodes, or of training runs, allows one to claim.

Interquartile mean, stratified bootstrap, performance profile and probability of improvement: Agarwal et al.,
"Deep Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import comb, prod, sqrt

import numpy as np

DRAWS = 2000
Scores = Sequence[Sequence[float] | np.ndarray]  # [task][run], a score a run


def wilson(successes: int, n: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """The interval, within 0 to 1, that holds the true success rate; 95 % with the default `z`. (0, 1) if n is 0.

    E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", Journal of the American
    Statistical Association 22 (158), 1927. Unlike rate +- error it is right for few trials and for rates of 0 and 1.
    Raises ValueError unless 0 <= successes <= n.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes in {n} trials")
    if n == 0:
        return 0.0, 1.0
    rate, weight = successes / n, z * z / n
    centre = rate + weight / 2
    half = z * sqrt((rate * (1 - rate) + weight / 4) / n)
    low, high = (centre - half) / (1 + weight), (centre + half) / (1 + weight)
    return (0.0 if successes == 0 else low), (1.0 if successes == n else high)


def interquartile_mean(values: Sequence[float] | np.ndarray) -> float:
    """The mean of what is left when a quarter of the values, rounded down, is cut off at either end.

    Less shaken by one odd run than the mean, less wasteful than the median. Raises ValueError for no values, or
    for NaN.
    """
    row = np.asarray(values, np.float64).reshape(1, -1)
    if not row.size:
        raise ValueError("no values to take a mean of")
    if np.isnan(row).any():
        raise ValueError("NaN has no place in a mean")
    return float(_middle_means(row)[0])


def alike(scores: Scores) -> list[np.ndarray]:
    """All tasks weigh the same: of each its first runs, as many as there are of the one that has fewest."""
    least = min(map(len, scores))
    return [np.asarray(runs[:least], np.float64) for runs in scores]


def stratified_bootstrap(
    strata: Sequence[Sequence[Sequence[float] | np.ndarray]], level: float = 0.95, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float]:
    """The percentile interval of the interquartile mean of all values, were the runs of each stratum drawn anew.

    ``strata[task][run]`` are the values of one run: a run is drawn whole, and always from its own task's.
    """
    return middle_interval(_redrawn_means(strata, draws, seed), level)


def difference_of_means(
    ours: Scores, theirs: Scores, level: float = 0.95, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float, float]:
    """Interquartile mean of ours less that of theirs (see `alike`), its interval by stratified bootstrap of both."""
    sides = [alike(scores) for scores in (ours, theirs)]
    means = [interquartile_mean(np.concatenate(scores)) for scores in sides]
    redrawn = [_redrawn_means([[*runs[:, None]] for runs in scores], draws, seed + k) for k, scores in enumerate(sides)]
    return means[0] - means[1], *middle_interval(redrawn[0] - redrawn[1], level)


def performance_profile(
    scores: Scores, thresholds: Sequence[float] | np.ndarray, level: float = 0.95, draws: int = DRAWS, seed: int = 0
) -> np.ndarray:
    """The share of runs that score above each threshold, each task counting alike.

    Returns (3, thresholds): the share and its pointwise interval by stratified bootstrap.
    """
    rng = np.random.default_rng(seed)
    share, redrawn = np.zeros(len(thresholds)), np.zeros((draws, len(thresholds)))
    for runs in scores:
        above = np.asarray(runs, np.float64)[:, None] > np.asarray(thresholds, np.float64)
        share += above.mean(axis=0) / len(scores)
        redrawn += _weights(rng, len(runs), draws) @ above / len(scores)
    return np.stack([share, *np.quantile(redrawn, [(1 - level) / 2, (1 + level) / 2], axis=0)])


def probability_of_improvement(
    ours: Scores, theirs: Scores, level: float = 0.95, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float, float]:
    """How likely a run of ours is above one of theirs on a task drawn at random, equal scores counting half.

    The mean over tasks of the Mann-Whitney U statistic over the number of pairs, with its interval by stratified
    bootstrap. Raises ValueError unless both have the same number of tasks.
    """
    rng = np.random.default_rng(seed)
    chance, redrawn = 0.0, np.zeros(draws)
    for mine, others in zip(ours, theirs, strict=True):
        a, b = np.asarray(mine, np.float64)[:, None], np.asarray(others, np.float64)
        wins = (a > b) + 0.5 * (a == b)
        chance += float(wins.mean()) / len(ours)
        drawn = _weights(rng, len(mine), draws) @ wins
        redrawn += (drawn * _weights(rng, len(others), draws)).sum(axis=1) / len(ours)
    return chance, *middle_interval(redrawn, level)


def permutation_test(before: Scores, after: Scores, draws: int = 20_000, seed: int = 0) -> float:
    """How likely `after` lies as far below `before`, or further, if they do not differ on any task: one-sided, by the
    difference of means, each task counting alike.

    Over all ways to part the runs of each task, or that many drawn at random where there are more (E. J. G. Pitman,
    "Significance Tests Which May be Applied to Samples from any Populations", 1937). It is right for few runs, too.
    Raises ValueError unless both have the same number of tasks.
    """
    pooled = [np.array([*now, *was], np.float64) for was, now in zip(before, after, strict=True)]
    counts = [comb(len(runs), len(now)) for runs, now in zip(pooled, after, strict=True)]
    total, rng = prod(counts), np.random.default_rng(seed)
    ways = np.unravel_index(np.arange(total), counts) if total <= draws else [None] * len(pooled)
    gains = np.zeros(min(total, draws))
    for runs, now, way in zip(pooled, after, ways, strict=True):
        n, k = len(runs), len(now)
        if way is not None:
            orders = np.array([*combinations(range(n), k)])[way]
        else:
            orders = rng.permuted(np.tile(np.arange(n), (draws, 1)), axis=1)[:, :k]
            orders[0] = np.arange(k)  # what was found is one of the ways
        gains += runs[orders].sum(axis=1) * (1 / k + 1 / (n - k))  # what is not `after` sums up to the rest
    return float(np.mean(gains <= gains[0] + 1e-9 * np.abs(np.concatenate(pooled)).sum()))


def _redrawn_means(strata: Sequence[Sequence[Sequence[float] | np.ndarray]], draws: int, seed: int) -> np.ndarray:
    """(draws,) interquartile means of all values, the runs of each stratum drawn anew."""
    rng = np.random.default_rng(seed)
    drawn = []
    for runs in strata:
        values = np.full((len(runs), max(map(len, runs))), np.nan)  # a shorter run ends in NaN, which sorts last
        for row, run in zip(values, runs, strict=True):
            row[: len(run)] = run
        which = rng.integers(len(runs), size=(draws, len(runs)))
        drawn.append(values[which].reshape(draws, -1))
    return _middle_means(np.concatenate(drawn, axis=1))


def _middle_means(values: np.ndarray) -> np.ndarray:
    """Interquartile means of the rows of (n, k); NaN is no value."""
    ordered = np.sort(values, axis=1)
    count = (~np.isnan(ordered)).sum(axis=1, keepdims=True)
    place, cut = np.arange(ordered.shape[1]), count // 4
    kept = (place >= cut) & (place < count - cut)
    return np.where(kept, ordered, 0.0).sum(axis=1) / kept.sum(axis=1)


def _weights(rng: np.random.Generator, n: int, draws: int) -> np.ndarray:
    """(draws, n): the share of each of n runs, were n drawn of them with replacement."""
    return rng.multinomial(n, np.full(n, 1 / n), size=draws) / n


def middle_interval(values: np.ndarray, level: float) -> tuple[float, float]:
    """The interval that holds the middle `level` of values (n,)."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
