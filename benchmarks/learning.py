"""Learning curves of agents x tasks x seeds: `python benchmarks/learning.py [--jobs 2] [--seeds 0,1,2,3,4]`.

The pieces are those of `ami-agent bench run --suite external-v1`, kept in benchmarks/results/learning. Whatever stops
the benchmark, it goes on when it is called again: ours from their last checkpoints, while pieces of Stable-Baselines3
that were interrupted, or are to live longer, begin from zero. At the end, or with --report alone, the table is printed
and the figure drawn.

Equal CPU time: Stable-Baselines3 is quicker per env step than ours, so let it live longer:
`--agents sac,ppo --steps 10000000 --cpu-seconds 600`, with what ours took.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import tyro
from learning_report import load
from learning_report import report as write_report

from ami_agent.bench.contenders import contender
from ami_agent.bench.runner import Plan, run, to_do
from ami_agent.bench.suites import find_suite
from ami_agent.commands.bench import check_steps, chosen, numbers
from ami_agent.commands.common import check_range
from ami_agent.console import say
from ami_agent.errors import AmiError
from ami_agent.signals import graceful

HERE = Path(__file__).resolve().parent
SUITE = find_suite("external-v1")


def main(
    agents: str = "ours,sac,ppo,random",
    tasks: str = "",
    seeds: str = "0,1,2",
    steps: int = 50_000,
    cpu_seconds: float | None = None,
    every: int = 10_000,
    episodes: int = SUITE.episodes,
    jobs: int = 1,
    report: bool = False,
    retry: bool = False,
    results: Path = HERE / "results" / "learning",
    scratch: Path = Path("runs/learning"),
    figure: Path = HERE.parent / "assets" / "pictures" / "learning.svg",
) -> int:
    """Run what is missing, then print the table of all that is there and draw the figure.

    Args:
        agents: who learns, of `ami-agent bench list`.
        tasks: names or their beginnings, comma-separated; all by default.
        seeds: of training: how many, or which, comma-separated. The report takes all that are there.
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
        check_range("jobs", jobs, 1, 1024)
        check_range("every", every, 1, 10**9)
        check_range("episodes", episodes, 1, 1000)
        who = [name for name in agents.split(",") if name]
        for name in who:
            contender(name)
        tasks_of = tuple(replace(task, every=every) for task in SUITE.tasks)
        suite = replace(SUITE, tasks=tasks_of, episodes=episodes)
        which = chosen(suite, tasks)
        if not report:
            check_steps(steps, which)
            command = ["bench", "run", "--suite", SUITE.name, "--agents", agents, "--seeds", seeds]
            command += ["--steps", str(steps)] if cpu_seconds is None else ["--cpu-seconds", str(cpu_seconds)]
            plan = Plan(suite, results, scratch, steps, cpu_seconds, retry, tuple(command))
            with graceful() as stop:
                run(plan, to_do(plan, who, which, numbers(seeds)), jobs, stop)
            if stop.requested:
                say("stopped; the same command goes on")
                return stop.exit_code
        print(write_report(load(results, who, which), which, who, figure))
    except AmiError as error:
        say(f"error: {error}")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
