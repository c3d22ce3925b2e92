"""Getting about, learned apart from where to: places that an environment tells, and a brain that sees no others."""

import json
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict

from ami_agent.agent import AgentConfig, AmiAgent
from ami_agent.brain import Brain, BrainConfig
from ami_agent.cli import main
from ami_agent.environment import Environment
from ami_agent.errors import UsageError
from ami_agent.learning.live import live
from ami_agent.learning.own_goals import OwnPlaces
from ami_agent.learning.train import TrainConfig, learned_spec
from ami_agent.memory.replay import Replay
from ami_agent.memory.store import EpisodeStore
from ami_agent.memory.wayfinder import WayConfig
from ami_agent.perception.encoder import EncoderConfig
from ami_agent.places import as_places, by_places, place_of, seen_as_places
from ami_agent.protocols import Episode
from ami_agent.world_model.latent import ModelConfig

SMALL = BrainConfig(EncoderConfig(16, 16), ModelConfig(16, 11))
SENSES = {"observation": Box(-1, 1, (4,)), "achieved_goal": Box(-1, 1, (2,)), "desired_goal": Box(-1, 1, (2,))}


def rover_brain(environment):
    brain = Brain(as_places(environment.spec), SMALL)
    brain.stride = 0.08
    brain.model.level.fill_(-20.0)  # values are costs, as those of a brain that has learned are
    return brain


@pytest.mark.parametrize(
    "id, place, goes, seeks",
    [
        ("ami/MazeNav-v0", (0, 1), True, False),
        ("ami/Recall-v0", (0, 1), False, True),
        ("ami/Push-v0", (), False, False),
    ],
)
def test_worlds_say_whether_their_robot_moves_about_and_goals_are_places(id, place, goes, seeks):
    spec = Environment(id, 2).spec
    assert (spec.place, spec.goes, by_places(spec)) == (place, goes, seeks)
    seen = Environment(id, 2).reset(seeds=[1, 2])
    if goes:
        assert (seen["observation"][:, list(place)] == seen["achieved_goal"]).all()


@pytest.mark.parametrize(
    "told, hint",
    [
        ({"entries": [0, 9], "near": 0.1, "goal": False}, "entries are of 4"),
        ({"entries": [0, 1], "near": 0.0, "goal": False}, "near is above 0"),
        ({"entries": [], "near": 0.1, "goal": False}, "entries are of 4"),
        ({"entries": [0], "near": 0.1}, "needs entries, near and goal"),
        ("here", "needs entries"),
        ({"entries": [0, 1, 2], "near": 0.1, "goal": True}, "places of 3 entries"),
    ],
)
def test_a_place_that_cannot_be_is_refused_by_name(told, hint):
    with pytest.raises(UsageError, match=hint):
        place_of("me/World-v0", told, SENSES)


class Walk(gym.Env):
    """Someone else's world, which says where its body is; what is asked for is a smell."""

    metadata = {"place": {"entries": (2, 3), "near": 0.2, "goal": False}}
    action_space = Box(-1, 1, (2,))

    def __init__(self, goals=True):
        self._goals = goals
        smell = {"achieved_goal": Box(0, 1, (1,)), "desired_goal": Box(0, 1, (1,))}
        self.observation_space = Dict({"observation": Box(-9, 9, (4,)), **(smell if goals else {})})

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._here = np.zeros(4, np.float32)
        return self._see(), {}

    def step(self, action):
        self._here[2:] += 0.1 * action
        return self._see(), 0.0, False, False, {}

    def compute_reward(self, achieved, desired, info):
        return -np.abs(achieved - desired).sum(-1)

    def _see(self):
        near = np.float32([max(0.0, 1 - np.linalg.norm(self._here[2:] - 1))])
        smell = {"achieved_goal": near, "desired_goal": np.ones(1, np.float32)}
        return {"observation": self._here.copy(), **(smell if self._goals else {})}


@pytest.fixture
def walk():
    gym.register("me/Walk-v0", Walk, max_episode_steps=20)
    yield "me/Walk-v0"
    gym.registry.pop("me/Walk-v0")


def test_others_say_it_in_their_metadata(walk):
    spec = Environment(walk).spec
    assert (spec.place, spec.near, by_places(spec)) == ((2, 3), 0.2, True)
    assert as_places(spec).senses == {"observation": (4,), "achieved_goal": (2,), "desired_goal": (2,)}


def test_where_nothing_is_asked_for_rewards_are_learned(walk):
    spec = Environment(walk, options={"goals": False}).spec
    assert spec.place == (2, 3) and learned_spec(spec, TrainConfig()) == spec


def test_it_seeks_in_others_worlds_too(walk, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = ["--worlds", "2", "--steps", "600", "--warmup", "100", "--study.batch", "16", "--home", "home"]
    assert main(["train", "--env", walk, *small]) == 0
    capsys.readouterr()
    assert main(["run", "--env", walk, "--episodes", "2", "--home", "home", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["weights"] == "learned"


def test_an_agent_learns_to_get_to_places_unless_told_not_to():
    spec = Environment("ami/Recall-v0").spec
    learned = learned_spec(spec, TrainConfig())
    assert learned.goals and learned.goes and learned.senses["desired_goal"] == (2,)
    assert learned_spec(spec, TrainConfig(places=False)) == spec
    maze = Environment("ami/MazeNav-v0").spec
    assert learned_spec(maze, TrainConfig()) == maze


def test_where_goals_are_places_it_does_not_matter_where_in_the_world_all_that_is():
    brain = rover_brain(Environment("ami/MazeNav-v0"))
    rng = np.random.default_rng(0)
    seen = {name: rng.normal(size=(5, *shape)).astype(np.float32) for name, shape in brain.spec.senses.items()}
    elsewhere = {name: value.copy() for name, value in seen.items()}
    for name in ("achieved_goal", "desired_goal"):
        elsewhere[name] += np.float32([3, -2])
    elsewhere["observation"][:, :2] += np.float32([3, -2])
    assert torch.allclose(brain.perceive(seen), brain.perceive(elsewhere), atol=1e-5)
    turned = {**seen, "observation": seen["observation"] + np.eye(6, dtype=np.float32)[2]}
    assert not torch.allclose(brain.perceive(seen), brain.perceive(turned), atol=1e-3)


def test_a_goal_of_its_own_is_a_place_where_it_has_been_and_ends_the_episode():
    environment = Environment("ami/Recall-v0", 2)
    places = np.float32([(0.5, 0.5), (-1.0, 2.0), (2.0, -1.5)])
    replay = Replay(100)
    senses = {name: np.zeros((3, *shape), np.float32) for name, shape in as_places(environment.spec).senses.items()}
    senses |= {"achieved_goal": places}
    still = np.zeros((2, 3), np.float32), np.zeros(2, np.float32)
    replay.add(1, Episode("ami/Recall-v0", senses, *still, False, True, None))
    world = OwnPlaces(environment, lambda: replay)
    seen = world.reset(np.ones(2, bool), [1, 2])
    assert (seen["achieved_goal"] == seen["observation"][:, :2]).all()
    assert all((places[:2] == goal).all(1).any() for goal in seen["desired_goal"])
    goal = places[:1].repeat(2, 0)
    near, far = goal + np.float32([0.1, 0]), goal + np.float32([0.9, 0])
    assert world.compute_terminated(near, goal, {}).all() and not world.compute_terminated(far, goal, {}).any()
    assert (world.compute_reward(far, goal, {}) < world.compute_reward(near, goal, {})).all()
    assert (world.compute_reward(near, goal, {}) <= -1).all(), "every decision costs"


def live_visits(store, brain, visits, first=0):
    """Lengths of episodes in one session, and the agent."""
    environment = Environment("ami/Recall-v0", 1, {"session": 3, "max_episode_steps": 15})
    agent = AmiAgent(brain, AgentConfig(), 1, store, place=environment.task, environment=environment)
    known = len(agent.ways._sightings)
    lived = []
    for ended in live(environment, agent, iter(range(first, first + 99))):
        lived += [agent.remember(episode) for episode in ended]
        if len(lived) == visits:
            return lived, known


def test_what_was_seen_is_known_to_the_next_process(tmp_path):
    brain = rover_brain(Environment("ami/Recall-v0"))
    with EpisodeStore(tmp_path / "memory.sqlite") as store:
        lived, known = live_visits(store, brain, 2)
        assert known == 0
        assert lived[0].observation["achieved_goal"].shape == (16, 6), "kept as the world tells it"
    with EpisodeStore(tmp_path / "memory.sqlite") as store:
        _, known = live_visits(store, brain, 1, first=2)
    assert known == sum(len(episode) + 1 for episode in lived)


def test_the_last_moment_counts_at_once_for_it_may_be_the_success(tmp_path):
    with EpisodeStore(tmp_path / "memory.sqlite") as store:
        environment = Environment("ami/Recall-v0", 1, {"session": 3, "max_episode_steps": 15})
        brain = rover_brain(environment)
        agent = AmiAgent(brain, AgentConfig(), 1, store, place=environment.task, environment=environment)
        episode = agent.remember(next(ended[0] for ended in live(environment, agent, iter(range(9))) if ended))
        assert len(agent.ways._sightings) == len(episode) + 1
        changed = {**episode.observation, "achieved_goal": np.zeros((16, 4), np.float32)}
        store.append(replace(episode, observation=changed, latent=None, encoder=""))  # of another version of the world
        again = AmiAgent(brain, AgentConfig(), 1, store, place=environment.task, environment=environment)
        assert len(again.ways._sightings) == len(episode) + 1


def test_seeking_is_by_ways():
    environment = Environment("ami/Recall-v0")
    with pytest.raises(UsageError, match="ways.no-use.*--no-places"):
        AmiAgent(rover_brain(environment), AgentConfig(ways=WayConfig(use=False)), environment=environment)


def test_weights_of_one_kind_are_told_from_the_other():
    environment = Environment("ami/Recall-v0")
    rover_brain(environment).check_fits(environment.spec)
    Brain(environment.spec, SMALL).check_fits(environment.spec)
    with pytest.raises(Exception, match="the weights were learned with senses"):
        rover_brain(environment).check_fits(replace(environment.spec, place=()))


def test_moments_are_seen_with_the_place_as_what_is_achieved():
    environment = Environment("ami/Recall-v0", 3)
    raw = environment.reset(seeds=[1, 2, 3])
    seen = seen_as_places(raw, environment.spec)
    assert (seen["desired_goal"] == raw["observation"][:, :2]).all() and seen["lidar"] is raw["lidar"]


def test_it_does_not_learn_on_while_it_seeks(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["run", "--env", "ami/Recall-v0", "--weights", "pretrained", "--learn", "--home", "home"]) == 2
    assert "ami-agent train --env ami/Recall-v0" in capsys.readouterr().err


def test_first_goes_on_where_a_run_ended(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    seeds = []
    for first in ("0", "3"):
        line = ["run", "--env", "ami/Reach-v0", "--agent", "random", "--episodes", "2", "--first", first, "--json"]
        assert main(line) == 0
        folder = json.loads(capsys.readouterr().out)["run"]
        lines = (tmp_path / folder / "metrics.jsonl").read_text().splitlines()
        seeds.append([json.loads(text)["seed"] for text in lines])
    assert seeds == [[0, 1], [3, 4]]
