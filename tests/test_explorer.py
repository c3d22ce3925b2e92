"""Exploring: noise of the right kind, the same for a seed, an amount of its own for every episode."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from ami_agent.agent import AmiAgent
from ami_agent.brain import Brain, BrainConfig
from ami_agent.learning.drive import Curiosity
from ami_agent.learning.explorer import LONGEST, MOST_NOISE, Explorer, Turns, held, pink
from ami_agent.learning.learner import Learner, LearnerConfig
from ami_agent.learning.student import Student, StudyConfig
from ami_agent.memory.replay import Replay
from ami_agent.perception.encoder import EncoderConfig
from ami_agent.protocols import Episode, Spec
from ami_agent.world_model.latent import ModelConfig

SPEC = Spec("x", {"observation": (3,)}, 2, False, 40)
SMALL = BrainConfig(EncoderConfig(latent=16, width=32), ModelConfig(width=32))


def explore(steps, worlds=4, random=False, plan=False):
    brain = Brain(SPEC, SMALL)
    explorer = Explorer(brain, np.random.default_rng(0), AmiAgent(brain) if plan else None)
    explorer.random = random
    explorer.reset(np.ones(worlds, bool))
    seen = {"observation": np.zeros((worlds, 3), np.float32)}
    return np.stack([explorer.act(seen) for _ in range(steps)], 1)


def test_pink_noise_has_unit_variance_and_power_that_falls_with_frequency():
    noise = pink(np.random.default_rng(0).standard_normal((4000, 64, 1)))[:, :, 0]
    assert noise.var() == pytest.approx(1, rel=0.03)
    power = np.square(np.abs(np.fft.rfft(noise, axis=1))).mean(0)
    assert power[1] / power[8] == pytest.approx(8, rel=0.15) and power[2] / power[16] == pytest.approx(8, rel=0.15)
    assert pink(np.ones((2, 1, 3))).tolist() == np.ones((2, 1, 3)).tolist()


def test_random_actions_are_uniform_and_hold_on_in_every_other_episode():
    actions = explore(40, worlds=500, random=True)
    assert actions.dtype == np.float32 and np.abs(actions).max() <= 1
    assert actions.var() == pytest.approx(1 / 3, rel=0.05)
    alike = (actions[:, 1:] * actions[:, :-1]).mean((1, 2))
    assert 0.4 < (alike > 0.1).mean() < 0.6 and alike.min() < 0


@pytest.mark.parametrize("plan", [False, True])
def test_the_same_seed_explores_alike_and_episodes_differ_in_their_noise(plan):
    one, two = explore(6, plan=plan), explore(6, plan=plan)
    assert (one == two).all() and np.abs(one).max() <= 1
    assert len(np.unique(one[:, 0, 0])) == 4
    explorer = Explorer(Brain(SPEC, SMALL), np.random.default_rng(0))
    explorer.reset(np.ones(1000, bool))
    assert explorer._amount.min() < 0.01 and 0.98 * MOST_NOISE < explorer._amount.max() <= MOST_NOISE


def test_an_episode_longer_than_expected_goes_on():
    assert np.isfinite(explore(90, random=True)).all()


def test_in_every_other_episode_parts_of_the_action_are_held_now_and_then():
    values = held(np.random.default_rng(0), 400, 100, 4)
    kept = ~np.isnan(values)
    assert 0.4 < kept.any((1, 2)).mean() < 0.6 and 0.05 < kept.mean() < 0.1
    assert np.abs(values[kept]).max() <= 1
    longest = [len(list(run)) for on, run in itertools.groupby(kept[:, :, 0].ravel()) if on]
    assert 3 < np.mean(longest) < LONGEST  # some go on where one ends
    same = values[:, 1:][kept[:, 1:] & kept[:, :-1]] == values[:, :-1][kept[:, 1:] & kept[:, :-1]]
    assert same.mean() > 0.95


@pytest.mark.parametrize("goals", [True, False])
def test_where_there_are_goals_what_is_held_is_done_whatever_the_agent_would_do(goals):
    explorer = Explorer(Brain(replace(SPEC, goals=goals), SMALL), np.random.default_rng(0))
    explorer.reset(np.ones(200, bool))
    seen = {"observation": np.zeros((200, 3), np.float32)}
    actions, fixed = np.stack([explorer.act(seen) for _ in range(40)], 1), explorer._held
    there = ~np.isnan(fixed)
    assert there.any() == goals and (actions[there] == fixed[there]).all() and np.isfinite(actions).all()


class Says:
    """An agent whose actions are all the same."""

    def __init__(self, what):
        self.what, self.begun, self.acted = what, 0, 0

    def reset(self, done):
        self.begun += int(done.sum())

    def act(self, observation):
        self.acted += 1
        return np.full((len(observation["observation"]), 2), self.what, np.float32)


def test_turns_are_taken_by_episode():
    agents = [Says(0), Says(1)]
    numbers = np.random.default_rng(0)
    turns = Turns(agents, lambda n: numbers.integers(2, size=n))
    turns.reset(np.ones(1000, bool))
    seen = {"observation": np.zeros((1000, 3), np.float32)}
    first = turns.act(seen)
    assert 0.45 < first.mean() < 0.55 and (first[:, 0] == first[:, 1]).all() and (turns.act(seen) == first).all()
    turns.reset(np.arange(1000) < 500)
    later = turns.act(seen)
    assert (later[500:] == first[500:]).all() and 0.4 < (later[:500] == first[:500]).mean() < 0.6
    assert [agent.begun for agent in agents] == [1500, 1500]


def test_who_has_no_turn_does_not_think():
    agents = [Says(0), Says(1)]
    turns = Turns(agents, lambda n: np.ones(n, int))
    turns.reset(np.ones(3, bool))
    assert turns.act({"observation": np.zeros((3, 3), np.float32)}).all()
    assert [agent.acted for agent in agents] == [0, 1] and [agent.begun for agent in agents] == [3, 3]


def lived(rewards, terminated=False, goals=False, updates=1, capacity=1000):
    """A student who remembers one episode with these rewards."""
    spec = Spec("x", {"observation": (3,)}, 2, goals, 40)
    student = Student(None, Learner(Brain(spec, SMALL)), Replay(capacity), StudyConfig())
    student.brain.updates = updates
    senses = {"observation": np.zeros((len(rewards) + 1, 3), np.float32)}
    action = np.zeros((len(rewards), 2), np.float32)
    student.take(1, Episode("x", senses, action, np.float32(rewards), terminated, not terminated, None))
    return student


def test_actions_stay_random_until_something_was_better_than_something_else():
    assert lived([0, 1], updates=0).knows_nothing
    assert lived([-1, -1, -1]).knows_nothing
    assert not lived([0, 0, 1]).knows_nothing
    assert not lived([-1, -1], terminated=True).knows_nothing  # that it ended tells something
    assert not lived([-1, -1], goals=True).knows_nothing  # hindsight tells something


def test_curiosity_is_rewarded_for_what_is_unlike_the_rest():
    senses, student = np.zeros((5001, 3), np.float32), lived([0])
    senses[40:400] = [0, 1, 0]
    senses[700] = [0, 3, 0]  # once only
    replay, action = Replay(10_000), np.zeros((5000, 2), np.float32)
    replay.add(1, Episode("x", {"observation": senses}, action, np.zeros(5000), False, True, None))
    curious = Curiosity(student.brain, replay, 0, StudyConfig(batch=8), LearnerConfig())
    curious.seed(0)
    assert curious.knows_nothing
    curious.study(4)
    reward = curious.read(np.array([[1, 10], [1, 50], [1, 699]]), 1).reward[:, 0]
    assert reward[0] == reward[1] == 0 and reward[2] > 1 and not curious.knows_nothing


@pytest.mark.parametrize("scale", [0.01, 50.0])
def test_scales_follow_experience_and_what_was_learned_keeps_its_meaning(scale):
    torch.manual_seed(0)
    model = Brain(SPEC, SMALL).model
    for critic in (*model.critics, *model.targets):
        torch.nn.init.normal_(critic[-1].weight)
    model.fit({"observation": torch.randn(200, 3)}, torch.rand(200))
    seen = {"observation": torch.randn(5, 3)}
    latent = model.encode(seen)
    value, target = model.value(latent), model.value(latent, target=True)
    model.fit({"observation": 3 * torch.randn(200, 3) + 1}, scale * torch.rand(200), keep=True)
    assert model.unit == pytest.approx(scale / 2, rel=0.2)
    torch.testing.assert_close(model.value(latent), value, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model.value(latent, target=True), target, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("capacity", [1000, 101])
def test_scales_are_set_again_before_experience_has_changed_much(capacity):
    """Where no more is kept, too."""
    student, numbers = lived([0.0] * 100, capacity=capacity), np.random.default_rng(0)
    student.seed(0)
    fitted = []
    for number in range(2, 6):
        student.study(0)
        fitted.append(student.fitted)
        senses = {"observation": numbers.standard_normal((5, 3)).astype(np.float32)}
        student.take(number, Episode("x", senses, np.zeros((4, 2)), np.zeros(4), False, True, None))
    assert fitted == [100, 100, 108, 108]
    spread = student.brain.model.encoder.normalise["observation"].std
    assert 0 < spread.max() < 1
