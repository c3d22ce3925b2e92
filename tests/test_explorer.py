"""Exploring: noise of the right kind, the same for a seed, an amount of its own for every episode."""

import numpy as np
import pytest

from ami_agent.agent import AmiAgent
from ami_agent.brain import Brain, BrainConfig
from ami_agent.learning.explorer import MOST_NOISE, Explorer, pink
from ami_agent.perception.encoder import EncoderConfig
from ami_agent.protocols import Spec
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
