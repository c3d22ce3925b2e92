"""The planner against problems whose answer is known, and against the known defects of others' planners."""

import numpy as np
import pytest
import torch

from ami_agent.cost.objectives import Return
from ami_agent.errors import UsageError
from ami_agent.planning.cem import CEM, LOST, CEMConfig, imagine, shifted
from ami_agent.planning.noise import ROWS, Noise, coloured

GENEROUS = CEMConfig(horizon=5, samples=256, iterations=8, elites=24, spread=0.6, colour=0.0, temperature=0.5)


class Integrator:
    """latent' = latent + action / 10: where a plan leads is known exactly."""

    def predict(self, latent, action):
        return latent + 0.1 * action

    def encode(self, observation):
        return observation["observation"]

    def loss(self, batch, generator):
        raise NotImplementedError


def reach(target):
    """Squared distance of the plan's end from target (D,)."""
    return lambda latents, actions: (latents[:, :, -1] - target).square().sum(-1)


def plan(config, target, latent=None, seeds=(0,), **extra):
    latent = torch.zeros(len(seeds), len(target)) if latent is None else latent
    start = extra.pop("start", torch.zeros(len(latent), config.horizon, latent.shape[1]))
    return CEM(config).plan(Integrator(), latent, reach(target), torch.tensor(seeds), start=start, **extra)


def test_finds_the_plan_that_leads_to_the_target():
    target = torch.tensor([0.3, -0.2])
    actions = plan(GENEROUS, target)
    assert actions.shape == (1, 5, 2)
    assert torch.allclose(imagine(Integrator(), torch.zeros(1, 2), actions[:, None])[0, 0, -1], target, atol=0.02)


def test_actions_stay_inside_the_box_when_the_target_is_out_of_reach():
    actions = plan(GENEROUS, torch.tensor([9.0, -9.0]))
    assert actions.abs().max() <= 1.0
    assert actions[0, :, 0].min() > 0.9 and actions[0, :, 1].max() < -0.9


@pytest.mark.parametrize("horizon", [1, 2, 7])
def test_every_horizon_works(horizon):
    config = CEMConfig(horizon=horizon, samples=64, iterations=3, elites=8)
    assert plan(config, torch.tensor([0.05, 0.0])).shape == (1, horizon, 2)


def test_same_seed_same_plan_whatever_else_is_in_the_batch():
    target = torch.tensor([0.3, -0.2])
    one = plan(GENEROUS, target, torch.full((1, 2), 0.1), seeds=[7])
    both = plan(GENEROUS, target, torch.tensor([[0.4, 0.4], [0.1, 0.1]]), seeds=[3, 7])
    assert torch.allclose(one[0], both[1], atol=1e-6)
    assert not torch.allclose(one, plan(GENEROUS, target, torch.full((1, 2), 0.1), seeds=[8]))


def test_a_good_proposal_is_found_even_with_hardly_any_samples():
    target = torch.tensor([0.5, 0.5])
    poor = CEMConfig(horizon=5, samples=2, iterations=2, elites=2, spread=0.01)
    proposal = torch.ones(1, 1, 5, 2)
    without = plan(poor, target)
    given = plan(poor, target, proposals=torch.cat([torch.zeros(1, 1, 5, 2), proposal], 1))
    assert given.mean() > 0.8 > without.mean()


def test_warm_start_pays_with_few_iterations():
    target = torch.tensor([0.45, -0.45])
    frugal = CEMConfig(horizon=5, samples=32, iterations=1, elites=4, spread=0.1)

    def gap(actions):
        return (imagine(Integrator(), torch.zeros(1, 2), actions[:, None])[0, 0, -1] - target).norm()

    assert gap(plan(frugal, target, start=0.9 * torch.tensor([1.0, -1.0]).expand(1, 5, 2))) < gap(plan(frugal, target))


def test_shifting_drops_what_was_done_and_holds_the_last():
    actions = torch.arange(4.0).view(1, 4, 1)
    assert shifted(actions).flatten().tolist() == [1, 2, 3, 3]
    assert shifted(actions, 4).flatten().tolist() == [3, 3, 3, 3]


@pytest.mark.parametrize("good", [0, 1, 3, 6, 200])
def test_costs_that_are_not_numbers_lose(good):
    def objective(latents, actions):
        cost = reach(torch.tensor([0.2, 0.2]))(latents, actions)
        return torch.where(torch.arange(cost.shape[1]) < good, cost, torch.nan)

    start = torch.zeros(1, 5, 2)
    actions = CEM(GENEROUS).plan(Integrator(), torch.zeros(1, 2), objective, torch.tensor([0]), start=start)
    assert torch.isfinite(actions).all()


def test_a_lost_elite_has_no_share_and_leaves_those_of_the_others():
    cem, costs = CEM(), torch.arange(7.0)
    alone = cem._shares(costs[None])
    shares = cem._shares(torch.cat([costs, torch.tensor([LOST])])[None])
    assert torch.allclose(shares[0, :7], alone[0]) and shares[0, 7] == 0 and (alone[0, :-1] > 2 * alone[0, 1:]).all()
    assert torch.allclose(cem._shares(torch.full((1, 4), LOST)), torch.full((1, 4), 0.25)), "all lost: all alike"


def test_noise_is_a_function_of_its_seed_alone():
    noise = Noise(3, 0.5)
    both = noise.draw(torch.tensor([3, 7]), 2, 64)
    assert both.shape == (2, 2, 64, 3) and torch.equal(both[1:], noise.draw(torch.tensor([7]), 2, 64))
    assert not torch.equal(both[0], both[1]) and not torch.equal(both[0], noise.draw(torch.tensor([4]), 2, 64)[0])


def test_noise_is_normal_and_seeds_next_to_each_other_share_none():
    drawn = Noise(3).draw(torch.arange(50), 2000).double()
    assert abs(drawn.mean()) < 0.01 and abs(drawn.std() - 1) < 0.01 and abs(drawn.pow(4).mean() - 3) < 0.1
    first = drawn[:5].flatten(1)
    assert (torch.corrcoef(first) - torch.eye(5)).abs().max() < 0.1


def test_seeds_differ_however_much_is_drawn_and_what_was_drawn_before_stays():
    """By a draw as large as the usual table, or by any other."""
    noise, seeds = Noise(100), torch.tensor([3, 4, 8])
    for count in (64, ROWS // 2, ROWS, ROWS + 1):
        before = noise.draw(seeds, 64)
        drawn = noise.draw(seeds, count)
        assert drawn.shape == (3, count, 100) and (torch.corrcoef(drawn[:, :64].flatten(1)) < 0.5).sum() == 6
        flat = drawn[:, :, 0]
        shared = [torch.isin(flat[i], flat[j]).float().mean() for i, j in ((0, 1), (0, 2), (1, 2))]
        assert max(shared) < 0.5
        assert torch.equal(before, noise.draw(seeds, 64))


def test_what_is_judged_stays_judged():
    """Proposals and kept elites are compared again in later rounds, but imagined only once."""
    judged = []

    def objective(latents, actions):
        judged.append(actions.shape[1])
        return reach(torch.tensor([0.3, -0.2]))(latents, actions)

    config = CEMConfig(horizon=5, samples=16, iterations=3, elites=4, kept=2)
    start, proposals = torch.zeros(1, 5, 2), torch.zeros(1, 6, 5, 2)
    CEM(config).plan(Integrator(), torch.zeros(1, 2), objective, torch.tensor([0]), start, proposals)
    assert judged == [16 + 1 + 6, 17, 17]


def test_coloured_noise_has_unit_variance_and_more_slow_parts():
    white, red = coloured(16, 0.0), coloured(16, 2.0)
    assert torch.allclose(white @ white.T, torch.eye(16), atol=1e-5)
    assert torch.allclose((red @ red.T).diagonal(), torch.ones(16), atol=1e-5)
    assert (red @ red.T)[7, 8] > 0.5 > (white @ white.T)[7, 8]


@pytest.mark.parametrize("wrong", [{"horizon": 0}, {"samples": 0}, {"elites": 99}, {"kept": 9, "elites": 8}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(UsageError):
        CEMConfig(**wrong)


class Judge:
    """Reward 1 a step, value 10, and an end of known probability."""

    def __init__(self, end):
        self.end = end

    def reward(self, latent, action):
        return torch.ones(action.shape[:-1])

    def termination(self, latent):
        return torch.full(latent.shape[:-1], self.end)

    def value(self, latent):
        return torch.full(latent.shape[:-1], 10.0)


@pytest.mark.parametrize(("end", "expected"), [(0.0, 1 + 0.9 + 0.81 * 10), (1.0, 1.0), (0.5, 1 + 0.45 + 0.2025 * 10)])
def test_return_counts_what_comes_after_an_end_by_its_probability(end, expected):
    cost = Return(Judge(end), 0.9)(torch.zeros(1, 1, 3, 4), torch.zeros(1, 1, 2, 2))
    np.testing.assert_allclose(cost.item(), -expected, rtol=1e-6)


def test_a_return_near_a_plan_costs_more_the_further_one_goes():
    class Flat:
        """Nothing is worth anything."""

        def reward(self, latent, action):
            return action.new_zeros(action.shape[:-1])

        def termination(self, latent):
            return latent.new_zeros(latent.shape[:-1])

        value = termination

    plan = torch.tensor([[[0.5, -0.5]]])  # (B=1, T=1, A=2)
    actions = torch.tensor([[[[0.5, -0.5]], [[0.5, 0.5]], [[-0.5, 0.5]]]])
    cost = Return(Flat(), 0.9).near(plan, torch.tensor(4.0))(torch.zeros(1, 3, 2, 2), actions)
    assert cost.tolist() == [[0.0, 2.0, 4.0]]  # 4 x the mean over time and action
