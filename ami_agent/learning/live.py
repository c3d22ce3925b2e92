"""Living: an agent acts in an environment, and what it lives becomes episodes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from ami_agent.protocols import Agent, Episode, Spec


class World(Protocol):
    """What can be lived in: an `Environment`, or what stands before one."""

    n: int
    spec: Spec
    tells_success: bool

    def reset(self, mask: np.ndarray, seeds: list[int]) -> dict[str, np.ndarray]: ...
    def step(
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]: ...


def live(
    environment: World, agent: Agent, seeds: Iterator[int], session: str = "", steps: int | None = None
) -> Iterator[list[Episode]]:
    """Act; after every decision in all worlds, yield the episodes that ended with it, often none.

    Args:
        environment: B worlds.
        agent: resets and acts for all of them.
        seeds: one is taken for every episode that begins.
        session: written into the episodes.
        steps: decisions in each world, after which episodes that still go on are cut, as truncated; None for ever.

    Episodes in which the physics failed are void, and never yielded.
    """
    n, kept_as = environment.n, environment.spec.environment
    done = np.ones(n, bool)
    logs = [_Log() for _ in range(n)]
    for step in itertools.count(1):
        if done.any():
            begun = {int(i): next(seeds) for i in np.flatnonzero(done)}
            observation = environment.reset(done, [begun.get(i, 0) for i in range(n)])
            agent.reset(done)
            for i, seed in begun.items():
                logs[i] = _Log(seed)
                logs[i].see(observation, i)
        action = agent.act(observation)
        observation, reward, terminated, truncated, info = environment.step(action)
        if step == steps:
            truncated = truncated | ~terminated
        done = terminated | truncated
        ended = []
        for i in range(n):
            logs[i].add(action[i], reward[i], bool(info["success"][i]) if environment.tells_success else None)
            logs[i].see(observation, i)
            if done[i] and not info["physics_error"][i]:
                ended.append(logs[i].episode(kept_as, bool(terminated[i]), bool(truncated[i]), session))
        yield ended
        if step == steps:
            return


class _Log:
    """One episode while it is lived."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.seen: list[dict[str, np.ndarray]] = []
        self.actions: list[np.ndarray] = []
        self.rewards: list[float] = []
        self.success: bool | None = None  # at any time of the episode; None while the environment does not tell

    def see(self, observation: dict[str, np.ndarray], i: int) -> None:
        self.seen.append({name: value[i] for name, value in observation.items()})

    def add(self, action: np.ndarray, reward: float, success: bool | None) -> None:
        self.actions.append(action)
        self.rewards.append(float(reward))
        if success is not None:
            self.success = success or bool(self.success)

    def episode(self, environment: str, terminated: bool, truncated: bool, session: str) -> Episode:
        return Episode(
            environment=environment,
            observation={name: np.stack([one[name] for one in self.seen]) for name in self.seen[0]},
            action=np.stack(self.actions).astype(np.float32),
            reward=np.array(self.rewards, np.float32),
            terminated=terminated,
            truncated=truncated,
            success=self.success,
            seed=self.seed,
            session=session,
        )
