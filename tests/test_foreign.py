"""What others' environments tell beside senses and reward, and what is wrapped around them."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict

from ami_agent.environment import Environment, to_box


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


class Judging(gym.Wrapper):
    def compute_reward(self, achieved, desired, info):
        return -np.linalg.norm(achieved - desired, axis=-1)


@pytest.fixture(autouse=True)
def registered():
    for id, world in {"t/Telling-v0": Telling, "t/Goals-v0": Goals, "t/Judged-v0": lambda: Judging(Goals())}.items():
        gym.register(id, world, max_episode_steps=10)
    yield
    for id in ("t/Telling-v0", "t/Goals-v0", "t/Judged-v0"):
        del gym.registry[id]


@pytest.mark.parametrize("repeat", [1, 3])
def test_of_infos_that_are_anything_those_that_count_are_put_together(repeat):
    world = Environment("t/Telling-v0", 3, repeat=repeat)
    world.reset(seeds=[0, 1, 2])
    told = [world.step(np.zeros((3, 1)))[4] for _ in range(2)][-1]
    assert told["cost"] == pytest.approx(repeat * np.array([0.5, 1, 0.5])) and world.tells_success
    assert told["success"].tolist() == [False, True, True]


def test_who_judges_may_be_a_wrapper_of_the_world():
    assert not Environment("t/Goals-v0").spec.goals
    judged = Environment("t/Judged-v0")
    assert judged.spec.goals and judged.compute_reward(np.zeros((2, 2)), np.ones((2, 2)), {}) == pytest.approx(
        -(2**0.5)
    )


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
