"""One update of a brain from a batch of replay windows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ami_agent.brain import Brain
from ami_agent.errors import NumericalError, UsageError
from ami_agent.protocols import Batch

MAX_SKIPPED = 20  # updates with a loss that is not finite, in a row, before learning stops


@dataclass(frozen=True)
class LearnerConfig:
    rate: float = 5e-4
    """Learning rate of Adam; the encoder's is a third of it."""
    clip: float = 10.0
    """Largest norm of the gradient."""

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise UsageError(f"rate must lie between 0 and 1, not {self.rate}")


class Learner:
    """Adam on the model and on the policy prior, apart."""

    def __init__(self, brain: Brain, config: LearnerConfig | None = None) -> None:
        self.brain, self.config = brain, config or LearnerConfig()
        model = brain.model
        self._policy = list(model.policy.parameters())
        encoder = list(model.encoder.parameters())
        apart = {id(p) for p in (*self._policy, *encoder, *model.targets.parameters())}
        self._rest = [p for p in model.parameters() if id(p) not in apart]
        rate = self.config.rate
        self.model_optimiser = torch.optim.Adam([{"params": self._rest}, {"params": encoder, "lr": rate / 3}], lr=rate)
        self.policy_optimiser = torch.optim.Adam(self._policy, lr=rate)
        self._encoder = encoder
        self._skipped = 0

    def update(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """Descend once; returns the losses.

        Raises:
            NumericalError: the loss was not finite too many times in a row. The weights are those of the last good step.
        """
        model = self.brain.model
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            loss, metrics = model.loss(batch, generator)
        if not math.isfinite(loss.item()):
            return self._skip()
        latents, weight = metrics.pop("latents"), metrics.pop("weight")
        self.model_optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_([*self._rest, *self._encoder], self.config.clip)
        if not math.isfinite(norm.item()):
            return self._skip()
        self.model_optimiser.step()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            policy_loss = model.policy_loss(latents, weight, generator)
        gradients = torch.autograd.grad(policy_loss, self._policy)
        for parameter, gradient in zip(self._policy, gradients, strict=True):
            parameter.grad = gradient
        torch.nn.utils.clip_grad_norm_(self._policy, self.config.clip)
        self.policy_optimiser.step()
        model.follow()
        self._skipped = 0
        self.brain.updates += 1
        return {name: value.item() for name, value in metrics.items()}

    half = False

    def _skip(self) -> dict[str, float]:
        self._skipped += 1
        if self._skipped >= MAX_SKIPPED:
            raise NumericalError(f"{self._skipped} updates in a row had a loss that is not finite")
        return {"skipped": 1.0}
