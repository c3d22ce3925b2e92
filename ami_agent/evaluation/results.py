"""What an evaluation measured, from its episodes to the numbers that are shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ami_agent.evaluation.statistics import wilson
from ami_agent.protocols import Episode


@dataclass
class Results:
    """Lists have an entry an episode, `plan_ms` an entry a decision (wall milliseconds)."""

    success: list[bool | None] = field(default_factory=list)  # at any time of the episode; None: nobody tells
    returns: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)  # sums of info["cost"]; empty where nobody tells
    lengths: list[int] = field(default_factory=list)  # decisions
    seeds: list[int] = field(default_factory=list)
    surprise: list[list[float]] = field(default_factory=list)
    plan_ms: list[float] = field(default_factory=list)
    seconds: float = 0.0  # wall time of living, without reports
    action_repeat: int = 1  # env steps a decision

    def add(self, episode: Episode, cost: float | None = None) -> None:
        """Take in an episode. An environment may tell of success or cost only where there is one: once it does, those
        before of which it told nothing failed, and cost nothing."""
        if cost is not None:
            self.costs += [0.0] * (len(self.lengths) - len(self.costs)) + [cost]
        if episode.success is not None and None in self.success[:1]:
            self.success = [bool(success) for success in self.success]
        self.success.append(episode.success)
        self.returns.append(float(episode.reward.sum()))
        self.lengths.append(len(episode))
        self.seeds.append(episode.seed)
        if episode.surprise is not None:
            self.surprise.append(episode.surprise.tolist())

    def summary(self) -> dict[str, Any]:
        """Success rate with its 95 % interval, return, steps and plan times, as JSON values; None where nothing is.

        `env_steps` are decisions times the action repeat: an episode's last decision counts whole, though it may end
        within it.
        """
        n, decisions = len(self.success), sum(self.lengths)
        steps = decisions * self.action_repeat
        told = [success for success in self.success if success is not None]
        low, high = wilson(sum(told), len(told)) if told else (None, None)
        percentiles = np.percentile(self.plan_ms, [50, 99]).round(3).tolist() if self.plan_ms else [None, None]
        return {
            "episodes": n,
            "success_rate": sum(told) / len(told) if told else None,
            "success_interval": [low, high],
            "return_mean": float(np.mean(self.returns)) if n else None,
            "cost_mean": float(np.mean(self.costs)) if self.costs else None,
            "action_repeat": self.action_repeat,
            "decisions": decisions,
            "env_steps": steps,
            "steps_per_second": round(steps / self.seconds, 2) if self.seconds else None,
            "plan_ms": {"p50": percentiles[0], "p99": percentiles[1]},
        }
