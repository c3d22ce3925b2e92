"""Perceiving in a benchmark: what surprises an agent is asked in pairs of twins, of whoever can tell."""

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch
from test_bench import SMALL, here, timeless

from ami_agent.agent import AmiAgent
from ami_agent.baselines.simple import NoopAgent
from ami_agent.bench import ours, results, runner, sb3
from ami_agent.bench.judge import Interrupted
from ami_agent.bench.suites import ACCURACY, SUITES, Suite, Task
from ami_agent.bench.surprise import discerned
from ami_agent.brain import Brain
from ami_agent.brains import shipped_path
from ami_agent.environment import Environment
from ami_agent.errors import NumericalError
from ami_agent.evaluation.twins import drawn_onset, expert_lives, handled, twins
from ami_agent.signals import Stop

SEEDS = range(1_000_000, 1_000_006)
PUSH = Task("ami/Push-v0", "perceive", 400, 400, metric=ACCURACY, floor=0.5)
TINY = Suite("tiny", "for tests", (PUSH,), episodes=3)


class Felt:
    """Says of its twins what it is told to."""

    def __init__(self, say):
        self.surprise = lambda observation, action, reward: say(reward)


@pytest.fixture(scope="module")
def environment():
    return Environment("ami/Push-v0", len(SEEDS))


def plan(folder, **more):
    return runner.Plan(TINY, folder / "results", folder / "scratch", **more)


def test_who_is_always_as_surprised_is_right_in_a_half(environment):
    told = discerned(environment, Felt(lambda reward: np.ones(reward.shape)), SEEDS, Stop())
    assert told["returns"] == [0.5] * len(told["seeds"]) and set(told["seeds"]) <= set(SEEDS)
    assert {len(values) for values in told.values()} == {len(told["seeds"])} and min(told["lengths"]) > 0


def test_the_share_is_of_each_episodes_own_pairs(environment):
    told = discerned(environment, NoopAgent(5), SEEDS, Stop())
    lives = expert_lives(environment, SEEDS)
    onset = drawn_onset(handled("ami/Push-v0", lives), SEEDS.start)
    wins = {seed: [] for seed in SEEDS}
    for two in twins(environment, SEEDS, lives, onset):
        for i in np.flatnonzero(two.pair):
            when, most = slice(onset[i], onset[i] + two.length[i]), []
            for one in (two.impossible, two.possible):
                senses = np.concatenate([one.senses[name][:, i] for name in one.senses], axis=-1)
                most.append(np.sqrt(np.square(np.diff(senses, axis=0)).mean(-1))[when].max())
            wins[SEEDS[i]].append((np.sign(most[0] - most[1]) + 1) / 2)
    assert told["returns"] == pytest.approx([np.mean(wins[seed]) for seed in told["seeds"]])
    assert all(wins[seed] for seed in told["seeds"]) and 0.5 < np.mean(told["returns"]) < 1


def test_a_model_that_learned_tells_more_than_one_that_did_not(environment):
    brain = Brain.load(shipped_path("ami/Push-v0"))
    fresh = Brain(brain.spec, brain.config)
    learned, untaught = (np.mean(discerned(environment, AmiAgent(b), SEEDS, Stop())["returns"]) for b in (brain, fresh))
    assert learned > 0.8 > 0.7 > untaught


def test_what_is_no_surprise_is_refused_and_a_signal_stops_it(environment):
    for say in (lambda reward: np.full(reward.shape, np.nan), lambda reward: reward[0]):
        with pytest.raises(NumericalError, match="finite numbers, a step and world each"):
            discerned(environment, Felt(say), SEEDS, Stop())
    stop = Stop()
    stop.requested = True
    with pytest.raises(Interrupted):
        discerned(environment, NoopAgent(5), SEEDS, stop)


def test_a_piece_is_asked_what_surprises_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ours, "ours", lambda task: SMALL)
    monkeypatch.setitem(SUITES, "tiny", TINY)
    short = plan(tmp_path, cpu_seconds=1e-3)
    for agent, points in (("noop", 1), ("ours", 2), ("sac", 2), ("ppo", 2)):
        made = plan(tmp_path) if agent == "ours" else short
        facts = here(made, agent, PUSH)
        assert facts["status"] == "done", facts["reason"]
        assert len(facts["points"]) == points and "films" not in facts and "prior" not in facts["points"][-1]
        piece = results.read(made.path(agent, PUSH, 0))
        assert piece.task.name == "ami/Push-v0 violations" and 0 <= piece.value() <= 1
        assert piece.score() == pytest.approx(2 * piece.value() - 1)
    again = here(plan(tmp_path / "again", cpu_seconds=1e-3), "noop", PUSH)
    assert timeless(again["points"]) == timeless(here(plan(tmp_path / "third"), "noop", PUSH)["points"])
    assert not runner.to_do(plan(tmp_path), ["random", "oracle"], [PUSH], [0]).left
    assert (
        "random is left out of ami/Push-v0 violations: it cannot be asked what surprises it" in capsys.readouterr().err
    )


@pytest.mark.parametrize("algorithm", ["SAC", "TD3", "PPO"])
def test_a_critic_is_surprised_by_its_error_of_temporal_differences(algorithm):
    model = getattr(stable_baselines3, algorithm)("MlpPolicy", gym.make("Pendulum-v1"), device="cpu", seed=0)
    rng = np.random.default_rng(0)
    seen, action = rng.normal(size=(4, 2, 3)).astype(np.float32), rng.uniform(-1, 1, (3, 2, 1)).astype(np.float32)
    reward = rng.normal(size=(3, 2))

    def value(state, act=None):
        state = torch.from_numpy(state[None])
        with torch.no_grad():
            if algorithm == "PPO":
                return float(model.policy.predict_values(state))
            act = model.policy._predict(state, deterministic=True) if act is None else torch.from_numpy(act[None])
            return min(float(q) for q in model.critic(state, act))

    right = [
        [abs(reward[t, b] + 0.99 * value(seen[t + 1, b]) - value(seen[t, b], action[t, b])) for b in (0, 1)]
        for t in range(3)
    ]
    told = sb3.Policy(model).surprise({"observation": seen}, action, reward)
    np.testing.assert_allclose(told, right, rtol=1e-4, atol=1e-5)
