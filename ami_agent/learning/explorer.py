"""How the agent acts while it gathers experience: at random first, then by its policy prior and noise."""

from __future__ import annotations

import numpy as np
import torch

from ami_agent.brain import Brain

NOISE = (0.05, 0.6)  # standard deviation in the first world and in the last


class Explorer:
    """An Agent for collecting. While `random`, actions are uniform; later each world adds its own amount of noise to
    the policy prior: the first hardly any, so that its lead is followed far, the last much, to try other things.
    """

    def __init__(self, brain: Brain, generator: np.random.Generator, random: bool) -> None:
        self.random = random
        self._model, self._size, self._generator = brain.model, brain.spec.action_size, generator

    def reset(self, done: np.ndarray) -> None:
        """Nothing to forget."""

    @torch.no_grad()
    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        shape = (len(next(iter(observation.values()))), self._size)
        if self.random:
            return self._generator.uniform(-1, 1, shape).astype(np.float32)
        latent = self._model.encode({name: torch.from_numpy(value).float() for name, value in observation.items()})
        amount = np.linspace(*NOISE, shape[0], dtype=np.float32)[:, None]
        noise = amount * self._generator.standard_normal(shape).astype(np.float32)
        return np.clip(self._model.act(latent).numpy() + noise, -1.0, 1.0)
