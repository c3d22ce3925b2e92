"""Proof that each world can be solved and is not trivial: `python benchmarks/worlds.py [--json FILE]`.

For every world, and some variants: the success of its scripted oracle, of random actions, of doing nothing, and, where
it claims to need memory or touch, of the best expert without (the floor) beside mere chance. Then Recall's path, visit
by visit. Seeds 0, 1, 2, ...: one episode each.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import tyro
from cells import machine, percent
from gymnasium.vector import AutoresetMode

from ami_agent import console
from ami_agent.files import write_json
from ami_agent.runs import hardware, versions
from ami_envs.checks.trials import success_rate
from ami_envs.faces import BatchEnv
from ami_envs.registry import TASKS
from ami_envs.worlds.recall import path_ratios

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("ami/Reach-v0", {"robot": "arm7"}),
    ("ami/Push-v0", {"robot": "arm7"}),
    ("ami/Stack-v0", {"n": 2}),
    ("ami/Stack-v0", {"n": 3}),
    ("ami/Drawer-v0", {"task": "store"}),
    ("ami/MazeNav-v0", {"size": 8, "map": "fixed"}),
    ("ami/CueDelay-v0", {"n": 3}),
    ("ami/CueDelay-v0", {"n": 9}),
    ("ami/CueDelay-v0", {"variant": "shell"}),
    ("ami/CareCup-v0", {"robot": "arm7"}),
]
Act = Callable[[BatchEnv], np.ndarray]


def make(id: str, options: dict[str, Any], n: int) -> BatchEnv:
    return gymnasium.make_vec(id, n, autoreset_mode=AutoresetMode.DISABLED, **options)  # type: ignore[return-value]


def measure(id: str, options: dict[str, Any], episodes: int, floor_episodes: int) -> dict[str, Any]:
    """Success rates of one world by who acts; `chance` and `floor` where it needs something."""
    rng = np.random.default_rng(0)
    agents: dict[str, Act] = {
        "oracle": lambda env: env.oracle(),
        "random": lambda env: rng.uniform(-1, 1, env.action_space.shape),
        "noop": lambda env: np.zeros(env.action_space.shape),
    }
    env = make(id, options, 1)
    task, claim = env.engine.task, env.engine.task.chance()
    told: dict[str, Any] = {"world": id, "options": options, "horizon": env.limit, "needs": task.needs}
    told |= {name: success_rate(make(id, options, episodes), act) for name, act in agents.items()}
    if task.needs and claim is not None:
        told |= {"chance": claim[0], "floor": success_rate(make(id, options, floor_episodes), lambda env: env.floor())}
    return told


def recall(sessions: int) -> dict[str, list[float]]:
    """Steps taken over steps of the shortest way, the mean over sessions, for each of eight visits."""
    agents: dict[str, Act] = {"with memory": lambda env: env.oracle(), "of this visit only": lambda env: env.floor()}
    return {
        name: path_ratios(make("ami/Recall-v0", {}, sessions), act).mean(axis=1).tolist()
        for name, act in agents.items()
    }


def lines(rows: list[dict[str, Any]], episodes: int, floor_episodes: int) -> list[str]:
    """The table in Markdown; rates in percent with their 95 % Wilson interval."""
    heads = ("world", "options", "horizon", "oracle", "random", "noop", "needs", "floor", "chance")
    table = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        rates = [_rate(row[name], episodes) for name in ("oracle", "random", "noop")]
        floor = [row["needs"], "", ""]
        if "floor" in row:
            floor = [row["needs"], _rate(row["floor"], floor_episodes), f"{100 * row['chance']:.1f}"]
        options = ", ".join(f"{k}={v}" for k, v in row["options"].items())
        table.append(f"| `{row['world']}` | {' | '.join([options, str(row['horizon']), *rates, *floor])} |")
    return table


def _rate(rate: float, episodes: int) -> str:
    return percent(round(rate * episodes), episodes, digits=1)


def main(episodes: int = 20, floor_episodes: int = 400, sessions: int = 20, json: Path | None = None) -> None:
    """Print the tables in Markdown, under the machine and the versions that made them.

    Args:
        episodes: of oracle, random and noop in each world, seeds 0 and on.
        floor_episodes: of the floor.
        sessions: of Recall, eight visits each.
        json: write the figures, the machine and the versions to this file, too.
    """
    cases = [(id, {}) for id in TASKS if id.startswith("ami/")] + [case for case in VARIANTS if case[0] in TASKS]
    rows = []
    with console.progress(len(cases), "worlds") as advance:
        for id, options in cases:
            rows.append(measure(id, options, episodes, floor_episodes))
            advance(1, id)
    print(f"{machine()}\n")
    print("\n".join(lines(rows, episodes, floor_episodes)))
    ways = recall(sessions)
    print(f"\n| Recall: steps / shortest, visit | {' | '.join(map(str, range(1, 9)))} |\n{'|---' * 9}|")
    for name, ratios in ways.items():
        print(f"| oracle {name} | {' | '.join(f'{ratio:.2f}' for ratio in ratios)} |")
    if json is not None:
        write_json(json, {"rows": rows, "recall": ways, "machine": hardware(), "versions": versions()})


if __name__ == "__main__":
    tyro.cli(main)
