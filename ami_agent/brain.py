"""The learned part of an agent, put together from perception and world model; its weights and what they belong to."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from ami_agent.errors import ArtefactError
from ami_agent.perception.encoder import EncoderConfig, SenseEncoder, SimNorm
from ami_agent.protocols import Spec
from ami_agent.world_model.latent import LatentModel, ModelConfig


@dataclass(frozen=True)
class BrainConfig:
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    model: ModelConfig = field(default_factory=ModelConfig)


class Brain:
    """A world model for one Spec. `steps` counts the env steps it has learned from, `updates` its gradient steps."""

    def __init__(self, spec: Spec, config: BrainConfig | None = None, steps: int = 0, updates: int = 0) -> None:
        self.spec, self.config, self.steps, self.updates = spec, config or BrainConfig(), steps, updates
        e = self.config.encoder
        encoder = SenseEncoder(spec.senses, e)
        self.model = LatentModel(encoder, e.latent, spec.action_size, SimNorm(e.group), self.config.model)

    def tensors(self) -> dict[str, Tensor]:
        """The weights by name, as saved."""
        return dict(self.model.state_dict())

    def meta(self) -> dict[str, Any]:
        """What the weights belong to, as JSON values."""
        return {"spec": asdict(self.spec), "config": asdict(self.config), "steps": self.steps, "updates": self.updates}

    def encoder_id(self) -> str:
        """Identity of the encoder's weights: latents of two encoders are never compared."""
        digest = hashlib.blake2b(digest_size=8)
        for name, value in sorted(self.model.encoder.state_dict().items()):
            digest.update(name.encode() + value.detach().cpu().numpy().tobytes())
        return digest.hexdigest()

    @classmethod
    def restore(cls, tensors: dict[str, Tensor], meta: dict[str, Any]) -> Brain:
        """The brain that `tensors` and `meta` describe.

        Raises:
            ArtefactError: they do not fit together.
        """
        try:
            spec = dict(meta["spec"])
            spec["senses"] = {name: tuple(shape) for name, shape in spec["senses"].items()}
            config = BrainConfig(EncoderConfig(**meta["config"]["encoder"]), ModelConfig(**meta["config"]["model"]))
            brain = cls(Spec(**spec), config, int(meta["steps"]), int(meta["updates"]))
            brain.model.load_state_dict(tensors)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ArtefactError(f"these weights do not fit their own description: {error}") from error
        return brain

    def check_fits(self, spec: Spec) -> None:
        """Raise ArtefactError unless these weights were learned with the senses and actions of `spec`."""
        if (self.spec.senses, self.spec.action_size) != (spec.senses, spec.action_size):
            raise ArtefactError(
                f"the weights were learned with senses {self.spec.senses} and {self.spec.action_size} actions, "
                f"{spec.environment} has {spec.senses} and {spec.action_size}; train again with `ami-agent train`"
            )
