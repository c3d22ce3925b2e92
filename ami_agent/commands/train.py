"""`ami-agent train`: learn a world model from an environment, or go on learning."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from ami_agent import console
from ami_agent.brain import Brain, BrainConfig
from ami_agent.brains import learned_path
from ami_agent.commands.common import LARGEST_SEED, check_range, parse_options
from ami_agent.configs import build
from ami_agent.environment import Environment
from ami_agent.errors import UsageError
from ami_agent.learning.train import TrainConfig, train
from ami_agent.memory.lock import HomeLock
from ami_agent.runs import Run, agent_folder
from ami_agent.signals import graceful


@dataclass(frozen=True)
class Config:
    env: str = ""
    """Gymnasium id of the environment, e.g. ami/Push-v0."""
    seed: int = 0
    """Of everything that is drawn."""
    resume: Path | None = None
    """Go on with this run's folder, with the configuration it was begun with; a new --steps counts from its start."""
    options: str = "{}"
    """Options of the environment, a JSON object."""
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
        check_range("seed", self.seed, 0, LARGEST_SEED)
        check_range("threads", self.threads, 1, 256)
        parse_options(self.options)


def main(config: Config) -> int:
    """Learn, put the brain into the agent's home, and say how it went."""
    torch.set_num_threads(config.threads)
    if config.resume is None:
        environment = Environment(config.env, config.train.worlds, parse_options(config.options))
        run = Run.create("runs", "train", config.env, "ami", config.seed, config)
    else:
        run, config = _reopen(config)
        environment = Environment(config.env, config.train.worlds, parse_options(config.options))
    folder = agent_folder(config.name, config.home)
    with graceful() as stop, HomeLock(run.folder):
        brain, done = train(environment, run, config.seed, config.train, config.brain, stop)
    if not done:
        run.finish("stopped", steps=brain.steps)
        console.say(f"stopped. Go on with: ami-agent train --resume {run.folder}")
        return stop.exit_code
    return _deliver(config, run, brain, learned_path(folder, config.env))


def _reopen(config: Config) -> tuple[Run, Config]:
    """A run to go on with, and its own configuration but for what only this call says."""
    run = Run.open(config.resume or "", resume=True)
    saved = build(Config, {name: value for name, value in run.config.items() if name != "resume"})
    asked = config.train.steps
    steps = saved.train.steps if asked == TrainConfig.steps else asked
    now = replace(saved, train=replace(saved.train, steps=steps), home=config.home or saved.home, json=config.json)
    return run, replace(now, export=config.export or saved.export)


def _deliver(config: Config, run: Run, brain: Brain, home: Path) -> int:
    """Save the brain where it is used from, and report."""
    facts: dict[str, Any] = {"seed": config.seed, "command": f"ami-agent train --env {config.env} --seed {config.seed}"}
    brain.save(run.folder / "brain.safetensors", **facts)
    with HomeLock(home.parents[1]):
        brain.save(home, **facts)
    if config.export is not None:
        brain.save(config.export, half=True, **facts)
    run.finish("done", steps=brain.steps, updates=brain.updates)
    summary = {
        "env": config.env,
        "seed": config.seed,
        "steps": brain.steps,
        "updates": brain.updates,
        "seconds": run.info["seconds"],
        "weights": home,
        "run": run.folder,
    }
    if config.json:
        console.emit(summary)
    else:
        console.say(f"learned {config.env}: {brain.steps} env steps, {brain.updates} updates, weights in {home}")
        console.say(f"see it act: ami-agent run --env {config.env}")
    return 0
