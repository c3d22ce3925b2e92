"""What a handful of episodes allows one to claim."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np


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

    Less shaken by one odd run than the mean, less wasteful than the median (Agarwal et al., "Deep Reinforcement
    Learning at the Edge of the Statistical Precipice", NeurIPS 2021). Raises ValueError for no values.
    """
    ordered = np.sort(np.asarray(values, np.float64), axis=None)
    if not ordered.size:
        raise ValueError("no values to take a mean of")
    cut = ordered.size // 4
    return float(ordered[cut : ordered.size - cut].mean())


def stratified_bootstrap(
    strata: Sequence[Sequence[Sequence[float] | np.ndarray]], level: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """The percentile interval of the interquartile mean of all values, were the runs of each stratum drawn anew.

    ``strata[task][run]`` are the values of one run: a run is drawn whole, and always from its own task's.
    """
    rng, means = np.random.default_rng(seed), np.empty(draws)
    for i in range(draws):
        drawn = [runs[k] for runs in strata for k in rng.integers(len(runs), size=len(runs))]
        means[i] = interquartile_mean(np.concatenate(drawn))
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
