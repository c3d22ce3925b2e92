"""Stable-Baselines3 in a benchmark: the world that it learns in, what it is told, and what it says of itself."""

import gymnasium as gym
import pytest
import stable_baselines3

from ami_agent.bench import sb3
from ami_agent.environment import find, make


def test_what_sb3_learns_in_is_new_in_each_episode():
    world = sb3.Anew(make(find("ami/Recall-v0"), {}), iter(range(7, 99)))
    sessions = {world.reset()[1]["session"] for _ in range(4)}
    assert len(sessions) == 4
    assert sb3.settings("sac-her")["copy_info_dict"] and "action_noise" in sb3.settings("td3")


@pytest.mark.parametrize(
    ("algorithm", "some"),
    [
        ("SAC", {"learning_rate": 3e-4, "train_freq": [1, "step"], "net_arch": [256, 256], "target_entropy": -1.0}),
        ("TD3", {"learning_starts": 100, "batch_size": 256, "tau": 0.005, "policy_delay": 2, "action_noise": None}),
        ("PPO", {"clip_range": 0.2, "n_steps": 2048, "activation_fn": "Tanh", "optimizer_kwargs": {"eps": 1e-5}}),
    ],
)
def test_all_that_an_algorithm_runs_with_is_told(algorithm, some):
    told = sb3.resolved(getattr(stable_baselines3, algorithm)("MlpPolicy", gym.make("Pendulum-v1"), device="cpu"))
    assert {name: told[name] for name in some} == some and told["device"] == "cpu"
    assert not {"policy", "env", "seed"} & set(told)
