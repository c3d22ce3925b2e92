"""What it costs to forget, and to see old episodes by a new encoder: `python benchmarks/forgetting.py`.

In a memory of `ami/Push-v0`, lived at random and looked back on with the weights that ship. A tenth of the episodes is
there twice, with noise on what was sensed: these are the near duplicates to be found.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from rows import cpu, row

from ami_agent.agent import AgentConfig, AmiAgent
from ami_agent.baselines.simple import RandomAgent
from ami_agent.brain import Brain
from ami_agent.brains import shipped_path
from ami_agent.environment import Environment
from ami_agent.learning.live import live
from ami_agent.memory.capacity import give_back, let_go, select
from ami_agent.memory.forgetting import ForgettingConfig
from ami_agent.memory.store import EpisodeStore

PUSH = "ami/Push-v0"
AT_ONCE, MEANWHILE = AgentConfig(embed_first=10**9), AgentConfig(embed_first=0)


@dataclass(frozen=True)
class Config:
    episodes: int = 5_000
    """How many are remembered."""
    repeats: int = 5
    """Of each measurement."""
    decisions: int = 200
    """How many are timed while old episodes are embedded."""


def fill(path: Path, episodes: int, brain: Brain) -> int:
    """Remember so many; how many of them are near duplicates of others."""
    environment, rng = Environment(PUSH, 64), np.random.default_rng(0)
    agent, twice = AmiAgent(brain), 0
    with EpisodeStore(path) as store:
        for ended in live(environment, RandomAgent(environment.spec.action_size, 0), itertools.count()):
            for episode in ended:
                store.append(agent.look_back(episode))
                if rng.random() < 0.1:
                    noisy = {
                        name: sense + 1e-4 * rng.normal(size=sense.shape) for name, sense in episode.observation.items()
                    }
                    store.append(agent.look_back(replace(episode, observation=noisy)))
                    twice += 1
            if len(store) >= episodes:
                return twice
    raise AssertionError("living goes on for ever")


def forgetting(path: Path, brain: Brain) -> dict[str, float]:
    """CPU seconds of what one pass that makes a tenth free does, one after the other."""
    with copied(path) as store:
        config, found = ForgettingConfig(steps=store.steps), []
        works: dict[str, Callable[[], object]] = {
            "choosing a tenth to forget": lambda: found.append(select(store, config, 0.9)),
            "deleting it, in one transaction": lambda: let_go(store, found[0].ids),
            "opening what is left for recall": lambda: AmiAgent(brain, AT_ONCE, 0, store),
            "making the file smaller": lambda: give_back(store),
        }
        times = {name: cpu(work) for name, work in works.items()}
    print(f"chosen: {len(found[0].duplicates)} duplicates, {len(found[0].others)} others")
    return times


def embedding(path: Path, other: Brain, n: int) -> dict[str, float]:
    """Seconds of seeing all by another encoder: before the agent lives, and while it makes n decisions."""
    times = {}
    with copied(path) as store:
        times["embedding all before the run, CPU time"] = cpu(lambda: AmiAgent(other, AT_ONCE, 0, store))
        times |= {
            f"a decision, {name}": time for name, time in decisions(AmiAgent(other, AT_ONCE, 0, store), n).items()
        }
    with copied(path) as store:
        began = time.perf_counter()
        agent = AmiAgent(other, MEANWHILE, 0, store)
        times["embedding meanwhile: until the run begins"] = time.perf_counter() - began
        told = decisions(agent, n)
        if agent.background is None:
            raise SystemExit(
                "all was embedded before the decisions were made: give more --episodes or fewer --decisions"
            )
        times |= {f"a decision meanwhile, {name}": time for name, time in told.items()}
        while agent.background is not None:
            time.sleep(0.01)
            switched = time.perf_counter()
            agent.reset(np.zeros(1, bool))
            times["embedding meanwhile: the switch"] = time.perf_counter() - switched
        times["embedding meanwhile: until all is recalled"] = time.perf_counter() - began
    return times


def decisions(agent: AmiAgent, n: int) -> dict[str, float]:
    """Seconds of a decision in Push, over n of them. None of them ends an episode, so that nothing is switched."""
    observation = Environment(PUSH, 1).reset(seeds=[0])
    agent.reset(np.ones(1, bool))
    times = []
    for _ in range(n + 5):
        began = time.perf_counter()
        agent.act(observation)
        times.append(time.perf_counter() - began)
    return {"median": float(np.median(times[5:])), "99th percentile": float(np.percentile(times[5:], 99))}


@contextmanager
def copied(path: Path) -> Iterator[EpisodeStore]:
    copy = path.with_name("copy.sqlite")
    shutil.copy(path, copy)
    with EpisodeStore(copy) as store:
        yield store
    copy.unlink()


def main(config: Config) -> None:
    torch.set_num_threads(1)
    brain = Brain.load(shipped_path(PUSH))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "memory.sqlite"
        twice = fill(path, config.episodes, brain)
        with EpisodeStore(path, read_only=True) as store:
            facts = store.stats()
        print(
            f"{facts['episodes']} episodes, {facts['steps']} steps, {facts['bytes'] / 1e6:.0f} MB, {twice} duplicates"
        )
        other, rounds = Brain(brain.spec, brain.config, seed=1), []
        for _ in range(config.repeats):
            rounds.append({**forgetting(path, brain), **embedding(path, other, config.decisions)})
    for name in rounds[0]:
        print(f"| {name} | {row(name, [1e3 * times[name] for times in rounds], 'ms')} |")


if __name__ == "__main__":
    main(tyro.cli(Config))
