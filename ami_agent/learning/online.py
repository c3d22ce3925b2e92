"""Learning while acting: the agent of `run --learn`, whose experience is its own memory."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

from ami_agent.agent import AgentConfig, AmiAgent
from ami_agent.brain import Brain
from ami_agent.environment import Environment
from ami_agent.learning.drive import Curiosity
from ami_agent.learning.explorer import Explorer, Turns
from ami_agent.learning.learner import Learner, LearnerConfig
from ami_agent.learning.student import Student, StudyConfig
from ami_agent.memory.capacity import forget
from ami_agent.memory.replay import Replay
from ami_agent.memory.store import EpisodeStore
from ami_agent.protocols import Episode

WARMUP = 1_000  # env steps of random actions by a brain that has learned nothing yet


class OnlineAgent:
    """An Agent that plans and explores; `study`, called after every step, makes the updates that are due. While nothing
    that was lived is better than anything else, curiosity acts.

    It is not led, and it does not recall while it learns: the keys of its memory move with its encoder. They are made
    anew when an agent that has finished learning opens the memory.
    """

    def __init__(
        self,
        brain: Brain,
        config: AgentConfig,
        seed: int,
        store: EpisodeStore,
        environment: Environment,
        study: StudyConfig | None = None,
        begun: int = 0,
    ) -> None:
        key = (seed, begun) if begun else (seed,)  # of all it draws: one that goes on tries something else
        self.brain, self.store, self.config = brain, store, config
        self.forgotten = 0  # episodes that the store let go of; what was learned from stays in the replay
        self.agent = AmiAgent(brain, config.learning(), seed, begun=begun)
        study = study or StudyConfig(ratio=0.5)
        spec = environment.spec
        tasks = [task for task in store.tasks(spec.environment) if _alike(task, environment.task)]
        replay = Replay.load(store, spec.environment, study.capacity, spec.senses, spec.action_size, tasks)
        self.skipped = store.skipped  # episodes of the store that are damaged: left out
        self._student = Student(environment, Learner(brain), replay, study)
        self._student.seed(*key, 0)
        if brain.updates:  # what was learned keeps its scales, wherever it was learned
            self._student.fitted = max(replay.steps, brain.steps // spec.action_repeat)
        self._new = brain.updates == 0 or (len(replay) > 0 and replay.indifferent)
        self._explorer = Explorer(brain, np.random.default_rng([*key, 1]), self.agent)
        self._curiosity = Curiosity(brain, replay, seed, study, LearnerConfig())
        self._curiosity.seed(*key, 3)
        curious = AmiAgent(self._curiosity.brain, config.learning(), seed, begun=begun)
        self._seeker = Explorer(self._curiosity.brain, np.random.default_rng([*key, 4]), curious)
        self._turns = Turns([self._explorer, self._seeker], lambda n: np.full(n, int(self._curious)))
        self._lived = replay.steps * spec.action_repeat

    @property
    def _curious(self) -> bool:
        """Whether it has found nothing yet that is better than anything else."""
        return self._new and self._student.knows_nothing

    def reset(self, done: np.ndarray) -> None:
        self._turns.reset(done)

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        steps = len(next(iter(observation.values()))) * self.brain.spec.action_repeat
        self._lived += steps
        self.brain.steps += steps
        self._explorer.random = self._curious
        self._seeker.random = self._curiosity.knows_nothing
        return self._turns.act(observation)

    def study(self) -> None:
        """Learn from what is remembered, once there is enough of it."""
        if self._lived >= WARMUP and len(self._student.replay):
            self._student.study(1)
            if self._curious:
                self._curiosity.study(1)

    def remember(self, episode: Episode) -> Episode:
        """Keep an episode, with its surprise, and learn from it from now on.

        Its latents are not kept: the encoder that made them will have moved by the next episode.
        """
        known = replace(self.agent.look_back(episode), latent=None, encoder="")
        self._student.take(self.store.append(known), known)
        self.forgotten += len(forget(self.store, self.config.forgetting))
        return known


def _alike(task: str, other: str) -> bool:
    """Whether two tasks, options of one environment as JSON, differ in their session at most: with other options a
    reward may mean something else."""
    try:
        options = [json.loads(text or "{}") for text in (task, other)]
        return options[0] | {"session": 0} == options[1] | {"session": 0}
    except (ValueError, TypeError):  # not written by a run
        return task == other
