"""What memory is worth, part by part: `python benchmarks/remembering.py [--weights FILE] [--json FILE]`.

Each setting lives the same episodes twice, the second time in another process: tasks that it has met before. A home is
empty at first; without persistence it is empty both times. Decisions are those of an episode: of one that fails, all.
"""

from __future__ import annotations

import json as json_format
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from cells import LIVES, WITHOUT, lived_twice, machine

from ami_agent.console import progress
from ami_agent.files import write_json
from ami_agent.runs import versions

KEPT, ANEW = True, False


@dataclass(frozen=True)
class Setting:
    name: str
    flags: tuple[str, ...] = ()
    home: bool = KEPT  # from the first life to the second


SETTINGS = (
    Setting("memory"),
    Setting("no graph", ("--ways.no-use",)),
    Setting("no proposals", ("--recalled", "0")),
    Setting("no persistence", (), ANEW),
    Setting(WITHOUT, ("--memory", "off", "--ways.no-use")),
)


def live(line: list[str], folder: Path) -> list[dict[str, Any]]:
    """What one run says of its episodes; ends with its complaint if it fails."""
    done = subprocess.run([sys.executable, "-m", "ami_agent", *line], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"ami-agent {' '.join(line)} ended {done.returncode}:\n{done.stderr}")
    metrics = folder / json_format.loads(done.stdout)["run"] / "metrics.jsonl"
    episodes = [json_format.loads(text) for text in metrics.read_text().splitlines()]
    return [{"success": bool(one["success"]), "decisions": one["length"]} for one in episodes]


def lives(setting: Setting, common: list[str], seed: int) -> list[list[dict[str, Any]]]:
    """The episodes of each life."""
    with tempfile.TemporaryDirectory() as name:
        folder, told = Path(name), []
        for life in range(LIVES):
            home = folder / ("home" if setting.home else f"home-{life}")
            told.append(live([*common, *setting.flags, "--seed", str(seed), "--home", str(home)], folder))
    return told


def by_life(told: list[list[list[dict[str, Any]]]], what: str) -> np.ndarray:
    """One thing of all episodes, as told by seed and life: (LIVES, seeds, episodes)."""
    return np.array([[[one[what] for one in life] for life in seed] for seed in told]).swapaxes(0, 1)


def main(
    env: str = "ami/MazeNav-v0",
    options: str = '{"size": 8, "map": "fixed"}',
    weights: str = "auto",
    episodes: int = 20,
    seeds: int = 3,
    only: tuple[str, ...] = (),
    json: Path | None = None,
) -> None:
    """Print the table in Markdown, under what made it.

    Args:
        env: where it lives.
        options: of the environment.
        weights: as `ami-agent run` takes them.
        episodes: of a life.
        seeds: how many: sessions, where the world has such.
        only: some of the settings, by name.
        json: write the raw successes and decisions to this file, too.
    """
    weights = weights if weights in ("auto", "pretrained") else str(Path(weights).absolute())
    common = ["run", "--env", env, "--options", options, "--weights", weights, "--episodes", str(episodes), "--json"]
    chosen = [setting for setting in SETTINGS if not only or setting.name in only]
    raw: dict[str, list[list[list[dict[str, Any]]]]] = {}
    with progress(len(chosen) * seeds, env) as advance:
        for setting in chosen:
            for seed in range(seeds):
                raw.setdefault(setting.name, []).append(lives(setting, common, seed + 1))
                advance(1, setting.name)
    results = {name: tuple(by_life(told, what) for what in ("success", "decisions")) for name, told in raw.items()}
    print(f"`{env}` with {options}: {seeds} seeds of {episodes} episodes, lived twice; 95 % intervals")
    print(f"{machine()}\n")
    print("\n".join(lived_twice("success", results)))
    if json:
        write_json(json, {"env": env, "options": options, "weights": weights, "versions": versions(), "lived": raw})


if __name__ == "__main__":
    tyro.cli(main)
