"""How soon a task is done again that was done before: `python benchmarks/meeting_again.py --weights FILE`.

A task is an episode's seed: the same start and the same goal. It is tried until it succeeds; then another agent, as
after a restart, meets all the tasks again in the memory that the first has left. Decisions are those up to the end of
the first success: of tries that fail, all. What memory buys shows where weights alone fail now and then, in tasks that
it has seen done: the second table.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from json import loads
from pathlib import Path

import numpy as np
import torch
import tyro
from cells import LIVES, WITHOUT, lived_twice, machine, mean, percent

from ami_agent.agent import AgentConfig, AmiAgent
from ami_agent.brain import Brain
from ami_agent.brains import find_brain, learned_repeat
from ami_agent.console import progress
from ami_agent.environment import Environment
from ami_agent.files import write_json
from ami_agent.learning.live import live
from ami_agent.memory.store import EpisodeStore

SETTINGS = {
    "memory": (AgentConfig(), True),
    "no proposals": (AgentConfig(recalled=0), True),
    WITHOUT: (AgentConfig(), False),
}


def tried(environment: Environment, agent: AmiAgent, task: int, tries: int) -> tuple[int, int, bool]:
    """A task tried until it succeeds: tries, decisions, and whether it did."""
    decisions = count = 0
    episodes = itertools.chain.from_iterable(live(environment, agent, itertools.repeat(task)))
    for count, episode in enumerate(itertools.islice(episodes, tries), start=1):
        agent.remember(episode)
        decisions += len(episode)
        if episode.success:
            return count, decisions, True
    return count, decisions, False


def lived(
    environment: Environment, brain: Brain, setting: str, tasks: range, tries: int
) -> Iterator[tuple[int, int, bool]]:
    """All tasks in one life after the other, (LIVES * tasks)."""
    config, remembers = SETTINGS[setting]
    with tempfile.TemporaryDirectory() as folder:
        for life in range(LIVES):
            with EpisodeStore(Path(folder) / "memory.sqlite") as store:
                agent = AmiAgent(brain, config, life, store if remembers else None, environment=environment)
                for task in tasks:
                    yield tried(environment, agent, task, tries)
                agent.close()


def at_once(told: np.ndarray) -> np.ndarray:
    """(..., 3) of `tried` -> (...): whether the first try succeeded."""
    return (told[..., 0] == 1) & (told[..., 2] == 1)


def once_done(results: dict[str, np.ndarray]) -> Iterator[str]:
    """{setting: (LIVES, tasks, 3)} -> the lines of a Markdown table: of the tasks that the first setting did in its
    first life, how all do when they meet them again."""
    done = next(iter(results.values()))[0, :, 2] == 1
    yield f"Of the {done.sum()} tasks that memory did in its first life, again:\n"
    yield "| | first try, % | decisions | saved |"
    yield "|---|---|---|---|"
    for name, told in results.items():
        decisions, first = told[1, done, 1], at_once(told[1, done])
        saved = "-" if name == WITHOUT else mean(results[WITHOUT][1, done, 1] - decisions, 1)
        yield f"| {name} | {percent(int(first.sum()), len(first))} | {mean(decisions, 1)} | {saved} |"


def main(
    env: str = "ami/Push-v0",
    options: str = "{}",
    weights: str = "pretrained",
    tasks: int = 30,
    first: int = 1_000,
    tries: int = 10,
    json: Path | None = None,
) -> None:
    """Print the table in Markdown, under what made it.

    Args:
        env: where it lives.
        options: of the environment.
        weights: "pretrained", or a file.
        tasks: how many.
        first: seed of the first of them.
        tries: of a task in a life; after so many it counts as it stands.
        json: write the raw tries, decisions and successes to this file, too.
    """
    torch.set_num_threads(1)
    environment = Environment(env, 1, loads(options), learned_repeat(env, Path(), weights))
    brain, _ = find_brain(environment.spec, Path(), weights)
    results = {}
    with progress(len(SETTINGS) * LIVES * tasks, env) as advance:
        for setting in SETTINGS:
            told = []
            for one in lived(environment, brain, setting, range(first, first + tasks), tries):
                told.append(one)
                advance(1, setting)
            results[setting] = np.array(told).reshape(LIVES, tasks, 3)
    print(f"`{env}` with {options}: tasks {first} to {first + tasks - 1}, after {brain.steps} env steps of learning")
    print(f"{machine()}\n")
    rows = {name: (at_once(told), told[..., 1]) for name, told in results.items()}
    print("\n".join([*lived_twice("first try", rows), "", *once_done(results)]))
    if json:
        write_json(json, {name: told.tolist() for name, told in results.items()})


if __name__ == "__main__":
    tyro.cli(main)
