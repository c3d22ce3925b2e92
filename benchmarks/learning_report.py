"""What the pieces of the learning benchmark say together: tables in Markdown, and the figure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from learning_figure import figure

from ami_agent.bench.piece import read
from ami_agent.bench.schema import DONE, FAILED
from ami_agent.bench.standings import CLAIM, SB3, called
from ami_agent.bench.suites import Task
from ami_agent.errors import UsageError
from ami_agent.evaluation.statistics import interquartile_mean, stratified_bootstrap
from ami_agent.files import write_bytes

ALIKE, BASELINES = ("torch", "mujoco", "dm-control"), "stable-baselines3"  # of one version, to be compared
HINT = 3  # seeds, at least
TDMPC2 = "Hansen et al., TD-MPC2, ICLR 2024: the authors' own runs at 100k env steps, with action repeat 2"
Piece = dict[str, Any]
Pieces = dict[str, dict[str, list[Piece]]]  # [task][agent], a piece a seed


def load(folder: Path, agents: list[str], tasks: list[Task]) -> list[Piece]:
    """The pieces of these agents and tasks, as they are on the disk.

    Raises UsageError if two cannot be compared: other settings, or other versions of what results depend on.
    """
    ids = {task.name for task in tasks}
    every = [read(path) for path in sorted(folder.glob("*.json"))]
    pieces = [piece for piece in every if piece["agent"] in agents and piece["task"] in ids]
    known: dict[tuple[str, ...], tuple[Piece, Any]] = {}
    for piece in pieces:
        for key, value in _must_be_the_same(piece).items() if piece["points"] else ():
            first, was = known.setdefault((piece["task"], *key), (piece, value))
            if was != value:
                told = f"{key[-1]} {was} and {value}; move the one or the other away, or give another --results"
                raise UsageError(f"{_named([first])} and {_named([piece])} cannot be compared: {told}")
    return pieces


def _must_be_the_same(piece: Piece) -> dict[tuple[str, ...], Any]:
    """What all pieces of a task must have in common, some of it only those of an agent or of Stable-Baselines3."""
    versions = piece.get("versions", {})
    found: dict[tuple[str, ...], Any] = {(name,): value for name, value in piece["settings"].items()}
    found[piece["agent"], "config"] = found.pop(("config",))
    packages = [*ALIKE, BASELINES] if piece["agent"] in SB3 else ALIKE
    return found | {(name,): versions.get(name) for name in packages}


def _named(pieces: list[Piece]) -> str:
    """Pieces in words, the seeds of an agent and task together."""
    seeds: dict[str, list[int]] = {}
    for piece in pieces:
        seeds.setdefault(f"{called(piece['agent'])} on `{piece['task']}`", []).append(piece["seed"])
    return "; ".join(
        f"{name}, seed{'s' * (len(some) > 1)} {', '.join(map(str, sorted(some)))}" for name, some in seeds.items()
    )


def counted(pieces: list[Piece]) -> Pieces:
    """By task and agent, those that are done; and those that failed on the way, with what they got to."""
    found: Pieces = {}
    for piece in sorted(pieces, key=lambda piece: piece["seed"]):
        if piece["points"] and piece["status"] in (DONE, FAILED):
            found.setdefault(piece["task"], {}).setdefault(piece["agent"], []).append(piece)
    return found


def point(piece: Piece, axis: str, limit: float) -> Piece:
    """The last point of a curve that is not beyond the limit on an axis, "steps" or "cpu_seconds"."""
    return [one for one in piece["points"] if one[axis] <= limit or one is piece["points"][0]][-1]


def common(by_agent: dict[str, list[Piece]], axis: str) -> float:
    """How far on an axis all the learners' pieces of a task got that did not fail; 0 if there are none."""
    learners = [piece for agent, pieces in by_agent.items() if agent != "random" for piece in pieces]
    return min((piece["points"][-1][axis] for piece in learners if piece["status"] == DONE), default=0)


def estimate(strata: list[list[list[float]]], digits: int = 1) -> str:
    """Interquartile mean with its 95 % interval, which one seed does not give."""
    mean = interquartile_mean(np.concatenate([run for runs in strata for run in runs]))
    if max(len(runs) for runs in strata) < 2:
        return f"{mean:.{digits}f}"
    low, high = stratified_bootstrap(strata)
    return f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def report(pieces: list[Piece], tasks: list[Task], agents: list[str], picture: Path) -> str:
    """All of it in Markdown; the figure goes to a file."""
    found = counted(pieces)
    tasks = [task for task in tasks if task.name in found]
    agents = [agent for agent in agents if any(agent in by_agent for by_agent in found.values())]
    lines = list(_unequal(pieces))
    if tasks:
        steps = {task.name: common(found[task.name], "steps") for task in tasks}
        write_bytes(picture, figure(found, tasks, {agent: called(agent) for agent in agents}, steps).encode())
        parts = [_scores(found, tasks, agents, steps), _aggregate(found, tasks, agents, steps), _priors(found, tasks)]
        head = [*_head(pieces), *_warnings(found, tasks, agents)]
        lines = [*head, *(line for part in parts if part for line in ["", *part]), "", *lines, *_sources(tasks)]
    return "\n".join(lines or ["no pieces are there yet"])


def _scores(found: Pieces, tasks: list[Task], agents: list[str], steps: dict[str, float]) -> list[str]:
    names = [called(agent) for agent in agents]
    learners = [agent for agent in agents if agent != "random"]
    price = " / ".join(called(agent) for agent in learners)
    cpu = [f"CPU s of learning: {price}"] if learners else []
    lines = [_row(["task", "repeat", "env steps", "seeds", *names, *cpu, "TD-MPC2 at 100k, published"])]
    lines.append("|---" * (lines[0].count(" | ") + 1) + "|")
    for task in tasks:
        there, cells, prices = found[task.name], [], []
        for agent in agents:
            at = [point(piece, "steps", steps[task.name]) for piece in there.get(agent, [])]
            cells.append(estimate([[one["returns"] for one in at]]) if at else "-")
            if agent in learners:
                prices.append(f"{np.median([one['cpu_seconds'] for one in at]):.0f}" if at else "-")
        counts = sorted({len(there[agent]) for agent in agents if agent in there})
        seeds = " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))
        published = "-" if task.published is None else f"{task.published:g}"
        cells += [" / ".join(prices)] if learners else []
        lines.append(_row([f"`{task.name}`", task.repeat, f"{steps[task.name]:,.0f}", seeds, *cells, published]))
    return lines


def _aggregate(found: Pieces, tasks: list[Task], agents: list[str], steps: dict[str, float]) -> list[str]:
    """Normalised scores over tasks x seeds, at equal env steps and at equal CPU time."""
    shared = [task for task in tasks if all(agent in found[task.name] for agent in agents)]
    learners = [agent for agent in agents if agent != "random"]
    if not shared or not learners:
        return []
    cpu = min(common({agent: found[task.name][agent] for agent in learners}, "cpu_seconds") for task in shared)
    which = "all" if len(shared) == len(tasks) else "those that all agents have,"
    lines = [
        f"Normalised score, interquartile mean over tasks x seeds, {which} {len(shared)} of {len(tasks)} tasks, with "
        "its 95 % interval (bootstrap, stratified by task). "
        f"All compared pieces reached {cpu:.1f} CPU seconds of learning; "
        "each is read at its last point at or before them.",
        "",
        f"| agent | at the env steps above | at {cpu:.1f} CPU seconds of learning |",
        "|---|---|---|",
    ]
    for agent in agents:
        cells = []
        for axis in ("steps", "cpu_seconds"):
            strata = []
            for task in shared:
                limit = steps[task.name] if axis == "steps" else cpu
                at = [point(piece, axis, limit)["returns"] for piece in found[task.name][agent]]
                strata.append([[task.score(float(np.mean(returns)))] for returns in at])
            cells.append(estimate(strata, 3))
        lines.append(_row([called(agent), *cells]))
    return lines


def _priors(found: Pieces, tasks: list[Task]) -> list[str]:
    """Ours at its last point: the planner against its own policy prior, the same weights and starts.

    Starts that were void for the one or the other are left out for both.
    """
    lines = ["| task | env steps | ours, planner | its prior alone | planner - prior |", "|---|---|---|---|---|"]
    for task in tasks:
        last = [piece["points"][-1] for piece in found[task.name].get("ours", [])]
        last = [one for one in last if "prior" in one and set(one["seeds"]) & set(one["prior"]["seeds"])]
        if last:
            runs = [_paired(one) for one in last]  # one seed's: planner, prior, gain
            steps = sorted({one["steps"] for one in last})
            told = " to ".join(f"{count:,}" for count in dict.fromkeys((steps[0], steps[-1])))
            lines.append(_row([f"`{task.name}`", told, *(estimate([list(some)]) for some in zip(*runs, strict=True))]))
    return lines if len(lines) > 2 else []


def _paired(point: Piece) -> list[list[float]]:
    """The returns of the planner, of its prior, and their differences, over the seeds that both have."""
    planned, reflex = (dict(zip(one["seeds"], one["returns"], strict=True)) for one in (point, point["prior"]))
    pairs = [(planned[seed], reflex[seed]) for seed in planned if seed in reflex]
    return [[a for a, _ in pairs], [b for _, b in pairs], [a - b for a, b in pairs]]


def _head(pieces: list[Piece]) -> Iterator[str]:
    begun = [piece for piece in pieces if piece["points"]]
    episodes = sorted({piece["settings"]["episodes"] for piece in begun})
    yield (
        f"Return, interquartile mean over seeds x {' or '.join(map(str, episodes))} episodes, with its 95 % interval "
        "(bootstrap over seeds), after as many env steps (decisions x repeat)."
    )
    yield ""
    machine = "{processor}, {cores} cores; one thread a piece"
    yield from _groups(begun, lambda piece: machine.format(**piece["hardware"]))
    yield from _groups(begun, lambda piece: ", ".join(f"{name} {v}" for name, v in piece["versions"].items() if v))
    yield from _groups(begun, lambda piece: f"commit {', '.join(map(str, piece['commits']))}")


def _groups(pieces: list[Piece], made: Callable[[Piece], str]) -> Iterator[str]:
    """What pieces were made with, a line each; if it was not the same for all, which pieces with which."""
    groups: dict[str, list[Piece]] = {}
    for piece in pieces:
        groups.setdefault(made(piece), []).append(piece)
    for told, some in groups.items():
        yield f"{told}  " if len(groups) == 1 else f"{told}: {_named(some)}  "


def _warnings(found: Pieces, tasks: list[Task], agents: list[str]) -> Iterator[str]:
    seeds = min(len(found[task.name][agent]) for task in tasks for agent in agents if agent in found[task.name])
    if seeds < HINT:
        yield ""
        yield f"**Warning: as few as {seeds} seed{'s' * (seeds > 1)} an agent and task: nothing can be concluded.**"
    elif seeds < CLAIM:
        yield ""
        yield f"Warning: as few as {seeds} seeds an agent and task; a claim needs at least {CLAIM}."


def _unequal(pieces: list[Piece]) -> Iterator[str]:
    for piece in pieces:
        name = _named([piece])
        if piece["status"] == FAILED:
            got = f"counted with what it got to, {piece['points'][-1]['steps']} env steps" if piece["points"] else ""
            yield f"- failed: {name}: {piece['reason']} ({got or 'not counted: it has no point'})"
        elif piece["status"] != DONE:
            yield f"- unfinished, not counted: {name}"
        judged = [one for point in piece["points"] for one in (point, point.get("prior")) if one]
        episodes = piece["settings"]["episodes"] * len(judged)
        if void := episodes - sum(len(one["returns"]) for one in judged):
            yield f"- void, their physics failed, and left out: {void} of {episodes} episodes of {name}"


def _sources(tasks: list[Task]) -> Iterator[str]:
    if any(task.published is not None for task in tasks):
        yield f"- TD-MPC2, published: {TDMPC2}."
    for task in tasks:
        yield f"- Normalised score of `{task.name}`: 0 at {task.floor:g}, 1 at {task.reference:g} ({task.source})."


def _row(cells: list[Any]) -> str:
    return f"| {' | '.join(map(str, cells))} |"
