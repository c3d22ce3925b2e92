"""The engine in hard lives: delays that grow, worlds that stand, refusals, odd snapshots, failed simulations."""

from __future__ import annotations

import gc
import weakref

import gymnasium as gym
import numpy as np
import pytest

import ami_envs
from ami_agent.environment import Environment
from ami_agent.errors import UsageError
from ami_envs import WorldEnv
from ami_envs.checks.trials import difference
from ami_envs.registry import TASKS
from ami_envs.worlds.cuedelay import CueDelay
from ami_envs.worlds.push import Push
from ami_envs.worlds.reach import Reach
from ami_envs.worlds.stack import Stack

STILL = np.zeros((1, 5))


def push(senses=(), **more) -> WorldEnv:
    env = WorldEnv(Push(), 1, senses, **more)
    env.reset(seeds=[0])
    return env


def live(env: WorldEnv, steps: int, mask: np.ndarray | None = None) -> None:
    for k in range(steps):
        env.step(np.full((env.n, 5), (-1.0) ** k), mask)


def test_a_delay_that_grows_does_not_depend_on_what_others_kept() -> None:
    pair, alone = WorldEnv(Push(), 2, ("joints",)), WorldEnv(Push(), 1, ("joints",))
    pair.reset(seeds=[0, 1])
    alone.reset(seeds=[1])
    pair.intervene({"delay": 4}, [0])
    for env in (pair, alone):
        live(env, 6)
    pair.intervene({"delay": 2}, [1])
    alone.intervene({"delay": 2})
    for _ in range(4):
        assert np.array_equal(pair.observe()["joints"][1], alone.observe()["joints"][0])
        live(pair, 1)
        live(alone, 1)


def test_a_counterfactual_leaves_no_trace() -> None:
    env, other = WorldEnv(Reach(), 3, ("joints", "rgb")), WorldEnv(Reach(), 3, ("joints", "rgb"))
    for one in (env, other):
        one.reset(seeds=[1, 2, 3])
        live(one, 4)
    env.goal[1] = env.robot.tip[1]  # world 1 stands in success, and is not asked
    other.goal[1] = other.robot.tip[1]
    env.counterfactual(env.get_state(0), {"delay": 3, "gain": 0.7}, np.ones((6, 5)))
    assert env.alive.all() and difference(env.observe(), other.observe()) is None
    for i in range(3):
        assert difference(env.get_state(i).physics, other.get_state(i).physics) is None
    mask = np.array([True, False, True])
    for _ in range(5):
        assert difference(env.step(np.ones((3, 5)), mask)[0], other.step(np.ones((3, 5)), mask)[0]) is None


@pytest.mark.parametrize(
    "wrong",
    [{"factors": {"mas": 1}}, {"factors": 5}, {"session": -1}, {"session": "a"}, {"task_id": 1.5}, {"ids": [7]}],
)
def test_a_refused_reset_changes_nothing(wrong: dict) -> None:
    env = push(("touch",))
    live(env, 3)
    before = env.get_state()
    with pytest.raises(ValueError):
        env.reset(seeds=[4], **wrong)
    one, other = vars(before), vars(env.get_state())
    assert one.pop("random") == other.pop("random") and difference(one, other) is None


@pytest.mark.parametrize("worlds", [[True, False], np.array([1, 1]), [-1], [2], [0.5], [1, 0], "a"])
def test_worlds_that_are_none_are_refused(worlds) -> None:
    env = WorldEnv(Push(), 2, ())
    env.reset(seeds=[0, 1])
    if isinstance(worlds, list) and worlds[0] is True:
        env.intervene({"mass": 3.0}, worlds)
        assert env.factors["mass"].tolist() == [3.0, 1.0], "a mask is a mask"
        return
    with pytest.raises(ValueError, match="worlds"):
        env.intervene({"mass": 3.0}, worlds)


def test_snapshots_of_other_options_are_refused_before_anything_moves() -> None:
    for one, other in ((Push(), Stack()), (CueDelay(delay=20), CueDelay(delay=30)), (Push(), Push(robot="arm7"))):
        source, target = WorldEnv(one, 1, ()), WorldEnv(other, 1, ())
        source.reset(seeds=[0])
        target.reset(seeds=[0])
        before = target.get_state()
        with pytest.raises(ValueError, match="the snapshot is of"):
            target.set_state(source.get_state())
        assert np.array_equal(target.get_state().physics, before.physics)
    large, small = push({"rgb": {"size": 32}}), push({"rgb": {"size": 16}})
    live(large, 3)
    small.set_state(large.get_state())
    assert small.observe()["rgb"].shape == (1, 16, 16, 3), "a sense that is otherwise is read anew"


def test_an_ended_world_stays_ended_in_its_snapshot() -> None:
    env = push()
    env.goal[0] = env.robot.qpos[0, 6:8]
    assert env.step(STILL)[2][0]
    with pytest.raises(RuntimeError, match="after its end"):
        env.set_state(env.get_state())
        env.step(STILL)


def test_noise_does_not_depend_on_other_senses() -> None:
    one, both = (push(senses, factors={"noise": 0.05}) for senses in (("joints",), ("touch", "joints")))
    assert np.array_equal(one.observe()["joints"], both.observe()["joints"])


def test_a_failed_simulation_is_no_success() -> None:
    env = WorldEnv(Reach(), 1, ())
    env.reset(seeds=[0])
    env.goal[0] = WorldEnv(Reach(), 1, ()).robot.tip[0]  # where the defaults put the tip
    env.robot.qvel[0, 0] = np.nan
    _, _, over, info = env.step(STILL)
    assert info["physics_error"][0] and not info["success"][0] and not over[0]


def test_a_state_brings_its_own_causes() -> None:
    env = gym.make("ami/Push-v0")
    env.reset(seed=0)
    with pytest.raises(ValueError, match="no 'factors' beside 'state'"):
        env.reset(options={"state": env.unwrapped.get_state(), "factors": {"mass": 2.0}})


def test_the_engine_goes_with_its_last_name() -> None:
    env = push()
    gone = weakref.ref(env.batch)
    gc.disable()
    try:
        del env
        assert gone() is None
    finally:
        gc.enable()


class Raises(Reach):
    """Someone else's world, which fails in the middle of a life."""

    def after(self, env, mask):
        raise ZeroDivisionError("no more")


def test_what_a_world_raises_in_mid_life_is_its_own_fault() -> None:
    ami_envs.register("hard/Raises-v0", Raises)
    environment = Environment("hard/Raises-v0")
    environment.reset(seeds=[0])
    with pytest.raises(UsageError, match=r"hard/Raises-v0 raised ZeroDivisionError.*test_hard_lives.py, line"):
        environment.step(np.zeros((1, 5), np.float32))
    gym.registry.pop("hard/Raises-v0")
    TASKS.pop("hard/Raises-v0")
