"""Made-up pieces of the benchmark, as files hold them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ami_agent.bench import process
from ami_agent.bench.results import file_name
from ami_agent.bench.schema import evaluation_seeds
from ami_agent.bench.suites import SUITES, Suite, Task

GIF = "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"  # one pixel


def stand_in(monkeypatch, folder: Path, script: str) -> None:
    """Pieces run a shell script in place of Python."""
    program = folder / "stand-in"
    program.write_text(f"#!/bin/sh\n{script}")
    program.chmod(0o755)
    monkeypatch.setattr(process.sys, "executable", str(program))


def judged(suite: Suite, task: Task, seed: int, score: float) -> dict[str, Any]:
    """Six lists of episodes whose mean has nearly that score: exactly, where a share of the episodes can have it."""
    n = suite.episodes
    good = [i < round(score * n) for i in range(n)]
    value = task.floor + score * (task.reference - task.floor)
    told = task.metric == "success"
    return {
        "seeds": list(evaluation_seeds(seed, suite.episodes)),
        "returns": [float(one) for one in good] if told else [value] * n,
        "successes": good if told else [None] * n,
        "final_successes": list(good) if told else [None] * n,
        "costs": [0.0] * n,
        "lengths": [40] * n,
    }


def made_up(
    agent: str, task: str, seed: int, *scores: float, suite: str = "core-v1", mujoco: str = "4.0.0", **more: Any
) -> dict[str, Any]:
    """A piece with a point a score, spread evenly up to the task's env steps; with one, it does not learn."""
    where = SUITES[suite]
    what = where.task(task)
    seeds = evaluation_seeds(seed, where.episodes)
    points = []
    for k, score in enumerate(scores):
        steps = what.steps * k // max(len(scores) - 1, 1) // what.repeat * what.repeat
        seconds = {"cpu_seconds": steps / 100, "wall_seconds": steps / 90}
        points.append(
            {"steps": steps, "decisions": steps // what.repeat, **seconds, **judged(where, what, seed, score)}
        )
    return {
        "format": 1, "suite": suite, "protocol": where.protocol, "agent": agent, "task": task, "seed": seed,
        "settings": {**what.settings, "episodes": where.episodes, "config": {}},
        "status": "done", "reason": None, "limits": {"steps": what.steps, "cpu_seconds": None}, "points": points,
        "learned": [points[-1]["cpu_seconds"], points[-1]["wall_seconds"]] if points else [0.0, 0.0],
        "evaluation_seeds": [seeds[0], seeds[-1]],
        "command": ["bench", "run", "--suite", suite, "--agents", agent], "start": "2026-01-02T03:04:05.678Z",
        "python": "3.11.2", "versions": {"ami-agent": "0.1.0", "mujoco": mujoco, "torch": "2.13.0", "numpy": "2.4.6",
                                         "gymnasium": "1.4.0", "stable-baselines3": "2.9.0"},
        "hardware": {"platform": "Linux", "processor": "abacus", "cores": 2, "memory_gib": 8.0, "gpu": None},
        "commits": ["c0ffee"], "run": f"learn-{agent}", "checkpoint": None, **more,
    }  # fmt: skip


def write(folder: Path, *pieces: dict[str, Any]) -> Path:
    """Each into its file; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for facts in pieces:
        name = file_name(*(facts[part] for part in ("suite", "agent", "task", "seed")))
        (folder / name).write_text(json.dumps(facts))
    return folder
