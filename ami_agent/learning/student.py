"""Learning from what was lived: a brain, its optimisers and its replay, whoever does the living."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ami_agent.errors import UsageError, check_ranges
from ami_agent.learning.hindsight import Rewards, relabel
from ami_agent.learning.learner import Learner
from ami_agent.memory.replay import Replay
from ami_agent.protocols import Batch, Episode

GROWTH = 1.05  # of experience, after which scales are set again: little, so that no latent leaps
OWN = 0.2  # share of the most that the median decision moves what is achieved by, if that is the agent's own place


@dataclass(frozen=True)
class StudyConfig:
    ratio: float = 0.25
    """Updates a decision: with an action repeat of 4, a quarter of that an env step."""
    batch: int = 256
    """Windows B in an update."""
    window: int = 3
    """Steps T of a window: the rewards of so many lived steps bound a value from below."""
    hindsight: float = 0.5
    """Share of the windows that get a goal that was reached later, where the environment has goals."""
    moved: float = 0.5
    """Share of the windows that come from episodes drawn by how far what was achieved moved in them."""
    capacity: int = 1_000_000
    """Moments kept for learning."""

    def __post_init__(self) -> None:
        check_ranges(
            self,
            {"batch": (1, 65_536), "window": (1, 256), "capacity": (1, 10**9), "hindsight": (0, 1), "moved": (0, 1)},
        )
        if not 0 < self.ratio <= 64:
            raise UsageError(f"ratio must lie above 0 and up to 64, not {self.ratio}")


class Student:
    """Takes in episodes and updates the brain in step with them."""

    def __init__(self, rewards: Rewards | None, learner: Learner, replay: Replay, config: StudyConfig) -> None:
        self.rewards, self.learner, self.replay, self.config = rewards, learner, replay, config
        self.brain = learner.brain
        self._due = 0.0
        self.fitted = 0  # steps that had been lived when the scales were last set

    def seed(self, *key: int) -> None:
        """Draw from here on as if nothing had been drawn before."""
        self._numbers = np.random.default_rng(key)
        self._torch_numbers = torch.Generator().manual_seed(int(self._numbers.integers(2**62)))
        self._due = 0.0

    @property
    def knows_nothing(self) -> bool:
        """Whether nothing was learned yet, or nothing that was lived is better than anything else: not even in
        hindsight, for other goals."""
        return self.brain.updates == 0 or (not self.relabels and self.replay.indifferent)

    @property
    def relabels(self) -> bool:
        """Whether it learns from goals that were reached by chance."""
        return self.brain.spec.goals and self.config.hindsight > 0

    def take(self, episode_id: int, episode: Episode) -> None:
        """Add an episode of the store to what is learned from."""
        self.replay.add(episode_id, episode)

    def study(self, decisions: int) -> dict[str, float]:
        """Make the updates that are due after so many more decisions; the losses of the last, empty if none was due."""
        if self.replay.lived >= GROWTH * self.fitted:
            self._fit_scales()
        losses: dict[str, float] = {}
        self._due += decisions * self.config.ratio
        while self._due >= 1:
            self._due -= 1
            losses = self.learner.update(self._batch(), self._torch_numbers)
        return losses

    def read(self, moments: np.ndarray, steps: int) -> Batch:
        """Windows of `steps` actions from moments (B, 2), as they are learned from."""
        return self.replay.read(moments, steps)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Weights and optimisers, by name, and plain JSON values: with the replay, all that learning goes on from."""
        facts = {"updates": self.brain.updates, "fitted": self.fitted, "skipped": self.learner.skipped}
        return self.learner.tensors(), facts

    def load(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take up what `state` returned. Raises ArtefactError if it belongs to another brain."""
        self.learner.load(tensors)
        self.brain.updates, self.fitted = int(facts["updates"]), int(facts.get("fitted", 0))
        self.learner.skipped = int(facts.get("skipped", 0))

    @torch.no_grad()
    def effective_rank(self, samples: int = 1024) -> float:
        """How many directions the latent uses, from 1 (collapsed) to D: the exponential of the entropy of its singular
        values (Roy, Vetterli 2007), over moments drawn apart from those of learning.
        """
        moments = self.replay.sample(samples, np.random.default_rng(0))
        seen = self.replay.read(moments, 1).observation
        latent = self.brain.model.encode({name: value[:, 0] for name, value in seen.items()})
        share = torch.linalg.svdvals(latent - latent.mean(0))
        share = share / share.sum().clamp(min=1e-12)
        return float(torch.exp(-(share * share.clamp(min=1e-12).log()).sum()))

    def _fit_scales(self) -> None:
        """Set what the model normalises by from experience: from the first, and each time there is a little more."""
        moments = self.replay.sample(min(16_384, self.replay.steps), self._numbers, self.config.moved)
        first = self.read(moments, 1)
        self.fitted = self.replay.lived
        seen = {name: value[:, 0] for name, value in first.observation.items()}
        self.brain.model.fit(seen, first.reward, first.terminated, keep=self.brain.updates > 0)
        if self.brain.spec.goals:
            self.brain.stride = self._stride()

    def _stride(self) -> float:
        """See `Brain`."""
        moments = self.replay.sample(min(4096, self.replay.steps), np.random.default_rng(0))
        achieved = self.replay.read(moments, 1).observation["achieved_goal"].numpy()
        middle, most = np.quantile(np.linalg.norm(np.diff(achieved, axis=1), axis=-1), (0.5, 0.9))
        return float(most) if middle > OWN * most else 0.0

    def _batch(self) -> Batch:
        """Replay windows, a share of them with a goal that was reached later."""
        moments = self.replay.sample(self.config.batch, self._numbers, self.config.moved)
        batch = self.read(moments, self.config.window)
        if self.rewards is None or not self.relabels:
            return batch
        goals = self.replay.future(moments, self._numbers, "achieved_goal")
        chosen = torch.from_numpy(self._numbers.random(len(moments)) < self.config.hindsight)
        return relabel(batch, goals, chosen, self.rewards)
