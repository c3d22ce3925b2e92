"""One piece of the learning benchmark: `python benchmarks/learning_piece.py FILE SCRATCH`.

A piece is an agent on a task with a seed. FILE says what to do, and is written anew, whole, after every point of the
curve; `learning.py` writes it first and runs this. SCRATCH is the piece's own folder, with its runs and its log.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ami_agent.agent import AgentConfig, AmiAgent
from ami_agent.baselines.simple import RandomAgent
from ami_agent.brain import Brain, BrainConfig
from ami_agent.configs import build
from ami_agent.environment import Environment, find, make
from ami_agent.errors import ArtefactError, LockedError, NumericalError, UsageError
from ami_agent.files import write_json
from ami_agent.learning.live import live
from ami_agent.learning.train import TrainConfig, has_checkpoint, train
from ami_agent.memory.lock import HomeLock
from ami_agent.protocols import Agent
from ami_agent.runs import Run, git_commit
from ami_agent.signals import Stop, graceful

JUDGED = 1_000_000  # evaluation's seeds begin here; ours trains on those from 2**30 on, SB3 seeds its world once, below
APART = 1_000  # from one training seed's evaluation to the next one's: the most episodes
OTHERS = ("stable-baselines3", "dm-control", "shimmy")  # packages that results depend on, too
UNFINISHED, DONE, FAILED = "unfinished", "done", "failed"


@dataclass(frozen=True)
class Ours:
    """The setting of our agent, which is judged as it gathers experience: with `train.planner`, if `train.plan`.

    `train.steps` and `train.segment` are the benchmark's own.
    """

    train: TrainConfig = field(default_factory=TrainConfig)
    brain: BrainConfig = field(default_factory=BrainConfig)


class Interrupted(Exception):
    """A signal asked to stop: the piece stays unfinished."""


def read(path: Path) -> dict[str, Any]:
    """A piece's file. Raises ArtefactError if it is damaged."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return {**facts, "points": list(facts["points"])}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ArtefactError(f"{path} is damaged: {error}") from error


def reached(facts: dict[str, Any], steps: int, cpu: float, limits: dict[str, Any]) -> bool:
    """Whether a piece has learned for as long as the limits say."""
    enough = limits["cpu_seconds"]
    return facts["agent"] == "random" or steps >= limits["steps"] or (enough is not None and cpu >= enough)


def complete(facts: dict[str, Any], limits: dict[str, Any]) -> bool:
    last = facts["points"][-1] if facts["points"] else None
    return last is not None and reached(facts, last["steps"], last["cpu_seconds"], limits)


def kept(facts: dict[str, Any], scratch: Path) -> Path | None:
    """The folder of the run that a piece was in, if it has a checkpoint to go on from.

    Raises UsageError if it was made with other versions than those that are here.
    """
    folder = scratch / str(facts.get("run"))
    if not (folder / "run.json").is_file() or not has_checkpoint(Run.open(folder)):
        return None
    here = {name: _version(name) for name in facts["versions"]}
    other = [f"{name} {was}, here {here[name]}" for name, was in facts["versions"].items() if here[name] != was]
    if other:
        name = f"{facts['agent']} on {facts['task']}, seed {facts['seed']},"
        cure = "install those versions again, or move its file away, and it begins from zero"
        raise UsageError(f"{name} cannot go on, it was made with {'; '.join(other)}: {cure}")
    return folder


class Piece:
    """A piece while it is run: its file, its clock, and the worlds it is judged in."""

    def __init__(self, path: Path, scratch: Path, stop: Stop) -> None:
        self.path, self.scratch, self.stop, self.facts = path, scratch, stop, read(path)
        self.task, self.seed, self.settings = self.facts["task"], self.facts["seed"], self.facts["settings"]
        self.repeat, self.every = self.settings["repeat"], self.settings["every"]
        self.judge = Environment(self.task, self.settings["episodes"], repeat=self.repeat)
        self._learned = np.zeros(2)  # CPU and wall seconds of learning before `_since`
        self._since = _now()

    @property
    def complete(self) -> bool:
        return complete(self.facts, self.facts["limits"])

    def begin(self) -> Run:
        """From nothing, in a new folder."""
        run = Run.create(self.scratch, "learn", self.task, self.facts["agent"], self.seed, self.settings)
        others = {name: _version(name) for name in OTHERS}
        told = {name: run.info[name] for name in ("start", "python", "hardware")}
        told |= {"versions": run.info["versions"] | others, "commits": [git_commit()], "run": run.folder.name}
        first = JUDGED + APART * self.seed
        seeds = [first, first + self.settings["episodes"] - 1]
        self.facts |= {**told, "points": [], "learned": [0.0, 0.0], "evaluation_seeds": seeds}
        self._tick()
        return run

    def resume(self) -> Run | None:
        """The run that was interrupted, if it has a checkpoint. Raises UsageError if other versions made it."""
        folder = kept(self.facts, self.scratch)
        if folder is None:
            return None
        self._learned = np.array(self.facts["learned"])
        self.facts["commits"] = list(dict.fromkeys([*self.facts["commits"], git_commit()]))
        self._tick()
        return Run.open(folder, resume=True)

    def learned(self, begun: bool = True) -> None:
        """Write down how long learning took, so that what is now safe in a checkpoint keeps its price.

        What passed before it has begun, in setting up, does not count.
        """
        self._learned += (_now() - self._since) * begun
        self._tick()
        self.facts["learned"] = self._learned.tolist()
        write_json(self.path, self.facts)

    def point(self, steps: int, agent: Agent, prior: Agent | None = None) -> bool:
        """Judge the agent after `steps` env steps, at the last point its policy prior too; whether to go on learning.

        The clock of learning stands still meanwhile; it starts with the first point.
        """
        self.learned(begun=steps > 0)
        cpu, wall = self._learned.tolist()
        last = reached(self.facts, steps, cpu, self.facts["limits"])
        point = {"steps": steps, "decisions": steps // self.repeat, "cpu_seconds": cpu, "wall_seconds": wall}
        point |= self._judged(agent)
        if last and prior is not None:
            point["prior"] = self._judged(prior)
        self.facts["points"].append(point)
        self.facts["status"] = DONE if last else UNFINISHED
        write_json(self.path, self.facts)
        self._tick()
        return not last

    def _judged(self, agent: Agent) -> dict[str, list[float]]:
        """Seed, return and length, in decisions, of an episode of each seed; void ones are left out."""
        first, n, found = self.facts["evaluation_seeds"][0], self.judge.n, {}
        for ended in live(self.judge, agent, itertools.count(first), steps=self.judge.spec.max_episode_steps):
            found |= {episode.seed: episode for episode in ended if episode.seed < first + n}
            if self.stop.requested:
                raise Interrupted
            if len(found) == n:
                break
        if not found:
            raise NumericalError(f"the physics of {self.task} failed in every episode of an evaluation")
        episodes = [found[seed] for seed in sorted(found)]
        returns = [float(episode.reward.sum(dtype=np.float64)) for episode in episodes]
        return {"seeds": sorted(found), "returns": returns, "lengths": [len(episode) for episode in episodes]}

    def _tick(self) -> None:
        self._since = _now()


def learn_ours(piece: Piece) -> None:
    """Ours: one call of `train` from point to point, each going on from the checkpoint of the last."""
    config, seed = build(Ours, piece.settings["config"]), piece.seed
    environment = Environment(piece.task, config.train.worlds, repeat=piece.repeat)
    least = max(2 * environment.spec.max_episode_steps * piece.repeat * environment.n, config.train.warmup + 1)
    if piece.every < least:
        raise UsageError(f"every must be at least {least}, two episodes and the warm-up, for ours on {piece.task}")
    mind = AgentConfig(planner=config.train.planner, plan=config.train.plan)
    run = piece.resume()
    if run is None:
        run = piece.begin()
        piece.point(0, AmiAgent(Brain(environment.spec, config.brain, seed), mind, seed))
    while not piece.complete:
        target = (piece.facts["points"][-1]["steps"] // piece.every + 1) * piece.every
        learning = replace(config.train, steps=target, segment=piece.every)
        brain, done = train(environment, run, seed, learning, config.brain, piece.stop)
        if not done:
            raise Interrupted
        reflex = AmiAgent(brain, replace(mind, plan=False), seed) if mind.plan else None
        piece.point(brain.steps, AmiAgent(brain, mind, seed), reflex)
    run.finish("done")


def learn_sb3(piece: Piece) -> None:
    """Stable-Baselines3 with its own hyperparameters, from zero, judged in the midst of its one call of `learn`."""
    import stable_baselines3
    from gymnasium.wrappers import FlattenObservation

    run = piece.begin()
    environment = FlattenObservation(make(find(piece.task), {}, repeat=piece.repeat))
    kind = {"sac": stable_baselines3.SAC, "ppo": stable_baselines3.PPO}[piece.facts["agent"]]
    model = kind(**piece.settings["config"], env=environment, seed=piece.seed)
    policy = Policy(model)
    piece.point(0, policy)

    def step(local: dict[str, Any], other: dict[str, Any]) -> bool:
        steps = model.num_timesteps * piece.repeat
        due = steps // piece.every > piece.facts["points"][-1]["steps"] // piece.every
        return not piece.stop.requested and (piece.point(steps, policy) if due else True)

    model.learn(piece.facts["limits"]["steps"] + piece.every, callback=step)  # the last point ends it before
    if not piece.complete:
        raise Interrupted
    run.finish("done")


def draw_random(piece: Piece) -> None:
    """Random actions: nothing is learned, one point says all."""
    run = piece.begin()
    piece.point(0, RandomAgent(piece.judge.spec.action_size, piece.seed))
    run.finish("done")


class Policy:
    """A model of Stable-Baselines3 as an Agent: its deterministic actions, on our terms."""

    def __init__(self, model: Any) -> None:
        self._model, self._box = model, model.action_space

    def reset(self, done: np.ndarray) -> None:
        """Nothing to forget."""

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        low, high = self._box.low, self._box.high
        action, _ = self._model.predict(np.concatenate(list(observation.values()), axis=1), deterministic=True)
        return ((action - low) / (high - low) * 2 - 1).astype(np.float32)


LEARN: dict[str, Callable[[Piece], None]] = {
    "ours": learn_ours,
    "sac": learn_sb3,
    "ppo": learn_sb3,
    "random": draw_random,
}


def fail(path: Path, reason: str) -> None:
    """Keep a piece as failed, with what it got to."""
    write_json(path, {**read(path), "status": FAILED, "reason": reason})


def main(path: Path, scratch: Path) -> int:
    """Run a piece to its end, or until a signal comes; a fault is kept in its file."""
    torch.set_num_threads(1)
    torch.optim.Adam([torch.zeros(1)])  # what torch imports for its first optimiser is not learning
    with graceful() as stop:
        try:
            with HomeLock(scratch):
                piece = Piece(path, scratch, stop)
                LEARN[piece.facts["agent"].partition("-")[0]](piece)  # "ours-no-planner" is ours, set otherwise
                write_json(path, {**piece.facts, "status": DONE})
        except Interrupted:
            pass
        except LockedError as error:  # it is another process's, and so is its file
            print(error, file=sys.stderr)
            return error.exit_code
        except Exception as error:  # whatever it is, the other pieces go on
            traceback.print_exc()
            fail(path, f"{type(error).__name__}: {error}")
        return stop.exit_code


def _now() -> np.ndarray:
    return np.array([time.process_time(), time.monotonic()])


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
