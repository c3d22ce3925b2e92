"""What the engine promises of every world of ours: exactness, and order when something goes wrong."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from ami_envs.checks.trials import (
    Fault,
    Subject,
    expect_same,
    expect_same_from_here,
    live,
    refusal,
    rows,
)


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
    expect_same_from_here(env, copy.deepcopy(env), steps=50)


def batches(subject: Subject) -> None:
    """n worlds in a batch live as n single ones in Gymnasium's SyncVectorEnv, at one thread and at two."""
    senses = subject.all_senses()
    for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED):
        for threads in (1, 2):
            makers = [lambda: subject.make(max_episode_steps=15)] * 3
            singles = SyncVectorEnv(makers, autoreset_mode=mode)
            batch = subject.batch(3, autoreset_mode=mode, threads=threads, max_episode_steps=15, **senses)
            rng = np.random.default_rng(0)
            expect_same(batch.reset(seed=5), singles.reset(seed=5), "reset")
            for step in range(35):
                action = rng.uniform(-1.2, 1.2, batch.action_space.shape).astype(np.float32)
                one, other = batch.step(action), singles.step(action)
                expect_same(one, other, f"{mode.value}, {threads} threads, step {step}")
                over = one[2] | one[3]
                if mode is AutoresetMode.DISABLED and over.any():
                    starts = [env.reset(options={"reset_mask": over.copy()}) for env in (batch, singles)]
                    expect_same(starts[0], starts[1], f"{mode.value}, reset after step {step}")


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
