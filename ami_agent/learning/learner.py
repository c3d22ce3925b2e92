"""One update of a brain from a batch of replay windows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ami_agent.brain import Brain
from ami_agent.errors import ArtefactError, NumericalError, UsageError, check_ranges
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
        check_ranges(self, {"clip": (1e-6, 1e12)})


class Learner:
    """Adam on the model and on the policy prior, apart."""

    def __init__(self, brain: Brain, config: LearnerConfig | None = None) -> None:
        self.brain, self.config = brain, config or LearnerConfig()
        model, rate = brain.model, self.config.rate
        encoder: list[Tensor] = list(model.encoder.parameters())
        self._policy: list[Tensor] = list(model.policy.parameters())
        apart = {id(p) for p in (*self._policy, *encoder, *model.targets.parameters())}
        rest = [p for p in model.parameters() if id(p) not in apart]
        self._model = [*rest, *encoder]
        groups: list[dict[str, Any]] = [{"params": rest}, {"params": encoder, "lr": rate / 3}]
        self._optimisers = {
            "model": torch.optim.Adam(groups, lr=rate, fused=True),
            "policy": torch.optim.Adam(self._policy, lr=rate, fused=True),
        }
        self.skipped = 0  # steps of either optimiser that were not made, their loss or gradient not being finite
        self._in_a_row = {"model": 0, "policy": 0}

    def update(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """Descend once; returns the losses, none if the model's was not finite: then nothing was learned.

        Raises:
            NumericalError: the loss was not finite too often in a row; the weights are those of the last good update.
        """
        model = self.brain.model
        loss, metrics = model.loss(batch, generator)
        latents, lived, weight = (metrics.pop(name) for name in ("latents", "lived", "weight"))
        if not self._backward("model", loss, self._model):
            return {}
        policy_loss = model.policy_loss(latents, lived, weight, generator)
        if self._backward("policy", policy_loss, self._policy):
            self._optimisers["policy"].step()
        self._optimisers["model"].step()
        model.follow()
        self.brain.updates += 1
        return {name: value.item() for name, value in metrics.items()}

    def _backward(self, name: str, loss: Tensor, parameters: list[Tensor]) -> bool:
        """Set the gradient for an optimiser's step; whether it and the loss are finite."""
        gradients = torch.autograd.grad(loss, parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.config.clip)
        if math.isfinite(loss.item()) and math.isfinite(norm.item()):
            self._in_a_row[name] = 0
            return True
        self.skipped += 1
        self._in_a_row[name] += 1
        if self._in_a_row[name] >= MAX_SKIPPED:
            raise NumericalError(f"the {name} loss was not finite {MAX_SKIPPED} times in a row")
        return False

    def tensors(self) -> dict[str, Tensor]:
        """Weights and the optimisers' state, by name, as saved."""
        saved = {f"weights/{name}": value for name, value in self.brain.model.state_dict().items()}
        for kind, optimiser in self._optimisers.items():
            for index, state in optimiser.state_dict()["state"].items():
                saved.update({f"{kind}/{index}/{name}": value for name, value in state.items()})
        return saved

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take up what `tensors` returned. Raises ArtefactError if it belongs to another brain."""
        try:
            weights = {name.removeprefix("weights/"): t for name, t in tensors.items() if name.startswith("weights/")}
            self.brain.model.load_state_dict(weights)
            for kind, optimiser in self._optimisers.items():
                state: dict[int, dict[str, Tensor]] = {}
                for key, value in tensors.items():
                    if key.startswith(f"{kind}/"):
                        _, index, name = key.split("/")
                        state.setdefault(int(index), {})[name] = value
                optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
        except (RuntimeError, ValueError, KeyError) as error:
            raise ArtefactError(f"the checkpoint does not fit this configuration: {error}") from error
