"""`ami-agent env list|info|check|preview`: the environments there are, and what can be said of one."""

from __future__ import annotations

import inspect
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import tyro
from gymnasium.envs.registration import EnvSpec

import ami_envs  # noqa: F401 - registers our worlds
from ami_agent import console
from ami_agent.errors import ArtefactError, MissingError, UsageError, nearest
from ami_envs.core import LIMIT, WorldEnv
from ami_envs.registry import TASKS, find, is_ours, load, options
from ami_envs.sensors import offered

TABLES = ("senses", "options")  # facts that have parts
HOLD = 10  # how often a film shows its last picture


@dataclass(frozen=True)
class List:
    """The environments there are."""

    all: bool = False
    """Gymnasium's own, too, and those of installed packages."""
    json: bool = False
    """Print one JSON object on stdout."""


@dataclass(frozen=True)
class Info:
    """An environment's senses, actions, goal and options."""

    id: tyro.conf.Positional[str]
    """Which one, e.g. ami/Push-v0, or module:namespace/Name-v0 for one that a module registers."""
    options: str = "{}"
    """What it is made with, as JSON, e.g. '{"size": 6}'."""
    json: bool = False
    """Print one JSON object on stdout."""


@dataclass(frozen=True)
class Check:
    """Prove that an environment keeps its promises; exit code 4 if it breaks one."""

    id: tyro.conf.Positional[str]
    """Which one, e.g. ami/Push-v0, or module:namespace/Name-v0 for one that a module registers."""
    options: str = "{}"
    """What it is made with, as JSON, e.g. '{"size": 6}'."""
    json: bool = False
    """Print one JSON object on stdout."""


@dataclass(frozen=True)
class Preview:
    """A moving picture of one episode."""

    id: tyro.conf.Positional[str]
    """Which one, e.g. ami/Push-v0, or module:namespace/Name-v0 for one that a module registers."""
    out: Path | None = None
    """Where the GIF goes; ami-push-v0.gif and the like, in this folder, if not given."""
    seed: int = 0
    """Which episode."""
    agent: Literal["oracle", "random"] = "oracle"
    """Who acts: the scripted expert that our worlds have, or chance."""
    force: bool = False
    """Replace a file that is there."""
    options: str = "{}"
    """What it is made with, as JSON, e.g. '{"size": 6}'."""
    json: bool = False
    """Print one JSON object on stdout."""


def main(config: List | Info | Check | Preview) -> int:
    """Do what `config` asks; 0, or 4 if a check found a fault."""
    if isinstance(config, List):
        return _list(config)
    if isinstance(config, Info):
        return _info(config)
    if isinstance(config, Check):
        return _check(config)
    return _preview(config)


def _list(config: List) -> int:
    ours = [_row(id) for id in TASKS]
    others = sorted(set(gym.registry) - set(TASKS)) if config.all else []
    if config.json:
        console.emit({"environments": ours, "others": others})
        return 0
    for row in ours:
        print(f"{row['id']:<20}{row['robot']:<9}{row['horizon']:>5} steps  {row['summary']}")
        print(f"{'':<20}senses: {', '.join(row['senses'])}")
    if others:
        print("\nOther environments (`ami-agent env info ID` says what one is like):")
        print("\n".join(f"  {id}" for id in others))
    return 0


def _row(id: str) -> dict[str, Any]:
    task = load(id)
    return {
        "id": id,
        "robot": task.robot.__name__.lower(),
        "senses": offered(task.robot),
        "own_senses": task.senses,
        "horizon": task.max_episode_steps,
        "summary": inspect.cleandoc(task.__doc__ or "").split("\n")[0].partition(". ")[0].rstrip("."),
    }


def _info(config: Info) -> int:
    spec = _find(config.id)
    env = _make(spec, config.options, **({"sensors": offered(load(spec.id).robot)} if is_ours(spec) else {}))
    facts = _facts(spec, env)
    if config.json:
        console.emit(facts)
        return 0
    for name, value in facts.items():
        lines = [f"{key}: {_text(item)}" for key, item in value.items()] if name in TABLES else _text(value).split("\n")
        print("\n".join(f"{name if i == 0 else '':<16}{line}".rstrip() for i, line in enumerate(lines)))
    return 0


def _facts(spec: EnvSpec, env: gym.Env) -> dict[str, Any]:
    """What can be said of an environment, as plain JSON values."""
    space = env.observation_space
    senses = space.spaces if isinstance(space, gym.spaces.Dict) else {"observation": space}
    fps = env.metadata.get("render_fps")
    facts: dict[str, Any] = {
        "environment": spec.id,
        "horizon": spec.max_episode_steps,
        "period": 1 / fps if fps else None,
        "actions": _space(env.action_space),
        "senses": {name: _space(sense) for name, sense in senses.items()},
        "goal": _space(senses["desired_goal"]) if "desired_goal" in senses else None,
        "oracle": hasattr(env.unwrapped, "oracle"),
    }
    if is_ours(spec):
        engine: WorldEnv = env.unwrapped.engine  # type: ignore[attr-defined]
        facts |= {
            "robot": type(engine.robot).__name__.lower(),
            "own_senses": engine.task.senses,
            "reward": engine.task.reward_type,
            "options": options(spec.id),
            "about": inspect.cleandoc(engine.task.__doc__ or ""),
        }
    return facts


def _space(space: gym.Space) -> dict[str, Any] | str:
    if not isinstance(space, gym.spaces.Box):
        return str(space)
    low, high = float(space.low.min()), float(space.high.max())
    bounds = [low, high] if max(-low, high) < LIMIT else None  # a working world comes nowhere near the limit
    return {"shape": list(space.shape), "dtype": str(space.dtype), "bounds": bounds}


def _text(value: Any) -> str:
    if isinstance(value, dict):
        bounds = " in [{:g}, {:g}]".format(*value["bounds"]) if value["bounds"] else ""
        return f"{tuple(value['shape'])} {value['dtype']}{bounds}"
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return "none" if value is None else str(value)


def _check(config: Check) -> int:
    from ami_envs.checks import examine

    spec = _find(config.id)
    if config.options != Check.options:
        _make(spec, config.options).close()  # a wrong option is not the environment's fault
    findings = []
    for finding in examine(spec.id, _options(config.options)):
        findings.append(finding)
        if not config.json:
            print(f"{'FAULT' if finding.fault else 'ok':<7}{finding.promise}")
            if finding.fault:
                print(f"{'':<7}found: {' '.join(finding.fault.split())}\n{'':<7}cure: {finding.cure}")
            sys.stdout.flush()  # checks take seconds each
    faults = sum(bool(finding.fault) for finding in findings)
    if config.json:
        console.emit({"environment": spec.id, "faults": faults, "findings": [asdict(one) for one in findings]})
    else:
        print(f"{spec.id} keeps {len(findings) - faults} of {len(findings)} promises")
    return ArtefactError.exit_code if faults else 0


def _preview(config: Preview) -> int:
    from ami_agent.evaluation.film import gif
    from ami_agent.files import write_bytes

    spec = _find(config.id)
    path = config.out or Path(re.sub(r"[^a-z0-9]+", "-", spec.id.lower()).strip("-") + ".gif")
    if path.suffix.lower() != ".gif":
        raise UsageError(f"--out must end in .gif, not {path}")
    if path.is_dir() or (path.exists() and not config.force):
        raise UsageError(f"{path} is there already; give another --out, or --force to replace a file")
    env = _make(spec, config.options, render_mode="rgb_array")
    if config.agent == "oracle" and not hasattr(env.unwrapped, "oracle"):
        raise UsageError(f"{spec.id} has no oracle: only worlds of ami_envs have; try --agent random")
    console.say(f"one episode of {spec.id} ...")
    frames, success = _film(env, config)
    write_bytes(path, gif([*frames, *frames[-1:] * HOLD], env.metadata.get("render_fps") or 25))
    told = {"file": path.absolute(), "steps": len(frames) - 1, "success": success}
    if config.json:
        console.emit(told)
    else:
        print(f"{path.absolute()}: {told['steps']} steps, {'success' if success else 'no success'}")
    return 0


def _film(env: gym.Env, config: Preview) -> tuple[list[np.ndarray], bool]:
    """Pictures of one episode, each (H, W, 3) uint8, and whether it ended in success."""
    env.action_space.seed(config.seed)
    env.reset(seed=config.seed)
    info: dict[str, Any] = {}
    frames, over = [_picture(env)], False
    while not over and len(frames) <= 1000:
        act = env.unwrapped.oracle if config.agent == "oracle" else env.action_space.sample  # type: ignore[attr-defined]
        _, _, terminated, truncated, info = env.step(act())
        frames.append(_picture(env))
        over = terminated or truncated
    return frames, bool(info.get("success", info.get("is_success", False)))


def _picture(env: gym.Env) -> np.ndarray:
    frame = env.render()
    if not isinstance(frame, np.ndarray):
        raise UsageError(f"{env} draws no pictures")
    return frame


def _find(id: str) -> EnvSpec:
    """The environment of that id. Raises UsageError for one that is unknown, or whose module cannot be imported."""
    if ":" in id and "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # where a user's own module lies
    try:
        return find(id)
    except gym.error.Error as error:
        near = " or ".join(nearest(id.rpartition(":")[2], [*TASKS, *gym.registry]))
        hint = f"did you mean {near}?" if near else "`ami-agent env list --all` shows them"
        raise UsageError(f"no environment {id!r}; {hint}") from error
    except Exception as error:  # a user's module may raise anything
        module = id.rpartition(":")[0]
        raise UsageError(f"module {module} cannot be imported: {type(error).__name__}: {error}") from error


def _make(spec: EnvSpec, text: str, **more: Any) -> gym.Env:
    """The environment, made. Raises UsageError for options it does not take, MissingError for a package it needs."""
    try:
        return gym.make(spec.id, **_options(text) | more)
    except gym.error.DependencyNotInstalled as error:
        raise MissingError(f"{spec.id}: {error}") from error
    except (TypeError, ValueError, gym.error.Error) as error:
        text = str(error).partition(" was raised from the environment creator")[0]  # what Gymnasium adds
        raise UsageError(text if text.startswith(spec.id) else f"{spec.id}: {text}") from error


def _options(text: str) -> dict[str, Any]:
    if text == "{}":
        return {}
    from ami_agent.commands.common import parse_options  # brings torch, which takes seconds to import

    return parse_options(text)
