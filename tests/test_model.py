"""The world model: worked cases, and probes that must be learned."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from ami_agent.brain import Brain, BrainConfig, discount_for
from ami_agent.errors import ArtefactError, NumericalError, UsageError
from ami_agent.learning.hindsight import relabel
from ami_agent.learning.learner import MAX_SKIPPED, Learner, LearnerConfig
from ami_agent.perception.encoder import EncoderConfig
from ami_agent.protocols import Batch, Spec
from ami_agent.world_model.latent import ModelConfig
from ami_agent.world_model.twohot import TwoHot, symexp, symlog

SMALL = BrainConfig(EncoderConfig(latent=16, width=32), ModelConfig(width=32))
SPEC = Spec("probe", {"observation": (3,)}, action_size=1, goals=False, max_episode_steps=20)


def batch_of(observation, action, reward, terminated=None, mask=None):
    shape = reward.shape
    return Batch(
        {"observation": observation},
        action,
        reward,
        torch.zeros(shape) if terminated is None else terminated,
        torch.ones(shape) if mask is None else mask,
    )


def test_two_hot_returns_what_it_was_given():
    twohot = TwoHot()
    values = torch.tensor([-900.0, -3.2, 0.0, 0.05, 41.0])
    assert torch.allclose(symexp(symlog(values)), values, rtol=1e-4, atol=1e-5)
    logits = torch.zeros(5, 101, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.3)
    for _ in range(300):
        optimiser.zero_grad()
        twohot.loss(logits, values).sum().backward()
        optimiser.step()
    assert torch.allclose(twohot.decode(logits), values, rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    "config, wrong",
    [
        (EncoderConfig, {"group": 0}), (EncoderConfig, {"group": -8}), (EncoderConfig, {"width": -3}),
        (LearnerConfig, {"clip": math.nan}), (LearnerConfig, {"clip": 0.0}), (LearnerConfig, {"rate": math.nan}),
        (ModelConfig, {"bins": 1}), (ModelConfig, {"entropy": math.nan}), (ModelConfig, {"target_rate": 2.0}),
    ],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused_by_name(config, wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        config(**wrong)


@pytest.mark.parametrize("unroll", [1, 2])
def test_targets_worked_by_hand(unroll):
    """Rewards to the window's end; nothing after a termination; the last moment's value where an episode was cut; but
    no less than what the next moment is worth."""
    brain = Brain(SPEC, replace(SMALL, model=replace(SMALL.model, unroll=unroll)))
    model, gamma = brain.model, brain.model.discount
    model.value = lambda latent, action=None, target=False: latent[..., 0]
    reward = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 0.0], [1.0, 2.0, 0.0]])
    terminated = torch.tensor([[0.0, 0, 0], [0, 1, 0], [0, 0, 0]])
    mask = torch.tensor([[1.0, 1, 1], [1, 1, 0], [1, 1, 0]])
    batch = batch_of(torch.zeros(3, 4, 3), torch.zeros(3, 3, 1), reward, terminated, mask)
    for next_worth in (0.0, 50.0):
        seen = torch.full((3, 3, 16), 7.0)
        seen[:, 0] = next_worth
        goal = model._targets(batch, seen, torch.Generator())
        lived = [1 + gamma * (2 + gamma * (3 + gamma * 7)), 1 + gamma * 2, 1 + gamma * (2 + gamma * 7)]
        expected = lived if next_worth == 0 else [1 + gamma * 50] * 3
        assert goal.shape == (3, unroll)
        np.testing.assert_allclose(goal[:, 0].numpy(), expected, rtol=1e-5)
        if unroll == 2:
            np.testing.assert_allclose(goal[:, 1].numpy(), [2 + gamma * (3 + gamma * 7), 2, 2 + gamma * 7], rtol=1e-5)


def test_a_value_counts_as_far_as_imagination_bears_it_out_where_ending_costs():
    free, model, latent = Brain(SPEC, SMALL).model, Brain(SPEC, SMALL).model, torch.rand(64, 2, 16)
    torch.nn.init.normal_(model.targets[0][-1].weight)
    model.level.fill_(50.0)
    free.load_state_dict(model.state_dict())
    model.mortal.fill_(True)

    def values(of):
        return of._expanded(latent, torch.Generator().manual_seed(0))

    def end(logit):
        model.end_head[-1].weight.data.zero_()
        model.end_head[-1].bias.data.fill_(logit)

    noise = torch.randn(64, 1, 1, generator=torch.Generator().manual_seed(0)).expand(-1, 2, -1)
    action = free.act(latent, noise)
    said = free.value(latent, action, target=True)
    torch.testing.assert_close(values(free), said, rtol=0, atol=0)
    end(-50.0)
    assert (values(model) <= said).all() and (values(model) < said).any() and (values(model) > 20).all()
    end(50.0)  # the first step ends it, in imagination: all that is left is its reward
    torch.testing.assert_close(values(model), model.reward(latent, action))


@pytest.mark.parametrize("window, unroll, steps", [(1, 1, 1), (1, 3, 1), (3, 1, 1), (3, 3, 3)])
def test_the_loss_tells_what_the_lived_actions_are_worth_in_the_imagined_latents(window, unroll, steps):
    """The policy loss takes them from there; a window may be as short as one step."""
    model = Brain(SPEC, replace(SMALL, model=replace(SMALL.model, unroll=unroll))).model
    for critic in model.critics:
        torch.nn.init.normal_(critic[-1].weight)
    batch = batch_of(torch.randn(5, window + 1, 3), torch.rand(5, window, 1), torch.rand(5, window))
    loss, told = model.loss(batch, torch.Generator())
    assert loss.isfinite() and told["latents"].shape == (5, steps + 1, 16)
    x = torch.cat([told["latents"][:, :-1], batch.action[:, :steps]], -1)
    values = model.level + model.spread * torch.cat([critic(x) for critic in model.critics], -1)
    torch.testing.assert_close(told["lived"], values.mean(-1).detach())


def learn(brain, make, updates):
    learner, generator = Learner(brain), torch.Generator().manual_seed(0)
    first = make()
    brain.model.fit({name: value[:, 0] for name, value in first.observation.items()}, first.reward.flatten())
    for _ in range(updates):
        losses = learner.update(make(), generator)
    return losses


def test_a_predictable_world_is_predicted_and_a_choice_is_learned():
    """One-step world: the reward is 1 - (action - sign)^2. The policy must learn the sign that is seen."""
    torch.manual_seed(0)
    brain = Brain(SPEC, SMALL)

    def make():
        observation = torch.randn(128, 2, 3).sign()
        action = torch.rand(128, 1, 1) * 2 - 1
        reward = 1 - (action[..., 0] - 0.8 * observation[:, :1, 0]).square()
        return batch_of(observation, action, reward, terminated=torch.ones(128, 1))

    learn(brain, make, 600)
    with torch.no_grad():
        seen = torch.tensor([[1.0, 1, 1], [-1.0, 1, 1]])
        latent = brain.model.encode({"observation": seen})
        action = brain.model.act(latent)
        assert abs(action[0, 0] - 0.8) < 0.15 and abs(action[1, 0] + 0.8) < 0.15
        right, wrong = brain.model.reward(latent, action), brain.model.reward(latent, -action)
        assert (right > 0.5).all() and (wrong < -0.5).all()  # 1 and -1.56
        assert torch.allclose(brain.model.value(latent, action), torch.ones(2), atol=0.25)
        assert (brain.model.termination(brain.model.predict(latent, action)) > 0.9).all()


def test_the_latent_does_not_collapse():
    """Learned from prediction of random walks, the latent still tells states apart: effective rank well above 1."""
    torch.manual_seed(0)
    brain = Brain(SPEC, SMALL)

    def make():
        action = torch.rand(128, 3, 1) * 2 - 1
        steps = torch.cat([torch.randn(128, 1, 3), torch.cat([action, 0 * action, -action], -1)], 1)
        return batch_of(steps.cumsum(1), action, torch.zeros(128, 3))

    losses = learn(brain, make, 300)
    with torch.no_grad():
        latent = brain.model.encode({"observation": torch.randn(512, 3)})
        share = torch.linalg.svdvals(latent - latent.mean(0))
        share = share / share.sum()
    assert torch.exp(-(share * share.log()).sum()) > 3
    assert losses["inverse"] < 0.1 < 1 / 3  # a third is what guessing costs


def test_numbers_that_are_not_finite_stop_learning_with_the_last_good_weights():
    brain = Brain(SPEC, SMALL)
    learner, generator = Learner(brain), torch.Generator()
    before = {name: value.clone() for name, value in brain.model.state_dict().items()}
    bad = batch_of(torch.zeros(4, 2, 3), torch.zeros(4, 1, 1), torch.full((4, 1), torch.nan))
    with pytest.raises(NumericalError, match=f"{MAX_SKIPPED} times"):
        for _ in range(MAX_SKIPPED):
            learner.update(bad, generator)
    assert all(torch.equal(before[name], value) for name, value in brain.model.state_dict().items())


class Line:
    """A goal is reached within 1 of it; the reward is minus the distance."""

    def compute_reward(self, achieved, desired, info):
        return -np.abs(achieved - desired)[:, 0]

    def compute_terminated(self, achieved, desired, info):
        return np.abs(achieved - desired)[:, 0] < 1


def test_hindsight_worked_by_hand():
    places = torch.tensor([[[0.0], [2], [4], [6]], [[0.0], [2], [4], [6]], [[4.0], [4], [4], [4]]])
    observation = {
        "observation": places,
        "achieved_goal": places,
        "desired_goal": torch.full((3, 4, 1), 100.0),
    }
    batch = Batch(observation, torch.zeros(3, 3, 1), torch.full((3, 3), -9.0), torch.zeros(3, 3), torch.ones(3, 3))
    result = relabel(batch, torch.full((3, 1), 4.0), torch.tensor([True, False, True]), Line())
    assert result.observation["desired_goal"][:, 0, 0].tolist() == [4.0, 100.0, 100.0]  # the third was there already
    assert result.reward[0].tolist() == [-2.0, 0.0, -2.0] and result.reward[1].tolist() == [-9.0] * 3
    assert result.terminated.tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert result.mask.tolist() == [[1, 1, 0], [1, 1, 1], [1, 1, 1]]
    assert batch.reward[0].tolist() == [-9.0] * 3, "the batch itself is left alone"


def test_a_brain_comes_back_as_it_was_saved(tmp_path):
    brain = Brain(SPEC, SMALL, seed=3)
    brain.steps = 5
    brain.save(tmp_path / "b.safetensors", command="x")
    again = Brain.load(tmp_path / "b.safetensors")
    assert again.spec == SPEC and again.config == SMALL and again.steps == 5
    assert again.encoder_id() == brain.encoder_id()
    state = again.model.state_dict()
    critics = brain.model.critics.state_dict()
    assert all(torch.equal(state[f"targets.{name}"], value) for name, value in critics.items())
    brain.save(tmp_path / "half.safetensors", half=True)
    assert (tmp_path / "half.safetensors").stat().st_size < (tmp_path / "b.safetensors").stat().st_size
    Brain.load(tmp_path / "half.safetensors")


def test_weights_of_another_environment_are_refused():
    other = Spec("other", {"observation": (4,)}, 1, False, 20)
    with pytest.raises(ArtefactError, match="learned with senses"):
        Brain(SPEC, SMALL).check_fits(other)


def test_the_same_seed_gives_the_same_brain():
    one, two, other = Brain(SPEC, SMALL, 1), Brain(SPEC, SMALL, 1), Brain(SPEC, SMALL, 2)
    assert one.encoder_id() == two.encoder_id() != other.encoder_id()


def test_discount_looks_a_third_of_an_episode_ahead():
    assert discount_for(50) == 0.95 and discount_for(200) == pytest.approx(0.985) and discount_for(10**6) == 0.995


def test_what_is_followed_passes_over_what_is_no_number():
    model = Brain(SPEC, SMALL).model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model._rescale(torch.tensor([0.0, 3e38, -3e38, torch.inf]))
    generator = torch.Generator().manual_seed(0)
    model.policy_loss(torch.rand(4, 4, 16), torch.full((4, 3), torch.nan), torch.full((4, 3), 1 / 12), generator)
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


def test_the_policy_prior_climbs_both_critics_not_the_lower_alone():
    model = Brain(SPEC, SMALL).model
    for critic in model.critics:
        torch.nn.init.normal_(critic[-1].weight)
    latents, lived, weight = torch.rand(4, 4, 16), torch.rand(4, 3), torch.full((4, 3), 1 / 12)

    def slope(low, high):
        """Of the loss, where one critic is far below the other."""
        model.critics[low][-1].bias.data.fill_(-50.0)
        model.critics[high][-1].bias.data.fill_(50.0)
        model.scale.fill_(1.0)
        loss = model.policy_loss(latents, lived, weight, torch.Generator().manual_seed(0))
        return torch.autograd.grad(loss, model.policy[-1].weight)[0]

    torch.testing.assert_close(slope(0, 1), slope(1, 0), rtol=1e-3, atol=1e-6)


def test_the_priors_mean_before_tanh_is_held_back_where_it_is_far():
    model = Brain(SPEC, SMALL).model
    torch.nn.init.normal_(model.policy[-1].weight)
    latents, lived, weight = torch.rand(4, 4, 16), torch.rand(4, 3), torch.full((4, 3), 1 / 12)
    beyond = (model.policy(latents[:, :-1])[..., :1].abs() - 2).clamp(min=0)

    def loss(saturation):
        model.config = replace(model.config, saturation=saturation)
        model.scale.fill_(1.0)
        return model.policy_loss(latents, lived, weight, torch.Generator().manual_seed(0))

    torch.testing.assert_close(loss(0.5) - loss(0.0), 0.5 * beyond.square().mean(), rtol=1e-4, atol=1e-6)
    assert 0 < (beyond > 0).float().mean() < 1
