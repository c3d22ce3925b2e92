"""Judging perception: does the impossible surprise an agent more than the possible does?

An episode here is a life of the world's scripted expert, the same for all agents, and its twins to which something
happens that no physics allows. An agent that is judged so has, beyond what `Agent` asks for,
`surprise(observation, action, reward)`: of {sense: (T+1, B, *shape)}, actions (T, B, A) and rewards (T, B), how unlike
what it expected each step turned out, (T, B), in whatever unit. Within a pair of twins the one is to surprise more:
relative classification, after Riochet et al., "IntPhys" (2018).
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from ami_agent.bench.judge import Interrupted
from ami_agent.environment import Environment
from ami_agent.errors import NumericalError
from ami_agent.evaluation.twins import Lives, Twins, drawn_onset, expert_lives, handled, twins
from ami_agent.signals import Stop


class Expecting(Protocol):
    def surprise(self, observation: dict[str, np.ndarray], action: np.ndarray, reward: np.ndarray) -> np.ndarray: ...


def discerned(environment: Environment, agent: Expecting, seeds: range, stop: Stop) -> dict[str, list[Any]]:
    """Lists with an entry an episode, as `judge.judged` has them. `returns` has the share of the impossible twins of
    each that surprise more than the possible one at their most, as much counting half; episodes without any are void.

    Raises Interrupted when a signal comes, NumericalError if the agent's surprise is not finite, or no number a step.
    """
    lives = expert_lives(environment, seeds)
    onset = drawn_onset(handled(environment.id, lives), seeds.start)
    told, pairs = np.zeros(len(seeds)), np.zeros(len(seeds), int)
    for two in twins(environment, seeds, lives, onset):
        if stop.requested:
            raise Interrupted
        told += np.where(two.pair, _told(agent, two), 0.0)
        pairs += two.pair
    kept = np.flatnonzero(pairs)
    if not len(kept):
        raise NumericalError(f"no episode of {environment.id} has a moment at which the impossible could show")
    return {
        "seeds": [seeds[i] for i in kept],
        "returns": (told[kept] / pairs[kept]).tolist(),
        "successes": [None] * len(kept),
        "final_successes": [None] * len(kept),
        "costs": [0.0] * len(kept),
        "lengths": lives.lived.sum(0)[kept].tolist(),
    }


def _told(agent: Expecting, two: Twins) -> np.ndarray:
    """1 for each of n pairs whose impossible twin surprises more, 0 for less, a half for as much."""
    more, less = (two.most(_surprise(agent, lives)) for lives in (two.impossible, two.possible))
    return (more > less) + 0.5 * (more == less)


def _surprise(agent: Expecting, lives: Lives) -> np.ndarray:
    felt = agent.surprise(lives.senses, lives.action, lives.reward)
    if np.shape(felt) != lives.lived.shape or not np.isfinite(felt[lives.lived]).all():
        raise NumericalError(f"surprise must be {lives.lived.shape} finite numbers, a step and world each")
    return felt
