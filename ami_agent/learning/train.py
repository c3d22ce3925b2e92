"""The learning loop, told top to bottom.

Learning goes in segments. Each begins afresh in all but weights, optimisers and experience: new episodes, and
generators seeded from (seed, env steps so far). A checkpoint is written at each segment's end, so learning that was
interrupted goes on exactly as if it had not been: the segment it was in is lived again.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
import tyro
from torch import Tensor

from ami_agent import checkpoints
from ami_agent.agent import AgentConfig, AmiAgent
from ami_agent.brain import Brain, BrainConfig
from ami_agent.configs import build
from ami_agent.console import progress
from ami_agent.environment import Environment
from ami_agent.errors import ArtefactError, UsageError, check_ranges
from ami_agent.learning.drive import Curiosity, Drive
from ami_agent.learning.explorer import Explorer, Turns
from ami_agent.learning.learner import Learner, LearnerConfig
from ami_agent.learning.live import World, live
from ami_agent.learning.own_goals import OwnGoals, OwnPlaces
from ami_agent.learning.student import Student, StudyConfig
from ami_agent.memory.replay import Replay
from ami_agent.memory.store import EpisodeStore
from ami_agent.places import as_places
from ami_agent.planning.cem import CEMConfig
from ami_agent.protocols import Spec
from ami_agent.runs import Run
from ami_agent.signals import Stop

TRAINING_SEEDS = 2**30  # episodes of training are seeded from here on, those of evaluation below


@dataclass(frozen=True)
class TrainConfig:
    steps: Annotated[int, tyro.conf.Suppress] = 150_000
    """Env steps to live, all worlds together: decisions times the action repeat. Commands have a flag of their own."""
    worlds: int = 16
    """Worlds lived in at once."""
    warmup: int = 2_000
    """Env steps with random actions before learning begins, at least a whole episode in each world; with --no-curious,
    actions stay random for as long as every reward is the same."""
    segment: int = 10_000
    """Env steps between checkpoints; at least two whole episodes in each world."""
    reward: bool = True
    """Learn for the environment's rewards; with --no-reward, without them, for goals that it sets itself."""
    places: bool = True
    """Where the environment says what the agent's place is, and its goals are something else: learn to get to places,
    without its rewards; memory then tells which place to go to."""
    plan: bool = False
    """Plan while gathering experience, in place of drawing from the policy prior: better data for more time."""
    planner: CEMConfig = field(default_factory=CEMConfig)
    curious: bool = True
    """While every reward is the same, and no goal is set by hindsight, seek what is unlike all that was lived."""
    study: StudyConfig = field(default_factory=StudyConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)

    def __post_init__(self) -> None:
        long = (1, 10**10)
        check_ranges(self, {"steps": long, "worlds": (1, 4096), "warmup": long, "segment": long})


def train(
    environment: Environment, run: Run, seed: int, config: TrainConfig, brain_config: BrainConfig, stop: Stop
) -> tuple[Brain, bool]:
    """Learn from scratch, or from the run's last checkpoint if it has one, until `config.steps`.

    Checkpoints and experience go to the run's folder, curves to its metrics.jsonl. Returns the brain, and whether it
    got to the end: False if `stop` asked to end before.

    Raises:
        UsageError: the settings leave nothing to learn from.
    """
    longest = environment.spec.max_episode_steps
    if config.study.capacity <= longest:
        room = f"the {config.study.capacity} of --study.capacity"
        raise UsageError(
            f"an episode's {longest} steps are too many for {room}; max_episode_steps of --options cuts it"
        )
    brain = Brain(learned_spec(environment.spec, config), brain_config, seed)
    resumed = has_checkpoint(run)
    with EpisodeStore(run.folder / "experience.sqlite", create=not resumed) as store:
        training = Training(environment, brain, store, run, seed, config)
        if resumed:
            training.resume()
        if config.steps <= training.warmup:
            raise UsageError(
                f"{config.steps} env steps are too few: learning begins after {training.warmup}, the warm-up, or an "
                f"episode of {longest} decisions in each of {environment.n} worlds"
            )
        return brain, training.learn(stop)


def learned_spec(spec: Spec, config: TrainConfig) -> Spec:
    """What a brain is made for that learns in an environment of `spec`."""
    return as_places(spec) if config.places else spec


def has_checkpoint(run: Run) -> bool:
    """Whether learning in this run got to the end of a segment, from where it can go on."""
    return any((run.folder / "checkpoints").glob("ckpt-*"))


class Training:
    """One brain learning in one environment; without reward, a drive beside it that sees to it that things happen."""

    def __init__(
        self,
        environment: Environment,
        brain: Brain,
        store: EpisodeStore,
        run: Run,
        seed: int,
        config: TrainConfig,
    ) -> None:
        self.environment, self.store, self.run, self.seed, self.config = environment, store, run, seed, config
        self.world: World = environment
        if brain.spec != environment.spec:
            self.world = OwnPlaces(environment, lambda: self.student.replay)
        elif not config.reward:
            self.world = OwnGoals(environment, lambda: self.student.replay)
        self.brain, replay = brain, Replay(config.study.capacity)
        self.student = Student(self.world, Learner(brain, config.learner), replay, config.study)
        self.students = {"": self.student}  # by what the names of their tensors begin with
        if type(self.world) is OwnGoals:
            self.students["drive/"] = Drive(brain, replay, seed, config.study, config.learner)
        elif config.curious and not self.student.relabels:
            self.students["curiosity/"] = Curiosity(brain, replay, seed, config.study, config.learner)
        self.stride = environment.n * brain.spec.action_repeat  # env steps that a decision in all worlds takes
        self.warmup = max(config.warmup, (brain.spec.max_episode_steps + 1) * self.stride)

    def resume(self) -> None:
        """Go back to the run's last checkpoint. Raises ArtefactError if there is none that can be read."""
        tensors, meta = checkpoints.load(self.run.folder / "checkpoints")
        students, replay = meta.get("students", {"": meta}), Replay.restore(self.store, meta["replay"])
        others = set(students) ^ set(self.students)
        if not others <= {"curiosity/"} or build(Spec, meta["spec"]) != self.brain.spec:
            raise ArtefactError(
                f"the checkpoints of {self.run.folder} were made by an ami-agent that learned otherwise"
            )
        for name, student in self.students.items():
            student.replay = replay
            if name in students:
                own = {key.removeprefix(name): value for key, value in tensors.items() if key.startswith(name)}
                student.load(own, students[name])
        self.brain.steps, self.environment.void = int(meta["steps"]), int(meta.get("void", 0))
        self.environment.tells_success = bool(meta.get("tells_success", False))
        self.brain.stride = float(meta.get("stride", 0.0))

    def learn(self, stop: Stop) -> bool:
        """Live and learn until `config.steps`; False if `stop` asked to end before."""
        total = self.config.steps
        episode = self.brain.spec.max_episode_steps * self.stride
        segment = max(self.config.segment, 2 * episode)  # two whole episodes a world
        with progress(total, f"learning {self.environment.id}", self.brain.steps) as advance:
            while self.brain.steps < total:
                boundary = (self.brain.steps // segment + 1) * segment
                if not self._segment(min(total, boundary), stop, advance):
                    return False
                if boundary <= total:  # a segment cut short by the total is lived again, whole, if there is more to do
                    self._save()
        return True

    def _save(self) -> None:
        """Write a checkpoint, from which learning goes on as if it had not stopped."""
        tensors: dict[str, Tensor] = {}
        students: dict[str, Any] = {}
        for name, student in self.students.items():
            if name != "curiosity/" or student.brain.updates or student.fitted:
                own, students[name] = student.state()
                tensors |= {f"{name}{key}": value for key, value in own.items()}
        meta = {
            **self.brain.meta(),
            "replay": self.student.replay.state(),
            "void": self.environment.void,
            "tells_success": self.environment.tells_success,
            "students": students,
        }
        checkpoints.save(self.run.folder / "checkpoints", tensors, meta)

    def _explorer(self, brain: Brain, numbers: np.random.Generator) -> Explorer:
        """Who gathers experience for a student."""
        mind = AgentConfig(planner=self.config.planner).learning()
        seed = int(numbers.integers(2**31))
        return Explorer(brain, numbers, AmiAgent(brain, mind, seed) if self.config.plan else None)

    def _turns(self, numbers: np.random.Generator) -> Callable[[int], np.ndarray]:
        """Which student lives each of n episodes that begin: the drive every other, curiosity all while it is awake."""
        if "drive/" in self.students:
            return lambda n: numbers.integers(2, size=n)
        return lambda n: np.full(n, int(self._curious))

    @property
    def _curious(self) -> bool:
        """Whether curiosity is awake: nothing that was lived is better than anything else."""
        return "curiosity/" in self.students and self.student.replay.indifferent

    def _study(self, decisions: int, explorers: list[Explorer]) -> dict[str, float]:
        """The losses of all students, once there is something to learn from."""
        ready = self.brain.steps >= self.warmup and len(self.student.replay)  # all episodes so far may have been void
        losses: dict[str, float] = {}
        for explorer, (name, student) in zip(explorers, self.students.items(), strict=True):
            awake = name != "curiosity/" or self._curious
            told = student.study(decisions) if ready and awake else {}
            losses |= {f"{name}{kind}": loss for kind, loss in told.items()}
            explorer.random = student.knows_nothing
        return losses

    def _segment(self, until: int, stop: Stop, advance: Callable[..., None]) -> bool:
        """Live and learn up to `until` env steps; False if asked to stop on the way."""
        key, brain, n = (self.seed, self.brain.steps), self.brain, self.environment.n
        explorers = []
        for (study, explore), student in zip(((0, 1), (3, 4)), self.students.values(), strict=False):  # 2, 5: see below
            student.seed(*key, study)
            explorers.append(self._explorer(student.brain, np.random.default_rng([*key, explore])))
        actor = Turns(explorers, self._turns(np.random.default_rng([*key, 5])))
        self._study(0, explorers)
        recent: deque[tuple[float, float]] = deque(maxlen=100)
        losses: dict[str, float] = {}
        steps = -((brain.steps - until) // self.stride)
        for step, ended in enumerate(live(self.world, actor, training_seeds(*key), self.run.folder.name, steps), 1):
            for episode in ended:
                self.student.take(self.store.append(episode), episode)
                if step < steps or episode.terminated or len(episode) >= brain.spec.max_episode_steps:  # not cut short
                    success = np.nan if episode.success is None else float(episode.success)
                    recent.append((success, float(episode.reward.sum())))
            brain.steps += self.stride
            losses = self._study(n, explorers) or losses
            advance(self.stride, _told(recent))
            if stop.requested:
                return False
        success, returns = _means(recent)
        if losses:
            losses["effective_rank"] = self.student.effective_rank()
        lost = {
            "skipped_updates": sum(student.learner.skipped for student in self.students.values()),
            "void_episodes": self.environment.void,
        }
        self.run.info |= lost
        facts = {"steps": brain.steps, "updates": brain.updates, "success": success, "return_mean": returns}
        self.run.metric(**facts, **lost, **losses)
        return True


def training_seeds(*key: int) -> Iterator[int]:
    """Seeds for the episodes of a segment, in the upper half of what every environment accepts."""
    first = int(np.random.default_rng([*key, 2]).integers(TRAINING_SEEDS))
    return (TRAINING_SEEDS + (first + i) % TRAINING_SEEDS for i in itertools.count())


def _means(recent: deque[tuple[float, float]]) -> tuple[float, float]:
    """The mean success and return of recent episodes, NaN where nothing is told; once any tells of success, those that
    do not failed."""
    if not recent:
        return np.nan, np.nan
    success, returns = np.array(recent).T
    return float(np.nan if np.isnan(success).all() else np.nan_to_num(success).mean()), float(returns.mean())


def _told(recent: deque[tuple[float, float]]) -> str:
    """The mean success and return of recent episodes, in words."""
    success, returns = _means(recent)
    told = [] if np.isnan(success) else [f"success {success:.2f}"]
    return ", ".join([*told, f"return {returns:.1f}"]) if recent else ""
