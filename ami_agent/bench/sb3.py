"""Stable-Baselines3's algorithms in a benchmark, with their own hyperparameters."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from enum import Enum
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import FlattenObservation

from ami_agent import checkpoints
from ami_agent.bench.judge import Interrupted
from ami_agent.bench.piece import OpenPiece
from ami_agent.environment import find, make
from ami_agent.files import plain
from ami_agent.learning.train import training_seeds

ALGORITHMS = {"sac": "SAC", "ppo": "PPO", "td3": "TD3", "sac-her": "SAC"}
EXPLORING = 0.1  # TD3's noise, as in its paper (Fujimoto et al. 2018): by default Stable-Baselines3's has none at all
NO_HYPERPARAMETERS = {"policy", "env", "seed", "verbose", "tensorboard_log"}
OF_POLICY = ("net_arch", "activation_fn", "optimizer_class", "optimizer_kwargs")
OF_HINDSIGHT = ("n_sampled_goal", "goal_selection_strategy")


def settings(agent: str) -> dict[str, Any]:
    """What differs from the defaults of the Stable-Baselines3 whose version is in the results."""
    found: dict[str, Any] = {"policy": "MlpPolicy", "device": "cpu"}
    if agent == "td3":
        found["action_noise"] = EXPLORING
    if agent == "sac-her":  # its buffer judges by the step's own info, as the reward was
        found |= {"policy": "MultiInputPolicy", "replay_buffer": "HerReplayBuffer", "copy_info_dict": True}
    return found


def learn(piece: OpenPiece) -> None:
    """From zero, judged in the midst of its one call of `learn`."""
    import stable_baselines3  # it takes seconds, and most pieces are without it

    run, given = piece.begin(), dict(piece.settings["config"])
    world: gym.Env = Anew(make(find(piece.environment), piece.options, piece.repeat), training_seeds(piece.seed, 0))
    if given.pop("replay_buffer", None):
        given["replay_buffer_class"] = stable_baselines3.HerReplayBuffer
        given["replay_buffer_kwargs"] = {"copy_info_dict": given.pop("copy_info_dict")}
        given["learning_starts"] = 2 * piece.judge.spec.max_episode_steps  # hindsight needs a whole episode
    else:
        world = FlattenObservation(world)
    if (noise := given.pop("action_noise", None)) is not None:
        size = piece.judge.spec.action_size
        normal = stable_baselines3.common.noise.NormalActionNoise
        given["action_noise"] = normal(np.zeros(size), np.full(size, noise))
    kind = getattr(stable_baselines3, ALGORITHMS[piece.facts["agent"]])
    model = kind(**given, env=world, seed=piece.seed)
    policy = Policy(model)
    piece.facts["resolved"] = resolved(model)
    piece.point(0, policy)

    def step(local: dict[str, Any], other: dict[str, Any]) -> bool:
        return piece.on_the_way(model.num_timesteps * piece.repeat, policy)

    model.learn(piece.facts["limits"]["steps"] + piece.every, callback=step)  # the last point ends it before
    if not piece.complete:
        raise Interrupted
    weights, meta = model.policy.state_dict(), {"algorithm": type(model).__name__}
    piece.facts["checkpoint"] = checkpoints.save_file(run.folder / "policy.safetensors", weights, meta)
    piece.finish(run)


def resolved(model: Any) -> dict[str, Any]:
    """All the hyperparameters that a model runs with, those that are its defaults, too."""
    own = [name for name in inspect.signature(type(model).__init__).parameters if name not in NO_HYPERPARAMETERS]
    parts = [(model, own), (model.policy, OF_POLICY), (getattr(model, "replay_buffer", None), OF_HINDSIGHT)]
    return {name: _plain(getattr(part, name)) for part, names in parts for name in names if hasattr(part, name)}


def _plain(value: Any) -> Any:
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return plain(value(1.0) if callable(value) else value)  # a schedule, at its beginning


class Anew(gym.Wrapper):
    """Each episode has a seed of its own, as ours has when it learns: where a world has sessions, without one it would
    visit the same session for ever."""

    def __init__(self, env: gym.Env, seeds: Iterator[int]) -> None:
        super().__init__(env)
        self._seeds = seeds

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return self.env.reset(seed=next(self._seeds), options=options)


class Policy:
    """A model of Stable-Baselines3 as an Agent: its deterministic actions, on our terms."""

    def __init__(self, model: Any) -> None:
        self._model, self._box = model, model.action_space
        self._senses = getattr(model.observation_space, "spaces", None)

    def reset(self, done: np.ndarray) -> None:
        """Nothing to forget."""

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        low, high = self._box.low, self._box.high
        action, _ = self._model.predict(self._seen(observation), deterministic=True)
        return ((action - low) / (high - low) * 2 - 1).astype(np.float32)

    def surprise(self, observation: dict[str, np.ndarray], action: np.ndarray, reward: np.ndarray) -> np.ndarray:
        """{sense: (T+1, B, size)}, actions (T, B, A), rewards (T, B) -> how far off the critic's value of each step is
        from its reward and the value after it, (T, B): the error of temporal differences (Sutton 1988)."""
        before, after = ({name: v[when] for name, v in observation.items()} for when in (slice(-1), slice(1, None)))
        expected = self._value(before, action.reshape(-1, action.shape[-1]))
        came = reward.ravel() + self._model.gamma * self._value(after)
        return np.abs(came - expected).reshape(reward.shape)

    def _value(self, observation: dict[str, np.ndarray], action: np.ndarray | None = None) -> np.ndarray:
        """Of moments, each sense (T, B, size), with actions (T B, A) or the policy's own: (T B,), the lower of two."""
        import torch

        flat = {name: value.reshape(-1, value.shape[-1]) for name, value in observation.items()}
        policy = self._model.policy
        seen, _ = policy.obs_to_tensor(self._seen(flat))
        with torch.no_grad():
            if not hasattr(policy, "critic"):  # PPO's value is of moments alone
                return policy.predict_values(seen).flatten().numpy()
            done = policy._predict(seen, deterministic=True) if action is None else torch.from_numpy(action)
            return torch.cat(policy.critic(seen, done), dim=1).min(dim=1).values.numpy()

    def _seen(self, observation: dict[str, np.ndarray]) -> Any:
        """Moments, each sense (B, size), as the model was shown them."""
        if self._senses is None:
            return np.concatenate(list(observation.values()), axis=1)
        return {name: observation[name].reshape(-1, *box.shape) for name, box in self._senses.items()}
