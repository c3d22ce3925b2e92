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

from ami_agent import console
from ami_agent.commands.common import parse_options
from ami_agent.environment import control_period, find, make
from ami_agent.errors import ArtefactError, MissingError, UsageError
from ami_envs.core import LIMIT, WorldEnv
from ami_envs.registry import TASKS, is_ours, load, options
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
    spec = find(config.id)
    senses = {"sensors": offered(load(spec.id).robot)} if is_ours(spec) else {}
    env = make(spec, parse_options(config.options), **senses)
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
    facts: dict[str, Any] = {
        "environment": spec.id,
        "horizon": env.spec.max_episode_steps if env.spec else None,
        "period": control_period(env.unwrapped) or None,
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

    spec = find(config.id)
    if config.options != Check.options:
        make(spec, parse_options(config.options)).close()  # a wrong option is not the environment's fault
    findings = []
    for finding in examine(spec.id, parse_options(config.options)):
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

    spec = find(config.id)
    path = config.out or Path(re.sub(r"[^a-z0-9]+", "-", spec.id.lower()).strip("-") + ".gif")
    if path.suffix.lower() != ".gif":
        raise UsageError(f"--out must end in .gif, not {path}")
    if path.is_dir() or (path.exists() and not config.force):
        raise UsageError(f"{path} is there already; give another --out, or --force to replace a file")
    env = make(spec, parse_options(config.options), render_mode="rgb_array")
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
    try:
        frame = env.render()
    except NotImplementedError:  # Gymnasium's default
        frame = None
    except gym.error.DependencyNotInstalled as error:
        raise MissingError(f"{env} cannot be drawn: {error}") from error
    if not isinstance(frame, np.ndarray):
        raise UsageError(f"{env} draws no pictures")
    return frame
