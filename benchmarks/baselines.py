"""How well agents do, as README's table: `python benchmarks/baselines.py [--json FILE]`.

Each cell is one `ami-agent run` in a process of its own with a home of its own, so that nothing learned or remembered
before has a part in it. The raw episodes stay in the runs' folders, under `runs/`.
"""

from __future__ import annotations

import json as json_format
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import tyro
from cells import machine

from ami_agent.files import write_json
from ami_agent.runs import hardware, versions

AGENTS = {
    "ami": "ours",
    "random": "random",
    "noop": "noop",
    "oracle": "scripted oracle",
    "oracle-planner": "oracle planner",
}
ENVS = ("ami/Reach-v0", "ami/Push-v0", "ami/Stack-v0", "ami/MazeNav-v0")


def words(env: str, agent: str, episodes: int, seed: int) -> list[str]:
    """The command line of one cell; a fresh `--home` is added when it runs."""
    which = ["--agent", agent] if agent != "ami" else ["--weights", "pretrained"]
    return ["run", "--env", env, *which, "--episodes", str(episodes), "--seed", str(seed), "--device", "cpu", "--json"]


def measure(line: list[str]) -> dict[str, Any]:
    """What `ami-agent` says of one run; ends with its complaint if it fails."""
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "ami_agent", *line, "--home", home]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"ami-agent {shlex.join(line)} ended {done.returncode}:\n{done.stderr}")
    return json_format.loads(done.stdout)


def cell(result: dict[str, Any]) -> str:
    """Success rate with its 95 % interval, in percent."""
    if result["success_rate"] is None:
        return "-"
    rate, (low, high) = result["success_rate"], result["success_interval"]
    return f"{100 * rate:.0f} ({100 * low:.0f} to {100 * high:.0f})"


def table(results: dict[str, dict[str, dict[str, Any]]], agents: list[str]) -> list[str]:
    """results[env][agent] -> the lines of a Markdown table."""
    planners = [agent for agent in agents if agent in ("ami", "oracle-planner")]
    heads = [AGENTS[agent] for agent in agents] + [f"plan ms, {AGENTS[agent]}" for agent in planners]
    lines = [f"| world | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for env, by_agent in results.items():
        times = [f"{by_agent[agent]['plan_ms']['p50']:.1f}" for agent in planners]
        lines.append(f"| `{env}` | {' | '.join([cell(by_agent[agent]) for agent in agents] + times)} |")
    return lines


def main(
    envs: tuple[str, ...] = ENVS,
    agents: tuple[str, ...] = tuple(AGENTS),
    episodes: int = 50,
    seed: int = 1,
    json: Path | None = None,
) -> None:
    """Print the table in Markdown, under the commands, the machine and the versions that made it.

    Args:
        envs: which environments.
        agents: who acts in them: ami, random, noop, oracle, oracle-planner.
        episodes: of each.
        seed: of the episodes and of the agents.
        json: write every run's own result, the machine and the versions to this file, too.
    """
    if unknown := set(agents) - set(AGENTS):
        sys.exit(f"no agent {sorted(unknown)[0]!r}; there are {', '.join(AGENTS)}")
    results: dict[str, dict[str, dict[str, Any]]] = {env: {} for env in envs}
    for env in envs:
        for agent in agents:
            line = words(env, agent, episodes, seed)
            print(f"ami-agent {shlex.join(line)}", file=sys.stderr, flush=True)
            results[env][agent] = measure(line)
    print(f"Success in percent with its 95 % interval, {episodes} episodes, seed {seed}; median time of a decision.")
    print(f"{machine()}.\n")
    print("\n".join(table(results, list(agents))))
    print("\nEach cell: `ami-agent " + shlex.join(words("ENV", "AGENT", episodes, seed)) + "`, in an empty `--home`;")
    print("for ours `--weights pretrained` in place of `--agent AGENT`.")
    if json:
        write_json(json, {"machine": hardware(), "versions": versions(), "results": results})


if __name__ == "__main__":
    tyro.cli(main)
