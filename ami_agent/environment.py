"""Gymnasium environments on the agent's terms: dicts of senses, actions in [-1, 1], worlds that reset one by one."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict
from gymnasium.vector import AutoresetMode, VectorEnv

from ami_agent.errors import UsageError, nearest
from ami_agent.protocols import Spec
from ami_envs import registry

GOAL_KEYS = {"observation", "achieved_goal", "desired_goal"}


class Environment:
    """n copies of one Gymnasium environment.

    Raises:
        UsageError: the id is unknown (with the nearest names), or its spaces are not supported (with what is).
    """

    def __init__(self, id: str, n: int = 1, options: dict[str, Any] | None = None) -> None:
        self.id, self.n = id, n
        self._vector = _make(id, n, options or {})
        space = self._vector.single_action_space
        if not isinstance(space, Box) or len(space.shape) != 1 or not np.isfinite([space.low, space.high]).all():
            raise UsageError(f"{id}: its actions are {space}; supported is a flat Box with finite bounds")
        self._middle, self._half = (space.high + space.low) / 2, (space.high - space.low) / 2
        self.spec = _spec(id, self._vector)
        self._source = self._vector if hasattr(self._vector, "compute_reward") else None
        if self._source is None and self.spec.goals:
            self._source = self._vector.envs[0].unwrapped  # type: ignore[attr-defined]
        self.tells_success = False  # whether any step's info has said if the task succeeded

    def reset(self, mask: np.ndarray | None = None, seeds: list[int] | None = None) -> dict[str, np.ndarray]:
        """Start new episodes in the worlds of the mask (all by default), a seed each; observation of all worlds."""
        mask = np.ones(self.n, bool) if mask is None else mask
        observation, _ = self._vector.reset(seed=seeds, options={"reset_mask": mask})  # type: ignore[arg-type]
        return self._senses(observation)

    def step(
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """actions (B, A) in [-1, 1] -> observation, reward, terminated, truncated (B,), info.

        info has `success` (B,) bool and `physics_error` (B,) bool, whatever the environment calls them.
        """
        raw = self._middle + self._half * np.clip(action, -1.0, 1.0)
        space = self._vector.single_action_space
        observation, reward, terminated, truncated, info = self._vector.step(raw.astype(space.dtype))
        success = info.get("success", info.get("is_success"))
        self.tells_success |= success is not None
        told = {
            "success": np.zeros(self.n, bool) if success is None else np.asarray(success, dtype=bool),
            "physics_error": np.asarray(info.get("physics_error", np.zeros(self.n, bool)), dtype=bool),
        }
        return self._senses(observation), np.asarray(reward, np.float32), terminated, truncated, told

    def compute_reward(self, achieved: np.ndarray, desired: np.ndarray, info: dict[str, np.ndarray]) -> np.ndarray:
        """Reward of (n, goal) pairs, (n,); only where `spec.goals`."""
        return np.asarray(self._source.compute_reward(achieved, desired, info), np.float32)  # type: ignore[union-attr]

    def compute_terminated(self, achieved: np.ndarray, desired: np.ndarray, info: dict[str, np.ndarray]) -> np.ndarray:
        """Whether the task has ended at (n, goal) pairs, (n,) bool; never, where the environment does not say."""
        if not hasattr(self._source, "compute_terminated"):
            return np.zeros(len(achieved), bool)
        result = self._source.compute_terminated(achieved, desired, info)  # type: ignore[union-attr]
        return np.broadcast_to(np.asarray(result, bool), len(achieved))

    @property
    def vector(self) -> VectorEnv:
        """The Gymnasium environment itself, for what only some have: the oracle, snapshots, pictures."""
        return self._vector

    def close(self) -> None:
        self._vector.close()

    def _senses(self, observation: Any) -> dict[str, np.ndarray]:
        if not isinstance(observation, dict):
            observation = {"observation": observation}
        return {k: np.asarray(observation[k], _dtype(observation[k])) for k in self.spec.senses}


def _dtype(value: np.ndarray) -> type:
    return np.uint8 if value.dtype == np.uint8 else np.float32


def _make(id: str, n: int, options: dict[str, Any]) -> VectorEnv:
    try:
        spec = registry.find(id)
    except gym.error.Error as error:
        close = nearest(id, list(gym.registry))
        hint = f"; did you mean {', '.join(close)}?" if close else "; `ami-agent env list` shows the worlds"
        raise UsageError(f"unknown environment {id!r}{hint}") from error
    except ModuleNotFoundError as error:
        raise UsageError(f"environment {id!r}: no module named {error.name!r}") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if registry.is_ours(spec):
                return gym.make_vec(spec, n, autoreset_mode=AutoresetMode.DISABLED, **options)
            return gym.make_vec(
                spec, n, vectorization_mode="sync", vector_kwargs={"autoreset_mode": AutoresetMode.DISABLED}, **options
            )
        except (TypeError, ValueError) as error:
            raise UsageError(f"{id}: {error}") from error


def _spec(id: str, vector: VectorEnv) -> Spec:
    space = vector.single_observation_space
    boxes = dict(space.spaces) if isinstance(space, Dict) else {"observation": space}
    bad = [name for name, box in boxes.items() if not isinstance(box, Box)]
    if bad:
        raise UsageError(f"{id}: sense {bad[0]!r} is {boxes[bad[0]]}; supported are Box and flat Dict of Box")
    senses = {name: tuple(box.shape or ()) for name, box in boxes.items()}
    if not any(len(shape) == 1 for shape in senses.values()):
        raise UsageError(f"{id}: it shows images only ({senses}); supported are senses that are vectors")
    unwrapped = vector if hasattr(vector, "compute_reward") else getattr(vector, "envs", [vector])[0].unwrapped
    limit = vector.spec.max_episode_steps if vector.spec is not None else None
    fps = (vector.metadata or {}).get("render_fps")
    return Spec(
        environment=id,
        senses=senses,
        action_size=vector.single_action_space.shape[0],  # type: ignore[index]
        goals=set(senses) >= GOAL_KEYS and hasattr(unwrapped, "compute_reward"),
        max_episode_steps=limit or 1000,
        control_period=1.0 / fps if fps else 0.0,
    )
