"""What makes a world worth living in: it says something, can be solved, and needs what it claims to need."""

from __future__ import annotations

import math

import numpy as np
from gymnasium.vector import AutoresetMode

from ami_envs.checks.trials import (
    Fault,
    Subject,
    expect_same,
    live,
    success_rate,
)

UNSAID = {  # what to do about an entry that never changes
    "observation": "leave out of observe what never changes",
    "achieved_goal": "let achieved tell what the agent's actions change",
    "desired_goal": "set env.goal[i] in reset, another in each episode (or fixed_goal = True where it is meant)",
}
SEEDS = 20  # episodes that the success of the oracle and of chance is measured over
ORACLE_LEAST, CHANCE_MOST = 0.90, 0.10


def says_something(subject: Subject) -> None:
    """No entry of the observation or of the goals is constant."""
    env = subject.batch(16, autoreset_mode=AutoresetMode.NEXT_STEP)
    env.action_space.seed(0)
    seen = [env.reset(seed=0)[0]]
    for step in range(2 * env.limit):
        action = env.oracle() if step % 2 else env.action_space.sample()
        seen.append(env.step(action)[0])
    for key in ("observation", "achieved_goal", *(() if env.engine.task.fixed_goal else ("desired_goal",))):
        constant = np.flatnonzero(np.ptp(np.concatenate([one[key] for one in seen]), axis=0) == 0)
        if len(constant):
            raise Fault(f"{key}{constant.tolist()} never changes", cure=UNSAID[key])


def can_be_solved(subject: Subject) -> None:
    """The scripted oracle succeeds, and chance does not: the task is possible, and not trivial."""
    rng = np.random.default_rng(0)
    rate = success_rate(subject.batch(SEEDS, autoreset_mode=AutoresetMode.DISABLED), lambda env: env.oracle())
    if rate < ORACLE_LEAST:
        raise Fault(f"the oracle succeeds in {rate:.1%} of {SEEDS} episodes, at least {ORACLE_LEAST:.0%} are needed")
    chance = subject.batch(SEEDS, autoreset_mode=AutoresetMode.DISABLED)
    rate = success_rate(chance, lambda env: rng.uniform(-1, 1, env.action_space.shape))
    if rate > CHANCE_MOST:
        found = f"random actions succeed in {rate:.1%} of {SEEDS} episodes, at most {CHANCE_MOST:.0%} are allowed"
        raise Fault(found, cure="make success stricter, or start further from the goal")


def needs_what_it_claims(subject: Subject) -> None:
    """The best expert without what the world needs (memory, touch) does no better than chance."""
    task = subject.single(sensors=()).engine.task
    claim = task.chance()
    if not task.needs or claim is None:
        return
    chance, tolerance = claim
    episodes = math.ceil(1 / tolerance**2)  # so that one standard deviation is at most half the tolerance
    rate = success_rate(subject.batch(episodes, autoreset_mode=AutoresetMode.DISABLED), lambda env: env.floor())
    if abs(rate - chance) > tolerance:
        what = f"in {rate:.1%} of {episodes} episodes; chance is {chance:.1%}"
        raise Fault(f"without {task.needs} an expert succeeds {what}")


def keeps_sessions(subject: Subject) -> None:
    """An episode is decided by its session and its seed, not by the visits before it."""
    env, other = subject.make(), subject.make(session=3)
    first = env.reset(seed=5, options={"session": 3})
    live(env, seed=None, steps=30)
    expect_same(env.reset(seed=5, options={"session": 3})[0], first[0], "a later visit with the same seed")
    expect_same(other.reset(seed=5)[0], first[0], "the session as an option of make")
    if first[1]["session"] != 3 or first[1]["visit"] != 0:
        raise Fault(
            f"info tells of session {first[1]['session']}, visit {first[1]['visit']}, not of session 3, visit 0"
        )


def tells_its_place(subject: Subject) -> None:
    """What it says of its robot's place is so: the entries are there, and goals that are places are where it is."""
    env = subject.batch(8, autoreset_mode=AutoresetMode.DISABLED)
    task, seen = env.engine.task, env.reset(seed=0)[0]
    if not task.place:
        return
    size = seen["observation"].shape[1]
    if not all(0 <= entry < size for entry in task.place) or not task.near > 0:
        raise Fault(f"place is {task.place} of {size} entries, and near is {task.near}")
    env.action_space.seed(0)
    for _ in range(10):
        if task.goes and (seen["observation"][:, list(task.place)] != seen["achieved_goal"]).any():
            raise Fault("achieved_goal is not the robot's place, as it must be where goes = True")
        seen = env.step(env.action_space.sample())[0]
