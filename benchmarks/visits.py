"""What memory buys from visit to visit: `python benchmarks/visits.py [--sessions 20] [--weights FILE]`.

In `ami/Recall-v0` a session is a room that stays as it is for 8 visits, each from another start to any colour. The
agent lives the same sessions five times: in one process; killed (SIGKILL) as soon as each visit stands in its
metrics, and started again in the same home; with the ways remembered, but not where a colour was seen; without memory;
and, as a placebo, with what it remembers of all visits to the next room, taken for its memory of this one. Steps are
those of a visit over those that the shortest way takes at least; a visit that fails counts with all its steps.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from json import loads
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import tyro
from cells import machine, mean, percent

import ami_envs  # noqa: F401 - registers the worlds
from ami_agent.commands.run import EPISODES_A_SEED
from ami_agent.console import progress
from ami_agent.environment import Environment
from ami_agent.files import write_json
from ami_agent.memory.store import EpisodeStore
from ami_agent.runs import versions
from ami_envs.worlds.recall import VISITS, least_steps

WORLD = "ami/Recall-v0"
KILLED = "killed after each visit"
PLACEBO = "another room's memory"
SETTINGS = {"one process": (), KILLED: (), "no sightings": ("--ways.no-sightings",), "no memory": ("--memory", "off")}
SETTINGS |= {PLACEBO: ()}
STORE = "home/agents/default/memory.sqlite"
Visit = dict[str, Any]


def shortest(session: int) -> list[float]:
    """The least steps that each visit of a session takes."""
    env = gym.make(WORLD, session=session)
    period = env.unwrapped.engine.period  # type: ignore[attr-defined]
    ways = [env.reset(seed=session * EPISODES_A_SEED + visit)[1]["privileged/way"] for visit in range(VISITS)]
    return [least_steps(way, period) for way in ways]


def told(folder: Path) -> list[Visit]:
    """The visits that the runs in a folder have told of, in order."""
    texts = [path.read_text() for path in sorted(folder.glob("runs/*/metrics.jsonl"))]
    lines = [line for text in texts for line in text.split("\n")[:-1]]
    return sorted((loads(line) for line in lines), key=lambda visit: visit["seed"])


def start(session: int, folder: Path, line: tuple[str, ...], first: int, episodes: int) -> subprocess.Popen:
    asked = ["--env", WORLD, "--seed", str(session), "--home", str(folder / "home"), *line]
    asked += ["--first", str(first), "--episodes", str(episodes), "--json"]
    command = [sys.executable, "-m", "ami_agent", "run", *asked]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _check(process: subprocess.Popen, expected: int) -> None:
    complaint = process.communicate()[1]
    if process.returncode != expected:
        raise RuntimeError(f"{' '.join(map(str, process.args))} ended {process.returncode}:\n{complaint}")


def lived(session: int, setting: str, weights: tuple[str, ...]) -> list[Visit]:
    """All visits of a session."""
    line = (*SETTINGS[setting], *weights)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if setting == PLACEBO:
            _mislead(session, folder, line)
        if setting != KILLED:
            _check(start(session, folder, line, 0, VISITS), 0)
            return told(folder)
        for visit in range(VISITS):
            process = start(session, folder, line, visit, VISITS)
            while process.poll() is None and len(told(folder)) <= visit:
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
            _check(process, -signal.SIGKILL)
        return told(folder)


def _mislead(session: int, folder: Path, line: tuple[str, ...]) -> None:
    """Let visits to the next room be remembered as visits to this one."""
    other = folder / "other"
    other.mkdir()
    _check(start(session + 1, other, line, 0, VISITS), 0)
    place = Environment(WORLD, 1, {"session": session}).task
    with EpisodeStore(other / STORE) as store, EpisodeStore(folder / STORE) as mistaken:
        for _, episode in store.episodes():
            mistaken.append(replace(episode, task=place))


def table(ratios: dict[str, np.ndarray], successes: dict[str, np.ndarray]) -> Iterator[str]:
    """{setting: (sessions, VISITS)} -> the lines of a Markdown table."""
    yield f"| steps / shortest, visit | {' | '.join(str(visit + 1) for visit in range(VISITS))} | success, % |"
    yield "|---" * (VISITS + 2) + "|"
    for name, ratio in ratios.items():
        success = percent(int(successes[name].sum()), successes[name].size)
        cells = [*(mean(column, 2) for column in ratio.T), success]
        yield f"| {name} | {' | '.join(cells)} |"


def main(
    sessions: int = 20,
    first: int = 1,
    weights: str = "auto",
    only: tuple[str, ...] = (),
    jobs: int = 1,
    json: Path | None = None,
) -> None:
    """Print the table in Markdown, under what made it.

    Args:
        sessions: how many rooms.
        first: the first of them.
        weights: as `ami-agent run` takes them.
        only: some of the settings, by name.
        jobs: processes at once.
        json: write the raw visits to this file, too.
    """
    weights = weights if weights in ("auto", "pretrained") else str(Path(weights).absolute())
    chosen = [name for name in SETTINGS if not only or name in only]
    rooms = range(first, first + sessions)
    least = np.array([shortest(session) for session in rooms])
    raw: dict[str, list[list[Visit]]] = {}
    with progress(len(chosen) * sessions, WORLD) as advance, ThreadPoolExecutor(jobs) as pool:
        for setting in chosen:
            raw[setting] = []
            for visits in pool.map(lambda session: lived(session, setting, ("--weights", weights)), rooms):  # noqa: B023
                raw[setting].append(visits[:VISITS])
                advance(1, setting)
    steps, successes = (
        {name: np.array([[one[what] for one in visits] for visits in room]) for name, room in raw.items()}
        for what in ("length", "success")
    )
    print(f"`{WORLD}`, sessions {first} to {first + sessions - 1}; means over sessions, 95 % intervals  ")
    print(f"{machine()}\n")
    print("\n".join(table({name: count / least for name, count in steps.items()}, successes)))
    if json:
        write_json(json, {"shortest": least.tolist(), "visits": raw, "versions": versions()})


if __name__ == "__main__":
    tyro.cli(main)
