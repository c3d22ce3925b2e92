"""Stable-Baselines3's algorithms in a benchmark, with their own hyperparameters."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import Env
from gymnasium.wrappers import FilterObservation, FlattenObservation

from ami_agent import checkpoints
from ami_agent.bench.judge import Interrupted
from ami_agent.bench.piece import OpenPiece
from ami_agent.environment import GOAL_KEYS, find, make

ALGORITHMS = {"sac": "SAC", "ppo": "PPO", "td3": "TD3", "sac-her": "SAC"}
SETTINGS: dict[str, Any] = {"policy": "MlpPolicy", "device": "cpu"}  # all else as Stable-Baselines3 has it
HINDSIGHT: dict[str, Any] = {"policy": "MultiInputPolicy", "device": "cpu", "replay_buffer": "HerReplayBuffer"}


def learn(piece: OpenPiece) -> None:
    """From zero, judged in the midst of its one call of `learn`."""
    import stable_baselines3  # it takes seconds, and most pieces are without it

    run, world, config = piece.begin(), make(find(piece.environment), piece.options, piece.repeat), piece.settings
    kind, given = getattr(stable_baselines3, ALGORITHMS[piece.facts["agent"]]), dict(config["config"])
    if given.pop("replay_buffer", None):
        environment: Env = FilterObservation(world, sorted(GOAL_KEYS))
        given["replay_buffer_class"] = stable_baselines3.HerReplayBuffer
        given["learning_starts"] = 2 * piece.judge.spec.max_episode_steps  # hindsight needs a whole episode
    else:
        environment = FlattenObservation(world)
    model = kind(**given, env=environment, seed=piece.seed)
    policy = Policy(model)
    piece.point(0, policy)

    def step(local: dict[str, Any], other: dict[str, Any]) -> bool:
        steps = model.num_timesteps * piece.repeat
        due = steps // piece.every > piece.facts["points"][-1]["steps"] // piece.every
        return not piece.stop.requested and (piece.point(steps, policy) if due else True)

    model.learn(piece.facts["limits"]["steps"] + piece.every, callback=step)  # the last point ends it before
    if not piece.complete:
        raise Interrupted
    weights, meta = model.policy.state_dict(), {"algorithm": type(model).__name__}
    piece.facts["checkpoint"] = checkpoints.save_file(run.folder / "policy.safetensors", weights, meta)
    piece.finish(run)


class Policy:
    """A model of Stable-Baselines3 as an Agent: its deterministic actions, on our terms."""

    def __init__(self, model: Any) -> None:
        self._model, self._box = model, model.action_space
        self._goals = isinstance(getattr(model.observation_space, "spaces", None), dict)

    def reset(self, done: np.ndarray) -> None:
        """Nothing to forget."""

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        low, high = self._box.low, self._box.high
        if self._goals:
            seen: Any = {name: observation[name] for name in self._model.observation_space.spaces}
        else:
            seen = np.concatenate(list(observation.values()), axis=1)
        action, _ = self._model.predict(seen, deterministic=True)
        return ((action - low) / (high - low) * 2 - 1).astype(np.float32)
