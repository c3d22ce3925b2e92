"""The parts of the agent and what passes between them: the architecture on one page.

Axes, always in this order: ``B`` batch (parallel worlds or replay windows), ``N`` candidate plans, ``T`` time,
``A`` action, ``D`` latent, or a sense's own shape. T actions go with T+1 observations:
``observation[t] -> action[t] -> reward[t], observation[t+1]``. ``terminated`` and ``truncated`` stay two things.

Actions are in [-1, 1] everywhere inside the agent; `ami_agent.environment` maps them to the environment's own box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    Senses = dict[str, Tensor]


@dataclass(frozen=True)
class Spec:
    """What an agent must know of an environment; read once, saved with the checkpoint."""

    environment: str
    senses: dict[str, tuple[int, ...]]  # shape of each sense, without B
    action_size: int
    goals: bool  # observation carries achieved_goal and desired_goal, and compute_reward exists
    max_episode_steps: int
    control_period: float = 0.0  # seconds an action lasts; 0 if the environment does not say


@dataclass(frozen=True)
class Episode:
    """One episode as it was lived: T actions, T+1 observations."""

    environment: str
    observation: dict[str, np.ndarray]  # each (T+1, *shape)
    action: np.ndarray  # (T, A) float32 in [-1, 1]
    reward: np.ndarray  # (T,) float32
    terminated: bool
    truncated: bool
    success: bool
    seed: int = 0
    session: str = ""  # which run lived it
    latent: np.ndarray | None = None  # (T+1, D) float32, by the encoder `encoder`
    encoder: str = ""  # identity of the encoder that made `latent`
    surprise: np.ndarray | None = None  # (T,) float32, one-step prediction error

    def __len__(self) -> int:
        return len(self.action)


@dataclass
class Batch:
    """Replay windows: what a world model learns from. After an episode's end rows repeat and `mask` is 0."""

    observation: Senses  # each (B, T+1, *shape) float32
    action: Tensor  # (B, T, A)
    reward: Tensor  # (B, T)
    terminated: Tensor  # (B, T) float32, 1 where the step ended the task
    mask: Tensor  # (B, T) float32, 1 where the step was lived


class WorldModel(Protocol):
    """Latent dynamics learned by prediction (a JEPA) with heads for what a plan is judged by."""

    def encode(self, observation: Senses) -> Tensor:
        """{sense: (B, *shape)} -> latent (B, D)."""
        ...

    def predict(self, latent: Tensor, action: Tensor) -> Tensor:
        """(B, D), (B, A) -> the next latent (B, D)."""
        ...

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Scalar to descend, and metrics by name."""
        ...


class Objective(Protocol):
    """What a plan is judged by; lower is better. Objectives add."""

    def __call__(self, latents: Tensor, actions: Tensor) -> Tensor:
        """latents (B, N, T+1, D), actions (B, N, T, A) -> cost (B, N)."""
        ...


class Planner(Protocol):
    def plan(
        self,
        model: WorldModel,
        latent: Tensor,
        objective: Objective,
        seeds: Sequence[int],
        start: Tensor,
        proposals: Tensor | None = None,
    ) -> Tensor:
        """latent (B, D), a seed a world, start (B, T, A), proposals (B, P, T, A) -> actions (B, T, A) in [-1, 1]."""
        ...


class Store(Protocol):
    """Episodes on disk, the truth that every index is rebuilt from."""

    def append(self, episode: Episode) -> int:
        """Write durably, then return the episode's id: what has an id survives kill -9."""
        ...

    def read(self, episode_id: int) -> Episode: ...


class Memory(Protocol):
    """Recall by likeness: an index over the store."""

    def recall(self, latent: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(B, D) -> latents (B, k, D), moments (B, k, 2) as (episode id, t), distances (B, k)."""
        ...


class Agent(Protocol):
    """Nothing more: baselines keep their own loops."""

    def reset(self, done: np.ndarray) -> None:
        """Forget what belongs to the episodes that ended; done (B,) bool."""
        ...

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        """{sense: (B, *shape)} -> actions (B, A) in [-1, 1]."""
        ...
