"""The agent: perceive, remember, imagine, plan, act."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ami_agent.brain import Brain
from ami_agent.cost.objectives import Return
from ami_agent.environment import Environment
from ami_agent.errors import UsageError, check_ranges
from ami_agent.memory.capacity import forget
from ami_agent.memory.control import EpisodicControl, Recalled
from ami_agent.memory.embedding import BackgroundEmbedding, embedded, unseen
from ami_agent.memory.episodic import EpisodicMemory
from ami_agent.memory.failures import KeptFailures
from ami_agent.memory.forgetting import ForgettingConfig
from ami_agent.memory.sightings import Judge
from ami_agent.memory.store import EpisodeStore
from ami_agent.memory.wayfinder import WayConfig, Ways
from ami_agent.places import by_places, seen_as_places
from ami_agent.planning.cem import CEM, CEMConfig, shifted
from ami_agent.planning.graphed import Graphed
from ami_agent.planning.noise import Noise, mixed
from ami_agent.protocols import Episode, Objective, Planner, WorldModel
from ami_agent.world_model.inference import Inference, Precision
from ami_agent.world_model.latent import LatentModel

SAME = 0.25  # imagined steps from a moment within which it is taken for that moment
RELIVED = 20_000  # moments of a place that are lived anew after each episode


@dataclass(frozen=True)
class AgentConfig:
    planner: CEMConfig = field(default_factory=CEMConfig)
    plan: bool = True
    """Plan in imagination (mode 2); otherwise act by the policy prior alone (mode 1)."""
    priors: int = 8
    """Proposals to the planner by the policy prior: its mean, the rest samples."""
    recalled: int = 4
    """Proposals to the planner by memory: what was done in the nearest moments of episodes that went well. In a moment
    that is as one of an episode that succeeded, what was done then is done again."""
    ways: WayConfig = field(default_factory=WayConfig)
    forgetting: ForgettingConfig = field(default_factory=ForgettingConfig)
    embed_first: int = 100_000
    """Moments that a new encoder sees before the run begins. More than that it sees meanwhile, and they are recalled
    once it has seen all: what is planned then depends on timing, too."""
    trust: float = 1.0
    """How much better a plan must be for each unit that it is away from the policy prior's own, in units of what one
    action is better by than another. The critics are right where they have learned, which is near."""
    precision: Precision = "auto"
    """Of what a LatentModel imagines; auto is fp32, but bf16 for wide models on processors that multiply it faster."""

    def __post_init__(self) -> None:
        if not (1 <= self.priors <= 10_000 and 0 <= self.recalled <= 10_000):
            raise UsageError(f"priors must lie from 1 and recalled from 0 to 10000: {self.priors}, {self.recalled}")
        check_ranges(self, {"embed_first": (0, 10**12), "trust": (0, 1e6)})
        if self.precision not in get_args(Precision):
            raise UsageError(f"precision must be one of {', '.join(get_args(Precision))}, not {self.precision}")

    def learning(self) -> AgentConfig:
        """The same for an agent that is still learning: it is not led, it does not recall, and it tries what its
        critics promise, for that is how they find out."""
        return replace(self, recalled=0, ways=replace(self.ways, use=False), trust=0.0)


class AmiAgent:
    """Acts in B worlds at once. The same seed, weights and memory give the same actions; unless `embedding` is
    "meanwhile", when they depend on when the background is done, too. `close` ends that.

    Args:
        brain: what it has learned.
        seed: of its planner.
        store: where its episodes go and its memories come from; None for an agent without memory. It is kept within
            its capacity, but not while the background is at work in it.
        place: the task in which episodes are lived, if its place is the same in all of them: what is remembered of it
            shows the way. None where each episode may have a place of its own.
        environment: where it lives. A brain that has learned to get to places, in an environment where goals are
            something else, needs it: what is asked for is sought where it was seen, as the environment judges that.
        device: where it thinks.
        begun: episodes begun before, in each world: one that goes on from there plans as if it had lived them.
    """

    def __init__(
        self,
        brain: Brain,
        config: AgentConfig | None = None,
        seed: int = 0,
        store: EpisodeStore | None = None,
        device: str = "cpu",
        place: str | None = None,
        environment: Environment | None = None,
        begun: int = 0,
    ) -> None:
        self.brain, self.config, self.seed, self.store = brain, config or AgentConfig(), seed, store
        seeks = environment is not None and by_places(environment.spec) and brain.spec.goes
        self._judge = environment if seeks else None  # of what is asked for, where that is no place
        self._task = "" if environment is None else environment.task
        if seeks and not self.config.ways.use:
            raise UsageError(
                "--ways.no-use: this agent has learned to get to places, and seeks what is asked for by ways; "
                "`ami-agent train --no-places` learns to do without"
            )
        self.skipped = 0  # episodes of the store that are damaged: left out
        self._failures: KeptFailures | None = None  # in the place that stays
        self._place, self._settled = place, 0  # moments that it was made of
        self.ways = self._open_ways() if self.config.ways.use and brain.finds_ways else None
        self._settle()
        self.model = brain.model.to(device).eval()
        latent_model = isinstance(self.model, LatentModel)
        self.inference = Inference(self.model, self.config.precision) if latent_model else None
        self._view: WorldModel = self.inference.view if self.inference else self.model
        self.planner: Planner = CEM(self.config.planner)
        self.objective: Objective = Return(self._view, self.model.discount)
        self._noise = Noise(self.config.planner.horizon)
        self._think = Graphed(self._from_here)
        self._parts: tuple[Planner, Objective] = self.planner, self.objective  # of the graphs in `_think`
        self.forgotten = 0  # episodes that the store let go of
        self.background: BackgroundEmbedding | None = None  # embeds old episodes, while it goes on
        self.embedding: Literal["before", "meanwhile"] | None = None  # when old episodes are embedded: before it lives
        self.memory = None if store is None else self._open_memory(store)
        self.control = EpisodicControl(self.config.recalled, self.config.planner.horizon, brain.spec, store)
        self._begun, self._episode = begun, np.zeros(0, np.int64)  # how many episodes each world has begun
        self._step = np.zeros(0, np.int64)
        self._plan: Tensor | None = None  # (B, T, A): the start of the next plan

    def reset(self, done: np.ndarray) -> None:
        if len(self._step) != len(done):
            self._episode, self._step, self._plan = np.full(len(done), self._begun), np.zeros(len(done), np.int64), None
        self._episode[done] += 1
        self._step[done] = 0
        if self.ways is not None:
            self.ways.reset(done)
        self._take_up()

    def close(self) -> None:
        """End what goes on beside the agent; what it has embedded so far is kept."""
        if self.background is not None:
            self.background.close()

    @torch.inference_mode()
    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        seen = self._look(observation)
        if self.ways is not None:
            seen = self.ways.lead(seen, observation["achieved_goal"], observation["desired_goal"])
        latent = self.brain.perceive(seen)
        action = self.decide(latent) if self.config.plan else self.model.act(latent)
        self._step += 1
        return action.cpu().numpy()

    @torch.inference_mode()
    def decide(self, latent: Tensor) -> Tensor:
        """Plan from latents (B, D) and return the plans' first actions (B, A)."""
        self._refresh()
        recalled = self._recalled(latent)
        if self._plan is None:
            self._plan = latent.new_zeros(len(latent), self.config.planner.horizon, self.brain.spec.action_size)
        seeds = torch.from_numpy(mixed(self.seed, self._episode, self._step))
        known = (torch.from_numpy(one) for one in (recalled.actions, recalled.distances, recalled.again))
        told = (self._plan, seeds, torch.from_numpy(self._step > 0), *known)
        plan = self._think(latent, *(one.to(latent.device) for one in told))
        if recalled.again.any():
            self.control.took(recalled, plan.cpu().numpy())
        self._plan = shifted(plan)
        return plan[:, 0]

    def _refresh(self) -> None:
        """Take up what was learned or loaded; drop the graphs of other parts, or of weights that lay elsewhere."""
        moved = self.inference is not None and self.inference.refresh(self.brain.updates)
        if moved or self._parts[0] is not self.planner or self._parts[1] is not self.objective:
            self._think, self._parts = Graphed(self._from_here), (self.planner, self.objective)

    def _from_here(
        self,
        latent: Tensor,
        plan: Tensor,
        seeds: Tensor,
        begun: Tensor,
        recalled: Tensor,
        distances: Tensor,
        again: Tensor,
    ) -> Tensor:
        """Search on from `plan` (B, T, A), in worlds that have not `begun` from the policy prior's own; in a moment
        that was the same, what was done then is done `again` (B,)."""
        proposals, away = self._proposals(latent, seeds, recalled, distances)
        start = torch.where(begun[:, None, None], plan, proposals[:, 0])
        objective = self.objective
        if isinstance(objective, Return):  # another may count in other units
            objective = objective.near(proposals[:, 0], self.config.trust * self.model.action_gap)
        found = self.planner.plan(self._view, latent, objective, seeds, start, proposals)
        if recalled.shape[1] == 0:
            return found
        return torch.where((again & (away[:, 0] <= SAME))[:, None, None], recalled[:, 0], found)

    def _look(self, observation: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Moments, each sense (..., *shape), as the brain has learned to see them."""
        return observation if self._judge is None else seen_as_places(observation, self.brain.spec)

    def remember(self, episode: Episode) -> Episode:
        """Look back on an episode, and keep it in the store, if there is one that can be written; then forget what
        must go."""
        known = self.look_back(episode)
        if self.ways is not None:
            last = {name: value[-1] for name, value in episode.observation.items()}
            self.ways.end(self._look(last), last["achieved_goal"])
        if self.store is not None and self.memory is not None and not self.store.read_only:
            episode_id = self.store.append(known)
            self._take_up()  # what went wrong in the background is raised here, and costs no episode
            if episode_id not in self.memory:
                self.memory.add(episode_id, known)
            gone = forget(self.store, self.config.forgetting) if self.background is None else []
            self.forgotten += len(gone)
            for episode_id in gone:
                if episode_id in self.memory:
                    self.memory.forget(episode_id)
            if self._failures is not None:
                self._failures.keep()
                if gone or self._settled <= RELIVED:
                    self._settle()  # as one that starts again would know it
        self.control.end(episode.success)
        return known

    @torch.no_grad()
    def look_back(self, episode: Episode) -> Episode:
        """The episode with its latents, and with its surprise."""
        seen, surprise = self._foreseen(episode.observation, episode.action)
        return replace(episode, latent=seen.cpu().numpy(), encoder=self.brain.encoder_id(), surprise=surprise)

    @torch.no_grad()
    def surprise(self, observation: dict[str, np.ndarray], action: np.ndarray, reward: np.ndarray) -> np.ndarray:
        """{sense: (T+1, ..., *shape)}, actions (T, ..., A) -> how far off each next latent was, root mean square."""
        return self._foreseen(observation, action)[1]

    def _foreseen(self, observation: dict[str, np.ndarray], action: np.ndarray) -> tuple[Tensor, np.ndarray]:
        """Latents (T+1, ..., D), and the `surprise` (T, ...) of the steps between."""
        moments = self._look(observation)
        seen = self.brain.perceive(moments)
        following = seen[1:]
        if self._judge is not None:  # a goal that goes along with the agent would itself surprise
            later = {name: value[1:] for name, value in moments.items()}
            following = self.brain.perceive({**later, "desired_goal": moments["achieved_goal"][:-1]})
        missed = self.model.predict(seen[:-1], torch.from_numpy(action).to(seen.device)) - following
        return seen, np.sqrt(np.square(missed.cpu().numpy()).mean(-1))

    def _open_memory(self, store: EpisodeStore) -> EpisodicMemory:
        """The memory of this environment. What this encoder has not seen yet is embedded first; where that is much, in
        the background, and what is remembered at once is what it has seen.
        """
        encoder, environment = self.brain.encoder_id(), self.brain.spec.environment
        if unseen(store, encoder, environment) > self.config.embed_first:
            aside = deepcopy(self.brain)
            aside.model.cpu()  # on a GPU it might come between while this thread captures a graph
            self.embedding = "meanwhile"
            self.background = BackgroundEmbedding(store, encoder, environment, partial(self._embed, aside), self._fits)
            return EpisodicMemory(store, encoder, environment)
        self.embedding = "before"
        memory, skipped = embedded(store, encoder, environment, partial(self._embed, self.brain), self._fits)
        self.skipped = max(self.skipped, skipped)
        self._switch(store, memory)
        return memory

    def _take_up(self) -> None:
        """Between two decisions: recall all that was embedded in the background, once it is done."""
        found = None if self.background is None else self.background.take()
        if found is None or self.store is None:
            return
        self.background = None
        memory, skipped = found
        self.skipped = max(self.skipped, skipped)
        memory.store = self.store  # the thread had one of its own
        self._switch(self.store, memory)
        since = [i for i in self.store.ids(environment=memory.environment, encoder=memory.encoder) if i not in memory]
        for episode_id, episode in self.store.readable(since, memory.encoder, senses=False):
            memory.add(episode_id, episode)
        self.memory = memory

    @staticmethod
    def _switch(store: EpisodeStore, memory: EpisodicMemory) -> None:
        """Let go of the latents of encoders that are no more, now that this one has seen all: in one transaction. Those
        of a shared store may be others'."""
        if not (store.read_only or store.shared):
            store.drop_latents([memory.encoder], memory.environment)

    def _open_ways(self) -> Ways:
        """Ways over places never seen."""
        size = self.brain.spec.senses["desired_goal"][0]
        return Ways(self.brain.costs, size, self.brain.stride, self.config.ways, *self._asked())

    def _settle(self) -> None:
        """With memory, and a task whose place stays the same: begin that place anew, with all that is remembered."""
        ways, task, store = self.ways, self._place, self.store
        if ways is None or task is None or store is None:
            return
        environment, self._settled = self.brain.spec.environment, 0
        self._failures = KeptFailures(store, environment, task, self.brain.encoder_id(), ways.stay())
        for _, episode in store.episodes(environment=environment, task=task):
            if self._fits(episode):
                ways.relive(self._look(episode.observation), episode.observation["achieved_goal"])
                self._settled += len(episode) + 1
        self.skipped = max(self.skipped, store.skipped)

    def _asked(self) -> tuple[Judge | None, int]:
        """What goals that are no places are judged by, and their size."""
        if (judge := self._judge) is None:
            return None, 0
        return lambda achieved, asked: judge.compute_reward(achieved, asked, {}), judge.spec.senses["desired_goal"][0]

    def _embed(self, brain: Brain, senses: dict[str, np.ndarray]) -> np.ndarray:
        """{sense: (n, *shape)} -> latents (n, D)."""
        return brain.perceive(self._look(senses)).cpu().numpy()

    def _fits(self, episode: Episode) -> bool:
        """Whether an episode was lived with the senses and actions of this brain."""
        senses = {name: value.shape[1:] for name, value in episode.observation.items()}
        known = self.brain.spec if self._judge is None else self._judge.spec
        return senses == known.senses and episode.action.shape[1] == self.brain.spec.action_size

    def _proposals(self, latent: Tensor, seeds: Tensor, recalled: Tensor, distances: Tensor) -> tuple[Tensor, Tensor]:
        """Action sequences worth a look, (B, P, T, A): of the policy prior, and of what went well before; and how many
        imagined steps away that was, (B, P).

        Only a moment within one imagined step of this one tells what to do in it; instead of others, the prior's own
        plan stands.
        """
        priors, (horizon, size) = self.config.priors, recalled.shape[2:]
        noise = self._noise.draw(seeds + 1, priors, size).permute(3, 0, 1, 2).contiguous()
        noise[:, :, 0] = 0.0  # the first proposal is the prior's mean
        here = latent.unsqueeze(1).expand(-1, priors, -1)
        actions = [self.model.act(here, noise[0])]
        for t in range(1, horizon):
            here = self.model.predict(here, actions[-1])
            actions.append(self.model.act(here, noise[t]))
        prior = torch.stack(actions, 2)
        if recalled.shape[1] == 0:
            return prior, distances
        step = (self.model.predict(latent, prior[:, 0, 0]) - latent).norm(dim=-1, keepdim=True)
        away = distances / (step + 1e-9)
        return torch.cat([prior, torch.where((away <= 1.0)[:, :, None, None], recalled, prior[:, :1])], 1), away

    def _recalled(self, latent: Tensor) -> Recalled:
        if self.memory is None or not self.config.recalled or self._judge is not None:  # else it was for other goals
            return self.control.nothing(len(latent))
        task = self._task if self.ways is None else None  # ways set goals of their own
        return self.control.recall(self.memory, latent.cpu().numpy(), task)
