"""How long decisions take."""

from __future__ import annotations

import time

import numpy as np

from ami_agent.protocols import Agent


class Timed:
    """Any agent, with the wall milliseconds of each decision in `milliseconds`."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.milliseconds: list[float] = []

    def reset(self, done: np.ndarray) -> None:
        self.agent.reset(done)

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        began = time.perf_counter()
        action = self.agent.act(observation)
        self.milliseconds.append(1e3 * (time.perf_counter() - began))
        return action
