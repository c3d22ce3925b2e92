"""The house planner: the cross-entropy method over action sequences, in the model's imagination.

After iCEM (Pinneri et al. 2020): coloured noise, kept elites, a shifted warm start; and proposals (of the policy prior,
of memory) that stay among the samples. The space is searched where it is bounded: samples are clipped to [-1, 1]
before they are judged. The same seeds give the same plan whatever else is in the batch, but for rounding, which shows
where elites cost nearly the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ami_agent.errors import UsageError, check_ranges
from ami_agent.planning.noise import Noise
from ami_agent.protocols import Objective, WorldModel

LOST = 1e30  # cost of what is not a number

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
    """Decisions looked ahead."""
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
    least_spread: float = 0.01
    """Standard deviation that no round goes below: noise of the plan itself."""
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
        self._noise = Noise(self.config.horizon, self.config.colour)

    def plan(
        self,
        model: WorldModel,
        latent: Tensor,
        objective: Objective,
        seeds: Tensor,
        start: Tensor,
        proposals: Tensor | None = None,
    ) -> Tensor:
        """latent (B, D), seeds (B,) int64, start (B, T, A), proposals (B, P, T, A) -> actions (B, T, A) in [-1, 1].

        `start` is where the search begins, as a rule the last plan shifted by a step (see `shifted`). All on one
        device, which nothing here waits for.
        """
        c = self.config
        noise = self._noise.draw(seeds, c.iterations, c.samples, start.shape[2]).movedim(-1, 0).unbind(2)
        mean, std = start.movedim(1, 0).unsqueeze(2), start.new_full((), c.spread)  # time first: steps in one piece
        drawn = [torch.addcmul(mean, std, noise[0]), mean]
        pool = torch.cat(drawn if proposals is None else [*drawn, proposals.movedim(2, 0)], 2).clamp_(-1.0, 1.0)
        cost = _judge(model, latent, objective, pool)
        given, given_cost = pool[:, :, c.samples + 1 :], cost[:, c.samples + 1 :]
        for later in noise[1:]:
            elites, elite_cost, weight = self._elites(pool, cost)
            mean = (weight * elites).sum(2, keepdim=True)
            std = (weight * (elites - mean).square()).sum(2, keepdim=True).sqrt().clamp_(min=c.least_spread)
            fresh = torch.cat([torch.addcmul(mean, std, later), mean], 2).clamp_(-1.0, 1.0)
            pool = torch.cat([fresh, given, elites[:, :, : c.kept]], 2)  # of these, only what is fresh is to be judged
            cost = torch.cat([_judge(model, latent, objective, fresh), given_cost, elite_cost[:, : c.kept]], 1)
        elites, _, weight = self._elites(pool, cost)
        return (weight * elites).sum(2).movedim(0, 1)

    def _elites(self, candidates: Tensor, cost: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The cheapest candidates of each world, cheapest first, (T, B, K, A), their costs, (B, K), and their shares in
        the next mean, (B, K, 1).
        """
        cost, index = cost.topk(min(self.config.elites, cost.shape[1]), largest=False)
        elites = candidates.gather(2, index[..., None].expand(len(candidates), -1, -1, candidates.shape[3]))
        return elites, cost, self._shares(cost).unsqueeze(-1)

    def _shares(self, cost: Tensor) -> Tensor:
        """By costs (B, K), cheapest first; what is lost has none, unless all is."""
        sound = cost < LOST
        gap = (cost - cost[:, :1]).mul_(sound)
        mean = gap.sum(1, keepdim=True).div_(sound.sum(1, keepdim=True).clamp_(min=1))
        gap.div_(mean.mul_(-self.config.temperature).sub_(1e-6))
        return torch.where(sound, gap, -LOST).softmax(1)


def _judge(model: WorldModel, latent: Tensor, objective: Objective, actions: Tensor) -> Tensor:
    """(T, B, N, A) -> costs (B, N); what is not a number loses."""
    actions = actions.movedim(0, 2)
    return objective(imagine(model, latent, actions), actions).nan_to_num(LOST, LOST, LOST)


def imagine(model: WorldModel, latent: Tensor, actions: Tensor) -> Tensor:
    """Roll the model out: latent (B, D), actions (B, N, T, A) -> latents (B, N, T+1, D)."""
    latents = [latent.unsqueeze(1).expand(-1, actions.shape[1], -1)]
    for action in actions.unbind(2):
        latents.append(model.predict(latents[-1], action))
    return torch.stack(latents).movedim(0, 2)


def shifted(plan: Tensor, steps: int = 1) -> Tensor:
    """A plan as the start of the next one: (B, T, A) without its first `steps` actions, its last one held."""
    return torch.cat([plan[:, steps:], plan[:, -1:].expand(-1, min(steps, plan.shape[1]), -1)], 1)
