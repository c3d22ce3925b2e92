"""The oracle planner: the cross-entropy method on the true simulator, from a snapshot of the world.

What planning alone is worth when the model is perfect. It sees the dense reward only, no learned value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ami_agent.errors import UsageError
from ami_envs import Task, WorldEnv


@dataclass(frozen=True)
class OraclePlannerConfig:
    horizon: int = 10
    """Decisions looked ahead."""
    samples: int = 64
    """Candidates an iteration, each in a world of its own."""
    iterations: int = 3
    """Rounds of sampling and refitting."""
    elites: int = 8
    """Best candidates that the next round is fitted to."""
    spread: float = 0.7
    """Standard deviation of the first round."""

    def __post_init__(self) -> None:
        if min(self.horizon, self.samples, self.iterations, self.elites) < 1 or self.elites > self.samples:
            raise UsageError(f"horizon, samples, iterations, elites must be at least 1, elites <= samples: {self}")


class OraclePlannerAgent:
    """Plans for the single world of `engine` in `samples` copies of it.

    Args:
        engine: the engine the agent lives in; one world.
        task: a task made like the engine's own, for the copies.
        repeat: env steps that each action is held for.
    """

    def __init__(
        self, engine: WorldEnv, task: Task, config: OraclePlannerConfig | None = None, seed: int = 0, repeat: int = 1
    ) -> None:
        if engine.n != 1:
            raise UsageError(f"the oracle planner lives in one world, not {engine.n}")
        self.config = config or OraclePlannerConfig()
        self._engine, self._repeat = engine, repeat
        self._copies = WorldEnv(task, self.config.samples, senses=())
        self._generator = np.random.default_rng(seed)
        self._mean = np.zeros((self.config.horizon, engine.robot.action_size))

    def reset(self, done: np.ndarray) -> None:
        self._mean[:] = 0.0

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        """The first action, (1, A), of the best plan; the observation is not needed."""
        c, mean = self.config, self._mean
        std = np.full_like(mean, c.spread)
        snapshot = self._engine.get_state()
        best: np.ndarray = mean[None]
        for _ in range(c.iterations):
            plans = mean + std * self._generator.standard_normal((c.samples, *mean.shape))
            plans[: len(best)] = best
            plans = np.clip(plans, -1.0, 1.0)
            best = plans[np.argsort(-self._returns(snapshot, plans), kind="stable")[: c.elites]]
            mean, std = best.mean(0), best.std(0) + 0.05
        self._mean = np.concatenate([best[0, 1:], np.zeros_like(best[0, :1])])
        return best[0, :1].astype(np.float32)

    def _returns(self, snapshot: object, plans: np.ndarray) -> np.ndarray:
        """The return of each plan (N, T, A) in the simulator, (N,); what comes after a success costs nothing."""
        copies = self._copies
        copies.set_state(snapshot)  # type: ignore[arg-type]
        total, over = np.zeros(len(plans)), np.zeros(len(plans), bool)
        for action in plans.swapaxes(0, 1).repeat(self._repeat, axis=0):
            _, reward, ended, info = copies.step(action)
            total += np.where(over, 0.0, reward)
            over |= ended | info["physics_error"]
            copies.alive[:] = True  # go on: what follows an end is not counted
        return total
