"""The format of a piece's file, and everything that may be wrong with one."""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from ami_agent.bench.names import fault_of
from ami_agent.bench.suites import SUITES, Suite, Task
from ami_agent.errors import ArtefactError, UsageError, nearest

FORMAT = 1
UNFINISHED, DONE, FAILED = "unfinished", "done", "failed"
FILMS = ("best", "median", "worst")
JUDGED = 1_000_000  # evaluation's seeds begin here, those of training are others
APART = 1_000  # from one training seed's evaluation to the next one's: the most episodes
LARGEST_FILE, LARGEST_FILM, LONGEST_TEXT = 32 << 20, 4 << 20, 100_000  # bytes, bytes, characters
MOST_POINTS, MOST, DEEPEST = 1_000, 1e9, 20  # points of a curve; of any number; levels of a config
NEEDED_VERSIONS = ("ami-agent", "mujoco", "numpy", "gymnasium")
EPISODES = ("seeds", "returns", "successes", "final_successes", "costs", "lengths")
POINT = ("steps", "decisions", "cpu_seconds", "wall_seconds", *EPISODES)
ALWAYS = ("format", "suite", "protocol", "agent", "task", "seed", "settings", "status", "points")
MEASURED = ("learned", "evaluation_seeds", "command", "start", "python", "hardware", "versions", "commits")
OPTIONAL = ("reason", "limits", "run", "checkpoint", "films", "failures", "resolved")


class RefusedResult(ArtefactError):
    """A file that is no result; `faults` is all that is wrong with it."""

    def __init__(self, path: Path, faults: list[str]) -> None:
        super().__init__(f"{path}: {'; '.join(faults)}")
        self.faults = faults


def evaluation_seeds(seed: int, episodes: int) -> range:
    """Of the episodes that a training seed is judged by; never those of training."""
    first = JUDGED + APART * seed
    return range(first, first + episodes)


def parse(path: Path) -> dict[str, Any]:
    """A file's JSON object. Raises RefusedResult if it holds none, or what JSON does not allow, or is too large."""
    try:
        if not path.is_file() or path.stat().st_size > LARGEST_FILE:
            raise RefusedResult(path, [f"no plain file of at most {LARGEST_FILE >> 20} MiB"])
        facts = json.loads(path.read_bytes(), parse_constant=_refuse, object_pairs_hook=_once)
    except (OSError, ValueError, RecursionError) as error:
        reason = str(error) or type(error).__name__
        raise RefusedResult(path, [f"it cannot be read as JSON ({reason})"]) from error
    if not isinstance(facts, dict):
        raise RefusedResult(path, ["it holds no JSON object"])
    return facts


def faults_of(facts: Mapping[str, Any]) -> list[str]:
    """All that is wrong with what a file says; empty if it is well."""
    known = (*ALWAYS, *MEASURED, *OPTIONAL)
    faults = [_unknown(name, known) for name in facts if name not in known]
    needed = (*ALWAYS, *(MEASURED if facts.get("points") else ()))
    if missing := [name for name in needed if name not in facts]:
        return [*faults, f"missing: {', '.join(missing)}"]
    if facts["format"] != FORMAT:
        return [f"format {facts['format']!r}, this version reads {FORMAT}"]
    for name, (good, told) in CHECKS.items():
        if name in facts and not good(facts[name]):
            faults.append(f"{name} must be {told}, not {_short(facts[name])}")
    if fault := fault_of(facts["agent"]):
        faults.append(fault)
    if faults:
        return faults
    suite = SUITES.get(facts["suite"])
    if suite is None:
        return [f"no suite {facts['suite']!r}; there are {', '.join(SUITES)}"]
    if facts["protocol"] != suite.protocol:
        told = f"protocol {facts['protocol']!r}, {suite.name} has {suite.protocol!r}"
        return [f"{told}: measured by other rules, it cannot be compared; measure it again"]
    try:
        task = suite.task(facts["task"])
    except UsageError as error:
        return [str(error)]
    return [*_settings(facts, suite, task), *_measured(facts, suite), *_points(facts, suite, task)]


def _settings(facts: Mapping[str, Any], suite: Suite, task: Task) -> list[str]:
    right = task.settings | {"episodes": suite.episodes}
    was = facts["settings"]
    wrong = [name for name in right if was.get(name) != right[name]]
    return [f"settings.{name} is {_short(was.get(name))}, {suite.name} has {right[name]!r}" for name in wrong]


def _measured(facts: Mapping[str, Any], suite: Suite) -> list[str]:
    """What goes with episodes: seeds that nobody chose, versions, and how it ended."""
    faults = []
    if facts["status"] == DONE and not facts["points"]:
        faults.append("it is done, and has no points")
    if facts["status"] == FAILED and not facts.get("reason"):
        faults.append("it failed, and tells no reason")
    if not facts["points"]:
        return faults
    seeds = evaluation_seeds(facts["seed"], suite.episodes)
    right = [seeds[0], seeds[-1]]
    if facts["evaluation_seeds"] != right:
        told = f"evaluation_seeds must be {right} for seed {facts['seed']} and {suite.episodes} episodes"
        faults.append(f"{told}, not {_short(facts['evaluation_seeds'])}")
    faults += [f"versions has no {name}" for name in NEEDED_VERSIONS if not facts["versions"].get(name)]
    for name, film in (facts.get("films") or {}).items():
        if not right[0] <= film["seed"] <= right[1]:
            faults.append(f"films.{name} is of seed {film['seed']}, which is none of {right[0]} to {right[1]}")
    return faults


def _points(facts: Mapping[str, Any], suite: Suite, task: Task) -> list[str]:
    faults, before = [], (-1, 0.0, 0.0)
    for k, point in enumerate(facts["points"]):
        where = f"points[{k}]"
        if wrong := _point(point, suite, task, facts["seed"], where):
            faults += wrong
            continue
        now = point["steps"], point["cpu_seconds"], point["wall_seconds"]
        if now[0] <= before[0] or now[1] < before[1] or now[2] < before[2]:
            faults.append(f"{where}: steps and seconds must grow from point to point")
        before = now
    return faults


def _point(point: Any, suite: Suite, task: Task, seed: int, where: str) -> list[str]:
    if not isinstance(point, dict):
        return [f"{where} must be an object"]
    if missing := [name for name in POINT if name not in point]:
        return [f"{where} lacks {', '.join(missing)}"]
    faults = [f"{where}: {_unknown(name, POINT)}" for name in point if name not in (*POINT, "prior")]
    for name in ("steps", "decisions"):
        if not _count(point[name]):
            faults.append(f"{where}.{name} must be a whole number, not {_short(point[name])}")
    for name in ("cpu_seconds", "wall_seconds"):
        if not (_number(point[name]) and point[name] >= 0):
            faults.append(f"{where}.{name} must be a number from 0 on, not {_short(point[name])}")
    if not faults and point["decisions"] != point["steps"] // task.repeat:
        faults.append(f"{where}: {point['decisions']} decisions, {task.repeat} env steps each, are not its steps")
    faults += _episodes(point, suite, task, seed, where)
    if "prior" in point:
        prior, there = point["prior"], f"{where}.prior"
        right = isinstance(prior, dict) and sorted(prior) == sorted(EPISODES)
        faults += _episodes(prior, suite, task, seed, there) if right else [f"{there} must have {', '.join(EPISODES)}"]
    return faults


def _episodes(one: Mapping[str, Any], suite: Suite, task: Task, seed: int, where: str) -> list[str]:
    """Six lists, an entry an episode."""
    right = evaluation_seeds(seed, suite.episodes)
    for name, (good, told) in ENTRIES.items():
        if not isinstance(one[name], list):
            return [f"{where}.{name} must be a list"]
        if len(one[name]) != len(one["seeds"]):
            return [f"{where}.{name} has {len(one[name])} entries, seeds has {len(one['seeds'])}"]
        for i, entry in enumerate(one[name]):
            if not good(entry):
                return [f"{where}.{name}[{i}] must be {told}, not {_short(entry)}"]
    seeds = one["seeds"]
    if not seeds or seeds != sorted(set(seeds)) or seeds[0] not in right or seeds[-1] not in right:
        return [f"{where}.seeds must be some of {right[0]} to {right[-1]}, ascending, each once"]
    if (best := max(one["returns"])) > task.most:
        return [f"{where}.returns has {best:g}: no episode of {task.name} can have more than {task.most:g}"]
    if task.metric == "success" and None in one["successes"]:
        return [f"{where}.successes must be told: {task.name} is judged by success"]
    if any(final and not ever for final, ever in zip(one["final_successes"], one["successes"], strict=True)):
        return [f"{where}: a success at the last step is a success at any time, too"]
    return []


def _film(film: Any) -> bool:
    if not (isinstance(film, dict) and sorted(film) == ["gif", "seed"] and _count(film["seed"])):
        return False
    if not isinstance(film["gif"], str) or len(film["gif"]) > LARGEST_FILM * 4 // 3 + 4:
        return False
    try:
        return base64.b64decode(film["gif"].encode(), validate=True)[:6] in (b"GIF87a", b"GIF89a")
    except (binascii.Error, UnicodeEncodeError):
        return False


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= MOST


def _count(value: Any) -> bool:
    return isinstance(value, int) and _number(value) and value >= 0


def _text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_TEXT


def visible(text: str) -> str:
    """Without characters that hide, steer a terminal or turn around what follows."""
    hidden = ("Cc", "Cf", "Cs", "Co")
    return "".join(
        " " if c in "\n\t" else "\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in hidden else c for c in text
    )


def _list_of(good: Callable[[Any], bool], most: int = 1_000) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and len(value) <= most and all(map(good, value))


def _map_of(good: Callable[[Any], bool], most: int = 100) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, dict) and len(value) <= most and all(map(_text, value)) and all(map(good, value.values()))
    )


def _or_null(good: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or good(value)


def _time(value: Any) -> bool:
    try:
        datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return False
    return True


def _simple(value: Any) -> bool:
    return value is None or isinstance(value, bool) or _number(value) or _text(value)


def _tree(value: Any, depth: int = 0) -> bool:
    """What a config may hold."""
    if depth > DEEPEST:
        return False
    if isinstance(value, dict):
        return all(_text(name) and _tree(item, depth + 1) for name, item in value.items())
    if isinstance(value, list):
        return all(_tree(item, depth + 1) for item in value)
    return _simple(value) or (isinstance(value, float) and math.isfinite(value))


Check = tuple[Callable[[Any], bool], str]
CHECKS: dict[str, Check] = {
    "suite": (_text, "a text"),
    "protocol": (_text, "a text"),
    "task": (_text, "a text"),
    "seed": (lambda value: _count(value) and value < 100_000, "a whole number from 0 to 99999"),
    "settings": (lambda value: isinstance(value, dict) and _tree(value), f"an object of at most {DEEPEST} levels"),
    "status": (lambda value: value in (UNFINISHED, DONE, FAILED), "unfinished, done or failed"),
    "points": (_list_of(lambda value: True, MOST_POINTS), f"a list of at most {MOST_POINTS}"),
    "reason": (_or_null(_text), "a text, or null"),
    "limits": (_map_of(_or_null(_number)), "numbers or null by name"),
    "learned": (lambda value: _list_of(_number)(value) and len(value) == 2, "CPU and wall seconds"),
    "evaluation_seeds": (lambda value: _list_of(_count)(value) and len(value) == 2, "the first and the last seed"),
    "command": (_list_of(_text), "a list of texts"),
    "start": (_time, "a time as ISO 8601 has it"),
    "python": (_text, "a text"),
    "hardware": (_map_of(_simple), "texts and numbers by name"),
    "versions": (_map_of(_or_null(_text)), "texts by name"),
    "commits": (_list_of(_or_null(_text)), "a list of texts"),
    "run": (_or_null(_text), "a text"),
    "checkpoint": (
        lambda value: value is None or (isinstance(value, str) and bool(re.fullmatch("[0-9a-f]{64}", value))),
        "a SHA-256 in hex, or null",
    ),
    "failures": (_list_of(_text), "a list of texts"),
    "resolved": (lambda value: isinstance(value, dict) and _tree(value), f"an object of at most {DEEPEST} levels"),
    "films": (
        lambda value: value is None or (_map_of(_film)(value) and set(value) <= {*FILMS}),
        f"{', '.join(FILMS)}, each a seed and a GIF as base64 of at most {LARGEST_FILM >> 20} MiB",
    ),
}
_verdict: Check = (lambda value: value is None or isinstance(value, bool), "true, false or null")
_finite: Check = (_number, f"a finite number within {MOST:g}")
_whole: Check = (_count, "a whole number")
ENTRIES: dict[str, Check] = {
    "seeds": _whole,
    "returns": _finite,
    "successes": _verdict,
    "final_successes": _verdict,
    "costs": _finite,
    "lengths": (lambda value: _count(value) and value > 0, "a whole number from 1 on"),
}


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no finite number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"a name stands twice among {_short([name for name, _ in pairs])}")
    return found


def _unknown(name: str, known: tuple[str, ...]) -> str:
    near = nearest(name, known, 1)
    return f"unknown field {_short(name)}" + (f"; nearest: {near[0]}" if near else "")


def _short(value: Any) -> str:
    text = "infinity" if isinstance(value, float) and math.isinf(value) else ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
