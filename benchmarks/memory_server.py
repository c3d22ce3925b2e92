"""A memory in a file beside one on a server: `python benchmarks/memory_server.py --url postgresql://USER@HOST/DATABASE`.

Both are given the same episodes (those of `memory.py`), in turns. Wall clock, as the server works in processes of its
own, from the call until what is written is on the disk. The database must have no memory yet, and keeps what is written
here: drop it afterwards.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro
from cells import machine
from memory import ENCODER, STEPS, WORLD, Life, camera, filmed, steps_of
from rows import Row, row, turns, wall

import ami_envs  # noqa: F401 - registers the worlds
from ami_agent.console import progress
from ami_agent.errors import UsageError
from ami_agent.memory.episodic import EpisodicMemory
from ami_agent.memory.journal import Journal
from ami_agent.memory.replay import Replay
from ami_agent.memory.store import EpisodeStore
from ami_agent.protocols import Episode

Stores = dict[str, EpisodeStore]  # by engine
Figures = Iterator[list[Row]]  # one row for each engine
FILMED = 10  # episodes with pictures
LIVED = 100  # episodes by each of those that write at once
WAIT = 60.0  # seconds that they wait for one another, at most


def each(what: str, works: dict[str, Callable[[Any], object]], items: Iterable[Any]) -> list[Row]:
    """The milliseconds of every engine's work on each item, in turns."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for item in items:
        for name, work in works.items():
            times[name].append(1e3 * wall(partial(work, item)))
    return [row(what, values, "ms") for values in times.values()]


def lived(life: Life, episodes: int) -> Iterator[Episode]:
    with progress(episodes, "episodes") as advance:
        for number in range(episodes):
            yield life.episode(number)
            advance()


def written(stores: Stores, episodes: int) -> Figures:
    """Episodes, and steps as they are lived."""
    life, env = Life(1), camera()
    append: dict[str, Callable[[Any], object]] = {name: store.append for name, store in stores.items()}
    yield each(f"append {STEPS} state steps with latents", append, lived(life, episodes))
    films = (replace(filmed(env, seed), environment="filmed") for seed in range(FILMED))
    yield each("append 200 steps with pictures of 64 x 64", append, films)
    write: dict[str, Callable[[Any], object]] = {name: Journal(store).write for name, store in stores.items()}
    yield each("a step written as it is lived", write, ([step] for step in steps_of(life.episode(episodes))))


def read(stores: Stores, rounds: int) -> Figures:
    """One episode; all, for learning; all, for recall, of which a file keeps an index from the first time on."""
    known = {name: store.ids(environment=WORLD) for name, store in stores.items()}
    one = {name: lambda n, name=name, store=store: store.read(known[name][n]) for name, store in stores.items()}
    episodes = len(known["file"])
    yield each(f"read {STEPS} state steps", one, range(episodes))
    works: dict[str, Callable[[EpisodeStore], object]] = {
        "read for learning": lambda store: Replay.load(store, WORLD, 10**7),
        "opened for recall": lambda store: EpisodicMemory(store, ENCODER, WORLD),
    }
    for what, work in works.items():
        times = turns({name: partial(work, store) for name, store in stores.items()}, rounds, 1, wall)
        yield [row(f"{episodes * (STEPS + 1):,} moments {what}", values, "s") for values in times.values()]


def _live(url: str, number: int, ready: Any) -> None:
    """One of many that write at once."""
    life = Life(number)
    episodes = [life.episode(number * LIVED + i) for i in range(LIVED)]
    with EpisodeStore(url) as store:
        ready.wait(WAIT)
        for episode in episodes:
            store.append(episode)


def together(url: str, writers: int) -> float:
    """Episodes a second by so many processes."""
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Barrier(writers + 1)
    at_work = [spawn.Process(target=_live, args=(url, n + 2, ready)) for n in range(writers)]
    for process in at_work:
        process.start()
    ready.wait(WAIT)
    spent = wall(lambda: [process.join() for process in at_work])
    if any(process.exitcode for process in at_work):
        raise RuntimeError("a writer failed")
    return writers * LIVED / spent


def main(url: str, episodes: int = 500, rounds: int = 5, writers: tuple[int, ...] = (1, 2, 4)) -> None:
    """Print the table.

    Args:
        url: of a database without a memory.
        episodes: of 200 moments each.
        rounds: of reading.
        writers: processes at once.
    """
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as opened:
        places: dict[str, str | Path] = {"file": Path(folder) / "memory.sqlite", "server": url}
        stores = {name: opened.enter_context(EpisodeStore(place)) for name, place in places.items()}
        if len(stores["server"]):
            raise UsageError(f"{stores['server'].name} has a memory already; give an empty database")
        print(f"{machine()}\n\n| what | file | server | unit |\n|---|---|---|---|", flush=True)
        for figures in (written(stores, episodes), read(stores, rounds)):
            for file, server in figures:
                print(f"| {file.name} | {file} | {server} | {file.unit} |", flush=True)
        for count in writers:
            print(f"| appended by {count} at once | - | {together(url, count):,.0f} | a second |", flush=True)


if __name__ == "__main__":
    tyro.cli(main)
