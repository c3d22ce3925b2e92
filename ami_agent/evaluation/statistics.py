"""What a handful of episodes allows one to claim."""

from __future__ import annotations

from math import sqrt


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
