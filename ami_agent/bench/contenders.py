"""Who is compared: agents by name, each with what it needs of a task and how its pieces are run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ami_agent.bench import others, ours, sb3, untaught
from ami_agent.bench.names import called
from ami_agent.bench.piece import OpenPiece
from ami_agent.bench.suites import ACCURACY, Task
from ami_agent.environment import Environment
from ami_agent.errors import UsageError, nearest


@dataclass(frozen=True)
class Contender:
    """`run` takes a piece to its end; `config` is what it does so with, saved in the piece's file."""

    about: str
    run: Callable[[OpenPiece], None]
    config: Callable[[Task], Any] = lambda task: {}
    needs: str = ""  # of a task: "goals" or "oracle"
    resumes: bool = False  # goes on from its last checkpoint; others begin from zero
    learns: bool = True
    at_once: int | None = None  # worlds it can be judged in at once; None for any
    expects: bool = False  # it can be asked what surprises it


def _untaught(about: str, needs: str = "", at_once: int | None = None, expects: bool = False) -> Contender:
    return Contender(about, untaught.draw, needs=needs, learns=False, at_once=at_once, expects=expects)


def _sb3(agent: str, name: str, needs: str = "") -> Contender:
    about = f"Stable-Baselines3's {name}, its own settings"
    return Contender(about, sb3.learn, lambda task: sb3.settings(agent), needs, expects=True)


def _ours(name: str) -> Contender:
    return Contender(
        called(name), ours.learn, lambda task: ours.PARTS[name](ours.ours(task)), resumes=True, expects=True
    )


CONTENDERS: dict[str, Contender] = {
    "random": _untaught("uniform actions: the floor"),
    "noop": _untaught("does nothing, and expects that nothing changes", expects=True),
    "oracle": _untaught("the world's scripted expert, which sees everything: the ceiling", "oracle"),
    "oracle-planner": _untaught("CEM on the true simulator", "oracle", at_once=1),
    "ppo": _sb3("ppo", "PPO"),
    "sac": _sb3("sac", "SAC"),
    "td3": _sb3("td3", "TD3"),
    "sac-her": _sb3("sac-her", "SAC with hindsight (HER)", "goals"),
    **{name: _ours(name) for name in ours.PARTS},
}


def contender(name: str) -> Contender:
    """By its name, plug-ins included. Raises UsageError for one that is not there, or is broken."""
    if name in CONTENDERS:
        return CONTENDERS[name]
    found = others.load_agents()
    if name not in found:
        known = [*CONTENDERS, *found]
        raise UsageError(f"no agent {name!r}; there is {', '.join(nearest(name, known) or known)}")
    kind = found[name]
    if isinstance(kind, str):
        raise UsageError(f"agent {name!r} is broken: {kind}")
    about, learns, expects = kind.__doc__ or name, hasattr(kind, "train"), hasattr(kind, "surprise")
    return Contender(about, others.learn, lambda task: others.source(name), learns=learns, expects=expects)


def misfit(who: Contender, task: Task, environment: Environment) -> str:
    """What of an agent and a task does not fit, in words; nothing if they do."""
    if task.metric == ACCURACY and not who.expects:
        return "it cannot be asked what surprises it"
    if who.needs == "goals" and not environment.spec.goals:
        return "it has no goals to compute rewards for"
    if who.needs == "oracle" and not hasattr(environment.vector, "oracle"):
        return "it has no oracle"
    return ""
