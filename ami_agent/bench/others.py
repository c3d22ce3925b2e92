"""Other people's agents in a benchmark: classes that packages name under the entry point `ami_agent.agents`.

Such a class is made with (spec, seed), of an `ami_agent.protocols.Spec`; it resets and acts as any `Agent`, and fails
where an action has another shape or is not finite. One that learns has `train(environment, steps, judge)`, too:
`environment` is one world (`ami_agent.environment.Environment`), `steps` the env steps to live in it, and
`judge(steps)` is to be called with the env steps lived so far, best after every decision: it judges the agent where a
point of its curve is due, and says whether to go on. A point that comes late by more than 2 % of the steps does not
count. Give `environment.reset` a seed for each episode, from `ami_agent.learning.train.training_seeds`: where a world
has sessions, it is in the same one for ever without. One that can say what surprises it has `surprise(observation,
action, reward)`, and is asked it in the tasks that are about perceiving: see `ami_agent.bench.surprise`.
"""

from __future__ import annotations

from functools import cache
from importlib import metadata
from typing import Any

from ami_agent.bench.judge import Interrupted
from ami_agent.bench.names import fault_of
from ami_agent.bench.piece import OpenPiece
from ami_agent.environment import Environment
from ami_agent.errors import UsageError

GROUP = "ami_agent.agents"


@cache
def load_agents() -> dict[str, type | str]:
    """By name: the class, or why it is broken. Each is imported once a process; one that raises breaks no other."""
    found: dict[str, type | str] = {}
    for point in sorted(metadata.entry_points(group=GROUP)):
        try:
            kind = point.load()
            missing = [name for name in ("reset", "act") if not callable(getattr(kind, name, None))]
            lacks = f"{point.value} has no {' and no '.join(missing)}" if missing else None
            found[point.name] = fault_of(point.name) or lacks or kind
        except (Exception, SystemExit) as error:  # it is someone else's code
            found[point.name] = f"{point.value}: {type(error).__name__}: {' '.join(str(error).split())}"
    return found


def source(name: str) -> dict[str, Any]:
    """What a plug-in is: its class and its package's version."""
    for point in metadata.entry_points(group=GROUP):
        if point.name == name:
            dist = point.dist
            return {"class": point.value, "package": dist.name if dist else "", "version": dist.version if dist else ""}
    raise UsageError(f"no package here offers the agent {name!r}")


def learn(piece: OpenPiece) -> None:
    """From zero, judged whenever the agent calls and a point is due; or judged once, if it has no `train`."""
    kind = load_agents()[piece.facts["agent"]]
    if isinstance(kind, str):
        raise UsageError(kind)
    agent: Any = kind(piece.judge.spec, piece.seed)
    run = piece.begin()
    piece.point(0, agent)
    if hasattr(agent, "train"):
        world = Environment(piece.environment, 1, piece.options, piece.repeat)
        agent.train(world, piece.facts["limits"]["steps"], lambda steps: piece.on_the_way(steps, agent))
        if piece.stop.requested:
            raise Interrupted
        if not piece.complete:
            raise UsageError(f"{piece.facts['agent']} ended its training before {piece.facts['limits']['steps']} steps")
    piece.finish(run)
