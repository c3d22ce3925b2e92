"""The learned part of an agent, put together from perception and world model; its weights and what they belong to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ami_agent import checkpoints
from ami_agent.configs import build
from ami_agent.errors import ArtefactError
from ami_agent.perception.encoder import EncoderConfig, SenseEncoder, SimNorm
from ami_agent.places import as_places
from ami_agent.protocols import Spec
from ami_agent.world_model.latent import LatentModel, ModelConfig

LEAST_COST = 1e-3  # of a way


@dataclass(frozen=True)
class BrainConfig:
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    model: ModelConfig = field(default_factory=ModelConfig)


class Brain:
    """A world model for one Spec. `steps` counts the env steps it has learned from (decisions times the action repeat,
    an episode's last decision whole), `updates` its gradient steps. `stride` is how far what is achieved moves in a
    decision at most (its 90th percentile), if that is the agent's own place, which moves most of the time; else 0."""

    def __init__(self, spec: Spec, config: BrainConfig | None = None, seed: int = 0) -> None:
        self.spec, self.config, self.steps, self.updates = spec, config or BrainConfig(), 0, 0
        self.stride = 0.0
        e = self.config.encoder
        with torch.random.fork_rng(devices=[]):  # torch's layers draw from the global generator
            torch.manual_seed(seed)
            encoder = SenseEncoder(spec.senses, e, spec.place if spec.goes else (), spec.angles)
            discount = discount_for(spec.max_episode_steps)
            self.model = LatentModel(encoder, e.latent, spec.action_size, SimNorm(e.group), discount, self.config.model)

    def meta(self) -> dict[str, Any]:
        """What the weights belong to, as JSON values."""
        counts = {"steps": self.steps, "updates": self.updates, "stride": self.stride}
        return {"spec": asdict(self.spec), "config": asdict(self.config), **counts}

    def perceive(self, observation: Mapping[str, np.ndarray]) -> Tensor:
        """What is sensed, {sense: (..., *shape)}, as latents (..., D) on the model's device."""
        device = self.model.unit.device
        return self.model.encode({name: torch.from_numpy(v).float().to(device) for name, v in observation.items()})

    @property
    def finds_ways(self) -> bool:
        """Whether its values tell what it costs to get to a place."""
        return self.spec.goals and self.stride > 0 and bool(self.model.level < 0)

    @torch.no_grad()
    def costs(self, senses: Mapping[str, np.ndarray], goals: np.ndarray) -> np.ndarray:
        """What it costs to get from moments, each (n, *shape), to goals (n, G): minus the value, (n,) above 0."""
        value = self.model.value(self.perceive({**senses, "desired_goal": goals})).cpu().numpy()
        return np.maximum(-value.astype(np.float64), LEAST_COST)

    def encoder_id(self) -> str:
        """Identity of the encoder's weights, and what they take in: latents of two encoders are never compared."""
        digest = hashlib.blake2b(digest_size=8)
        for name, value in sorted(self.model.encoder.state_dict().items()):
            digest.update(name.encode() + value.detach().cpu().numpy().tobytes())
        if self.spec.angles:
            digest.update(repr(sorted(self.spec.angles.items())).encode())
        return digest.hexdigest()

    def check_fits(self, spec: Spec) -> None:
        """Raise ArtefactError unless these weights were learned with the senses, actions and repeat of `spec`."""
        spec = as_places(spec) if self.spec.goes else spec
        if (self.spec.senses, self.spec.action_size) != (spec.senses, spec.action_size):
            raise ArtefactError(
                f"the weights were learned with senses {self.spec.senses} and {self.spec.action_size} actions, "
                f"{spec.environment} has {spec.senses} and {spec.action_size}"
            )
        learned = self.spec.action_repeat
        if learned != spec.action_repeat:
            raise ArtefactError(
                f"the weights were learned with action repeat {learned}, not {spec.action_repeat}: an action meant "
                f"another thing; --action-repeat {learned} acts as they learned"
            )

    def save(self, path: Path, half: bool = False, **facts: Any) -> str:
        """Write the weights to one file; with `half`, matrices in 16 bits. `facts` go into its metadata.

        The target critics are not written: they start again as copies of the critics. Returns the file's checksum.
        """
        tensors = {
            name: value.half() if half and value.ndim > 1 else value
            for name, value in self.model.state_dict().items()
            if not name.startswith("targets.")
        }
        return checkpoints.save_file(path, tensors, {**self.meta(), **facts})

    @classmethod
    def load(cls, path: Path) -> Brain:
        """Read what `save` wrote.

        Raises:
            ArtefactError: the file is damaged, of another format, or not a brain.
        """
        tensors, meta = checkpoints.load_file(path)
        try:
            brain = cls(build(Spec, meta["spec"]), build(BrainConfig, meta["config"]))
            brain.steps, brain.updates = int(meta["steps"]), int(meta["updates"])
            brain.stride = float(meta.get("stride", 0.0))
            weights = {name: value.float() for name, value in tensors.items()}
            for name in [name for name in weights if name.startswith("critics.")]:
                weights[name.replace("critics.", "targets.", 1)] = weights[name]
            brain.model.load_state_dict(weights)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ArtefactError(f"{path}: the weights do not fit their own description: {error}") from error
        return brain


def discount_for(episode_steps: int) -> float:
    """The discount that looks about a third of an episode ahead, after the rule of TD-MPC2 (which takes a fifth)."""
    ahead = episode_steps / 3
    return min(max((ahead - 1) / ahead, 0.95), 0.995)
