"""How the agent acts while it gathers experience: at random first, then by samples of its policy prior."""

from __future__ import annotations

import numpy as np
import torch

from ami_agent.brain import Brain

MOST_NOISE = 0.5  # standard deviation


class Explorer:
    """An Agent for collecting. While `random`, actions are uniform; later each world adds its own amount of noise,
    from `MOST_NOISE` to none, so that there is always one world that tries what the policy is sure not to do.
    """

    def __init__(self, brain: Brain, generator: np.random.Generator, random: bool) -> None:
        self.random = random
        self._brain, self._size, self._generator = brain, brain.spec.action_size, generator

    def reset(self, done: np.ndarray) -> None:
        """Nothing to forget."""

    @torch.no_grad()
    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        shape = (len(next(iter(observation.values()))), self._size)
        if self.random:
            return self._generator.uniform(-1, 1, shape).astype(np.float32)
        latent = self._brain.perceive(observation)
        noise = self._generator.standard_normal((2, *shape)).astype(np.float32)
        action = self._brain.model.act(latent, torch.from_numpy(noise[0])).numpy()
        amount = np.linspace(MOST_NOISE, 0.0, len(action), dtype=np.float32)[:, None]
        return np.clip(action + amount * noise[1], -1.0, 1.0)
