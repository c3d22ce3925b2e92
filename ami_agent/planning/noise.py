"""Noise over time by seed, the same on every device and in every batch: places in one table of it.

A table instead of a generator for each seed, after the evolution strategies of Salimans et al. 2017: all worlds draw at
once, and a CUDA graph can. Two seeds may share some of their noise.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

NUMBERS, ROWS = 2**20, 2**14  # in a table, at least


class Noise:
    """Power-law noise over `length` time steps, of unit variance."""

    def __init__(self, length: int, exponent: float = 0.0) -> None:
        self._table = table(length, exponent)

    def draw(self, seeds: Tensor, *shape: int) -> Tensor:
        """Seeds (B,) int64, not negative -> (B, *shape, length)."""
        if self._table.device != seeds.device:
            self._table = self._table.to(seeds.device)
        count = math.prod(shape)
        first = seeds % 0x7FFFFFFF * 48271  # Lehmer's: seeds next to each other come to lie far apart
        rows = (first % max(len(self._table) - count, 1))[:, None] + torch.arange(count, device=seeds.device)
        if count > len(self._table):
            rows = rows % len(self._table)
        return F.embedding(rows, self._table).view(len(seeds), *shape, -1)


@functools.cache
def table(length: int, exponent: float) -> Tensor:
    """(rows, length)."""
    white = torch.randn(max(NUMBERS // length, ROWS), length, generator=torch.Generator().manual_seed(0))
    return white @ coloured(length, exponent).T


def coloured(length: int, exponent: float) -> Tensor:
    """The matrix (T, T) that makes white noise over time power-law noise of unit variance (Timmer, Koenig 1995)."""
    frequency = torch.fft.rfftfreq(length)
    scale = torch.where(frequency > 0, frequency, 1.0 / length) ** (-exponent / 2)
    mix = torch.fft.irfft(scale[:, None] * torch.fft.rfft(torch.eye(length), dim=0), n=length, dim=0)
    return mix / mix.square().sum(1, keepdim=True).sqrt()
