"""How fast memory is, as a Markdown table: `python benchmarks/memory.py [--moments N] [--json FILE]`.

CPU time (`time.process_time_ns`) of one thread, medians over rounds with their range. What is remembered is made up:
each episode is a walk of a hidden state of 12 numbers with momentum, in a box; its latents are a fixed random map (two
layers, tanh) of that state to 128 numbers, with noise, so that moments near in time are near in latent space and all of
them lie about a curved sheet of 12 dimensions, as those of a robot do. Queries are moments of episodes that are not in
the memory. Pictures are those of ami/Push-v0's camera under random actions.
"""

from __future__ import annotations

import json as json_module
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import gymnasium
import numpy as np
import torch
import tyro
from cells import machine
from rows import Row, cpu, row

import ami_envs  # noqa: F401 - registers the worlds
from ami_agent.console import progress
from ami_agent.files import write_json
from ami_agent.memory.episodic import KEEP_ROWS, KEEP_SHARE, EpisodicMemory
from ami_agent.memory.journal import Journal, Step
from ami_agent.memory.replay import Replay
from ami_agent.memory.store import EpisodeStore
from ami_agent.protocols import Episode, Wanted
from ami_agent.runs import hardware, versions

WORLD, ENCODER = "made-up", "random map"
STEPS, STATE, LATENT, ACTION = 199, 12, 128, 5  # of an episode, which has 200 moments; sizes
QUERIES, K = 200, 10
WINDOWS, WINDOW = 256, 16  # read at once, and the steps of each


class Life:
    """Makes up episodes; the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        fixed = np.random.default_rng(0)
        self._hidden = fixed.normal(size=(STATE, 256)) * 2 / STATE**0.5
        self._out = fixed.normal(size=(256, LATENT)) / 16

    def episode(self, number: int) -> Episode:
        rng, state, speed = self._rng, np.empty((STEPS + 1, STATE)), np.zeros(STATE)
        state[0] = rng.uniform(-1, 1, STATE)
        for t in range(STEPS):
            speed = 0.9 * speed + 0.02 * rng.normal(size=STATE)
            over = abs(state[t] + speed) > 1
            speed[over] *= -1
            state[t + 1] = np.clip(state[t] + speed, -1, 1)
        latent = np.tanh(state @ self._hidden) @ self._out + 0.02 * rng.normal(size=(STEPS + 1, LATENT))
        return Episode(
            environment=WORLD,
            observation={"observation": state.astype(np.float32)},
            action=rng.uniform(-1, 1, (STEPS, ACTION)).astype(np.float32),
            reward=rng.normal(size=STEPS).astype(np.float32),
            terminated=False,
            truncated=True,
            success=bool(rng.random() < 0.5),
            seed=number,
            session=f"session-{number // 50}",
            task=f"task-{number % 4}",
            latent=latent.astype(np.float32),
            encoder=ENCODER,
            surprise=rng.random(STEPS, np.float32),
        )


def fill(store: EpisodeStore, life: Life, episodes: int) -> tuple[np.ndarray, list[float]]:
    """Remember so many; all latents (n, D), and CPU-seconds of each `append`."""
    latents, times = np.empty((episodes * (STEPS + 1), LATENT), np.float32), []
    with progress(episodes, "episodes") as advance:
        for number in range(episodes):
            episode = life.episode(number)
            times.append(cpu(lambda: store.append(episode)))  # noqa: B023 - called at once
            latents[number * (STEPS + 1) : (number + 1) * (STEPS + 1)] = episode.latent
            advance()
    return latents, times


def exact(latents: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Rows (B, K) of the nearest, by brute force."""
    norms = np.einsum("nd,nd->n", latents, latents)
    return np.stack([np.argpartition(norms - 2 * (latents @ query), K - 1)[:K] for query in queries])


def recall_rows(memory: EpisodicMemory, latents: np.ndarray, rounds: int) -> Iterator[Row]:
    life = Life(2)
    queries = np.stack([life.episode(number).latent[number % STEPS] for number in range(QUERIES)])  # type: ignore
    start = cpu(lambda: memory.recall(queries, K))
    yield row(
        f"first {QUERIES} recalls: what is new filed, blocks checked on the way", [1e3 * start / QUERIES], "CPU-ms each"
    )
    kinds = {
        f"recall of {K} among all": Wanted(),
        "of good episodes (half)": Wanted(good=True),
        "of a task (a quarter)": Wanted(task="task-1"),
        "of a session (50 episodes, exact)": Wanted(session="session-0"),
        "within the first 50 steps of good episodes": Wanted(good=True, t_to=50),
    }
    for name, wanted in kinds.items():
        p50, p99 = [], []
        for _ in range(rounds):
            times = [1e3 * cpu(lambda: memory.recall(one[None], K, wanted)) for one in queries]  # noqa: B023
            p50.append(float(np.median(times)))
            p99.append(float(np.quantile(times, 0.99)))
        yield row(f"{name}, p50", p50, "CPU-ms", "<= 1" if wanted == Wanted() else "")
        if wanted == Wanted():
            yield row(f"{name}, p99", p99, "CPU-ms")
    episode = np.arange(len(latents)) // (STEPS + 1) + 1  # ids count from 1
    for name, which in {"": {}, ", of good episodes": {"success": True}, ", of a task": {"task": "task-1"}}.items():
        rows = np.flatnonzero(np.isin(episode, memory.store.ids(**which)))
        _, moments, _ = memory.recall(queries, K, Wanted(**which))
        found = (moments[..., 0] - 1) * (STEPS + 1) + moments[..., 1]
        truth = rows[exact(latents[rows], queries)]
        hits = [len(set(a) & set(b)) / K for a, b in zip(found.tolist(), truth.tolist(), strict=True)]
        yield Row(f"recall@{K} against exact{name}", float(np.mean(hits)), min(hits), max(hits), "share", ">= 0.95")
    brute = [1e3 * cpu(lambda: exact(latents, queries[:1])) for _ in range(3)]
    yield row("brute force by numpy, for comparison", brute, "CPU-ms")


def opening_rows(path: Path, rounds: int, what: str) -> Iterator[Row]:
    """In processes of their own, the file in the page cache."""
    child = Path(__file__).with_name("memory_opening.py")
    command = [sys.executable, *map(str, (child, path, ENCODER, WORLD, LATENT))]
    told = [json_module.loads(subprocess.check_output(command)) for _ in range(rounds)]
    yield row(what, [one["cpu"] for one in told], "CPU-s", "<= 1")
    yield row(f"{what}, wall clock", [one["wall"] for one in told], "s")
    yield row(f"{what}: episodes read from the store", [one["reads"] for one in told], "")
    yield row(f"{what}: RAM taken", [one["grown"] for one in told], "MiB")
    yield row(f"{what}: until the first recall is back", [one["first"] for one in told], "CPU-s")


def killed_rows(path: Path) -> Iterator[Row]:
    """What a process leaves that is killed: a log of what it wrote last, and a file that is looked through before that
    is taken over. The first opening alone; the next is as above."""
    life = f"sys.path.insert(0, {str(Path(__file__).parent)!r}); from memory import Life, EpisodeStore"
    lives = "store = EpisodeStore(sys.argv[1]); [store.append(Life(9).episode(i)) for i in range(20)]"
    subprocess.run([sys.executable, "-c", f"import os, sys; {life}; {lives}; os.kill(os.getpid(), 9)", str(path)])
    yield from opening_rows(path, 1, "open after kill -9")


def journal_rows(folder: Path) -> Iterator[Row]:
    """Steps as they are lived, one a write."""
    env = camera()
    for name, episode in (("state steps", Life(3).episode(0)), ("steps with pictures of 64 x 64", filmed(env, 3))):
        with EpisodeStore(folder / f"journal of {name}.sqlite") as store:
            journal, times = Journal(store), []
            for step in steps_of(episode):
                times.append(1e3 * cpu(lambda: journal.write([step])))  # noqa: B023 - called at once
        yield row(f"one of {name} written as it is lived", times, "CPU-ms")


def steps_of(episode: Episode) -> Iterator[Step]:
    """As they are lived, by one agent in one world."""
    for t in range(len(episode)):
        seen = {sense: values[t + 1] for sense, values in episode.observation.items()}
        yield Step((WORLD, "", "", 0), t + 1, seen, episode.action[t], float(episode.reward[t]))


def camera() -> gymnasium.Env:
    """A world of which an episode has 200 pictures of 64 x 64."""
    return gymnasium.make("ami/Push-v0", sensors={"rgb": {"size": 64}}, max_episode_steps=200)


def filmed(env: gymnasium.Env, seed: int) -> Episode:
    """200 steps of random actions."""
    life, actions = Life(seed).episode(seed), np.random.default_rng(seed).uniform(-1, 1, (200, 5)).astype(np.float32)
    seen = [env.reset(seed=seed)[0], *(env.step(action)[0] for action in actions)]
    return replace(
        life,
        observation={name: np.stack([one[name] for one in seen]) for name in seen[0]},
        action=actions,
        **{name: np.resize(getattr(life, name), 200) for name in ("reward", "surprise")},
        latent=np.concatenate([life.latent, life.latent[-1:]]),  # type: ignore[list-item, index]
    )


def picture_rows(folder: Path, rounds: int) -> Iterator[Row]:
    """Episodes of 200 steps with pictures of 64 x 64."""
    env = camera()
    episodes = [filmed(env, seed) for seed in range(rounds)]
    raw = [episode_bytes(one) / 200 for one in episodes]
    kinds = {"pictures of 64 x 64": episodes}
    kinds["pictures of noise"] = [with_noise(one, seed) for seed, one in enumerate(episodes)]
    for name, ones in kinds.items():
        cpu_ms, wall_ms = [], []
        with EpisodeStore(folder / f"{name}.sqlite") as store:
            for one in ones:
                start = time.perf_counter()
                cpu_ms.append(1e3 * cpu(lambda: store.append(one)))  # noqa: B023 - called at once
                wall_ms.append(1e3 * (time.perf_counter() - start))
        size = (folder / f"{name}.sqlite").stat().st_size / rounds / 200
        target = "<= 30" if ones is episodes else ""
        yield row(f"append 200 steps with {name}", cpu_ms, "CPU-ms", target)
        yield row(f"append 200 steps with {name}, until it is on the disk", wall_ms, "ms", target)
        yield row(f"steps with {name}: bytes a step", [size], "bytes")
    yield row("the same, raw: bytes a step", raw, "bytes")


def with_noise(episode: Episode, seed: int) -> Episode:
    """The same with pictures that nothing can make smaller: as bad as it gets."""
    pictures = np.random.default_rng(seed).integers(0, 256, episode.observation["rgb"].shape, np.uint8)
    return replace(episode, observation={**episode.observation, "rgb": pictures})


def episode_bytes(episode: Episode) -> int:
    """Of its arrays as they are."""
    arrays = [*episode.observation.values(), *(value for value in vars(episode).values() if hasattr(value, "nbytes"))]
    return sum(array.nbytes for array in arrays)


def replay_rows(store: EpisodeStore, rounds: int) -> Iterator[Row]:
    start = time.process_time()
    replay = Replay.load(store, WORLD, 10**7)
    yield row("replay of all of it filled", [time.process_time() - start], "CPU-s")
    rng = np.random.default_rng(0)
    rates = [
        20 * WINDOWS / cpu(lambda: [replay.read(replay.sample(WINDOWS, rng), WINDOW) for _ in range(20)])
        for _ in range(rounds)
    ]
    yield row(f"replay: windows of {WINDOW} state steps", rates, "a CPU-second", ">= 20000")


def size_rows(store: EpisodeStore, index: float) -> Iterator[Row]:
    """index: bytes a moment."""
    yield row("state steps with latents: bytes a step", [store.stats()["bytes"] / store.steps], "bytes")
    yield row("the same, raw: bytes a step", [episode_bytes(Life(1).episode(0)) / STEPS], "bytes")
    yield row("index beside it: bytes a moment", [index], "bytes")


def growing_rows(store: EpisodeStore, memory: EpisodicMemory, life: Life) -> Iterator[Row]:
    """The next episode, with which the file is written again."""
    episode = life.episode(0)
    known, start = store.append(episode), time.perf_counter()
    yield row("the file written again, once in a 16th more", [cpu(lambda: memory.add(known, episode))], "CPU-s")
    yield row("the file written again, until it is on the disk", [time.perf_counter() - start], "s")


def main(moments: int = 1_000_000, rounds: int = 9, json: Path | None = None) -> None:
    """Print the table.

    Args:
        moments: remembered, 200 an episode.
        rounds: turns of everything.
        json: write the figures, the machine and the versions to this file, too.
    """
    torch.set_num_threads(1)
    rows = []
    episodes = max(moments // (STEPS + 1), 1)
    print(machine(f"; medians of {rounds} rounds of CPU time, one thread"), flush=True)
    print(f"\n{episodes * (STEPS + 1):,} moments x {LATENT}\n\n| what | figure | unit |\n|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as name, EpisodeStore(Path(name) / "memory.sqlite") as store:

        def tell(figures: Iterator[Row]) -> None:
            for one in figures:
                rows.append(one)
                print(f"| {one.name} | {one.judged()} | {one.unit} |", flush=True)

        life = Life(1)
        latents, times = fill(store, life, episodes)
        tell(iter([row("append 199 state steps with latents", [1e3 * one for one in times], "CPU-ms")]))
        start = time.process_time()
        written = len(EpisodicMemory(store, ENCODER, WORLD))
        tell(iter([row("index made from the store", [time.process_time() - start], "CPU-s")]))
        tell(opening_rows(store.path, rounds, "open"))
        new, _ = fill(store, life, (max(KEEP_ROWS, written // KEEP_SHARE) - 1) // (STEPS + 1))
        tell(opening_rows(store.path, rounds, f"open, with {len(new):,} moments that are not in the file yet"))
        memory = EpisodicMemory(store, ENCODER, WORLD)
        tell(recall_rows(memory, np.concatenate([latents, new]), rounds))
        del latents, new
        tell(size_rows(store, memory.path.stat().st_size / written))
        tell(growing_rows(store, memory, life))
        tell(killed_rows(store.path))
        tell(replay_rows(store, rounds))
        tell(picture_rows(Path(name), rounds))
        tell(journal_rows(Path(name)))
    if json:
        write_json(json, {"machine": hardware(), "versions": versions(), "rows": [asdict(one) for one in rows]})


if __name__ == "__main__":
    tyro.cli(main)
