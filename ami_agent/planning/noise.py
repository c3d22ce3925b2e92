"""Noise over time by seed, the same on every device and in every batch: places in one table of it.

A table instead of a generator for each seed, after the evolution strategies of Salimans et al. 2017: all worlds draw at
once, and a CUDA graph can. Two seeds may share some of their noise.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

NUMBERS, ROWS = 2**20, 2**14  # in a table, at least
SHARE = 8  # times as many rows in a table as in a draw from it, at least
GAMMA = np.uint64(0x9E3779B97F4A7C15)  # SplitMix64's step
GOLDEN = 0x9E3779B1  # the golden section of 2**32: its multiples lie evenly (Fibonacci hashing; Knuth, TAOCP 3, 6.4)


class Noise:
    """Power-law noise over `length` time steps, of unit variance."""

    def __init__(self, length: int, exponent: float = 0.0) -> None:
        self._length, self._exponent = length, exponent
        self._tables: dict[tuple[int, torch.device], Tensor] = {}  # all of them: CUDA graphs read where they lie

    def draw(self, seeds: Tensor, *shape: int) -> Tensor:
        """Seeds (B,) int64, not negative -> (B, *shape, length)."""
        count = math.prod(shape)
        places = self._table(max(NUMBERS // self._length, ROWS, SHARE * count), seeds.device)
        first = (seeds % 2**31 * GOLDEN % 2**32 * len(places)) >> 32  # seeds next to each other come to lie far apart
        rows = (first[:, None] + torch.arange(count, device=seeds.device)) % len(places)
        return F.embedding(rows, places).view(len(seeds), *shape, -1)

    @torch.inference_mode(False)
    def _table(self, rows: int, device: torch.device) -> Tensor:
        if (rows, device) not in self._tables:
            self._tables[rows, device] = table(self._length, self._exponent, rows).to(device)
        return self._tables[rows, device]


@functools.cache
def table(length: int, exponent: float, rows: int) -> Tensor:
    """(rows, length)."""
    white = torch.randn(rows, length, generator=torch.Generator().manual_seed(0))
    return white @ coloured(length, exponent).T


@functools.cache
def coloured(length: int, exponent: float) -> Tensor:
    """The matrix (T, T) that makes white noise over time power-law noise of unit variance (Timmer, Koenig 1995)."""
    frequency = torch.fft.rfftfreq(length)
    scale = torch.where(frequency > 0, frequency, 1.0 / length) ** (-exponent / 2)
    mix = torch.fft.irfft(scale[:, None] * torch.fft.rfft(torch.eye(length), dim=0), n=length, dim=0)
    return mix / mix.square().sum(1, keepdim=True).sqrt()


def mixed(seed: int, *numbers: np.ndarray) -> np.ndarray:
    """One seed from a seed and an array (B,) of each number: (B,) int64, not negative.

    Each number counts on from what those before it gave, by SplitMix64 (Steele, Lea, Flood 2014).
    """
    sums = np.full(len(numbers[0]), GAMMA)
    for number in (np.full(len(sums), seed % 2**64, np.uint64), *numbers):
        sums = sums + number.astype(np.uint64) * GAMMA
        sums = (sums ^ (sums >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        sums = (sums ^ (sums >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        sums ^= sums >> np.uint64(31)
    return (sums >> np.uint64(1)).astype(np.int64)
