"""A memory in a file beside one on a server: `python benchmarks/memory_server.py --url postgresql://USER@HOST/DATABASE`.

Both are given the same episodes (those of `memory.py`), in turns. Wall clock, as the server works in processes of its
own, from the call until what is written is on the disk. The database must have no memory yet, and keeps what is written
here: drop it afterwards.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import gymnasium
import torch
import tyro
from cells import machine
from memory import ENCODER, STEPS, WORLD, Life, filmed
from rows import Row, row

import ami_envs  # noqa: F401 - registers the worlds
from ami_agent.console import progress
from ami_agent.errors import UsageError
from ami_agent.memory.episodic import EpisodicMemory
from ami_agent.memory.journal import Journal, Step
from ami_agent.memory.replay import Replay
from ami_agent.memory.store import EpisodeStore

Figures = Iterator[list[Row]]  # one row for each engine
FILMED = 10  # episodes with pictures


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def written(stores: dict[str, EpisodeStore], episodes: int) -> Figures:
    """Episodes, and steps as they are lived."""
    life, times = Life(1), {name: [] for name in stores}  # type: ignore[var-annotated]
    with progress(episodes, "episodes") as advance:
        for number in range(episodes):
            episode = life.episode(number)
            for name, store in stores.items():
                times[name].append(1e3 * seconds(lambda: store.append(episode)))  # noqa: B023 - called at once
            advance()
    yield [row(f"append {STEPS} state steps with latents", each, "ms") for each in times.values()]
    env = gymnasium.make("ami/Push-v0", sensors={"rgb": {"size": 64}}, max_episode_steps=200)
    films = [replace(filmed(env, seed), environment="filmed") for seed in range(FILMED)]
    times = {name: [1e3 * seconds(lambda: store.append(one)) for one in films] for name, store in stores.items()}  # noqa: B023
    yield [row("append 200 steps with pictures of 64 x 64", each, "ms") for each in times.values()]
    episode = life.episode(episodes)
    times = {name: [] for name in stores}
    for name, store in stores.items():
        journal = Journal(store)
        for t in range(len(episode)):
            seen = {"observation": episode.observation["observation"][t + 1]}
            step = Step((WORLD, "", "", 0), t + 1, seen, episode.action[t], float(episode.reward[t]))
            times[name].append(1e3 * seconds(lambda: journal.write([step])))  # noqa: B023 - called at once
    yield [row("a step written as it is lived", each, "ms") for each in times.values()]


def read(stores: dict[str, EpisodeStore], rounds: int) -> Figures:
    """One episode; all, for learning; all, for recall, of which a file keeps an index."""
    known = {name: store.ids(environment=WORLD) for name, store in stores.items()}
    times = {name: [1e3 * seconds(lambda: store.read(i)) for i in known[name]] for name, store in stores.items()}  # noqa: B023
    yield [row(f"read {STEPS} state steps", each, "ms") for each in times.values()]
    moments = f"{len(known['file']) * (STEPS + 1):,} moments"
    works: dict[str, Callable[[EpisodeStore], object]] = {
        f"{moments} read for learning": lambda store: Replay.load(store, WORLD, 10**7),
        f"{moments} opened for recall": lambda store: EpisodicMemory(store, ENCODER, WORLD),
    }
    for what, work in works.items():
        for store in stores.values():
            work(store)  # the first time a file's index is made
        times = {name: [] for name in stores}
        for _ in range(rounds):
            for name, store in stores.items():
                times[name].append(seconds(lambda: work(store)))  # noqa: B023 - called at once
        yield [row(what, each, "s") for each in times.values()]


def _live(url: str, number: int, episodes: int, ready: object) -> None:
    """One of many that write at once."""
    life = Life(number)
    lived = [life.episode(number * episodes + i) for i in range(episodes)]
    with EpisodeStore(url) as store:
        ready.wait()  # type: ignore[attr-defined]
        for episode in lived:
            store.append(episode)


def together(url: str, writers: int, episodes: int) -> Row:
    """Episodes a second by so many processes, each of which writes `episodes`."""
    ways = multiprocessing.get_context("spawn")
    ready = ways.Barrier(writers + 1)
    at_work = [ways.Process(target=_live, args=(url, n + 2, episodes, ready)) for n in range(writers)]
    for process in at_work:
        process.start()
    ready.wait()
    spent = seconds(lambda: [process.join() for process in at_work])
    if any(process.exitcode for process in at_work):
        raise RuntimeError("a writer failed")
    return row(f"appended by {writers} at once", [writers * episodes / spent], "a second")


def main(url: str, episodes: int = 500, rounds: int = 5, writers: tuple[int, ...] = (1, 2, 4)) -> None:
    """Print the table.

    Args:
        url: of a database without a memory.
        episodes: of 200 moments each.
        rounds: of reading.
        writers: processes at once.
    """
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        places: dict[str, str | Path] = {"file": Path(folder) / "memory.sqlite", "server": url}
        stores = {name: EpisodeStore(place) for name, place in places.items()}
        if len(stores["server"]):
            raise UsageError(f"{stores['server'].name} has a memory already; give an empty database")
        print(f"{machine()}\n\n| what | file | server | unit |\n|---|---|---|---|", flush=True)
        for figures in (written(stores, episodes), read(stores, rounds)):
            for file, server in figures:
                print(f"| {file.name} | {file} | {server} | {file.unit} |", flush=True)
        for count in writers:
            many = together(url, count, 100)
            print(f"| {many.name} | - | {many.median:,.0f} | {many.unit} |", flush=True)
        for store in stores.values():
            store.close()


if __name__ == "__main__":
    tyro.cli(main)
