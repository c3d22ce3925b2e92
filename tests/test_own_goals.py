"""Learning without reward: what the agent is kept from, and what it is given instead."""

import numpy as np
import pytest
import torch

from ami_agent.brain import Brain, BrainConfig
from ami_agent.environment import Environment
from ami_agent.errors import UsageError
from ami_agent.learning.drive import Drive
from ami_agent.learning.hindsight import relabel
from ami_agent.learning.learner import LearnerConfig
from ami_agent.learning.own_goals import OwnGoals
from ami_agent.learning.student import StudyConfig
from ami_agent.memory.replay import Replay
from ami_agent.perception.encoder import EncoderConfig
from ami_agent.protocols import Episode, Spec


def remembered(places):
    """A replay of one episode in which these places (T+1, 2) were achieved."""
    replay, steps = Replay(1000), len(places) - 1
    senses = {"observation": np.zeros((steps + 1, 20), np.float32), "achieved_goal": np.float32(places)}
    senses["desired_goal"] = np.zeros_like(senses["achieved_goal"])
    action = np.zeros((steps, 5), np.float32)
    replay.add(1, Episode("ami/Push-v0", senses, action, np.zeros(steps, np.float32), False, True, None))
    return replay


def test_goals_are_places_that_were_achieved_and_rewards_are_how_much_nearer_they_came():
    places = np.random.default_rng(0).uniform(-1, 1, (6, 2))
    world = OwnGoals(Environment("ami/Push-v0", 3), lambda: remembered(places))
    seen = world.reset(np.ones(3, bool), [1, 2, 3])
    assert all(np.isclose(places[:-1], goal).all(1).any() for goal in seen["desired_goal"])
    away = [np.linalg.norm(seen["achieved_goal"] - seen["desired_goal"], axis=1)]
    nearer = np.zeros(3)
    for _ in range(5):
        seen, reward, terminated, truncated, _ = world.step(np.full((3, 5), -1, np.float32))
        away.append(np.linalg.norm(seen["achieved_goal"] - seen["desired_goal"], axis=1))
        assert reward == pytest.approx(away[-2] - away[-1], abs=1e-6) and not terminated.any() and not truncated.any()
        nearer += reward
    assert nearer == pytest.approx(away[0] - away[-1], abs=1e-6)
    kept = seen["desired_goal"]
    seen = world.reset(np.array([True, False, False]), [9, 0, 0])
    assert (seen["desired_goal"][1:] == kept[1:]).all()


def test_hindsight_rewards_how_much_nearer_another_goal_came():
    world, replay = OwnGoals(Environment("ami/Push-v0", 1), lambda: Replay(10)), remembered([(0, 0), (3, 4), (3, 0)])
    batch = relabel(replay.read(np.array([[1, 0]]), 2), torch.tensor([[3.0, 4.0]]), torch.tensor([True]), world)
    assert batch.reward.tolist() == [[5, -4]] and not batch.terminated.any()


def test_the_seed_draws_the_goal():
    places = np.random.default_rng(0).uniform(-1, 1, (50, 2))
    world = OwnGoals(Environment("ami/Push-v0", 2), lambda: remembered(places))
    first = world.reset(np.ones(2, bool), [1, 2])["desired_goal"]
    assert (world.reset(np.ones(2, bool), [1, 2])["desired_goal"] == first).all()
    assert (world.reset(np.ones(2, bool), [3, 4])["desired_goal"] != first).any()


def test_nothing_of_the_task_gets_through():
    """The same world with other goals, another reward and other ends of its own is learned from alike."""

    class Other(Environment):
        def reset(self, mask=None, seeds=None):
            return self._changed(super().reset(mask, seeds))

        def step(self, action):
            seen, reward, terminated, truncated, info = super().step(action)
            return self._changed(seen), reward + 7, terminated, truncated, info

        def compute_reward(self, achieved, desired, info):
            raise AssertionError("the task was asked")

        def _changed(self, seen):
            return {**seen, "desired_goal": seen["desired_goal"] + 1}

    lived = []
    for kind in (Environment, Other):
        world = OwnGoals(kind("ami/Reach-v0", 2), lambda: Replay(10))
        world.reset(np.ones(2, bool), [1, 2])
        lived.append([world.step(np.full((2, 5), 0.1, np.float32)) for _ in range(5)])
    for (one, r1, *_), (two, r2, *_) in zip(*lived, strict=True):
        assert all((one[name] == two[name]).all() for name in one) and (r1 == r2).all()


def test_an_environment_without_goals_is_refused():
    with pytest.raises(UsageError, match="has no goals"):
        OwnGoals(Environment("Pendulum-v1"), lambda: Replay(10))


def test_what_moved_farther_is_learned_from_more_often():
    replay = Replay(1000)
    for episode, far in enumerate((0.0, 0.1, 0.3), start=1):
        achieved = np.linspace(0, far, 11, dtype=np.float32)[:, None] * np.float32([1, 0])
        senses = {"observation": np.zeros((11, 3), np.float32), "achieved_goal": achieved, "desired_goal": achieved}
        action = np.zeros((10, 2), np.float32)
        replay.add(episode, Episode("x", senses, action, np.zeros(10, np.float32), False, True, None))
    even, drawn = (replay.sample(4000, np.random.default_rng(0), moved=share)[:, 0] for share in (0, 0.5))
    assert np.bincount(even)[1:] / 4000 == pytest.approx([1 / 3] * 3, abs=0.03)
    assert np.bincount(drawn[:2000], minlength=4)[1:] / 2000 == pytest.approx([0, 0.25, 0.75], abs=0.03)
    assert np.bincount(drawn[2000:])[1:] / 2000 == pytest.approx([1 / 3] * 3, abs=0.04)
    moments = replay.sample(4000, np.random.default_rng(1), moved=1.0)
    assert set(moments[:, 1]) == set(range(10)) and replay.read(moments, 3).mask.min() == 0


def test_what_moves_down_in_bytes_has_not_moved_far():
    replay = Replay(100)
    for episode, places in enumerate(([5, 4], [5, 8]), start=1):
        achieved = np.array(places, np.uint8)[:, None]
        senses = {"observation": np.zeros((2, 3), np.float32), "achieved_goal": achieved, "desired_goal": achieved}
        replay.add(episode, Episode("x", senses, np.zeros((1, 2), np.float32), np.zeros(1), False, True, None))
    drawn = replay.sample(4000, np.random.default_rng(0), moved=1.0)[:, 0]
    assert np.bincount(drawn)[1:] / 4000 == pytest.approx([0.25, 0.75], abs=0.03)


def test_where_nothing_moved_moments_are_drawn_evenly():
    replay = remembered(np.zeros((6, 2)))
    assert (replay.sample(50, np.random.default_rng(0), 1.0) == replay.sample(50, np.random.default_rng(0))).all()


def driven(places):
    """A drive that remembers one episode in which these places were achieved."""
    spec = Spec("x", {"observation": (20,), "achieved_goal": (2,), "desired_goal": (2,)}, 5, True, 40)
    brain = Brain(spec, BrainConfig(EncoderConfig(latent=16, width=32)))
    return Drive(brain, remembered(places), 0, StudyConfig(batch=8), LearnerConfig())


def test_the_drive_is_rewarded_for_what_it_moves():
    drive = driven([(0, 0), (0, 0), (3, 4), (3, 4)])
    assert drive.knows_nothing
    batch = drive.read(np.array([[1, 0], [1, 1]]), 3)
    assert batch.reward.tolist() == [[0, 5, 0], [5, 0, 0]] and not batch.terminated.any()
    drive.seed(0)
    assert np.isfinite(list(drive.study(8).values())).all() and drive.brain.updates == 2 and not drive.knows_nothing


def test_the_drive_knows_no_goals():
    brain = driven(np.zeros((3, 2))).brain
    seen = {"observation": np.ones((1, 20), np.float32), "achieved_goal": np.ones((1, 2), np.float32)}
    latents = [brain.perceive({**seen, "desired_goal": np.full((1, 2), goal, np.float32)}) for goal in (0, 1)]
    assert not brain.spec.goals and (latents[0] == latents[1]).all()
