"""Angles that go round and round: found in others' environments, and taken in as sine and cosine."""

import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from ami_agent import cli
from ami_agent.brain import Brain
from ami_agent.environment import Environment
from ami_agent.errors import UsageError
from ami_agent.foreign import angles
from ami_agent.perception.encoder import EncoderConfig, SenseEncoder


@pytest.mark.parametrize(
    "name, found",
    [
        ("Swimmer-v5", {"observation": (0,)}),  # its heading; the other joints have limits
        ("HalfCheetah-v5", {"observation": (1,)}),
        ("Reacher-v5", {}),  # which tells sine and cosine
        ("Pendulum-v1", {}),  # without MuJoCo
    ],
)
def test_hinges_without_limits_are_found(name, found):
    assert Environment(name).spec.angles == found


def test_what_is_known_of_a_world_tells_them(capsys):
    assert cli.main(["env", "info", "Swimmer-v5"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "angles that go round, learned from as sine and cosine: 0" in said


def test_where_a_second_world_cannot_be_made_nothing_is_found():
    def refused():
        raise OSError("the port is in use")

    world = gym.make("Swimmer-v5")
    assert angles.angles_of("Swimmer-v5", world, refused, {"observation": 8}) == {}


class Wheel(gym.Env):
    """Says itself that what it tells is an angle."""

    observation_space, action_space = Box(-np.inf, np.inf, (2,)), Box(-1, 1, (1,))

    def __init__(self, told):
        self.metadata = {"angles": told}

    def reset(self, *, seed=None, options=None):
        return np.zeros(2, np.float32), {}

    def step(self, action):
        return np.full(2, action[0], np.float32), 0.0, False, False, {}


@pytest.mark.parametrize("told", [{"observation": [1]}, {"observation": [2]}, {"hand": [0]}, [1], {"observation": 1}])
def test_an_environment_may_say_so_and_nonsense_is_named(told):
    gym.register("t/Wheel-v0", lambda: Wheel(told), max_episode_steps=10)
    try:
        if told == {"observation": [1]}:
            assert Environment("t/Wheel-v0").spec.angles == {"observation": (1,)}
        else:
            with pytest.raises(UsageError, match=r'metadata\["angles"\] is .*\{sense: entries\}, of \{\'observation\''):
                Environment("t/Wheel-v0")
    finally:
        del gym.registry["t/Wheel-v0"]


def test_a_turn_further_all_looks_the_same():
    torch.manual_seed(0)
    encoder = SenseEncoder({"observation": (3,), "touch": (1,)}, EncoderConfig(16, 32), angles={"observation": (1,)})
    seen = {"observation": torch.randn(5, 3), "touch": torch.randn(5, 1)}
    encoder.fit(seen)
    for turned, alike in ((2 * math.pi, True), (1.0, False)):
        other = {**seen, "observation": seen["observation"] + turned * torch.tensor([0.0, 1.0, 0.0])}
        assert torch.allclose(encoder(other), encoder(seen), atol=1e-5) == alike
    further = {**seen, "observation": seen["observation"] + 2 * math.pi}
    assert not torch.allclose(encoder(further), encoder(seen), atol=1e-5)  # other entries are numbers


def test_of_places_that_are_left_out_angles_are_too():
    senses = {"observation": (3,), "achieved_goal": (2,), "desired_goal": (2,)}
    encoder = SenseEncoder(senses, EncoderConfig(16, 32), place=(0, 1), angles={"observation": (1, 2)})
    seen = {name: torch.randn(4, *shape) for name, shape in senses.items()}
    moved = {**seen, "observation": seen["observation"] + torch.tensor([1.0, 1.0, 2 * math.pi])}
    assert torch.allclose(encoder(moved), encoder(seen), atol=1e-5)


def test_weights_know_which_entries_are_angles(tmp_path):
    brain = Brain(Environment("Swimmer-v5").spec)
    brain.save(tmp_path / "b.safetensors")
    known = Brain.load(tmp_path / "b.safetensors")
    assert known.spec == brain.spec and known.encoder_id() == brain.encoder_id()
