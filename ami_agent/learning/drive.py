"""A drive to make things happen: where nobody rewards, seek what changes most of what can be achieved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ami_agent.brain import Brain
from ami_agent.learning.learner import Learner, LearnerConfig
from ami_agent.learning.student import Student, StudyConfig
from ami_agent.memory.replay import Replay
from ami_agent.protocols import Batch


class Drive(Student):
    """A student of its own, without goals, whose reward is how far what is achieved moves in a step.

    A random actor seldom touches what its goals are about. This one learns to, from the few times it happened, and so
    brings about what goals can be learned from.
    """

    def __init__(self, brain: Brain, replay: Replay, seed: int, study: StudyConfig, learner: LearnerConfig) -> None:
        senses = {name: shape for name, shape in brain.spec.senses.items() if name != "desired_goal"}
        aimless = Brain(replace(brain.spec, senses=senses, goals=False, place=(), goes=False), brain.config, seed)
        super().__init__(None, Learner(aimless, learner), replay, study)

    @property
    def knows_nothing(self) -> bool:
        """Whether nothing was learned yet."""
        return self.brain.updates == 0

    def read(self, moments: np.ndarray, steps: int) -> Batch:
        """Windows with the drive's own rewards, (B, T) in the units of what is achieved; nothing ever ends."""
        batch = self.replay.read(moments, steps)
        moved = torch.linalg.vector_norm(batch.observation["achieved_goal"].diff(dim=1), dim=-1)
        return replace(batch, reward=moved, terminated=torch.zeros_like(batch.terminated))
