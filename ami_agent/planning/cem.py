"""The house planner: the cross-entropy method over action sequences, in the model's imagination.

After iCEM (Pinneri et al. 2020): coloured noise, kept elites, a shifted warm start; and proposals (of the policy prior,
of memory) that stay among the samples. The space is searched where it is bounded: samples are clipped to [-1, 1]
before they are judged. The same seeds give the same plan, whatever else is in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ami_agent.errors import UsageError, check_ranges
from ami_agent.protocols import Objective, WorldModel

LIMITS: dict[str, tuple[float, float]] = {
    "horizon": (1, 1_000),
    "samples": (1, 100_000),
    "iterations": (1, 1_000),
    "elites": (1, 100_000),
    "kept": (0, 100_000),
    "spread": (1e-3, 2.0),
    "least_spread": (0.0, 2.0),
    "colour": (0.0, 4.0),
    "temperature": (1e-3, 1e3),
}


@dataclass(frozen=True)
class CEMConfig:
    horizon: int = 3
    """Env steps looked ahead."""
    samples: int = 64
    """Candidates drawn an iteration, beside the proposals."""
    iterations: int = 2
    """Rounds of sampling and refitting."""
    elites: int = 8
    """Best candidates that the next round is fitted to."""
    kept: int = 2
    """Elites that go on into the next round unchanged."""
    spread: float = 0.25
    """Standard deviation of the first round."""
    least_spread: float = 0.05
    """Standard deviation that no round goes below."""
    colour: float = 0.5
    """Power-law exponent of the noise over time; 0 is white."""
    temperature: float = 0.2
    """Weights of the elites, exp(-cost gap / (temperature * cost spread)); higher is flatter."""

    def __post_init__(self) -> None:
        check_ranges(self, LIMITS)
        if not self.kept <= self.elites <= self.samples:
            raise UsageError(f"kept <= elites <= samples must hold: {self.kept}, {self.elites}, {self.samples}")


class CEM:
    """plan() refines a Gaussian over action sequences towards lower cost and returns the mean of its last round."""

    def __init__(self, config: CEMConfig | None = None) -> None:
        self.config = config or CEMConfig()
        self._colour = coloured(self.config.horizon, self.config.colour)

    def plan(
        self,
        model: WorldModel,
        latent: Tensor,
        objective: Objective,
        seeds: Sequence[int],
        start: Tensor,
        proposals: Tensor | None = None,
    ) -> Tensor:
        """latent (B, D), a seed a world, start (B, T, A), proposals (B, P, T, A) -> actions (B, T, A) in [-1, 1].

        `start` is where the search begins, as a rule the last plan shifted by a step (see `shifted`).
        """
        c = self.config
        given = start.new_zeros(len(start), 0, *start.shape[1:]) if proposals is None else proposals
        mean, std, kept = start, torch.full_like(start, c.spread), given[:, :0]
        for noise in self._noise(seeds, start):
            drawn = mean.unsqueeze(1) + std.unsqueeze(1) * noise
            candidates = torch.cat([drawn, mean.unsqueeze(1), given, kept], 1).clamp(-1.0, 1.0)
            elites, cost = self._best(model, latent, objective, candidates, c.elites)
            gap = cost - cost[:, :1]
            weight = torch.softmax(-gap / (c.temperature * gap.mean(1, keepdim=True) + 1e-6), 1)[..., None, None]
            mean = (weight * elites).sum(1)
            std = (weight * (elites - mean.unsqueeze(1)).square()).sum(1).sqrt().clamp(min=c.least_spread)
            kept = elites[:, : c.kept]
        return mean

    def _noise(self, seeds: Sequence[int], like: Tensor) -> Tensor:
        """All of a plan's randomness, (iterations, B, N, T, A): drawn on the CPU, so that every device plans alike."""
        c, generator = self.config, torch.Generator()
        shape = (c.iterations, c.samples, *like.shape[1:])
        white = torch.stack([torch.randn(shape, generator=generator.manual_seed(seed)) for seed in seeds], 1)
        return torch.einsum("st,ibnta->ibnsa", self._colour, white).to(like.device)

    @staticmethod
    def _best(
        model: WorldModel, latent: Tensor, objective: Objective, candidates: Tensor, count: int
    ) -> tuple[Tensor, Tensor]:
        """The `count` cheapest candidates of each world, cheapest first: (B, count, T, A), (B, count)."""
        cost = objective(imagine(model, latent, candidates), candidates)
        worst = cost.nan_to_num(-torch.inf, -torch.inf, -torch.inf).amax(1, keepdim=True).nan_to_num(neginf=0.0)
        cost = torch.where(cost.isfinite(), cost, worst + 1.0)  # what is not a number loses
        cost, index = cost.topk(min(count, cost.shape[1]), largest=False)
        picked = index[..., None, None].expand(-1, -1, *candidates.shape[2:])
        return candidates.gather(1, picked), cost


def imagine(model: WorldModel, latent: Tensor, actions: Tensor) -> Tensor:
    """Roll the model out: latent (B, D), actions (B, N, T, A) -> latents (B, N, T+1, D)."""
    latents = [latent.unsqueeze(1).expand(-1, actions.shape[1], -1)]
    for action in actions.unbind(2):
        latents.append(model.predict(latents[-1], action))
    return torch.stack(latents, 2)


def shifted(plan: Tensor, steps: int = 1) -> Tensor:
    """A plan as the start of the next one: (B, T, A) without its first `steps` actions, its last one held."""
    return torch.cat([plan[:, steps:], plan[:, -1:].expand(-1, min(steps, plan.shape[1]), -1)], 1)


def coloured(length: int, exponent: float) -> Tensor:
    """The matrix (T, T) that makes white noise over time power-law noise of unit variance (Timmer, Koenig 1995)."""
    frequency = torch.fft.rfftfreq(length)
    scale = torch.where(frequency > 0, frequency, 1.0 / length) ** (-exponent / 2)
    mix = torch.fft.irfft(scale[:, None] * torch.fft.rfft(torch.eye(length), dim=0), n=length, dim=0)
    return mix / mix.square().sum(1, keepdim=True).sqrt()
