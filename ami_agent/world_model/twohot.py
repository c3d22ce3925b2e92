"""Scalars up to 22,000 in size as distributions over bins: symlog two-hot (Hafner et al. 2023, DreamerV3, eq. 9-10)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def symlog(x: Tensor) -> Tensor:
    return x.sign() * x.abs().log1p()


def symexp(x: Tensor) -> Tensor:
    return x.sign() * (x.abs().exp() - 1)


class TwoHot(nn.Module):
    """Between a scalar (...,) and logits (..., bins) over symlog space [-limit, limit]."""

    centres: Tensor

    def __init__(self, bins: int = 101, limit: float = 10.0) -> None:
        super().__init__()
        self.bins, self.limit = bins, limit
        self.register_buffer("centres", torch.linspace(-limit, limit, bins), persistent=False)

    def decode(self, logits: Tensor) -> Tensor:
        """Expected value in symlog space, back in the scalar's own: (..., bins) -> (...,)."""
        return symexp(logits.softmax(-1) @ self.centres)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Cross entropy against the two bins on either side of the target: (..., bins), (...,) -> (...,)."""
        place = (symlog(target).clamp(-self.limit, self.limit) + self.limit) * ((self.bins - 1) / (2 * self.limit))
        low = place.floor().clamp(max=self.bins - 2)
        share = (place - low).unsqueeze(-1)
        log_p = F.log_softmax(logits, dim=-1)
        index = low.nan_to_num().long().unsqueeze(-1)  # a target that is not a number makes a loss that is none
        return -((1 - share) * log_p.gather(-1, index) + share * log_p.gather(-1, index + 1)).squeeze(-1)
