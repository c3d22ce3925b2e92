"""Living: an agent acts in an environment, and what it lives becomes episodes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from ami_agent.memory.journal import Journal, Step, whole
from ami_agent.protocols import Agent, Episode, Spec


class World(Protocol):
    """What can be lived in: an `Environment`, or what stands before one."""

    n: int
    spec: Spec
    task: str
    tells_success: bool

    def reset(self, mask: np.ndarray, seeds: list[int]) -> dict[str, np.ndarray]: ...
    def step(
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]: ...


def live(
    environment: World,
    agent: Agent,
    seeds: Iterator[int],
    session: str = "",
    steps: int | None = None,
    journal: Journal | None = None,
) -> Iterator[list[Episode]]:
    """Act; after every decision in all worlds, yield the episodes that ended with it, often none.

    Args:
        environment: B worlds.
        agent: resets and acts for all of them.
        seeds: one is taken for every episode that begins.
        session: written into the episodes.
        steps: decisions in each world, after which episodes that still go on are cut, as truncated; None for ever.
        journal: keeps every step as it is lived.

    Episodes in which the physics failed are void, and never yielded.
    """
    n = environment.n
    done = np.ones(n, bool)
    lived: list[list[Step]] = [[] for _ in range(n)]
    for step in itertools.count(1):
        fresh = []
        if done.any():
            begun = {int(i): next(seeds) for i in np.flatnonzero(done)}
            observation = environment.reset(done, [begun.get(i, 0) for i in range(n)])
            agent.reset(done)
            for i, seed in begun.items():
                name = environment.spec.environment, environment.task, session, seed
                lived[i] = [Step(name, 0, _of(observation, i))]
                fresh += lived[i]
        action = agent.act(observation)
        observation, reward, terminated, truncated, info = environment.step(action)
        if step == steps:
            truncated = truncated | ~terminated
        done = terminated | truncated
        told = reward, terminated, truncated, info["success"] if environment.tells_success else [None] * n
        for i, (log, acted, r, ends, cut, success) in enumerate(zip(lived, action, *told, strict=True)):
            log.append(Step(log[0].episode, len(log), _of(observation, i), acted, r, ends, cut, success))
        void = done & info["physics_error"]
        if journal is not None:
            kept, gone = ([lived[i][-1] for i in np.flatnonzero(which)] for which in (~void, void))
            journal.write([*fresh, *kept], gone)
        yield [whole(lived[i]) for i in np.flatnonzero(done & ~void)]
        if step == steps:
            return


def _of(observation: dict[str, np.ndarray], i: int) -> dict[str, np.ndarray]:
    return {name: value[i] for name, value in observation.items()}
