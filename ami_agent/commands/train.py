"""`ami-agent train`: learn a world model from an environment, or go on learning."""

from __future__ import annotations

import shlex
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from ami_agent import console
from ami_agent.brain import Brain, BrainConfig
from ami_agent.brains import learned_path, train_command
from ami_agent.commands.common import LARGEST_SEED, check_range, parse_options
from ami_agent.configs import build, flags
from ami_agent.environment import Environment
from ami_agent.errors import LockedError, NumericalError, UsageError, WorldError
from ami_agent.learning.train import TrainConfig, has_checkpoint, train
from ami_agent.memory.lock import HomeLock
from ami_agent.repeat import MOST
from ami_agent.runs import Run, agent_folder
from ami_agent.signals import Stop, graceful


@dataclass(frozen=True)
class Config:
    env: str = ""
    """Gymnasium id of the environment, e.g. ami/Push-v0."""
    seed: int = 0
    """Of everything that is drawn."""
    resume: Path | None = None
    """Go on with this run's folder, with the configuration it was begun with; --steps says anew how many from its
    start, --home, --name and --export where its weights go."""
    steps: int | None = None
    """Env steps to live, all worlds together: decisions times --action-repeat. 150000 if not given."""
    options: str = "{}"
    """Options of the environment, a JSON object."""
    action_repeat: int = 1
    """Env steps that each action is held for."""
    home: Path | None = None
    """Where agents live; AMI_HOME or ~/.ami-agent if not given."""
    name: str = "default"
    """Name of the agent that gets the brain."""
    export: Path | None = None
    """Write the weights here too, matrices in 16 bits: the form that ships in assets/pretrained."""
    threads: int = 1
    """Threads of torch; small networks want one."""
    json: bool = False
    """Print one JSON object on stdout."""
    train: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)
    brain: BrainConfig = field(default_factory=BrainConfig)

    def __post_init__(self) -> None:
        if bool(self.env) == bool(self.resume):
            raise UsageError("give either --env ID, to begin, or --resume RUN, to go on")
        if self.resume is not None and (other := _decided(self)):
            raise UsageError(
                f"--resume goes on with the configuration the run was begun with: leave out {' '.join(other)}"
            )
        check_range("seed", self.seed, 0, LARGEST_SEED)
        check_range("threads", self.threads, 1, 256)
        check_range("action-repeat", self.action_repeat, 1, MOST)
        parse_options(self.options)
        agent_folder(self.name, self.home, make=False)  # a name that cannot be is told before anything is learned


def main(config: Config) -> int:
    """Learn, put the brain into the agent's home, and say how it went."""
    with graceful() as stop:
        learned = learn(config, stop)
        if learned is None:
            return stop.exit_code
        run, config, brain = learned
        try:
            with HomeLock(agent_folder(config.name, config.home)):
                weights = deliver(config, brain)
        except LockedError as error:
            again = f"ami-agent train --resume {run.folder}"
            raise LockedError(f"{error}; what was learned is kept: {again} puts it there") from error
    facts = {
        "env": config.env,
        "seed": config.seed,
        "action_repeat": brain.spec.action_repeat,
        "steps": brain.steps,  # of the environment
        "decisions": brain.steps // brain.spec.action_repeat,
        "updates": brain.updates,
        "skipped_updates": run.info.get("skipped_updates", 0),
        "void_episodes": run.info.get("void_episodes", 0),
        "seconds": run.info["seconds"],
        "cpu_seconds": run.info["cpu_seconds"],
        "weights": weights,
        "run": run.folder,
    }
    if config.json:
        console.emit(facts)
    else:
        _tell(config, facts)
    return 0


def _tell(config: Config, facts: dict[str, Any]) -> None:
    env, repeat = facts["env"], facts["action_repeat"]
    lived = f"{facts['decisions']} decisions, {facts['steps']} env steps (action repeat {repeat})"
    lost = [f"{facts[name]} {name.replace('_', ' ')}" for name in ("skipped_updates", "void_episodes") if facts[name]]
    told = ", ".join([lived, f"{facts['updates']} updates", *lost])
    console.say(f"learned {env}: {told}, weights in {facts['weights']}")
    usual = Config(env=env)
    where = replace(usual, options=config.options, action_repeat=repeat, home=config.home, name=config.name)
    console.say(f"see it act: {shlex.join(['ami-agent', 'run', '--env', env, *flags(where, usual)])}")


def learn(config: Config, stop: Stop) -> tuple[Run, Config, Brain] | None:
    """Begin a run of learning, or go on with one, to its end; None, and the way to go on told, if `stop` came first."""
    with ExitStack() as stack:
        if config.resume is None:
            config = _long(config, config.steps)
            run = Run.create("runs", "train", config.env, "ami", config.seed, config)
            stack.enter_context(HomeLock(run.folder))
        else:
            Run.open(config.resume)
            stack.enter_context(HomeLock(config.resume))
            run = Run.open(config.resume, resume=True)
            config = _saved(run, config)
            run.configure(config)
            if not has_checkpoint(run):
                console.say(f"{run.folder} has no checkpoint: it begins anew")
        torch.set_num_threads(config.threads)
        options = parse_options(config.options)
        environment = Environment(config.env, config.train.worlds, options, config.action_repeat)
        stack.callback(environment.close)
        try:
            brain, done = train(environment, run, config.seed, config.train, config.brain, stop)
        except (NumericalError, WorldError) as error:
            raise type(error)(f"{error}; {_goodbye(run, config)}") from error
        if not done:
            run.finish("stopped", steps=brain.steps)
            console.say(_goodbye(run, config))
            return None
        brain.save(run.folder / "brain.safetensors", **origin(config))
        run.finish("done", steps=brain.steps, updates=brain.updates)
        return run, config, brain


def _goodbye(run: Run, config: Config) -> str:
    """What is kept of learning that was stopped, and how to go on."""
    again = f"ami-agent train --resume {run.folder}"
    if has_checkpoint(run):
        return f"stopped. Go on from the last checkpoint with: {again}"
    return (
        f"stopped before the first checkpoint (--segment {config.train.segment} env steps, or two episodes of each "
        f"world): nothing learned is kept, and {again} would begin anew"
    )


def deliver(config: Config, brain: Brain) -> Path:
    """Put the brain where `ami-agent run` finds it, whose lock the caller holds, and where `--export` says."""
    weights = learned_path(agent_folder(config.name, config.home), brain.spec.environment)
    brain.save(weights, **origin(config))
    if config.export is not None:
        brain.save(config.export, half=True, **origin(config))
    return weights


def origin(config: Config) -> dict[str, Any]:
    """Where weights come from, for their file."""
    command = [train_command(config.env, config.action_repeat), "--seed", str(config.seed)]
    if parse_options(config.options):
        command += ["--options", f"'{config.options}'"]
    command += [*flags(config.train, TrainConfig()), *flags(config.brain, BrainConfig(), "brain.")]
    return {"seed": config.seed, "command": " ".join(command)}


def _saved(run: Run, now: Config) -> Config:
    """The configuration a run was begun with, but for what the call that goes on with it may say anew."""
    saved = build(Config, {name: value for name, value in run.config.items() if name != "resume"})
    name = saved.name if now.name == Config.name else now.name
    home, export = now.home or saved.home, now.export or saved.export
    return _long(replace(saved, name=name, home=home, export=export, json=now.json), now.steps)


def _long(config: Config, steps: int | None) -> Config:
    """The same, for as many steps, if that is said."""
    steps = config.train.steps if steps is None else steps
    return replace(config, steps=None, train=replace(config.train, steps=steps))


def _decided(now: Config) -> list[str]:
    """The flags of a call that goes on with a run which are for the call that begins it to say."""
    usual = Config(env="any")
    free = {name: getattr(usual, name) for name in ("steps", "home", "name", "export", "json")}
    words = flags(replace(now, env="any", resume=None, **free), usual)
    return [word.replace("--train.", "--") for word in words]
