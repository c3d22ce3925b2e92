"""What a suite's learning curves say, in tables and a figure: `python benchmarks/learning.py`. It runs nothing.

What there is to read is made by `ami-agent bench run --suite external-v1 --agents ours,sac,ppo,random --seeds 3 --jobs
2 --results benchmarks/results/external-v1`. While that runs, the tables are of the pieces that are at their end.
"""

from __future__ import annotations

import sys
from pathlib import Path

import tyro
from learning_figure import figure as drawn
from learning_report import report, rows_of

from ami_agent.bench.results import load
from ami_agent.bench.standings import standings
from ami_agent.bench.suites import find_suite
from ami_agent.console import say
from ami_agent.errors import AmiError, UsageError
from ami_agent.files import write_bytes

HERE = Path(__file__).resolve().parent


def main(
    suite: str = "external-v1",
    results: Path = HERE / "results" / "external-v1",
    agents: str = "ours,sac,ppo,random",
    cpu: str = "ours,sac",
    figure: Path | None = None,
) -> int:
    """Print the tables in Markdown.

    Args:
        suite: of `ami-agent bench list`.
        results: the folder with the pieces' files.
        agents: who is shown, comma-separated.
        cpu: who of them is compared at equal CPU seconds of learning, too.
        figure: draw the curves to this file, as an SVG.
    """
    try:
        name = find_suite(suite).name
        who, timed = ([agent for agent in told.split(",") if agent] for told in (agents, cpu))
        loaded = load([results])
        pieces = [piece for piece in loaded.pieces if piece.suite.name == name and piece.agent in who]
        if not pieces:
            raise UsageError(f"{results} has no results of {agents} in {name}; `ami-agent bench run` makes them")
        [standing] = standings(pieces)
        if figure and (rows := rows_of(standing, who)):
            write_bytes(figure, drawn(rows, standing.suite).encode())
        print(report(standing, who, timed, loaded.faults))
    except AmiError as error:
        say(f"error: {error}")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
