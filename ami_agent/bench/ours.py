"""Our agent in a benchmark: it learns from nothing, and is judged as it gathers experience, memory off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from ami_agent.agent import AgentConfig, AmiAgent
from ami_agent.bench.judge import Interrupted
from ami_agent.bench.piece import OpenPiece
from ami_agent.bench.suites import Task
from ami_agent.brain import Brain, BrainConfig
from ami_agent.configs import build
from ami_agent.environment import Environment
from ami_agent.errors import UsageError
from ami_agent.learning.train import TrainConfig, learned_spec, train
from ami_agent.memory.wayfinder import WayConfig

UPDATES = 0.25  # an env step


@dataclass(frozen=True)
class Ours:
    """It plans, both as it learns and as it is judged, if `train.plan`; `mind` has the rest of how it is judged.
    `train.steps` and `train.segment` are the benchmark's own."""

    train: TrainConfig = field(default_factory=TrainConfig)
    brain: BrainConfig = field(default_factory=BrainConfig)
    mind: AgentConfig = field(default_factory=AgentConfig)


def ours(task: Task) -> Ours:
    """The same for all tasks: one world, a twentieth of the steps is warm-up, and as many updates an env step."""
    config = Ours(TrainConfig(worlds=1, warmup=task.steps // 20, plan=True))
    return _studies(config, ratio=UPDATES * task.repeat)


PARTS: dict[str, Callable[[Ours], Ours]] = {  # ours without a part, or with another in its place
    "ours": lambda config: config,
    "ours-no-planner": lambda config: _trained(config, plan=False),
    "ours-no-ways": lambda config: _trained(
        replace(config, mind=replace(config.mind, ways=WayConfig(use=False))), places=False
    ),
    "ours-no-prediction": lambda config: _modelled(config, consistency=0.0),
    "ours-no-inverse": lambda config: _modelled(config, inverse=0.0),
    "ours-no-curiosity": lambda config: _trained(config, curious=False),
    "ours-no-bound": lambda config: _studies(config, window=1),
    "ours-no-angles": lambda config: _encoded(config, angles=False),
    "ours-three-steps": lambda config: _modelled(config, unroll=3),
    "ours-saturated": lambda config: _modelled(config, saturation=0.0),
    "ours-slow-targets": lambda config: _modelled(config, target_rate=0.01),
    "ours-no-expansion": lambda config: _modelled(config, expansion=0),
    "ours-half-updates": lambda config: _studies(config, ratio=config.train.study.ratio / 2),
}


def _trained(config: Ours, **change: Any) -> Ours:
    return replace(config, train=replace(config.train, **change))


def _studies(config: Ours, **change: Any) -> Ours:
    return _trained(config, study=replace(config.train.study, **change))


def _encoded(config: Ours, **change: Any) -> Ours:
    return replace(config, brain=replace(config.brain, encoder=replace(config.brain.encoder, **change)))


def _modelled(config: Ours, **change: Any) -> Ours:
    return replace(config, brain=replace(config.brain, model=replace(config.brain.model, **change)))


def learn(piece: OpenPiece) -> None:
    """One call of `train` from point to point, each going on from the checkpoint of the last."""
    config, seed = build(Ours, piece.settings["config"]), piece.seed
    environment = Environment(piece.environment, config.train.worlds, piece.options, piece.repeat)
    least = max(2 * environment.spec.max_episode_steps * piece.repeat * environment.n, config.train.warmup + 1)
    if piece.every < least:
        raise UsageError(f"every must be at least {least}, two episodes and the warm-up, for ours on {environment.id}")
    mind = replace(config.mind, planner=config.train.planner, plan=config.train.plan)
    run = piece.resume()
    if run is None:
        run = piece.begin()
        untaught = Brain(learned_spec(environment.spec, config.train), config.brain, seed)
        piece.point(0, AmiAgent(untaught, mind, seed, environment=environment))
    while not piece.complete:
        target = (piece.facts["points"][-1]["steps"] // piece.every + 1) * piece.every
        learning = replace(config.train, steps=target, segment=piece.every)
        brain, done = train(environment, run, seed, learning, config.brain, piece.stop)
        if not done:
            raise Interrupted
        piece.facts["checkpoint"] = brain.save(run.folder / "brain.safetensors")
        reflex = AmiAgent(brain, replace(mind, plan=False), seed, environment=environment) if mind.plan else None
        piece.point(brain.steps, AmiAgent(brain, mind, seed, environment=environment), reflex)
    piece.finish(run)
