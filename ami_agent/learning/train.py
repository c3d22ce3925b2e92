"""The learning loop, told top to bottom.

Learning goes in segments. Each begins afresh in all but weights, optimisers and experience: new episodes, and
generators seeded from (seed, env steps so far). A checkpoint is written at each segment's end, so learning that was
interrupted goes on exactly as if it had not been: the segment it was in is lived again.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ami_agent import checkpoints
from ami_agent.brain import Brain, BrainConfig
from ami_agent.console import progress
from ami_agent.environment import Environment
from ami_agent.errors import UsageError
from ami_agent.learning.explorer import Explorer
from ami_agent.learning.learner import Learner, LearnerConfig
from ami_agent.learning.live import live
from ami_agent.learning.student import Student, StudyConfig
from ami_agent.memory.replay import Replay
from ami_agent.memory.store import EpisodeStore
from ami_agent.runs import Run
from ami_agent.signals import Stop

TRAINING_SEEDS = 2**32  # episodes of training are seeded from here on, those of evaluation below


@dataclass(frozen=True)
class TrainConfig:
    steps: int = 150_000
    """Env steps to live, all worlds together."""
    worlds: int = 16
    """Worlds lived in at once."""
    warmup: int = 2_000
    """Env steps with random actions before learning begins; at least one episode in each world."""
    segment: int = 10_000
    """Env steps between checkpoints."""
    study: StudyConfig = field(default_factory=StudyConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)

    def __post_init__(self) -> None:
        for name in ("steps", "worlds", "warmup", "segment"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}")


def train(
    environment: Environment, run: Run, seed: int, config: TrainConfig, brain_config: BrainConfig, stop: Stop
) -> tuple[Brain, bool]:
    """Learn from scratch, or from the run's last checkpoint if it has one, until `config.steps`.

    Checkpoints and experience go to the run's folder, curves to its metrics.jsonl. Returns the brain, and whether it
    got to the end: False if `stop` asked to end before.
    """
    brain = Brain(environment.spec, brain_config, seed)
    with EpisodeStore(run.folder / "experience.sqlite") as store:
        training = Training(environment, Learner(brain, config.learner), store, run, seed, config)
        if any((run.folder / "checkpoints").glob("ckpt-*")):
            training.resume()
        return brain, training.learn(stop)


class Training:
    """One brain learning in one environment."""

    def __init__(
        self, environment: Environment, learner: Learner, store: EpisodeStore, run: Run, seed: int, config: TrainConfig
    ) -> None:
        self.environment, self.store, self.run, self.seed, self.config = environment, store, run, seed, config
        self.brain = learner.brain
        self.student = Student(environment, learner, Replay(config.study.capacity), config.study)

    def resume(self) -> None:
        """Go back to the run's last checkpoint. Raises ArtefactError if there is none that can be read."""
        tensors, meta = checkpoints.load(self.run.folder / "checkpoints")
        self.student.learner.load(tensors)
        self.brain.steps, self.brain.updates = int(meta["steps"]), int(meta["updates"])
        self.student.replay = Replay.restore(self.store, meta["replay"])

    def learn(self, stop: Stop) -> bool:
        """Live and learn until `config.steps`; False if `stop` asked to end before."""
        total, segment = self.config.steps, self.config.segment
        with progress(total, f"learning {self.environment.id}") as advance:
            advance(self.brain.steps)
            while self.brain.steps < total:
                until = min(total, (self.brain.steps // segment + 1) * segment)
                if not self._segment(until, stop, advance):
                    return False
                meta = {**self.brain.meta(), "replay": self.student.replay.state()}
                checkpoints.save(self.run.folder / "checkpoints", self.student.learner.tensors(), meta)
        return True

    def _segment(self, until: int, stop: Stop, advance: Callable[..., None]) -> bool:
        """Live and learn up to `until` env steps; False if asked to stop on the way."""
        key, brain, n = (self.seed, self.brain.steps), self.brain, self.environment.n
        self.student.seed(*key, 0)
        explorer = Explorer(brain, np.random.default_rng([*key, 1]), random=brain.updates == 0)
        first = int(np.random.default_rng([*key, 2]).integers(2**40))
        warm = max(self.config.warmup, (brain.spec.max_episode_steps + 1) * n)
        recent: deque[tuple[bool, float]] = deque(maxlen=100)
        losses: dict[str, float] = {}
        for ended in live(self.environment, explorer, itertools.count(TRAINING_SEEDS + first), self.run.folder.name):
            for episode in ended:
                self.student.take(self.store.append(episode), episode)
                recent.append((episode.success, float(episode.reward.sum())))
            brain.steps += n
            if brain.steps >= warm and len(self.student.replay):
                losses = self.student.study(n) or losses
                explorer.random = False
            success, returns = np.mean(recent, axis=0) if recent else (np.nan, np.nan)
            advance(n, f"success {success:.2f}, return {returns:.1f}" if recent else "")
            if brain.steps >= until:
                break
            if stop.requested:
                return False
        if losses:
            losses["effective_rank"] = self.student.effective_rank()
        self.run.metric(steps=brain.steps, updates=brain.updates, success=success, return_mean=returns, **losses)
        return True
