"""The parts of the agent and what passes between them: the architecture on one page.

Axes, always in this order: ``B`` batch (parallel worlds or replay windows), ``N`` candidate plans, ``T`` time,
``A`` action, ``D`` latent, or a sense's own shape. T actions go with T+1 observations:
``observation[t] -> action[t] -> reward[t], observation[t+1]``. ``terminated`` and ``truncated`` stay two things.

Actions are in [-1, 1] everywhere inside the agent; `ami_agent.environment` maps them to the environment's own box.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    Senses = dict[str, Tensor]


@dataclass(frozen=True)
class Spec:
    """What an agent must know of an environment; read once, saved with the checkpoint."""

    environment: str  # its id, with its action repeat if that is not 1: "Pendulum-v1@4"
    senses: dict[str, tuple[int, ...]]  # shape of each sense, without B
    action_size: int
    goals: bool  # observation carries achieved_goal and desired_goal, and compute_reward exists
    max_episode_steps: int  # decisions: an action is held for `action_repeat` env steps
    control_period: float = 0.0  # seconds an action lasts; 0 if the environment does not say
    action_repeat: int = 1
    place: tuple[int, ...] = ()  # entries of sense `observation` that say where the agent is, if it moves about
    near: float = 0.0  # how close to a place is there, in their units
    goes: bool = False  # goals are such places
    angles: dict[str, tuple[int, ...]] = field(default_factory=dict)  # by sense: entries that go round and round


@dataclass(frozen=True)
class Episode:
    """One episode as it was lived: T actions, T+1 observations."""

    environment: str  # as in Spec
    observation: dict[str, np.ndarray]  # each (T+1, *shape)
    action: np.ndarray  # (T, A) float32 in [-1, 1]
    reward: np.ndarray  # (T,) float32
    terminated: bool
    truncated: bool
    success: bool | None  # None: the environment does not tell
    seed: int = 0
    session: str = ""  # which run lived it
    latent: np.ndarray | None = None  # (T+1, D) float32, by the encoder `encoder`
    encoder: str = ""  # identity of the encoder that made `latent`
    surprise: np.ndarray | None = None  # (T,) float32, one-step prediction error
    task: str = ""  # the environment's options, as JSON, where it was given any

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

    def first(self, steps: int) -> Batch:
        """Its first steps alone."""
        seen = {name: value[:, : steps + 1] for name, value in self.observation.items()}
        cut = (one[:, :steps] for one in (self.action, self.reward, self.terminated, self.mask))
        return Batch(seen, *cut)


class WorldModel(Protocol):
    """Latent dynamics learned by prediction (a JEPA) with heads for what a plan is judged by.

    "..." stands for any leading axes: (B,) where the agent acts, (B, N) or (B, N, T) where the planner imagines.
    """

    discount: float  # of a reward, a decision

    @property
    def action_gap(self) -> Tensor:
        """How much more an action is worth than another, as a rule, (): in rewards."""
        ...

    def encode(self, observation: Senses) -> Tensor:
        """{sense: (..., *shape)} -> latent (..., D)."""
        ...

    def predict(self, latent: Tensor, action: Tensor) -> Tensor:
        """latent (..., D), action (..., A) -> the next latent (..., D)."""
        ...

    def reward(self, latent: Tensor, action: Tensor) -> Tensor:
        """latent (..., D), action (..., A) -> the expected reward of that step (...,)."""
        ...

    def termination(self, latent: Tensor) -> Tensor:
        """latent (..., D) -> the probability that arriving there ends the task (...,)."""
        ...

    def value(self, latent: Tensor) -> Tensor:
        """latent (..., D) -> the discounted return to be expected from there on (...,)."""
        ...

    def act(self, latent: Tensor, noise: Tensor | None = None) -> Tensor:
        """latent (..., D) -> the policy prior's action (..., A) in [-1, 1]: its mean, or a sample by normal noise
        (..., A)."""
        ...

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Scalar to descend, and metrics by name; all that is random is drawn from `generator`."""
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
        seeds: Tensor,
        start: Tensor,
        proposals: Tensor | None = None,
    ) -> Tensor:
        """latent (B, D), seeds (B,) int64, start (B, T, A), proposals (B, P, T, A) -> actions (B, T, A) in [-1, 1].

        On CUDA the first plan is captured as a graph and replayed from then on: this must not wait for the device.
        """
        ...


@dataclass(frozen=True)
class Wanted:
    """Which moments to recall: those of which all that is given is true."""

    environment: str | None = None
    """Lived in this environment,"""
    task: str | None = None
    """under these options of it, as in Episode,"""
    session: str | None = None
    """in this session."""
    episode: int | None = None
    """Of this episode,"""
    but: int | None = None
    """of any but this one."""
    success: bool | None = None
    """Of episodes that succeeded, or did not, as far as their environment told."""
    good: bool = False
    """Of those that succeeded or, where that is not told, have at least the median return of such."""
    after: float | None = None
    """Of episodes that were kept at this time or later, in Unix seconds,"""
    before: float | None = None
    """earlier than this."""
    t_from: int | None = None
    """Not before this observation of their episode,"""
    t_to: int | None = None
    """and not after this one."""


class Agent(Protocol):
    """Nothing more: baselines keep their own loops."""

    def reset(self, done: np.ndarray) -> None:
        """Forget what belongs to the episodes that ended; done (B,) bool."""
        ...

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        """{sense: (B, *shape)} -> actions (B, A) in [-1, 1]."""
        ...
