"""What others' environments tell beside senses and reward, and what is wrapped around them."""

import json
import re
import sys
from dataclasses import replace
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict

from ami_agent import cli
from ami_agent.brain import Brain
from ami_agent.brains import find_brain, learned_path
from ami_agent.environment import Environment, control_period, make, to_box
from ami_agent.errors import ArtefactError, NumericalError, UsageError
from ami_agent.foreign.infos import flag
from ami_agent.foreign.judging import judged
from ami_envs.checks import examine


class Telling(gym.Env):
    """Its infos are of another shape in every world and at every step."""

    observation_space, action_space = Box(-9, 9, (2,)), Box(-1, 1, (1,))

    def reset(self, *, seed=None, options=None):
        self.t, self.seed = 0, seed
        return np.zeros(2, np.float32), {"contacts": np.zeros(seed)}

    def step(self, action):
        self.t += 1
        cost = {"of": 1} if self.t == 1 else 1 if self.seed == 1 else 0.5
        told = {"contacts": np.zeros(self.t + self.seed), "cost": cost, "success": None if self.t == 1 else self.seed}
        return np.zeros(2, np.float32), 1, False, False, told


class Goals(gym.Env):
    observation_space = Dict({name: Box(-9, 9, (2,)) for name in ("observation", "achieved_goal", "desired_goal")})
    action_space = Box(-1, 1, (1,))

    def reset(self, *, seed=None, options=None):
        return {name: np.zeros(2, np.float32) for name in self.observation_space}, {}

    def step(self, action):
        return self.reset()[0], -1.0, False, False, {}


class Broken(Telling):
    """`what` comes at its third step."""

    def __init__(self, what):
        self.what = what

    def step(self, action):
        seen, reward, *rest = super().step(action)
        if self.t < 3:
            return seen, reward, *rest
        if self.what == "exit":
            sys.exit("the driver says goodbye")
        changed = {"sense": (np.full(2, np.nan, np.float32), 1), "wide": (seen + 10, 1), "list": ([0, 0], 1)}
        changed |= {"reward": (seen, np.nan), "no reward": (seen, None), "rewards": (seen, np.ones(2))}
        return *changed[self.what], *rest


class Judging(gym.Wrapper):
    def compute_reward(self, achieved, desired, info):
        return -np.linalg.norm(achieved - desired, axis=-1)


@pytest.fixture(autouse=True)
def registered():
    worlds = {"Telling": Telling, "Goals": Goals, "Judged": lambda: Judging(Goals()), "Bare": gym.Env, "Broken": Broken}
    for name, world in worlds.items():
        gym.register(f"t/{name}-v0", world, max_episode_steps=None if name == "Goals" else 10)
    yield
    for name in worlds:
        del gym.registry[f"t/{name}-v0"]


@pytest.mark.parametrize("repeat", [1, 3])
def test_of_infos_that_are_anything_those_that_count_are_put_together(repeat):
    world = Environment("t/Telling-v0", 3, repeat=repeat)
    world.reset(seeds=[0, 1, 2])
    told = [world.step(np.zeros((3, 1)))[4] for _ in range(2)][-1]
    assert told["cost"] == pytest.approx(repeat * np.array([0.5, 1, 0.5])) and world.tells_success
    assert told["success"].tolist() == [False, True, True]


def test_who_judges_may_be_a_wrapper_of_the_world():
    assert not Environment("t/Goals-v0").spec.goals
    world = Environment("t/Judged-v0")
    assert world.spec.goals and world.compute_reward(np.zeros((2, 2)), np.ones((2, 2)), {}) == pytest.approx(-(2**0.5))


def pair(achieved, desired, info):
    return -np.hypot(achieved[0] - desired[0], achieved[1] - desired[1])


def pairs(achieved, desired, info):
    return -np.linalg.norm(achieved - desired, axis=1)


@pytest.mark.parametrize("judge", [pair, pairs])
@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_any_number_of_pairs_is_judged_whether_one_or_many_are_meant(judge, n):
    """Two of them by one that takes one: its answer for both has the right shape."""
    achieved, desired = np.random.default_rng(n).normal(size=(2, n, 2))
    expected = -np.linalg.norm(achieved - desired, axis=1)
    np.testing.assert_allclose(judged(judge, achieved, desired, {}), expected)


@pytest.mark.parametrize("dtype, low, high", [(bool, 0, 1), (np.uint32, 1, 9), (np.int8, -4, 4)])
def test_actions_may_be_whole_numbers(dtype, low, high):
    gym.register("t/Whole-v0", lambda: type("Whole", (Telling,), {"action_space": box})(), max_episode_steps=10)
    box = Box(low, high, (2,), dtype)
    try:
        assert Environment("t/Whole-v0").spec.action_size == 2
    finally:
        del gym.registry["t/Whole-v0"]
    assert to_box(np.array([[-1.0, 1.0], [-0.4, 0.9]]), box).tolist()[0] == [low, high]
    assert to_box(np.array([-0.9, 0.9]), box).tolist() == [box.dtype.type(low), box.dtype.type(high)]


@pytest.mark.parametrize(
    "what, said",
    [
        ("sense", "has nan as entry \\[0\\], where its space goes from -9.0 to 9.0"),
        ("wide", "has 10.0 as entry"),
        ("list", "is a list, not an array"),
        ("reward", "the reward of step 2 is nan"),
        ("no reward", "the reward of step 2 is None, not a number"),
        ("rewards", "not a number"),
        ("exit", "SystemExit: the driver says goodbye .*test_foreign.py, line"),
    ],
)
def test_the_check_names_what_is_wrong(what, said):
    (finding,) = examine("t/Broken-v0", {"what": what})
    assert re.search(said, finding.fault)


def test_what_was_not_finite_is_named():
    for what, said in (("sense", "sense 'observation' is not finite"), ("reward", "its reward is not finite")):
        world = Environment("t/Broken-v0", options={"what": what})
        with pytest.raises(NumericalError, match=f"episodes of t/Broken-v0 in a row: {said}"):
            for _ in range(12):
                world.reset(seeds=[0])
                for _ in range(3):
                    world.step(np.zeros((1, 1)))


def test_an_environment_that_exits_does_not_end_the_process_without_a_word():
    world = Environment("t/Broken-v0", options={"what": "exit"})
    world.reset(seeds=[0])
    with pytest.raises(UsageError, match="t/Broken-v0 raised SystemExit: the driver says goodbye"):
        for _ in range(3):
            world.step(np.zeros((1, 1)))


def test_what_an_environment_lacks_is_said(capsys):
    with pytest.raises(UsageError, match="t/Bare-v0 has no observation_space"):
        make(gym.spec("t/Bare-v0"), {})
    with pytest.raises(UsageError, match="missing.*'what'.*--options"):
        Environment("t/Broken-v0")
    assert cli.main(["env", "check", "t/Broken-v0"]) == 2 and "--options" in capsys.readouterr().err
    assert Environment("t/Goals-v0").spec.max_episode_steps == 1000
    assert "t/Goals-v0 sets no time limit" in capsys.readouterr().err
    for value in ("no", float("nan")):
        with pytest.raises(TypeError):
            flag(value)


@pytest.mark.parametrize("rate, period", [(8, 0.125), ("30", 0), (None, 0), (0, 0), (-1, 0), (float("nan"), 0)])
def test_a_frame_rate_that_is_none_says_nothing(rate, period):
    assert control_period(SimpleNamespace(metadata={"render_fps": rate})) == period


def test_weights_learned_elsewhere_are_used_here_from_now_on(tmp_path):
    Brain(Environment("t/Telling-v0").spec).save(tmp_path / "w.safetensors")
    brain, _ = find_brain(
        Environment("t/Broken-v0", options={"what": "sense"}).spec, tmp_path, str(tmp_path / "w.safetensors")
    )
    assert brain.spec.environment == "t/Broken-v0"


def test_weights_of_another_environment_whose_file_has_the_same_name_are_refused(tmp_path):
    spec = Environment("t/Telling-v0").spec
    Brain(replace(spec, environment="t-Telling-v0")).save(learned_path(tmp_path, "t-Telling-v0"))
    with pytest.raises(ArtefactError, match="learned in t-Telling-v0, whose name in files.*give another --name"):
        find_brain(spec, tmp_path)


def test_cost_is_told_where_it_is_known(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    told = {}
    for env in ("t/Telling-v0", "Pendulum-v1"):
        assert cli.main(["run", "--env", env, "--agent", "noop", "--episodes", "1", "--json"]) == 0
        told[env] = json.loads(capsys.readouterr().out)
    assert told["t/Telling-v0"]["cost_mean"] == 4.5 and told["Pendulum-v1"]["cost_mean"] is None
    folder = tmp_path / told["t/Telling-v0"]["run"]
    assert json.loads((folder / "metrics.jsonl").read_text())["cost"] == 4.5
    assert "mean cost" in (folder / "report.html").read_text()
