"""What an agent is driven by where nobody rewards: to make things happen, or to see what it has not seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ami_agent.brain import Brain
from ami_agent.learning.learner import Learner, LearnerConfig
from ami_agent.learning.student import Student, StudyConfig
from ami_agent.memory.replay import Replay
from ami_agent.protocols import Batch

TARGET_RATE = 0.01  # of its target critics: slow, for what a drive is rewarded for fades as it is got
KNOWN, NEAREST = 1024, 8  # remembered moments that a moment is held against, and how many of the nearest count


class Drive(Student):
    """A student of its own, without goals, whose reward is how far what is achieved moves in a step.

    A random actor seldom touches what its goals are about. This one learns to, from the few times it happened, and so
    brings about what goals can be learned from.
    """

    def __init__(self, brain: Brain, replay: Replay, seed: int, study: StudyConfig, learner: LearnerConfig) -> None:
        senses = {name: shape for name, shape in brain.spec.senses.items() if name != "desired_goal"}
        config = replace(brain.config, model=replace(brain.config.model, target_rate=TARGET_RATE))
        aimless = Brain(replace(brain.spec, senses=senses, goals=False, place=(), goes=False), config, seed)
        super().__init__(None, Learner(aimless, learner), replay, study)

    @property
    def knows_nothing(self) -> bool:
        """Whether nothing was learned yet."""
        return self.brain.updates == 0

    def read(self, moments: np.ndarray, steps: int) -> Batch:
        """Windows with the drive's own rewards, (B, T); nothing ever ends."""
        batch = self.replay.read(moments, steps)
        return replace(batch, reward=self._reward(batch), terminated=torch.zeros_like(batch.terminated))

    def _reward(self, batch: Batch) -> Tensor:
        """In the units of what is achieved."""
        return torch.linalg.vector_norm(batch.observation["achieved_goal"].diff(dim=1), dim=-1)


class Curiosity(Drive):
    """Its reward is how far what a step leads to is from what is remembered: the mean distance to the nearest of
    randomly drawn moments, senses in units of their spread (after Liu, Abbeel 2021, who maximise entropy so).
    """

    def _reward(self, batch: Batch) -> Tensor:
        scaled: Callable[..., Tensor] = self.brain.model.encoder.scaled  # type: ignore[assignment, union-attr]
        known = scaled(self.replay.read(self.replay.sample(KNOWN, self._numbers), 1).observation)[:, 0]
        came = scaled(batch.observation)[:, 1:]
        nearest = torch.cdist(came.flatten(0, 1), known).topk(NEAREST, largest=False).values
        return nearest.mean(-1).view(came.shape[:2])

    def _fit_scales(self) -> None:
        super()._fit_scales()
        if self.brain.updates == 0:  # its rewards were in units that have only now been set
            super()._fit_scales()
