"""Judging: an agent lives one episode of each of some seeds, and what came of them is kept raw."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ami_agent.environment import Environment
from ami_agent.errors import NumericalError
from ami_agent.evaluation.film import as_lived
from ami_agent.evaluation.resimulate import film_of
from ami_agent.evaluation.watched import Watched
from ami_agent.learning.live import live
from ami_agent.protocols import Agent, Episode
from ami_agent.signals import Stop

FRAMES, PIXELS = 24, 64  # of a film


class Interrupted(Exception):
    """A signal asked to stop: the piece stays unfinished."""


def judged(
    environment: Environment, agent: Agent, seeds: range, stop: Stop
) -> tuple[dict[str, list[Any]], list[Episode]]:
    """An episode of each seed, void ones left out: lists with an entry an episode, and the episodes.

    Raises Interrupted when a signal comes, NumericalError if the physics failed in all episodes.
    """
    world = Watched(environment)
    found: dict[int, Episode] = {}
    rounds = -(-len(seeds) // environment.n)
    each = itertools.count(seeds.start)  # a world that is done early begins another, which is not looked at
    for ended in live(world, agent, each, steps=rounds * environment.spec.max_episode_steps):
        found |= {episode.seed: episode for episode in ended if episode.seed in seeds}
        if stop.requested:
            raise Interrupted
        if len(found) == len(seeds):
            break
    if not found:
        raise NumericalError(f"the physics of {environment.id} failed in every episode of an evaluation")
    episodes = [found[seed] for seed in sorted(found)]
    finals = [world.final[episode.seed] for episode in episodes]
    told = world.tells_success
    return {
        "seeds": [episode.seed for episode in episodes],
        "returns": [float(episode.reward.sum(dtype=np.float64)) for episode in episodes],
        "successes": [bool(episode.success) if told else None for episode in episodes],
        "final_successes": [success if told else None for success, _ in finals],
        "costs": [cost for _, cost in finals],
        "lengths": [len(episode) for episode in episodes],
    }, episodes


def films(episodes: Sequence[Episode], options: dict[str, Any], name: str, period: float) -> dict[str, Any]:
    """A GIF, in base64, of the best, the median and the worst episode by return; nothing where none can be drawn."""
    ranked = sorted(episodes, key=lambda episode: float(episode.reward.sum(dtype=np.float64)))
    chosen = {"best": ranked[-1], "median": ranked[len(ranked) // 2], "worst": ranked[0]}
    made = {}
    for place, episode in chosen.items():
        frames = [_small(frame) for frame in film_of(episode, options, name, FRAMES)]
        if not frames:
            return {}
        picture = base64.b64encode(as_lived(frames, len(episode), period)).decode("ascii")
        made[place] = {"seed": episode.seed, "gif": picture}
    return made


def _small(frame: np.ndarray) -> np.ndarray:
    """(H, W, 3) -> about PIXELS high, by means of blocks."""
    k = max(1, round(frame.shape[0] / PIXELS))
    high, wide = frame.shape[0] // k * k, frame.shape[1] // k * k
    blocks = frame[:high, :wide].reshape(high // k, k, wide // k, k, 3)
    return blocks.mean((1, 3)).round().astype(np.uint8)
