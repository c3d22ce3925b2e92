"""What interventions promise: they are exact, of one world alone, and undone by the next episode."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from ami_envs.checks.trials import (
    Fault,
    Subject,
    chance,
    expect_same,
    expect_same_from_here,
    live,
    refusal,
    rows,
)


def offers_causes(subject: Subject) -> None:
    """Every factor has two ranges that do not meet, takes values of both, and goes back at the next episode."""
    env = subject.single(sensors=())
    before = env.reset(seed=1)
    for space, other in ((env.factor_space, env.held_out_factor_space), (env.held_out_factor_space, env.factor_space)):
        for name in space:
            inside: Any = space[name]
            outside: Any = other[name]
            if np.any((inside.low <= outside.high) & (outside.low <= inside.high)):
                raise Fault(f"the training range of {name} meets the held-out one")
        space.seed(0)
        env.intervene(space.sample())
        live(env, seed=None, steps=5)
    expect_same(env.reset(seed=1), before, "the episode after an intervention")
    refusal(lambda: env.intervene({"no such cause": 1.0}), "an unknown factor")
    refusal(lambda: env.intervene({"gain": np.nan}), "a factor that is no number")


def intervenes_exactly(subject: Subject) -> None:
    """A cause is set from the stored defaults: twice is once, and there and back is nothing."""
    one, other = subject.single(), subject.single()
    space, held_out = one.factor_space, one.held_out_factor_space
    space.seed(1)
    held_out.seed(2)
    values = space.sample()
    for env in (one, other):
        env.reset(seed=2)
    one.intervene(held_out.sample())
    for env, times in ((one, 2), (other, 1)):
        for _ in range(times):
            env.intervene(values)
    expect_same_from_here(one, other, steps=40)
    for env in (one, other):
        env.reset(seed=2)
    before = {name: value[0].copy() for name, value in one.engine.factors.items()}
    one.intervene(values)
    one.intervene(before)
    expect_same_from_here(one, other, steps=40)


def imagines_other_causes(subject: Subject) -> None:
    """`counterfactual` repeats what happened where nothing is changed, and leaves the world as it was."""
    env = subject.single()
    live(env, seed=3, steps=10)
    state, rng = env.get_state(), np.random.default_rng(0)
    actions = [chance(env, rng) for _ in range(15)]
    imagined = env.counterfactual(state, {}, np.array(actions))
    env.held_out_factor_space.seed(0)
    env.counterfactual(state, env.held_out_factor_space.sample(), np.array(actions))
    for step, told in enumerate(imagined):
        observation, reward, terminated, _, info = env.step(actions[step])
        expect_same((observation, reward, info), (told[0], told[1], told[3]), f"imagined step {step}")
        if terminated != told[2]:
            raise Fault(f"imagined step {step} ends otherwise")


def gives_each_world_its_causes(subject: Subject) -> None:
    """Causes drawn for each world of a batch are those that single worlds draw with the same seeds."""
    senses = subject.all_senses()
    for split in ("training", "held_out"):
        batch = subject.batch(2, factors=split, autoreset_mode=AutoresetMode.DISABLED, **senses)
        singles = [subject.single(factors=split) for _ in range(2)]
        together = batch.reset(seed=4)[0]
        rng = np.random.default_rng(0)
        starts = [env.reset(seed=4 + i)[0] for i, env in enumerate(singles)]
        for i, start in enumerate(starts):
            expect_same(rows(together, [i]), {k: v[None] for k, v in start.items()}, f"{split}, world {i}, reset")
        for step in range(20):
            action = rng.uniform(-1, 1, batch.action_space.shape).astype(np.float32)
            together, _, terminated, truncated, _ = batch.step(action)
            for i, env in enumerate(singles):
                alone = {k: v[None] for k, v in env.step(action[i])[0].items()}
                expect_same(rows(together, [i]), alone, f"{split}, world {i}, step {step}")
            if (terminated | truncated).any():
                break
