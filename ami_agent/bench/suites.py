"""What is compared on what: a suite is a list of tasks and how they are judged, frozen, and known by its hash."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from math import inf
from typing import Any, Final, Literal

from ami_agent.errors import UsageError, nearest

PROTOCOL = 1  # of what a suite does not say itself: how pieces learn and are judged
MINARI = "mean return of Farama-Minari's SAC expert on {0}, huggingface.co/farama-minari/{0}-SAC-expert, results.json"
ACCURACY: Final = "accuracy"
ABILITIES = {
    "perceive": "tell what can happen from what cannot",
    "control": "reach and hold what the reward asks for",
    "plan": "bring about a goal over many steps",
    "remember": "act on what is no longer seen",
    "reason": "find causes by acting",
    "adapt": "go on under causes never met in training",
    "stay safe": "reach the goal and harm nobody",
}


DMC_MOST = 1000.0  # a reward of at most 1, a thousand times
MOST = {"Pendulum-v1": 0.0, "Reacher-v5": 0.0, "Pusher-v5": 0.0, "InvertedDoublePendulum-v5": 10_000.0}  # by rewards


@dataclass(frozen=True)
class Task:
    """One environment, how long agents learn in it, and what scores 0 and 1 there.

    `floor` and `reference` are values of `metric`: the return of an episode; the share of episodes that succeed (at any
    time); or the accuracy with which an agent's surprise tells what is impossible, see `ami_agent.bench.surprise`.
    `options` and `judged` are JSON objects: what the environment is made with, and what else where it is judged.
    `every` env steps agents are judged.
    """

    environment: str
    ability: str
    steps: int
    every: int
    repeat: int = 1  # env steps a decision, for all agents
    metric: Literal["return", "success", "accuracy"] = "success"
    floor: float = 0.0
    reference: float = 1.0
    source: str = ""  # of floor and reference, where they are not bounds of the metric
    options: str = "{}"
    judged: str = "{}"
    published: float | None = None  # TD-MPC2's return at 100k env steps

    @property
    def name(self) -> str:
        """Unlike any other's in a suite: environment and options, as "ami/Push-v0 robot=arm7"."""
        told = json.loads(self.options) | json.loads(self.judged)
        parts = [self.environment, *(f"{key}={value}" for key, value in sorted(told.items()))]
        return " ".join([*parts, *(["violations"] if self.metric == ACCURACY else [])])

    @property
    def settings(self) -> dict[str, Any]:
        """What of it a piece is made by."""
        told = {name: getattr(self, name) for name in ("environment", "options", "judged", "repeat", "every")}
        return told | ({"metric": ACCURACY} if self.metric == ACCURACY else {})

    @property
    def short(self) -> str:
        return self.name.removeprefix("dm_control/").removeprefix("ami/")

    @property
    def most(self) -> float:
        """What no episode's return can lie above; infinite where that is not known."""
        if self.metric == ACCURACY:
            return 1.0
        return MOST.get(self.environment, DMC_MOST if self.environment.startswith("dm_control/") else inf)

    def score(self, value: float) -> float:
        """A value of the metric between floor (0) and reference (1)."""
        return (value - self.floor) / (self.reference - self.floor)


@dataclass(frozen=True)
class Suite:
    """Tasks, and the episodes that each agent is judged by at every point of its curve."""

    name: str
    about: str
    tasks: tuple[Task, ...]
    episodes: int = 20

    @cached_property
    def protocol(self) -> str:
        """Hash of all that results must have in common to stand in one table."""
        told: dict[str, Any] = asdict(self) | {"about": "", "protocol": PROTOCOL}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]

    def task(self, name: str) -> Task:
        """By its name. Raises UsageError, with the nearest ones."""
        for task in self.tasks:
            if name == task.name:
                return task
        names = [task.name for task in self.tasks]
        raise UsageError(f"{self.name} has no task {name!r}; there is {', '.join(nearest(name, names) or names)}")


def _dmc(name: str, published: float, repeat: int = 4) -> Task:
    where, source = f"dm_control/{name}-v0", "0 and dm_control's most"
    return Task(where, "control", 50_000, 10_000, repeat, "return", 0.0, DMC_MOST, source, published=published)


def _gym(
    name: str, steps: int, every: int, floor: float, reference: float, repeat: int = 2, expert: str = MINARI
) -> Task:
    """The floor is the mean of 200 random episodes at its repeat, seeds 1,000,000 to 1,000,199."""
    source = f"random actions, here; {expert.format(name)}"
    return Task(name, "control", steps, every, repeat, "return", floor, reference, source)


def _world(name: str, ability: str, steps: int = 50_000, options: str = "{}", judged: str = "{}") -> Task:
    return Task(f"ami/{name}-v0", ability, steps, steps // 5, options=options, judged=judged)


def _seen(name: str) -> Task:
    """An agent learns in a world as where it is to act, and is asked what surprises it; guessing is right in a half."""
    return Task(
        f"ami/{name}-v0", "perceive", 50_000, 10_000, metric=ACCURACY, floor=0.5, source="a guess, and all told apart"
    )


TRAINING, HELD_OUT = '{"factors": "training"}', '{"factors": "held_out"}'
SUITES = {
    suite.name: suite
    for suite in (
        Suite(
            "core-v1",
            "small enough for a laptop: minutes an agent and seed",
            (
                _gym("Pendulum-v1", 6_000, 2_000, -1231.0, 0.0, repeat=1, expert="its most"),
                _gym("InvertedDoublePendulum-v5", 10_000, 2_500, 39.0, 9356.023),
                _gym("Reacher-v5", 10_000, 2_500, -42.7, -3.281),
                _world("Reach", "plan", 10_000),
            ),
        ),
        Suite(
            "ami-bench-v1",
            "what an agent must be able to do, in our worlds, learned within an hour of a robot's time",
            (
                *(_seen(name) for name in ("Push", "Stack")),
                *(_world(name, "plan") for name in ("Reach", "Push", "Stack", "Drawer", "MazeNav", "Depot")),
                *(_world(name, "remember") for name in ("Recall", "CueDelay")),
                *(_world(name, "reason") for name in ("Levers", "HiddenMass")),
                *(_world(name, "adapt", options=TRAINING, judged=HELD_OUT) for name in ("Reach", "Push")),
                *(_world(name, "stay safe") for name in ("CareCup", "Lane")),
            ),
        ),
        Suite(
            "external-v1",
            "tasks of Gymnasium and dm_control, so that nobody need trust our own",
            (
                _dmc("cartpole-swingup", 839),
                _dmc("reacher-easy", 937),
                _dmc("ball_in_cup-catch", 981),
                _dmc("finger-spin", 948, repeat=2),
                _dmc("pendulum-swingup", 724),
                _gym("Reacher-v5", 50_000, 10_000, -42.7, -3.281),
                _gym("Pusher-v5", 50_000, 10_000, -149.8, -22.053),
                _gym("InvertedDoublePendulum-v5", 50_000, 10_000, 39.0, 9356.023),
            ),
            episodes=10,
        ),
        Suite(
            "locomotion-v1",
            "bodies of Gymnasium with many joints, that run, and that fall",
            (
                _gym("HalfCheetah-v5", 30_000, 10_000, -228.8, 11_448.22),
                _gym("Hopper-v5", 30_000, 10_000, 15.1, 4_098.17),
                _gym("Walker2d-v5", 30_000, 10_000, -1.5, 6_956.61),
            ),
            episodes=10,
        ),
    )
}


def find_suite(name: str) -> Suite:
    """A suite by its name. Raises UsageError, with those there are."""
    if name not in SUITES:
        raise UsageError(f"no suite {name!r}; there are {', '.join(SUITES)}")
    return SUITES[name]
