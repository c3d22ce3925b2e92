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


def _check_options(options: dict[str, Any] | None, *known: str) -> dict[str, Any]:
    unknown = sorted(set(options or ()) - set(known))
    if unknown:
        raise ValueError(f"reset() has no option {unknown[0]!r}; there are {', '.join(known)}")
    return options or {}


def _check_render_mode(mode: str | None) -> str | None:
    if mode not in (None, *SingleEnv.metadata["render_modes"]):
        raise ValueError(f"render_mode must be None or 'rgb_array', not {mode!r}")
    return mode


class SingleEnv(gymnasium.Env):
    """One world. Observations are a flat Dict; `sensors` picks the senses beside the goal keys.

    A snapshot given to `reset(options={"state": ...})` or `set_state` is exact in all but the time limit, which
    Gymnasium's TimeLimit counts from the latest reset.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "autoreset_mode": AutoresetMode.DISABLED}

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
        self.render_mode = _check_render_mode(render_mode)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        state = _check_options(options, "state").get("state")
        super().reset(seed=seed)
        self.engine.rngs[0] = self.np_random
        observation = self.engine.reset()
        if state is not None:
            self.set_state(state)
            observation = self.engine.observe()
        return {k: v[0] for k, v in observation.items()}, _first(self.engine.info())

    def step(self, action: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        action = np.asarray(action)
        if action.shape != self.action_space.shape:
            raise ValueError(f"action has shape {action.shape}, expected {self.action_space.shape}")
        observation, reward, terminated, info = self.engine.step(action[None])
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
        self.num_envs, self.render_mode = num_envs, _check_render_mode(render_mode)
        self.limit = task.max_episode_steps if max_episode_steps is None else max_episode_steps
        fps = round(1 / self.engine.period)
        self.metadata = {**SingleEnv.metadata, "render_fps": fps, "autoreset_mode": autoreset_mode}
        self._autoreset = autoreset_mode is AutoresetMode.NEXT_STEP
        self._over = np.zeros(num_envs, bool)
        self.single_observation_space, self.single_action_space = _spaces(self.engine)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict, dict]:
        options = _check_options(options, "state", "reset_mask")
        mask = self._check_mask(options.get("reset_mask"))
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else seed
        if seeds is not None and len(seeds) != self.num_envs:
            raise ValueError(f"{len(seeds)} seeds for {self.num_envs} worlds; give one for each, None for no new one")
        ids = np.flatnonzero(mask)
        observation = self.engine.reset(ids, None if seeds is None else [seeds[i] for i in ids])
        if options.get("state") is not None:
            self.engine.set_state(options["state"], ids.tolist())
            observation = self.engine.observe()
        self._over[ids] = False
        return observation, _masked(self.engine.info(), mask)

    def step(self, actions: np.ndarray) -> tuple[dict, np.ndarray, np.ndarray, np.ndarray, dict]:
        over = self._over
        if not over.any():
            observation, reward, terminated, info = self.engine.step(actions)
        elif self._autoreset:
            observation, reward, terminated, info = self._step_or_reset(actions, over)
        else:
            raise RuntimeError(f"world {int(np.argmax(over))} has ended; reset it by options={{'reset_mask': ...}}")
        terminated = terminated & ~info["physics_error"]
        truncated = info["physics_error"] | (self.engine.steps >= self.limit)
        self._over = terminated | truncated
        return observation, reward, terminated, truncated, _masked(info, np.ones(self.num_envs, bool))

    def _step_or_reset(self, actions: np.ndarray, over: np.ndarray) -> tuple[dict, np.ndarray, np.ndarray, dict]:
        """Gymnasium's NextStep rule: where an episode is over, this step only shows the start of the next one."""
        _, reward, terminated, info = self.engine.step(actions, ~over)
        observation = self.engine.reset(np.flatnonzero(over))
        for name, start in self.engine.info().items():
            info[name][over] = start[over]
        return observation, np.where(over, 0.0, reward), terminated & ~over, info

    def _check_mask(self, mask: Any) -> np.ndarray:
        """Which worlds to reset, (n,) bool: all of them where no mask is given."""
        if mask is None:
            return np.ones(self.num_envs, bool)
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (self.num_envs,):
            raise ValueError(f"reset_mask must be a bool array of shape ({self.num_envs},), not {mask!r}")
        return mask

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


def _masked(info: dict[str, np.ndarray], mask: np.ndarray) -> dict[str, np.ndarray]:
    """Gymnasium's vector info: beside each value the mask of the worlds it is told of, zero in the others."""
    for value in info.values():
        value[~mask] = 0
    return info | {f"_{name}": mask.copy() for name in info}
