"""Learning curves of agents x tasks x seeds: `python benchmarks/learning.py [--jobs 2] [--seeds 0,1,2,3,4]`.

A piece is an agent on a task with a seed. Each runs in a process of its own, on one thread, and keeps its curve in a
file, benchmarks/results/learning/AGENT--TASK--SEED.json. Whatever stops the benchmark, it goes on when it is called
again: ours from their last checkpoints, while pieces of Stable-Baselines3 that were interrupted, or are to live longer,
begin from zero. At the end, or with --report alone, the table is printed and the figure drawn.

Equal CPU time: Stable-Baselines3 is quicker per env step than ours, so let it live longer:
`--agents sac,ppo --steps 10000000 --cpu-seconds 600`, with what ours took.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro
from learning_piece import APART, DONE, FAILED, JUDGED, LEARN, UNFINISHED, Ours, complete, fail, kept, read
from learning_report import Task, load
from learning_report import report as write_report

from ami_agent.console import say
from ami_agent.errors import AmiError, LockedError, UsageError, nearest
from ami_agent.evaluation.statistics import interquartile_mean
from ami_agent.files import plain, write_json
from ami_agent.learning.train import TrainConfig
from ami_agent.memory.lock import HomeLock
from ami_agent.signals import Stop, graceful

HERE = Path(__file__).resolve().parent
DMC, GYM = 4, 2  # action repeats; what spins fast needs shorter decisions
MINARI = "mean return of Farama-Minari's SAC expert on {0}, huggingface.co/farama-minari/{0}-SAC-expert, results.json"
TASKS = (  # a Gymnasium task's floor is the mean of 200 random episodes at its repeat, seeds 1,000,000 to 1,000,199
    Task("dm_control/cartpole-swingup-v0", DMC, tdmpc2=839),
    Task("dm_control/reacher-easy-v0", DMC, tdmpc2=937),
    Task("dm_control/ball_in_cup-catch-v0", DMC, tdmpc2=981),
    Task("dm_control/finger-spin-v0", 2, tdmpc2=948),
    Task("dm_control/pendulum-swingup-v0", DMC, tdmpc2=724),
    Task("Reacher-v5", GYM, -42.7, -3.281, MINARI.format("Reacher-v5")),
    Task("Pusher-v5", GYM, -149.8, -22.053, MINARI.format("Pusher-v5")),
    Task("InvertedDoublePendulum-v5", GYM, 39.0, 9356.023, MINARI.format("InvertedDoublePendulum-v5")),
)
OURS = Ours(TrainConfig(worlds=1, warmup=2_500, plan=True))
UPDATES = 0.25  # of ours, an env step
PARTS: dict[str, Callable[[Ours], Ours]] = {  # ours without one of its parts, for `--agents ours,ours-no-planner,...`
    "ours": lambda ours: ours,
    "ours-no-planner": lambda ours: _trained(ours, plan=False),
    "ours-no-prediction": lambda ours: _modelled(ours, consistency=0.0),
    "ours-no-inverse": lambda ours: _modelled(ours, inverse=0.0),
    "ours-one-step": lambda ours: _trained(ours, study=replace(ours.train.study, window=1)),
    "ours-half-updates": lambda ours: _trained(ours, study=replace(ours.train.study, ratio=ours.train.study.ratio / 2)),
}
SB3 = {"policy": "MlpPolicy", "device": "cpu"}  # all else as Stable-Baselines3 has it


@dataclass(frozen=True)
class Plan:
    """How pieces are run, and where they are kept."""

    results: Path
    scratch: Path
    limits: dict[str, Any]  # steps, cpu_seconds
    every: int
    episodes: int
    ours: Ours = OURS
    updates: float = UPDATES
    retry: bool = False

    def piece(self, agent: str, task: Task, seed: int) -> Path:
        return self.results / f"{agent}--{task.id.replace('/', '-')}--{seed}.json"

    def settings(self, agent: str, task: Task) -> dict[str, Any]:
        """What pieces must have in common to be compared."""
        config: dict[str, Any] = {}
        if agent in PARTS:
            study = replace(self.ours.train.study, ratio=self.updates * task.repeat)
            config = plain(PARTS[agent](_trained(self.ours, study=study)))
            del config["train"]["steps"], config["train"]["segment"]  # by the limits, and the points
        elif agent != "random":
            config = SB3
        return {"repeat": task.repeat, "every": self.every, "episodes": self.episodes, "config": config}


def _trained(ours: Ours, **change: Any) -> Ours:
    return replace(ours, train=replace(ours.train, **change))


def _modelled(ours: Ours, **change: Any) -> Ours:
    return replace(ours, brain=replace(ours.brain, model=replace(ours.brain.model, **change)))


def to_do(plan: Plan, agents: list[str], tasks: list[Task], seeds: list[int]) -> dict[Path, dict[str, Any]]:
    """The pieces that are not at their end, by their files, all of the first seed first; each as one would begin it.

    Raises UsageError if one was begun with other settings, or would go on with other versions.
    """
    left = {}
    for seed, task, agent in itertools.product(seeds, tasks, agents):
        path, settings = plan.piece(agent, task, seed), plain(plan.settings(agent, task))
        if path.exists():
            facts = read(path)
            _check_same(path, facts["settings"], settings)
            if facts["status"] == FAILED and not plan.retry:
                say(f"{path.stem}: failed before ({facts['reason']}); --retry runs it again")
                continue
            if _at_its_end(facts, plan):
                continue
            if agent in PARTS:
                kept(facts, plan.scratch / path.stem)
        left[path] = {"agent": agent, "task": task.id, "seed": seed, "settings": settings, "points": []}
    return left


def _at_its_end(facts: dict[str, Any], plan: Plan) -> bool:
    return facts["status"] == DONE and complete(facts, plan.limits)


def _check_same(path: Path, was: dict[str, Any], now: dict[str, Any]) -> None:
    for name, value in now.items():
        if was.get(name) != value:
            raise UsageError(
                f"{path} was made with {name} {was.get(name)}, not {value}: what differs cannot be compared; "
                "move it away, or give another --results"
            )


def run(plan: Plan, left: dict[Path, dict[str, Any]], jobs: int, stop: Stop) -> None:
    """Run pieces, `jobs` at once, each in a process of its own; a fault in one is kept in its file."""
    waiting, running, told = deque(left), {}, {}
    while (waiting or running) and not stop.requested:
        while waiting and len(running) < jobs:
            path = waiting.popleft()
            if (child := launch(plan, path, left[path])) is not None:
                running[path], told[path] = child, len(read(path)["points"])
        time.sleep(0.2)
        for path, child in list(running.items()):
            code = child.poll()
            told[path] = tell(path, told[path])
            if code is not None:
                del running[path]
                say(f"{path.stem}: {ended(plan, path, code)}; {len(waiting) + len(running)} pieces left")
    for child in running.values():
        child.terminate()
    for child in running.values():
        child.wait()


def launch(plan: Plan, path: Path, fresh: dict[str, Any]) -> subprocess.Popen | None:
    """A process for one piece, if no other has it or had it. A Ctrl-C does not reach it: `run` tells it to stop."""
    scratch = plan.scratch / path.stem
    try:
        with HomeLock(scratch):
            facts = read(path) if path.exists() else fresh
            if _at_its_end({"status": None, **facts}, plan):
                return None
            now = {"status": UNFINISHED, "reason": None, "limits": plan.limits, "command": sys.argv}
            write_json(path, {**facts, **now})
    except LockedError as error:
        say(f"{path.stem}: left alone, {error}")
        return None
    command = [sys.executable, str(HERE / "learning_piece.py"), str(path), str(scratch)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with (scratch / "log.txt").open("a") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)


def ended(plan: Plan, path: Path, code: int) -> str:
    """How a piece's process ended; failed if it did not say itself, but not if another process has the piece."""
    if code == LockedError.exit_code:
        return "left alone, another process has it"
    if read(path)["status"] == UNFINISHED:
        fail(path, _last_words(code, plan.scratch / path.stem / "log.txt"))
    return read(path)["status"]


def tell(path: Path, told: int) -> int:
    """Say what points are new since `told` of them; how many there are."""
    points = read(path)["points"]
    for point in points[told:]:
        mean = interquartile_mean(point["returns"])
        say(f"{path.stem}: {point['steps']} env steps, {point['cpu_seconds']:.1f} CPU s, return {mean:.2f}")
    return len(points)


def _last_words(code: int, log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return f"its process ended with {code}" + (f": {lines[-1]}" if lines else "")


def chosen(names: str) -> list[Task]:
    """Tasks by comma-separated names or their beginnings, with or without "dm_control/"; all by default."""
    found: dict[str, Task] = {}
    for name in filter(None, names.split(",")) if names else [""]:
        fits = [task for task in TASKS if task.id.startswith(name) or task.short.startswith(name)]
        if not fits:
            near = nearest(name, [task.id for task in TASKS]) or [task.id for task in TASKS]
            raise UsageError(f"no task {name!r}; there are {', '.join(near)}")
        found |= {task.id: task for task in fits}
    return list(found.values())


def main(
    agents: str = ",".join(LEARN),
    tasks: str = "",
    seeds: str = "0,1,2",
    steps: int = 50_000,
    cpu_seconds: float | None = None,
    every: int = 5_000,
    episodes: int = 10,
    jobs: int = 1,
    report: bool = False,
    retry: bool = False,
    results: Path = HERE / "results" / "learning",
    scratch: Path = Path("runs/learning"),
    figure: Path = HERE.parent / "assets" / "pictures" / "learning.svg",
) -> int:
    """Run what is missing, then print the table of all that is there and draw the figure.

    Args:
        agents: who learns, of ours,sac,ppo,random, and ours without a part, such as ours-no-planner.
        tasks: names or their beginnings, comma-separated; all by default.
        seeds: of training, comma-separated. The report takes all that are there.
        steps: env steps to live: decisions times the action repeat.
        cpu_seconds: stop sooner, at the first point after as many CPU seconds of learning.
        every: env steps between points of the curve.
        episodes: of each point.
        jobs: pieces at once.
        report: run nothing.
        retry: run failed pieces again.
        results: where the pieces' files are.
        scratch: where the runs and checkpoints go.
        figure: where the picture goes.
    """
    try:
        who, which = [name for name in agents.split(",") if name], chosen(tasks)
        if unknown := set(who) - set(LEARN) - set(PARTS):
            known = ", ".join(dict.fromkeys([*LEARN, *PARTS]))
            raise UsageError(f"no agent {sorted(unknown)[0]!r}; there are {known}")
        if not report:
            plan = Plan(results, scratch, {"steps": steps, "cpu_seconds": cpu_seconds}, every, episodes, retry=retry)
            _check(plan, jobs)
            with graceful() as stop:
                run(plan, to_do(plan, who, which, _seeds(seeds)), jobs, stop)
            if stop.requested:
                say("stopped; the same command goes on")
                return stop.exit_code
        print(write_report(load(results, who, which), which, who, figure))
    except AmiError as error:
        say(f"error: {error}")
        return error.exit_code
    return 0


def _check(plan: Plan, jobs: int) -> None:
    for name, value, most in (("jobs", jobs, 1024), ("every", plan.every, 10**9), ("episodes", plan.episodes, APART)):
        if not 1 <= value <= most:
            raise UsageError(f"--{name} must lie from 1 to {most}, not {value}")
    if plan.limits["steps"] < 1 or plan.limits["steps"] % plan.every:
        raise UsageError(f"--steps must be a multiple of --every, {plan.every}, not {plan.limits['steps']}")


def _seeds(text: str) -> list[int]:
    try:
        seeds = [int(word) for word in text.split(",") if word]
    except ValueError:
        seeds = []
    if not seeds or not all(0 <= seed < JUDGED // APART for seed in seeds):
        raise UsageError(f"--seeds must be numbers from 0 to {JUDGED // APART - 1}, comma-separated, not {text!r}")
    return list(dict.fromkeys(seeds))


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
