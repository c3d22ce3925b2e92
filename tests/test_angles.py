"""Angles that go round and round: found in others' environments, and taken in as sine and cosine."""

import math
from dataclasses import replace

import gymnasium as gym
import mujoco
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict

from ami_agent import cli
from ami_agent.brain import Brain
from ami_agent.environment import Environment
from ami_agent.errors import UsageError
from ami_agent.perception.encoder import EncoderConfig, SenseEncoder

JOINTS = """<mujoco><worldbody>
  <body><joint name="free" type="hinge"/><geom size=".1"/></body>
  <body><joint name="limited" type="hinge" range="-90 90" limited="true"/><geom size=".1"/></body>
  <body><joint name="sprung" type="hinge" stiffness="5"/><geom size=".1"/></body>
  <body><joint name="led" type="hinge"/><geom size=".1"/></body>
  <body><joint name="slide" type="slide"/><geom size=".1"/></body>
</worldbody><actuator>
  <motor joint="free"/><motor joint="limited"/><motor joint="sprung"/><position joint="led"/><motor joint="slide"/>
</actuator></mujoco>"""


class Joints(gym.Env):
    """Tells its joints, has a goal, and may not be stepped once an episode has ended."""

    def __init__(self, limit=30, fault=None):
        self.model = mujoco.MjModel.from_xml_string(JOINTS)
        self.limit, self.fault, size = limit, fault, self.model.nq
        self.observation_space = Dict({"observation": Box(-np.inf, np.inf, (size + 1,))} | {
            name: Box(-np.inf, np.inf, (1,)) for name in ("achieved_goal", "desired_goal")
        })  # fmt: skip
        self.action_space = Box(-1, 1, (self.model.nu,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.data, self.t = mujoco.MjData(self.model), 0
        return self._seen(), {}

    def step(self, action):
        assert self.t < self.limit
        if self.fault:
            raise self.fault
        self.t, self.data.ctrl[:] = self.t + 1, 20 * action
        mujoco.mj_step(self.model, self.data, 20)
        return self._seen(), 0.0, self.t == self.limit, False, {}

    def _seen(self):
        place = np.append([2.0], self.data.qpos).astype(np.float32)
        return {"observation": place, "achieved_goal": place[1:2], "desired_goal": np.zeros(1, np.float32)}


class Shy(Joints):
    @property
    def model(self):
        raise RuntimeError("not before it is asked for")

    @model.setter
    def model(self, model):
        pass

    def __init__(self):
        self.observation_space = self.action_space = Box(-1, 1, (1,))


class Wheel(gym.Env):
    """Says itself that what it tells is an angle."""

    observation_space, action_space = Box(-np.inf, np.inf, (2,)), Box(-1, 1, (1,))

    def __init__(self, told):
        self.metadata = {"angles": told}

    def reset(self, *, seed=None, options=None):
        return np.zeros(2, np.float32), {}

    def step(self, action):
        return np.full(2, action[0], np.float32), 0.0, False, False, {}


@pytest.fixture
def known():
    """The angles of a world that is registered for the test."""
    made = []

    def ask(entry):
        gym.register(f"t/Angles{len(made)}-v0", entry, max_episode_steps=50)
        made.append(f"t/Angles{len(made)}-v0")
        return Environment(made[-1]).spec.angles

    yield ask
    for name in made:
        del gym.registry[name]


@pytest.mark.parametrize(
    "name, found",
    [
        ("Swimmer-v5", {"observation": (0,)}),  # its heading; the other joints have limits
        ("HalfCheetah-v5", {"observation": (1,)}),
        ("Reacher-v5", {}),  # which tells sine and cosine
        ("Pendulum-v1", {}),  # without MuJoCo
        ("ami/Lane-v0", {"joints": (2,)}),  # the car's heading
    ],
)
def test_hinges_without_limits_are_found(name, found):
    options = {"sensors": {"joints": {}}} if name.startswith("ami/") else {}
    assert Environment(name, 2, options).spec.angles == found


@pytest.mark.parametrize("limit", [30, 2])
def test_of_joints_those_that_go_round_freely_are_found_and_goals_stay_as_they_are(known, limit):
    assert known(lambda: Joints(limit)) == {"observation": (1,)}


@pytest.mark.parametrize("fault", [OSError("the port is in use"), SystemExit(1)])
def test_a_second_world_that_fails_tells_nothing_and_stops_nothing(known, fault):
    assert known(lambda: Joints(fault=fault)) == {}


def test_nor_does_a_first_one_that_will_not_be_looked_into(known):
    assert known(Shy) == {}


@pytest.mark.parametrize("name, entry", [("Swimmer-v5", 0), ("ami/MazeNav-v0", 2)])
def test_what_is_known_of_a_world_tells_them(capsys, name, entry):
    assert cli.main(["env", "info", name]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"angles that go round, learned from as sine and cosine: {entry}" in said


@pytest.mark.parametrize(
    "told, found", [({"observation": [1]}, {"observation": (1,)}), ({}, {}), ({"observation": []}, {})]
)
def test_an_environment_may_say_so_itself(known, told, found):
    assert known(lambda: Wheel(told)) == found


@pytest.mark.parametrize(
    "told", [{"observation": [2]}, {"observation": [-1]}, {"hand": [0]}, [1], {"observation": 1}, {"observation": "1"},
             {"observation": [0.5]}, {"desired_goal": [0]}]
)  # fmt: skip
def test_nonsense_is_named(known, told):
    with pytest.raises(UsageError, match=r'metadata\["angles"\] is .*\{sense: entries\}, of \{\'observation\''):
        known(lambda: Wheel(told))


def test_a_turn_further_all_looks_the_same():
    torch.manual_seed(0)
    encoder = SenseEncoder({"observation": (3,), "touch": (1,)}, EncoderConfig(16, 32), angles={"observation": (1,)})
    seen = {"observation": torch.randn(5, 3), "touch": torch.randn(5, 1)}
    encoder.fit(seen)
    for turned, alike in ((2 * math.pi, True), (1.0, False)):
        other = {**seen, "observation": seen["observation"] + turned * torch.tensor([0.0, 1.0, 0.0])}
        assert torch.allclose(encoder(other), encoder(seen), atol=1e-5) == alike
    numbers = SenseEncoder({"observation": (3,)}, EncoderConfig(16, 32, angles=False), angles={"observation": (1,)})
    assert numbers.first["observation"].in_features == 3
    further = {**seen, "observation": seen["observation"] + 2 * math.pi}
    assert not torch.allclose(encoder(further), encoder(seen), atol=1e-5)  # other entries are numbers


def test_of_places_that_are_left_out_angles_are_too():
    senses = {"observation": (3,), "achieved_goal": (2,), "desired_goal": (2,)}
    encoder = SenseEncoder(senses, EncoderConfig(16, 32), place=(0, 1), angles={"observation": (1, 2)})
    seen = {name: torch.randn(4, *shape) for name, shape in senses.items()}
    moved = {**seen, "observation": seen["observation"] + torch.tensor([1.0, 1.0, 2 * math.pi])}
    assert torch.allclose(encoder(moved), encoder(seen), atol=1e-5)


def test_weights_know_which_entries_are_angles_and_those_that_knew_of_none_go_on_without(tmp_path):
    spec = Environment("Swimmer-v5").spec
    for learned in (spec, replace(spec, angles={})):
        brain = Brain(learned)
        brain.save(tmp_path / "b.safetensors")
        loaded = Brain.load(tmp_path / "b.safetensors")
        loaded.check_fits(spec)
        assert loaded.spec == learned and loaded.encoder_id() == brain.encoder_id()
    others = {Brain(replace(spec, angles={"observation": (entry,)})).encoder_id() for entry in (0, 1)}
    assert len(others) == 2  # their weights are the same, what they take in is not
