"""What every environment promises, proven by trying: for `ami-agent env check`, for tests, for an author's own tests.

Foreign Gymnasium environments are held to what Gymnasium itself asks; worlds made of our Tasks to all of it.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from ami_envs.registry import find
from ami_envs.trials import (
    Fault,
    Subject,
    arrays_in,
    difference,
    expect_same,
    expect_same_from_here,
    live,
    refusal,
    rows,
    success_rate,
    transitions,
)

SEEDS = 40  # episodes that the success of the oracle and of chance is measured over
ORACLE_LEAST, CHANCE_MOST = 0.95, 0.10


# -- anyone's environment -------------------------------------------------------------------------------------------


def follows_gymnasium(subject: Subject) -> None:
    """Gymnasium's own checker passes; for our worlds, without a warning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(subject.make().unwrapped, skip_render_check=not subject.ours)  # others may need a screen
    if subject.ours and caught:
        raise Fault("; ".join(sorted({" ".join(str(one.message).split()) for one in caught})))


def repeats(subject: Subject) -> None:
    """Two instances with the same seed and actions live the same life, bit for bit, within their spaces."""
    if gym.spec(subject.id).nondeterministic:
        return
    lives = [live(subject.make(), seed=1) for _ in range(2)]
    for step, (one, other) in enumerate(zip(*lives, strict=True)):
        expect_same(one, other, f"step {step}")


def seeds_matter(subject: Subject) -> None:
    """Episodes start differently with each seed."""
    env = subject.make()
    starts = [env.reset(seed=seed)[0] for seed in range(5)]
    if any(difference(starts[0], start) is None for start in starts[1:]):
        raise Fault("reset(seed=0) and another seed give the same observation")


def hands_out_fresh_arrays(subject: Subject) -> None:
    """No two observations or infos share memory: what a user keeps stays as it was."""
    env = subject.make()
    told = [env.reset(seed=0)]
    for _ in range(3):
        observation, _, terminated, truncated, info = env.step(env.action_space.sample())
        told.append((observation, info))
        if terminated or truncated:
            break
    arrays = [dict(arrays_in(one)) for one in told]
    for i, earlier in enumerate(arrays):
        for later in arrays[i + 1 :]:
            for name, array in later.items():
                if name in earlier and np.shares_memory(array, earlier[name]):
                    raise Fault(f"{name} is the same array in two calls")


def ends_well(subject: Subject) -> None:
    """A step before reset or after success is refused, and closing twice is harmless."""
    env = subject.make()
    refusal(lambda: env.step(env.action_space.sample()), "a step before reset()")
    env.reset(seed=0)
    if subject.ours:
        single = subject.single(sensors=())
        refusal(lambda: single.step(np.zeros(single.engine.robot.action_size)), "a step before reset()")
        single.reset(seed=0)
        for _ in range(single.engine.task.max_episode_steps):
            if single.step(single.oracle())[2]:
                refusal(lambda: single.step(single.oracle()), "a step after success")
                break
    env.close()
    env.close()


def rewards_by_goals(subject: Subject) -> None:
    """`compute_reward` gives the reward of every step, alone and for arrays of goals, with infos or empty ones."""
    env = subject.make()
    if not hasattr(env.unwrapped, "compute_reward"):
        return
    judge, steps = env.unwrapped.compute_reward, transitions(env, 50)
    achieved, desired = (np.stack([step[0][key] for step in steps]) for key in ("achieved_goal", "desired_goal"))
    rewards, infos = np.array([step[1] for step in steps]), np.array([step[2] for step in steps])
    alone = [judge(*each) for each in zip(achieved, desired, infos, strict=True)]
    for told, found in (("one by one", np.array(alone)), ("as arrays", judge(achieved, desired, infos))):
        if not np.array_equal(found, rewards):
            raise Fault(f"compute_reward {told} differs from the rewards of the steps")
    bare = judge(achieved, desired, np.array([{}] * len(steps)))
    if np.shape(bare) != rewards.shape:
        raise Fault(f"compute_reward with empty infos has shape {np.shape(bare)}, expected {rewards.shape}")


# -- our worlds -----------------------------------------------------------------------------------------------------


def restores_snapshots(subject: Subject) -> None:
    """A snapshot continues the same life in an environment that has lived something else."""
    first, used = subject.single(), subject.single()
    live(first, seed=1, steps=20)
    live(used, seed=2, steps=30)
    live(used, seed=3, steps=30)
    used.set_state(first.get_state())
    expect_same_from_here(first, used)


def copies(subject: Subject) -> None:
    """A deep copy goes on as the original does, and leaves it alone."""
    env = subject.single()
    live(env, seed=1, steps=20)
    other, kept = copy.deepcopy(env), env.get_state().physics
    live(other, seed=3, steps=5)
    if not np.array_equal(env.get_state().physics, kept):
        raise Fault("a step of the copy moves the original")
    expect_same_from_here(env, copy.deepcopy(env))


def batches(subject: Subject) -> None:
    """n worlds in a batch live as n single ones in Gymnasium's SyncVectorEnv, at one thread and at two."""
    senses = subject.all_senses()
    for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED):
        for threads in (1, 2):
            makers = [lambda: subject.make(max_episode_steps=25)] * 3
            singles = SyncVectorEnv(makers, autoreset_mode=mode)
            batch = subject.batch(3, autoreset_mode=mode, threads=threads, max_episode_steps=25, **senses)
            rng = np.random.default_rng(0)
            expect_same(batch.reset(seed=5), singles.reset(seed=5), "reset")
            for step in range(60):
                action = rng.uniform(-1.2, 1.2, batch.action_space.shape).astype(np.float32)
                one, other = batch.step(action), singles.step(action)
                expect_same(one, other, f"{mode.value}, {threads} threads, step {step}")
                over = one[2] | one[3]
                if mode is AutoresetMode.DISABLED and over.any():
                    starts = [env.reset(options={"reset_mask": over.copy()}) for env in (batch, singles)]
                    expect_same(starts[0], starts[1], f"{mode.value}, reset after step {step}")


def says_something(subject: Subject) -> None:
    """No entry of the observation or of the goals is constant."""
    env = subject.batch(16, autoreset_mode=AutoresetMode.NEXT_STEP)
    seen = [env.reset(seed=0)[0]]
    for step in range(2 * env.limit):
        action = env.oracle() if step % 2 else env.action_space.sample()
        seen.append(env.step(action)[0])
    for key in ("observation", "achieved_goal", "desired_goal"):
        constant = np.flatnonzero(np.ptp(np.concatenate([one[key] for one in seen]), axis=0) == 0)
        if len(constant):
            raise Fault(f"{key}{constant.tolist()} never changes")


def can_be_solved(subject: Subject) -> None:
    """The scripted oracle succeeds, and chance does not: the task is possible, and not trivial."""
    rng = np.random.default_rng(0)
    rate = success_rate(subject.batch(SEEDS, autoreset_mode=AutoresetMode.DISABLED), lambda env: env.oracle())
    if rate < ORACLE_LEAST:
        raise Fault(f"the oracle succeeds in {rate:.1%} of {SEEDS} episodes, at least {ORACLE_LEAST:.0%} are needed")
    chance = subject.batch(SEEDS, autoreset_mode=AutoresetMode.DISABLED)
    rate = success_rate(chance, lambda env: rng.uniform(-1, 1, env.action_space.shape))
    if rate > CHANCE_MOST:
        raise Fault(f"random actions succeed in {rate:.1%} of {SEEDS} episodes, at most {CHANCE_MOST:.0%} are allowed")


def refuses_bad_actions(subject: Subject) -> None:
    """Actions that are no numbers, of another shape or out of bounds are named or clipped before anything moves."""
    env, strict = subject.single(sensors=()), subject.single(sensors=(), strict=True)
    env.reset(seed=0)
    strict.reset(seed=0)
    before, size = env.get_state().physics, env.engine.robot.action_size
    nan, high = np.zeros(size), np.zeros(size)
    nan[size - 1], high[0] = np.nan, 2.0
    bad_actions: list[tuple[Any, str]] = [
        (nan, f"action[{size - 1}]"),
        (np.full(size, np.inf), "action[0]"),
        (np.zeros(size + 1), str((size + 1,))),
        (np.array(["a"] * size), "dtype"),
        (None, "()"),
    ]
    for action, word in bad_actions:
        if word not in (message := refusal(partial(env.step, action), f"the action {action}")):
            raise Fault(f"the error for the action {action} does not name {word}: {message}")
    if "action[0]" not in (message := refusal(lambda: strict.step(high), "2.0 with strict=True")):
        raise Fault(f"the error of strict=True does not name action[0]: {message}")
    if not np.array_equal(env.get_state().physics, before):
        raise Fault("a refused action moved the world")
    if env.step(high)[-1]["clipped"] != 1:
        raise Fault("an entry of 2.0 is not counted in info['clipped']")


def survives_bad_physics(subject: Subject) -> None:
    """A simulation that fails ends its own episode, truncated, with info["physics_error"], and no other's."""
    for bad in (1e12, np.nan):
        hurt, well = (subject.batch(3, autoreset_mode=AutoresetMode.NEXT_STEP, **subject.all_senses()) for _ in "ab")
        for env in (hurt, well):
            env.reset(seed=0)
        hurt.engine.robot.qvel[1] = bad
        action = np.zeros((3, hurt.engine.robot.action_size), np.float32)
        one, other = hurt.step(action), well.step(action)
        if one[4]["physics_error"].tolist() != [False, True, False] or not one[3][1] or one[2][1]:
            raise Fault(f"a speed of {bad} does not end its episode truncated with info['physics_error']")
        if one[0] not in hurt.observation_space or not np.isfinite(one[1]).all():
            raise Fault(f"after a speed of {bad} an observation is outside its space, or a reward is not finite")
        for i, name in enumerate(("observation", "reward", "terminated")):
            expect_same(rows(one[i], [0, 2]), rows(other[i], [0, 2]), f"{name} of the other worlds")
        after = hurt.step(action)
        if after[4]["physics_error"].any() or after[0] not in hurt.observation_space:
            raise Fault("the episode after a physics error does not start well")


class Check(NamedTuple):
    run: Callable[[Subject], None]
    cure: str
    anyone: bool = False  # also asked of environments that are not made of our Tasks

    @property
    def promise(self) -> str:
        return (self.run.__doc__ or "").strip()


CHECKS = {
    check.run.__name__: check
    for check in (
        Check(follows_gymnasium, "see https://gymnasium.farama.org/api/env", True),
        Check(repeats, "draw only from the generator that reset is given; keep all state in the engine", True),
        Check(seeds_matter, "use the generator that reset is given for where things start", True),
        Check(hands_out_fresh_arrays, "copy what observe and achieved return", True),
        Check(ends_well, "make with gymnasium.make; let close be called twice", True),
        Check(rewards_by_goals, "compute the reward of step and compute_reward by one function of the goals", True),
        Check(restores_snapshots, "keep what an episode needs in env.goal and env.hidden, not in the task"),
        Check(copies, "keep only plain values in the task's constructor, live arrays in bind"),
        Check(batches, "treat worlds alike: no sums or random draws across worlds"),
        Check(says_something, "leave out of observe what never changes"),
        Check(can_be_solved, "mend the oracle, or where episodes start"),
        Check(refuses_bad_actions, "leave the action to the engine"),
        Check(survives_bad_physics, "leave the physics to the engine"),
    )
}


@dataclass(frozen=True)
class Finding:
    """What one check found: `fault` is empty where all is well."""

    check: str
    promise: str
    fault: str
    cure: str


def examine(id: str, options: dict[str, Any] | None = None) -> Iterator[Finding]:
    """Run every check that applies to an id (see `registry.find`), one finding each."""
    subject = Subject(find(id).id, options or {})
    for name, check in CHECKS.items():
        if subject.ours or check.anyone:
            fault = ""
            try:
                check.run(subject)
            except Fault as error:
                fault = str(error)
            except Exception as error:  # an environment may raise anything; what it raised is the finding
                fault = f"{type(error).__name__}: {error}"
            yield Finding(name, check.promise, fault, check.cure)
