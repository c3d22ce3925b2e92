"""How the agent acts while it gathers experience: at random first, then as it would, with noise of its own amount."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.special import erf

from ami_agent.agent import AmiAgent
from ami_agent.brain import Brain
from ami_agent.planning.noise import coloured
from ami_agent.protocols import Agent

MOST_NOISE = 0.5  # standard deviation
PAUSE, LONGEST = 30, 20  # steps between two times that something is held, on average, and for how many at most
PERIOD = 1_000  # steps after which the noise of an episode repeats, at most


class Explorer:
    """An Agent for collecting. While `random`, actions are uniform. Later they are planned, or samples of
    the policy prior. Each episode adds its own amount of noise, from none to `MOST_NOISE`, so that there are always
    some that try what the agent is sure not to do; more have little than much, for much soon ends what must be held up,
    and then little is lived of holding it. In half of them noise is white, in the others it holds on. Where
    there are goals, in every other episode a random half of the action is now and then held at random values for a
    while, as the agent does the rest: so it finds what takes several steps to pay, such as to lift what it grasps
    (after Dabney et al. 2021). Hindsight makes a success of whatever that leads to; without goals it would only dilute
    what the agent learns of itself.

    Args:
        brain: that learns.
        generator: of all noise.
        planner: plans the actions, with the same brain; None to draw them from the policy prior.
    """

    def __init__(self, brain: Brain, generator: np.random.Generator, planner: AmiAgent | None = None) -> None:
        self.random = False
        self._brain, self._generator, self._planner = brain, generator, planner
        self._step = np.zeros(0, np.int64)
        self._amount = np.zeros((0, 1), np.float32)  # of noise, in each world's episode
        self._noise = np.zeros((0, 1, brain.spec.action_size), np.float32)
        self._held = self._noise  # (B, T, A): what is done regardless; not a number where nothing is

    def reset(self, done: np.ndarray) -> None:
        period, size = min(self._brain.spec.max_episode_steps, PERIOD), self._brain.spec.action_size
        if len(self._step) != len(done):
            self._noise = np.zeros((len(done), period, size), np.float32)
            self._held = np.full_like(self._noise, np.nan)
            self._step, self._amount = np.zeros(len(done), np.int64), np.zeros((len(done), 1), np.float32)
        begun = int(done.sum())
        white = self._generator.standard_normal((begun, period, size))
        self._noise[done] = np.where(self._generator.random((begun, 1, 1)) < 0.5, white, pink(white))
        self._amount[done] = MOST_NOISE * self._generator.random((begun, 1)) ** 2
        if self._brain.spec.goals:
            self._held[done] = held(self._generator, begun, period, size)
        self._step[done] = 0
        if self._planner is not None:
            self._planner.reset(done)

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        now = np.arange(len(self._step)), self._step % self._noise.shape[1]
        noise, fixed = self._noise[now], self._held[now]
        self._step += 1
        if self.random:
            return erf(noise / np.sqrt(2)).astype(np.float32)
        action = self._sample(observation) if self._planner is None else self._planner.act(observation)
        return np.where(np.isnan(fixed), np.clip(action + self._amount * noise, -1.0, 1.0), fixed)

    @torch.no_grad()
    def _sample(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        """The policy prior's actions, drawn."""
        noise = self._generator.standard_normal(self._noise[:, 0].shape).astype(np.float32)
        return self._brain.model.act(self._brain.perceive(observation), torch.from_numpy(noise)).numpy()


class Turns:
    """Agents that take turns: each episode is lived by one of them.

    Args:
        choose: n -> (n,) int, who lives each of n episodes that begin.
    """

    def __init__(self, agents: Sequence[Agent], choose: Callable[[int], np.ndarray]) -> None:
        self._agents, self._choose, self._turn = agents, choose, np.zeros(0, np.int64)

    def reset(self, done: np.ndarray) -> None:
        if len(self._turn) != len(done):
            self._turn = np.zeros(len(done), np.int64)
        self._turn[done] = self._choose(int(done.sum()))
        for agent in self._agents:
            agent.reset(done)

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        """By those whose turn it is in any world: the others need not think."""
        acted = {int(i): self._agents[i].act(observation) for i in np.unique(self._turn)}
        return np.stack([acted[int(turn)][world] for world, turn in enumerate(self._turn)])


def held(generator: np.random.Generator, episodes: int, steps: int, size: int) -> np.ndarray:
    """Values that parts of the action are held at, (episodes, steps, size), not a number where they are not: in every
    other episode, from random moments on, for up to `LONGEST` steps."""
    values = np.full((episodes, steps, size), np.nan, np.float32)
    for i in np.flatnonzero(generator.random(episodes) < 0.5):
        episode, at = values[i], 0
        while (at := at + int(generator.geometric(1 / PAUSE))) < steps:
            until = at + int(generator.integers(1, LONGEST + 1))
            chosen = generator.random(size) < 0.5
            episode[at:until, chosen] = generator.uniform(-1, 1, int(chosen.sum()))
            at = until
    return values


def pink(white: np.ndarray) -> np.ndarray:
    """White noise (n, T, A) -> noise of unit variance whose power falls as 1 / frequency, periodic in T: exploration
    that goes on with what it tries (Eberhard et al. 2023).
    """
    return coloured(white.shape[1], 1.0).numpy() @ white
