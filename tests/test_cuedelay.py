"""CueDelay: that it asks for memory, and for nothing that the hand or the numbering of things could remember."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import make_vec
from gymnasium.vector import AutoresetMode

import ami_envs  # noqa: F401 - registers the worlds
from ami_envs.checks.trials import success_rate
from ami_envs.core import WorldEnv
from ami_envs.worlds import cups
from ami_envs.worlds.cuedelay import CueDelay

VARIANTS: list[dict[str, Any]] = [
    {"variant": "cue", "n": 9, "delay": 10},
    {"variant": "sequence", "n": 3, "delay": 10},
    {"variant": "shell", "n": 3, "delay": 20},
    {"variant": "shell", "n": 9, "delay": 10, "robot": "arm7"},
]
NAMES = ["-".join(map(str, options.values())) for options in VARIANTS]


def worlds(n: int, options: dict[str, Any]) -> Any:
    limit = options["delay"] + (100 if options["variant"] == "sequence" else 40)
    return make_vec(
        "ami/CueDelay-v0", n, max_episode_steps=limit, autoreset_mode=AutoresetMode.DISABLED, sensors=(), **options
    )


@pytest.mark.parametrize("options", VARIANTS, ids=NAMES)
def test_it_can_be_solved_and_not_by_chance(options: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    assert success_rate(worlds(20, options), lambda env: env.oracle()) == 1.0
    assert success_rate(worlds(20, options), lambda env: rng.uniform(-1, 1, env.action_space.shape)) <= 0.1
    assert success_rate(worlds(20, options), lambda env: np.zeros(env.action_space.shape)) == 0.0


@pytest.mark.parametrize("options", VARIANTS, ids=NAMES)
def test_when_answers_open_nothing_tells_the_cue(options: dict[str, Any]) -> None:
    env = WorldEnv(CueDelay(**options), 4)
    task, hidden, things = env.task, env.hidden, env.batch.bind("mocap_pos")
    env.reset(seeds=[1] * 4)
    for world in range(1, 4):  # the same world but for what was to be kept in mind
        for name in ("cue", "answer", "guess"):
            hidden[name][world] = (hidden[name][0] + world) % task.n
        if task.shell:
            drawn = cups.draw(np.random.default_rng(world), task.n, int(hidden["cue"][world, 0]), task.swaps)
            hidden["swaps"][world], hidden["ball"][world] = drawn
            things[:, : task.n, 2] = 0.0
    rng, seen = np.random.default_rng(0), []
    for _ in range(task.go):
        seen.append(env.observe()["observation"][:, 14 : 14 + task.n])
        env.step(rng.uniform(-1, 1, (4, 5)))
    early, told = np.stack(seen), env.observe()
    assert (early[: task.start].sum(axis=2) == 1).all() and not early[task.start :].any()
    assert (told["observation"][:, 12] == 1).all() and (seen[-1] == 0).all() and (early[0, 1:] != early[0, 0]).any()
    if task.shell:
        things[:, task.n] = 0.0  # the ball is inside a cup, out of sight
    hands = env.robot.qpos, env.robot.qvel, env.field("geom_rgba"), env.batch.state
    for array in (told["observation"], told["achieved_goal"], told["touch"], *hands):
        assert (array[1:] == array[0]).all()


def test_a_wrong_press_ends_the_episode() -> None:
    env = WorldEnv(CueDelay(delay=10), 1)
    env.reset(seeds=[0])
    env.hidden["guess"][0] = (env.hidden["answer"][0] + 1) % 5
    over, steps = np.zeros(1, bool), 0
    while not over[0] and steps < 60:
        observation, reward, over, info = env.step(env.task.floor(env))
        steps += 1
    assert over[0] and not info["success"][0] and reward[0] < -0.9
    assert observation["achieved_goal"][0] == -1 and observation["observation"][0, 13] == -1
    assert env.hidden["held"][0] == env.task.press


def test_cups_pass_without_touching_and_no_number_follows_a_cup() -> None:
    rng = np.random.default_rng(0)
    for n in (3, 5, 9):
        env = WorldEnv(CueDelay(variant="shell", n=n, delay=50), 1)
        env.reset(seeds=[n])
        fan, first = env.hidden["fan"], env.hidden["swaps"]
        path = np.concatenate([cups.places(fan, first, np.array([t])) for t in range(51)])
        gap = np.linalg.norm(path[:, :, None] - path[:, None], axis=-1) + np.eye(n)
        assert gap.min() > 0.052  # two radii
        assert (path[:: cups.SWAP] == fan).all()
        # By watching: each cup goes on as the nearest one of the next moment.
        here = int(env.hidden["cue"][0, 0])
        for then, now in zip(path, path[1:], strict=False):
            here = int(np.linalg.norm(now - then[here], axis=1).argmin())
        assert here == env.hidden["answer"][0, 0]
        ends = [cups.draw(rng, n, start, 2)[1][-1] for start in range(n) for _ in range(3000 // n)]
        assert np.abs(np.bincount(ends, minlength=n) / len(ends) - 1 / n).max() < 0.04


@pytest.mark.parametrize("bad", [{"n": 4}, {"delay": 5}, {"delay": 101}, {"variant": "shells"}, {"robot": "rover"}])
def test_options_are_checked(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(bad.values())))):
        CueDelay(**bad)
