"""The engine's two Gymnasium faces: one world as an `Env`, n worlds as a `VectorEnv`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from ami_envs.core import Snapshot, WorldEnv
from ami_envs.task import Task

PICTURE = 256  # pixels a side of render()


def _spaces(engine: WorldEnv) -> tuple[Dict, Box]:
    return Dict(engine.spaces), Box(-1.0, 1.0, (engine.robot.action_size,), np.float32)


def _state_option(options: dict[str, Any] | None) -> Snapshot | None:
    unknown = set(options or ()) - {"state", "reset_mask"}
    if unknown:
        raise ValueError(f"reset() knows the options 'state' and 'reset_mask', not {sorted(unknown)}")
    return (options or {}).get("state")


class SingleEnv(gymnasium.Env):
    """One world. Observations are a flat Dict; `sensors` picks the senses beside the goal keys."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 25, "autoreset_mode": AutoresetMode.DISABLED}

    def __init__(
        self,
        task: Task,
        sensors: Sequence[str] | None = None,
        threads: int = 1,
        strict: bool = False,
        render_mode: str | None = None,
    ) -> None:
        self.engine = WorldEnv(task, 1, sensors, threads, strict)
        self.observation_space, self.action_space = _spaces(self.engine)
        self.metadata = {**self.metadata, "render_fps": round(1 / self.engine.period)}
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        super().reset(seed=seed)
        self.engine.rngs[0] = self.np_random
        observation = self.engine.reset()
        state = _state_option(options)
        if state is not None:
            self.set_state(state)
            observation = self.engine.observe()
        return {k: v[0] for k, v in observation.items()}, _first(self.engine.info())

    def step(self, action: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        observation, reward, terminated, info = self.engine.step(np.asarray(action)[None])
        one = _first(info)
        return (
            {k: v[0] for k, v in observation.items()},
            float(reward[0]),
            bool(terminated[0]) and not one["physics_error"],
            one["physics_error"],
            one,
        )

    def compute_reward(self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any) -> Any:
        return self.engine.compute_reward(achieved_goal, desired_goal, info)

    def compute_terminated(self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any) -> Any:
        return self.engine.compute_terminated(achieved_goal, desired_goal, info)

    def compute_truncated(self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any) -> Any:
        """The time limit is no function of the goal: never."""
        return False if np.ndim(achieved_goal) == 1 else np.zeros(len(achieved_goal), bool)

    def get_state(self) -> Snapshot:
        return self.engine.get_state()

    def set_state(self, state: Snapshot) -> None:
        self.engine.set_state(state)
        self.np_random = self.engine.rngs[0]

    def oracle(self) -> np.ndarray:
        """The scripted expert's action, (A,)."""
        return self.engine.task.oracle(self.engine)[0].astype(np.float32)

    def render(self) -> np.ndarray | None:
        """The ray camera's picture of the world, (256, 256, 3) uint8; needs no OpenGL."""
        return self.engine.eye("view", PICTURE).look(self.engine, 0).rgb.copy() if self.render_mode else None


class BatchEnv(VectorEnv):
    """n worlds. `autoreset_mode` NextStep (Gymnasium's default) or Disabled (reset(options={"reset_mask": ...}))."""

    def __init__(
        self,
        task: Task,
        num_envs: int,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
        sensors: Sequence[str] | None = None,
        threads: int = 1,
        strict: bool = False,
        render_mode: str | None = None,
    ) -> None:
        if autoreset_mode is AutoresetMode.SAME_STEP:
            raise ValueError("autoreset_mode must be NextStep or Disabled")
        self.engine = WorldEnv(task, num_envs, sensors, threads, strict)
        self.num_envs, self.render_mode = num_envs, render_mode
        self.limit = task.max_episode_steps if max_episode_steps is None else max_episode_steps
        self.metadata = {**SingleEnv.metadata, "render_fps": round(1 / self.engine.period),
                         "autoreset_mode": autoreset_mode}
        self._autoreset = autoreset_mode is AutoresetMode.NEXT_STEP
        self._over = np.zeros(num_envs, bool)
        self.single_observation_space, self.single_action_space = _spaces(self.engine)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict, dict]:
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else seed
        mask = (options or {}).get("reset_mask")
        ids = np.arange(self.num_envs) if mask is None else np.flatnonzero(mask)
        observation = self.engine.reset(ids, None if seeds is None else [seeds[i] for i in ids])
        state = _state_option(options)
        if state is not None:
            self.engine.set_state(state, ids.tolist())
            observation = self.engine.observe()
        self._over[ids] = False
        return observation, _masked(self.engine.info())

    def step(self, actions: np.ndarray) -> tuple[dict, np.ndarray, np.ndarray, np.ndarray, dict]:
        fresh = self._over.copy()
        if fresh.any():
            if not self._autoreset:
                raise RuntimeError(f"world {int(np.argmax(fresh))} has ended; reset it by options={{'reset_mask': ...}}")
            self.engine.reset(np.flatnonzero(fresh))
        before = [self.engine.get_state(int(i)) for i in np.flatnonzero(fresh)]
        observation, reward, terminated, info = self.engine.step(actions)
        truncated = info["physics_error"] | (self.engine.steps >= self.limit)
        terminated = terminated & ~info["physics_error"]
        if fresh.any():  # Gymnasium's NextStep rule: the step after an end only shows the new episode's start
            for i, state in zip(np.flatnonzero(fresh), before, strict=True):
                self.engine.set_state(state, [int(i)])
            observation, reward = self.engine.observe(), np.where(fresh, 0.0, reward)
            terminated, truncated = terminated & ~fresh, truncated & ~fresh
        self._over[:] = terminated | truncated
        return observation, reward, terminated, truncated, _masked(info)

    def compute_reward(self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any) -> Any:
        return self.engine.compute_reward(achieved_goal, desired_goal, info)

    def compute_terminated(self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any) -> Any:
        return self.engine.compute_terminated(achieved_goal, desired_goal, info)

    def oracle(self) -> np.ndarray:
        """The scripted expert's actions, (n, A)."""
        return self.engine.task.oracle(self.engine).astype(np.float32)

    def render(self) -> tuple[np.ndarray, ...] | None:
        if not self.render_mode:
            return None
        eye = self.engine.eye("view", PICTURE)
        return tuple(eye.look(self.engine, i).rgb.copy() for i in range(self.num_envs))


def _first(info: dict[str, np.ndarray]) -> dict[str, Any]:
    """One world's info: plain numbers, and arrays where there is more than one number."""
    return {k: v[0].item() if v.ndim == 1 else v[0] for k, v in info.items()}


def _masked(info: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Gymnasium's vector info: beside each value, the mask of the worlds that have it."""
    return info | {f"_{k}": np.ones(len(v), bool) for k, v in info.items()}
