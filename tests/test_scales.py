"""What rewards and values are counted in, as they change; and whether ending costs."""

import pytest
import torch

from ami_agent.brain import Brain, BrainConfig
from ami_agent.perception.encoder import EncoderConfig
from ami_agent.protocols import Spec
from ami_agent.world_model.latent import ModelConfig

SMALL = BrainConfig(EncoderConfig(latent=16, width=32), ModelConfig(width=32))
SPEC = Spec("probe", {"observation": (3,)}, action_size=1, goals=False, max_episode_steps=20)


def test_the_scale_of_values_is_followed_and_critics_go_on_saying_what_they_said():
    model = Brain(SPEC, SMALL).model
    for critic in (*model.critics, *model.targets):
        torch.nn.init.normal_(critic[-1].weight)
    latent, goal = model.encode({"observation": torch.randn(50, 3)}), 500 + 40 * torch.randn(4000)
    before = model.value(latent), model.value(latent, target=True)
    for _ in range(1000):
        model._rescale(goal)
    for value, later in zip(before, (model.value(latent), model.value(latent, target=True)), strict=True):
        torch.testing.assert_close(later, value, rtol=1e-3, atol=1e-2)
    assert model.level == pytest.approx(500, rel=0.01) and model.spread == pytest.approx(40, rel=0.05)
    for _ in range(1000):
        model._rescale(torch.full((9,), 500.0))
    assert model.spread == pytest.approx(1, rel=0.01)  # the size of a reward, although all values are the same


@pytest.mark.parametrize("scale, counted", [(1e-7, True), (1e-2, False), (100.0, False), (1e6, True)])
def test_the_reward_head_counts_in_rewards_where_they_are_of_an_unusual_size(scale, counted):
    """Those that are rare are no smaller for that."""
    model, reward = Brain(SPEC, SMALL).model, torch.zeros(1000)
    reward[:3] = torch.tensor([1.0, -2.0, 3.0])
    for grown in (1, 3):
        model.fit({"observation": torch.randn(1000, 3)}, reward * grown * scale, keep=grown > 1)
        assert model.reward_unit == pytest.approx(2 * scale if counted else 1)


@pytest.mark.parametrize("level, at_the_end, mortal", [(50.0, 1.0, True), (-50.0, 1.0, False), (50.0, 99.0, False)])
def test_ending_costs_where_it_brings_less_than_going_on(level, at_the_end, mortal):
    """Before anything is learned, less than another step."""
    model, reward, terminated = Brain(SPEC, SMALL).model, torch.ones(100), torch.zeros(100)

    def fitted(keep=True):
        model.fit({"observation": torch.randn(100, 3)}, reward, terminated, keep)
        return bool(model.mortal)

    terminated[:2] = 1
    assert not fitted(keep=False)
    reward[:2] = 0.0
    assert fitted(keep=False)
    model.level.fill_(level)
    reward[:2] = at_the_end
    assert fitted() == mortal
    terminated[:2] = 0  # by chance none is among them
    assert fitted() == mortal


def test_the_reward_head_begins_anew_where_rewards_come_to_be_of_another_size():
    """Its unit does not leap to and fro where they are about as small as it takes as they are."""
    model, latent, action = Brain(SPEC, SMALL).model, torch.rand(9, 16), torch.rand(9, 1)

    def fitted(size):
        torch.nn.init.normal_(model.reward_head[-1].weight)
        model.fit({"observation": torch.randn(10, 3)}, torch.full((10,), size), keep=True)
        return float(model.reward_unit), bool(model.reward(latent, action).any())

    assert fitted(3e-9) == (pytest.approx(3e-9), False)
    assert fitted(2.3e-3) == (pytest.approx(2.3e-3), False)
    assert [fitted(size) for size in (1.05e-3, 0.95e-3, 1.0, 0.0)] == [(pytest.approx(2.3e-3), True)] * 4


def test_rewards_of_an_unusual_size_are_told_apart():
    model = Brain(SPEC, SMALL).model
    reward = 1e6 * torch.linspace(-1, 1, 64)
    model.fit({"observation": torch.randn(64, 3)}, reward)
    latent, action = torch.randn(64, 16), torch.zeros(64, 1)
    latent[:, 0] = torch.linspace(-3, 3, 64)
    adam = torch.optim.Adam(model.reward_head.parameters(), 3e-3)
    for _ in range(300):
        adam.zero_grad()
        model.twohot.loss(
            model.reward_head(torch.cat([latent, action], -1)), reward / model.reward_unit
        ).mean().backward()
        adam.step()
    told = model.reward(latent, action)
    assert 1 - (told - reward).square().mean() / reward.var() > 0.9


def test_older_weights_count_values_in_rewards_from_zero():
    old, new = Brain(SPEC, SMALL, seed=1).model, Brain(SPEC, SMALL, seed=2).model
    old.unit.fill_(3.0)
    old.spread.fill_(3.0)
    lacking = ("level", "spread", "reward_unit", "mortal")
    new.load_state_dict({name: value for name, value in old.state_dict().items() if name not in lacking})
    assert new.spread == 3 and new.level == 0 and not new.mortal
