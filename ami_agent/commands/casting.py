"""Who acts in a run: the agent asked for, with its brain, its memory and its place in the home."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ami_agent import brains, console
from ami_agent.agent import AmiAgent
from ami_agent.baselines.oracle_planner import OraclePlannerAgent
from ami_agent.baselines.simple import NoopAgent, OracleAgent, RandomAgent
from ami_agent.brain import Brain, BrainConfig
from ami_agent.brains import find_brain, learned_path
from ami_agent.commands import train
from ami_agent.commands.common import parse_options
from ami_agent.environment import Environment, find
from ami_agent.errors import UsageError
from ami_agent.learning.online import OnlineAgent
from ami_agent.learning.train import TrainConfig
from ami_agent.memory.journal import Journal
from ami_agent.memory.lock import HomeLock
from ami_agent.memory.store import EpisodeStore
from ami_agent.places import by_places
from ami_agent.protocols import Agent, Episode
from ami_agent.runs import agent_folder
from ami_agent.signals import Stop
from ami_envs import registry

if TYPE_CHECKING:
    from ami_agent.commands.run import Config


@dataclass
class Cast:
    """An agent ready to live, and what goes with it."""

    agent: Agent
    brain: Brain | None = None
    origin: str = ""  # where its weights came from
    store: EpisodeStore | None = None
    journal: Journal | None = None  # of the store, where it may be written
    before: tuple[int, int] = (0, 0)  # episodes and steps remembered before the run
    remember: Callable[[Episode], Episode] = lambda episode: episode
    study: Callable[[], None] = lambda: None  # learn, after every step
    save: Callable[[], None] = lambda: None  # keep what was learned so far

    def remembered(self) -> tuple[int, int]:
        """Episodes and steps in memory now."""
        return (0, 0) if self.store is None else (len(self.store), self.store.steps)

    def forgotten(self) -> int:
        """Episodes that its memory let go of."""
        return self.agent.forgotten if isinstance(self.agent, AmiAgent | OnlineAgent) else 0

    def skipped(self) -> int:
        """Episodes of its memory that are damaged: left out."""
        return self.agent.skipped if isinstance(self.agent, AmiAgent | OnlineAgent) else 0

    def learned_steps(self) -> int:
        """Env steps that its weights have learned from."""
        return 0 if self.brain is None else self.brain.steps


def learned_repeat(config: Config) -> int:
    """The action repeat that the weights which `config` asks for were learned with; 1 for an agent without any."""
    if config.agent != "ami":
        return 1
    folder = agent_folder(config.name, config.home, make=False)
    return brains.learned_repeat(find(config.env).id, folder, config.weights)


def cast(config: Config, environment: Environment, device: str, stop: Stop, stack: ExitStack) -> Cast | None:
    """The agent `config` asks for, as it was typed: if it must be trained first, then not in the run's session alone.
    None if a signal came while it was still being trained.

    What must be closed or let go of at the run's end is entered into `stack`.
    """
    size = environment.spec.action_size
    if config.agent == "random":
        return Cast(RandomAgent(size, config.seed))
    if config.agent == "noop":
        return Cast(NoopAgent(size))
    if config.agent in ("floor", "oracle", "oracle-planner"):
        return Cast(_oracle(config, environment))
    return _ami(config, environment, device, stop, stack)


def _oracle(config: Config, environment: Environment) -> Agent:
    vector: Any = environment.vector
    if not hasattr(vector, "oracle"):
        raise UsageError(f"{config.env} has no oracle: only worlds of ami_envs have; try --agent random")
    if config.agent == "oracle":
        return OracleAgent(vector.oracle)
    if config.agent == "floor":
        if not vector.engine.task.needs:
            raise UsageError(f"{config.env} has no floor: it claims to need nothing special; try --agent random")
        return OracleAgent(vector.floor)
    task = registry.task_of(environment.id, parse_options(config.options))
    return OraclePlannerAgent(vector.engine, task, seed=config.seed, repeat=environment.spec.action_repeat)


def _ami(config: Config, environment: Environment, device: str, stop: Stop, stack: ExitStack) -> Cast | None:
    folder = agent_folder(config.name, config.home, make=config.memory == "on")
    if config.memory == "on":
        stack.enter_context(HomeLock(folder))
    store = None
    if config.memory != "off":
        where = config.url or folder / "memory.sqlite"
        store = stack.enter_context(EpisodeStore(where, read_only=config.memory == "read-only"))
    journal = Journal(store) if store is not None and not store.read_only else None
    if journal is not None and (again := journal.recover()):
        console.say(f"remembered as far as they were lived: {again} episodes that a process left without an end")
    before = (0, 0) if store is None else (len(store), store.steps)
    found = find_brain(environment.spec, folder, config.weights, config.env)
    if found is None and config.learn:
        found = Brain(environment.spec, BrainConfig(), config.seed), "new"
    if found is None:
        brain = _train_first(config, environment, stop)
        if brain is None:
            return None
        found = brain, "learned"
    brain, origin = found
    own = learned_path(folder, environment.spec.environment)
    if config.learn and brain.spec.goes and by_places(environment.spec):
        how = brains.train_command(config.env)
        raise UsageError(f"--learn: this agent has learned to get about in {config.env}, and does so by `{how}` only")
    goes_on = origin == "learned" or (origin != "pretrained" and own.exists() and own.samefile(origin))
    if config.learn and own.exists() and not goes_on:
        raise UsageError(
            f"--learn: what this agent has learned in {config.env}, {own}, would be written over; move it away, go on "
            "from it by --weights learned, or give another --name"
        )
    if config.learn and store is not None:
        begun = brain.updates
        online = OnlineAgent(brain, config.mind, config.seed, store, environment, begun=config.first)

        def save() -> None:
            if brain.updates > begun:  # what has learned nothing yet would be taken for what has
                brain.save(own)

        return Cast(online, brain, origin, store, journal, before, online.remember, online.study, save)
    place = environment.task if environment.stays or config.mind.ways.stay else None
    agent = AmiAgent(brain, config.mind, config.seed, store, device, place, environment, config.first)
    stack.callback(agent.close)
    if brain.spec.goes and agent.ways is None and config.mind.ways.use:
        console.say(f"this agent has not learned yet to get about in {config.env}, and finds no ways there")
    return Cast(agent, brain, origin, store, journal, before, agent.remember)


def _train_first(config: Config, environment: Environment, stop: Stop) -> Brain | None:
    """Train a brain for an environment that has none; None if a signal came before the end."""
    again = brains.train_command(config.env, environment.spec.action_repeat)
    console.say(
        f"no weights for {config.env} yet: learning from {config.train_steps} env steps first, for some minutes "
        f"(--train-steps N changes it; `{again}` learns for longer; "
        "--agent oracle or random needs no learning)"
    )
    longest = environment.spec.max_episode_steps * environment.spec.action_repeat
    worlds = config.train_steps // (10 * longest)  # a tenth of the steps is warm-up
    settings = train.Config(
        env=config.env,
        seed=config.seed,
        options=config.options,
        action_repeat=environment.spec.action_repeat,
        home=config.home,
        name=config.name,
        threads=config.threads,
        train=TrainConfig(steps=config.train_steps, worlds=min(max(worlds, 1), TrainConfig.worlds)),
    )
    learned = train.learn(settings, stop)
    if learned is None:
        return None
    with HomeLock(agent_folder(config.name, config.home)) if config.memory != "on" else nullcontext():
        train.deliver(settings, learned[2])
    return learned[2]
