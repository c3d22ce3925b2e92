"""The agent: perceive, remember, imagine, plan, act."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from ami_agent.brain import Brain
from ami_agent.cost.objectives import Return
from ami_agent.errors import UsageError
from ami_agent.memory.episodic import EpisodicMemory
from ami_agent.memory.store import EpisodeStore
from ami_agent.planning.cem import CEM, CEMConfig, shifted
from ami_agent.protocols import Episode


@dataclass(frozen=True)
class AgentConfig:
    planner: CEMConfig = field(default_factory=CEMConfig)
    plan: bool = True
    """Plan in imagination (mode 2); otherwise act by the policy prior alone (mode 1)."""
    priors: int = 8
    """Proposals to the planner by the policy prior: its mean, the rest samples."""
    recalled: int = 4
    """Proposals to the planner by memory: what was done in the nearest moments of episodes that went well."""

    def __post_init__(self) -> None:
        if not (1 <= self.priors <= 10_000 and 0 <= self.recalled <= 10_000):
            raise UsageError(f"priors must lie from 1 and recalled from 0 to 10000: {self.priors}, {self.recalled}")


class AmiAgent:
    """Acts in B worlds at once. The same seed, weights and memory give the same actions.

    Args:
        brain: what it has learned.
        seed: of its planner.
        store: where its episodes go and its memories come from; None for an agent without memory.
        device: where it thinks.
    """

    def __init__(
        self,
        brain: Brain,
        config: AgentConfig | None = None,
        seed: int = 0,
        store: EpisodeStore | None = None,
        device: str = "cpu",
    ) -> None:
        self.brain, self.config, self.seed, self.store = brain, config or AgentConfig(), seed, store
        self.device = torch.device(device)
        self.model = brain.model.to(self.device).eval()
        self.planner = CEM(self.config.planner)
        self.objective = Return(self.model, self.model.discount)
        self.skipped = 0  # episodes of the store that are damaged: left out
        self.memory = None if store is None else self._open_memory(store)
        self._episode = np.zeros(0, np.int64)  # how many episodes each world has begun
        self._step = np.zeros(0, np.int64)
        self._plan: Tensor | None = None  # (B, T, A): the start of the next plan

    def reset(self, done: np.ndarray) -> None:
        if len(self._step) != len(done):
            self._episode, self._step, self._plan = np.zeros(len(done), np.int64), np.zeros(len(done), np.int64), None
        self._episode[done] += 1
        self._step[done] = 0

    @torch.no_grad()
    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        latent = self.brain.perceive(observation)
        action = self.decide(latent) if self.config.plan else self.model.act(latent)
        self._step += 1
        return action.cpu().numpy()

    def decide(self, latent: Tensor) -> Tensor:
        """Plan from latents (B, D) and return the plans' first actions (B, A)."""
        seeds = [_mix(self.seed, int(e), int(t)) for e, t in zip(self._episode, self._step, strict=True)]
        proposals = self._proposals(latent, seeds)
        start = proposals[:, 0]  # the policy prior's own plan, until there is one to go on with
        if self._plan is not None:
            begun = torch.from_numpy(self._step > 0).to(self.device)
            start = torch.where(begun[:, None, None], self._plan, start)
        plan = self.planner.plan(self.model, latent, self.objective, seeds, start, proposals)
        self._plan = shifted(plan)
        return plan[:, 0]

    def remember(self, episode: Episode) -> Episode:
        """Look back on an episode, and keep it in the store, if there is one that can be written."""
        known = self.look_back(episode)
        if self.store is not None and self.memory is not None and not self.store.read_only:
            self.memory.add(self.store.append(known), known)
        return known

    @torch.no_grad()
    def look_back(self, episode: Episode) -> Episode:
        """The episode with its latents, and with its surprise: how far off each next latent was, root mean square."""
        latents = self._latents(episode)
        now, action = torch.from_numpy(latents[:-1]).to(self.device), torch.from_numpy(episode.action).to(self.device)
        missed = self.model.predict(now, action).cpu().numpy() - latents[1:]
        surprise = np.sqrt(np.square(missed).mean(-1))
        return replace(episode, latent=latents, encoder=self.brain.encoder_id(), surprise=surprise)

    @torch.no_grad()
    def _open_memory(self, store: EpisodeStore) -> EpisodicMemory:
        """The memory of this environment. What this encoder has not seen yet is embedded first, and replaces the
        latents of encoders that are no more; in a store that is only read, it is embedded for this process alone.
        """
        encoder, environment = self.brain.encoder_id(), self.brain.spec.environment
        unknown = [(i, old) for i, old in store.unembedded(encoder, environment) if self._fits(old)]
        fresh = [(i, replace(old, latent=self._latents(old), encoder=encoder)) for i, old in unknown]
        self.skipped = store.skipped
        if not store.read_only:
            for episode_id, episode in fresh:
                store.set_latents(episode_id, np.asarray(episode.latent), encoder)
            store.drop_latents([encoder], environment)
        memory = EpisodicMemory(store, encoder, environment)
        self.skipped += store.skipped
        for episode_id, episode in fresh if store.read_only else ():
            memory.add(episode_id, episode)
        return memory

    def _fits(self, episode: Episode) -> bool:
        """Whether an episode was lived with the senses and actions of this brain."""
        senses = {name: value.shape[1:] for name, value in episode.observation.items()}
        return senses == self.brain.spec.senses and episode.action.shape[1] == self.brain.spec.action_size

    def _latents(self, episode: Episode) -> np.ndarray:
        """(T+1, D)."""
        return self.brain.perceive(episode.observation).cpu().numpy()

    def _proposals(self, latent: Tensor, seeds: list[int]) -> Tensor:
        """Action sequences worth a look, (B, P, T, A): of the policy prior, and of what went well before."""
        c, horizon = self.config, self.config.planner.horizon
        shape = (horizon, c.priors, self.brain.spec.action_size)
        generator = torch.Generator()
        noise = torch.stack([torch.randn(shape, generator=generator.manual_seed(seed + 1)) for seed in seeds], 1)
        noise[:, :, 0] = 0.0  # the first proposal is the prior's mean
        noise = noise.to(self.device)
        here, actions = latent.unsqueeze(1).expand(-1, c.priors, -1), []
        for t in range(horizon):
            actions.append(self.model.act(here, noise[t]))
            here = self.model.predict(here, actions[-1])
        prior = torch.stack(actions, 2)
        return torch.cat([prior, self._recalled(latent, prior[:, :1])], 1)

    def _recalled(self, latent: Tensor, prior: Tensor) -> Tensor:
        """What was done in the nearest moments that went well, (B, P, T, A), P as many as there are up to `recalled`.

        Only a moment within one imagined step of this one tells what to do in it; instead of others, the prior's own
        plan (B, 1, T, A) stands.
        """
        nothing = prior[:, :0]
        if self.memory is None or not self.config.recalled:
            return nothing
        _, moments, distances = self.memory.recall(latent.cpu().numpy(), self.config.recalled, good=True)
        if moments.shape[1] == 0:
            return nothing
        step = (self.model.predict(latent, prior[:, 0, 0]) - latent).norm(dim=-1, keepdim=True)
        near = torch.from_numpy(distances).to(self.device) <= step
        actions = torch.from_numpy(self.memory.continuation(moments, prior.shape[2])).to(self.device)
        return torch.where(near[:, :, None, None], actions, prior)


def _mix(*numbers: int) -> int:
    """One seed from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
