"""One self-contained page about one run: what happened, how well, how surprised the agent was, how to do it again."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from importlib import resources
from math import isinf, isnan
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from ami_agent.evaluation import charts, memory_map, place_map
from ami_agent.evaluation.film import data_uri
from ami_agent.evaluation.statistics import wilson
from ami_agent.files import plain, write_bytes

FAINT_LINES = 50  # episodes drawn one by one in the chart of surprise
RETURN_NOTE = '<p class="note">A filled dot is a success.</p>'


def write_report(
    path: str | os.PathLike[str],
    run: Mapping[str, Any],
    results: Mapping[str, Any],
    surprise: Sequence[Sequence[float]] | None = None,
    film: bytes | None = None,
    strip: bytes | None = None,
    *,
    config: Any = None,
    memory: tuple[int, int] | None = None,
    forgotten: int = 0,
    control_period: float = 0.0,
    known_place: str = "",
    known_moments: str = "",
) -> Path:
    """Write the page, whole or not at all, and return its path.

    Args:
        path: the HTML file; its folder is made if need be.
        run: `runs.Run.info`, or any of its `environment`, `agent`, `seed`, `status`, `start`, `argv`, `versions`,
            `hardware`.
        results: any of the lists `success` (None where it is not told), `returns`, `lengths` (an entry an episode),
            `plan_ms` (an entry a decision) and `surprise`, and `action_repeat`; lengths are decisions.
        surprise: one-step prediction errors, a list an episode; the results' own by default.
        film, strip: a moving picture of an episode (GIF) and a PNG of some of its frames.
        config: what the run was made with: a dataclass or nested dict.
        memory: episodes in memory before and after the run.
        forgotten: episodes that it let go of in between.
        control_period: seconds a step lasts; 0 if unknown.
        known_place, known_moments: what is remembered of the place, as `place_map` draws it, and of all moments, as
            `memory_map` does.

    Values that are not finite are shown as such and left out of means. Raises MissingError or ResourceError if the page
    cannot be written.
    """
    surprise = _list(results.get("surprise") if surprise is None else surprise)
    episodes = _episodes(results, surprise)
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    source = resources.files("ami_agent.evaluation").joinpath("report.html.j2").read_text("utf-8")
    page = environment.from_string(source).render(
        environment=run.get("environment"),
        agent=run.get("agent"),
        facts=_facts(run),
        headline=[*_headline(results, episodes), *_memory(memory, forgotten)],
        episodes=episodes,
        film=film and data_uri(film, "image/gif"),
        strip=strip and data_uri(strip, "image/png"),
        chart_css=Markup(charts.CSS + place_map.CSS + memory_map.CSS),
        known_place=Markup(known_place),
        known_moments=Markup(known_moments),
        surprise_chart=Markup(_surprise_chart(surprise, control_period)),
        return_note=Markup(RETURN_NOTE if any(episode["success"] is not None for episode in episodes) else ""),
        return_chart=Markup(_return_chart(episodes)),
        command=shlex.join(["ami-agent", *map(str, run["argv"][1:])]) if run.get("argv") else "",
        config=json.dumps(plain(config), indent=2, ensure_ascii=False) if config else "",
        number=number,
    )
    path = Path(path)
    write_bytes(path, page.encode())
    return path


def number(value: float | None, digits: int = 3) -> str:
    """A number as people read it: 1,234 or 0.0123; an en dash for None, and honest about NaN and infinity."""
    if value is None:
        return "\N{EN DASH}"
    if isnan(value):
        return "NaN"
    if isinf(value):
        return "\N{INFINITY}" if value > 0 else "-\N{INFINITY}"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.{digits}g}"


def _episodes(results: Mapping[str, Any], surprise: Sequence[Sequence[float]]) -> list[dict[str, Any]]:
    """A row an episode; None where a list is too short."""
    columns = {
        "success": _list(results.get("success")),
        "return": _list(results.get("returns")),
        "length": _list(results.get("lengths")),
        "surprise": [_mean(values) for values in surprise],
        "peak": [max(_finite(values), default=None) for values in surprise],
    }
    count = max(map(len, columns.values()))
    return [{key: column[i] if i < len(column) else None for key, column in columns.items()} for i in range(count)]


def _facts(run: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Who, when, with what: (name, value) for the line below the title."""
    hardware = run.get("hardware") or {}
    facts = [(name, run.get(key)) for name, key in (("agent", "agent"), ("seed", "seed"), ("date", "start"))]
    facts += [("status", run.get("status")), *(run.get("versions") or {}).items()]
    facts += [("on", hardware.get("processor")), ("and", hardware.get("gpu"))]
    return [(name, value) for name, value in facts if value not in (None, "")]


def _headline(results: Mapping[str, Any], episodes: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The cards on top: what, how much, and a note."""
    cards = []
    judged = [bool(episode["success"]) for episode in episodes if episode["success"] is not None]
    if judged:
        low, high = wilson(sum(judged), len(judged))
        note = f"{sum(judged)} of {len(judged)}; 95 % interval {100 * low:.0f} to {100 * high:.0f} %"
        cards.append({"name": "success rate", "value": f"{100 * sum(judged) / len(judged):.0f} %", "note": note})
    returns = [episode["return"] for episode in episodes]
    spread = _finite(returns)
    note = f"{number(min(spread))} to {number(max(spread))}" if len(spread) > 1 else ""
    cards.append({"name": "mean return", "value": number(_mean(returns)), "note": note})
    if costs := _list(results.get("costs")):
        cards.append({"name": "mean cost", "value": number(_mean(costs)), "note": "what is to be avoided"})
    steps = int(sum(_finite([episode["length"] for episode in episodes])))
    note, repeat = f"{steps:,} steps" if steps else "", results.get("action_repeat") or 1
    if steps and repeat > 1:
        note = f"{steps:,} decisions, {steps * repeat:,} env steps (action repeat {repeat})"
    cards.append({"name": "episodes", "value": number(len(episodes)), "note": note})
    plan = _finite(_list(results.get("plan_ms")))
    if plan:
        half, most = np.percentile(plan, [50, 99])
        note = f"median of {len(plan):,} plans; 99 % within {number(most)} ms"
        cards.append({"name": "time to plan", "value": f"{number(half)} ms", "note": note})
    return cards


def _memory(memory: tuple[int, int] | None, forgotten: int) -> list[dict[str, str]]:
    if memory is None:
        return []
    note = "episodes remembered, before \N{RIGHTWARDS ARROW} after"
    if forgotten:
        note += f"; {number(forgotten)} forgotten"
    value = f"{number(memory[0])} \N{RIGHTWARDS ARROW} {number(memory[1])}"
    return [{"name": "memory", "value": value, "note": note}]


def _surprise_chart(surprise: Sequence[Sequence[float]], period: float) -> str:
    """Each episode (or an even choice of them) a faint line, the mean of all a bold one."""
    curves = [np.asarray(values, np.float64) for values in surprise if len(values)]
    longest = max(map(len, curves), default=0)
    total, count = np.zeros(longest), np.zeros(longest)
    for curve in curves:
        known = np.isfinite(curve)
        total[: len(curve)] += np.where(known, curve, 0)
        count[: len(curve)] += known
    mean = np.divide(total, count, out=np.full(longest, np.nan), where=count > 0)
    time = np.arange(1, longest + 1) * (period or 1)
    shown = curves[:: -(-len(curves) // FAINT_LINES) or 1]
    lines = [charts.Line(time[: len(curve)], curve, "faint") for curve in shown] if len(curves) > 1 else []
    return charts.chart([*lines, charts.Line(time, mean)], "time in s" if period else "step", "prediction error")


def _return_chart(episodes: list[dict[str, Any]]) -> str:
    marks = [
        charts.Mark(i, episode["return"], episode["success"], _caption(i, episode))
        for i, episode in enumerate(episodes, 1)
        if episode["return"] is not None
    ]
    line = charts.Line([mark.x for mark in marks], [mark.y for mark in marks], "faint")
    return charts.chart([line], "episode", "return", marks, log=False)


def _caption(index: int, episode: Mapping[str, Any]) -> str:
    verdict = "" if episode["success"] is None else ", success" if episode["success"] else ", no success"
    return f"episode {index}: return {number(episode['return'])}{verdict}"


def _list(values: Any) -> list[Any]:
    return [] if values is None else list(values)


def _finite(values: Sequence[float | None]) -> list[float]:
    return [float(value) for value in values if value is not None and np.isfinite(value)]


def _mean(values: Sequence[float | None]) -> float | None:
    known = _finite(values)
    return sum(known) / len(known) if known else None
