"""What any Gymnasium environment promises."""

from __future__ import annotations

import warnings

import gymnasium as gym
import numpy as np
from gymnasium.utils.env_checker import check_env

from ami_envs.checks.trials import (
    Fault,
    Subject,
    arrays_in,
    difference,
    expect_same,
    live,
    refusal,
    transitions,
)


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
    told = [dict(zip(("observation", "info"), env.reset(seed=0), strict=True))]
    for _ in range(3):
        observation, _, terminated, truncated, info = env.step(env.action_space.sample())
        told.append({"observation": observation, "info": info})
        if terminated or truncated:
            break
    arrays = [dict(arrays_in(one)) for one in told]
    for i, earlier in enumerate(arrays):
        for later in arrays[i + 1 :]:
            for name, array in later.items():
                if name in earlier and np.shares_memory(array, earlier[name]):
                    raise Fault(f"{name} is the same array in two steps")


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
    judge = getattr(env.unwrapped, "compute_reward", None)
    if not callable(judge):
        return
    steps = transitions(env, 50)
    achieved, desired = (np.stack([step[0][key] for step in steps]) for key in ("achieved_goal", "desired_goal"))
    rewards, infos = np.array([step[1] for step in steps]), np.array([step[2] for step in steps])
    alone = [judge(*each) for each in zip(achieved, desired, infos, strict=True)]
    for told, found in (("one by one", np.array(alone)), ("as arrays", judge(achieved, desired, infos))):
        if not np.array_equal(found, rewards):
            raise Fault(f"compute_reward {told} differs from the rewards of the steps")
    bare = judge(achieved, desired, np.array([{}] * len(steps)))
    if np.shape(bare) != rewards.shape:
        raise Fault(f"compute_reward with empty infos has shape {np.shape(bare)}, expected {rewards.shape}")
