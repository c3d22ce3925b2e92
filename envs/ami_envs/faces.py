"""The engine's two Gymnasium faces: one world as an `Env`, n worlds as a `VectorEnv`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from ami_envs.core import Snapshot, WorldEnv
from ami_envs.inputs import Worlds, world_ids
from ami_envs.senses.vision import check_renderer
from ami_envs.snapshots import Told
from ami_envs.task import Task

PICTURE = 256  # pixels a side of render(), by default
RESET_OPTIONS = ("state", "session", "factors", "task_id")


def _metadata(engine: WorldEnv) -> dict[str, Any]:
    """What Gymnasium asks for and, where the robot moves about, `place`: which entries of `observation` say where it
    is, how near is there, and whether goals are such places."""
    task, told = engine.task, {**SingleEnv.metadata, "render_fps": round(1 / engine.period)}
    return told | ({"place": {"entries": task.place, "near": task.near, "goal": task.goes}} if task.place else {})


def _spaces(engine: WorldEnv) -> tuple[Dict, Box]:
    return Dict(engine.spaces), Box(-1.0, 1.0, (engine.robot.action_size,), np.float32)


def _check_options(options: dict[str, Any] | None, *known: str) -> dict[str, Any]:
    unknown = sorted(set(options or ()) - set(known))
    if unknown:
        raise ValueError(f"reset() has no option {unknown[0]!r}; there are {', '.join(known)}")
    return options or {}


def _chosen(options: dict[str, Any] | None, *more: str) -> tuple[dict[str, Any], Snapshot | None]:
    """What a reset is asked for, and the state to begin with: a state has its own causes, session and start."""
    chosen = dict(_check_options(options, *RESET_OPTIONS, *more))
    state = chosen.pop("state", None)
    if state is not None and (both := [name for name in chosen if name in RESET_OPTIONS and chosen[name] is not None]):
        raise ValueError(f"reset() takes no {both[0]!r} beside 'state'; intervene() after it")
    return chosen, state


def _check_render_mode(mode: str | None, renderer: str) -> str | None:
    if mode not in (None, *SingleEnv.metadata["render_modes"]):
        raise ValueError(f"render_mode must be None or 'rgb_array', not {mode!r}")
    check_renderer(renderer)
    return mode


class Face:
    """What both faces show of their engine."""

    engine: WorldEnv

    @property
    def factor_space(self) -> Dict:
        """The factors that can be set in a world, in their training ranges."""
        return self.engine.factor_space()

    @property
    def held_out_factor_space(self) -> Dict:
        """The factors in the ranges kept for tests."""
        return self.engine.factor_space("held_out")

    def compute_reward(self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any) -> Any:
        return self.engine.compute_reward(achieved_goal, desired_goal, info)

    def compute_terminated(self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any) -> Any:
        return self.engine.compute_terminated(achieved_goal, desired_goal, info)


class SingleEnv(Face, gymnasium.Env):
    """One world. Observations are a flat Dict; `sensors` picks the senses beside the goal keys.

    A snapshot given to `reset(options={"state": ...})` or `set_state` is exact in all but the time limit, which
    Gymnasium's TimeLimit counts from the latest reset.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "autoreset_mode": AutoresetMode.DISABLED}

    def __init__(
        self,
        task: Task,
        render_mode: str | None = None,
        renderer: str = "ray",
        width: int = PICTURE,
        height: int = PICTURE,
        **engine: Any,
    ) -> None:
        self.engine = WorldEnv(task, 1, **engine)
        self.observation_space, self.action_space = _spaces(self.engine)
        self.metadata = _metadata(self.engine)
        self.render_mode, self._picture = _check_render_mode(render_mode, renderer), ("view", width, height, renderer)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        chosen, state = _chosen(options)
        super().reset(seed=seed)
        observation = self.engine.reset(seeds=[seed], **chosen)
        self._np_random = self.engine.rngs[0]
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
            bool(terminated[0]),
            one["physics_error"],
            one,
        )

    def compute_truncated(self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any) -> Any:
        """The time limit is no function of the goal: never."""
        return False if np.ndim(achieved_goal) == 1 else np.zeros(np.shape(achieved_goal)[:-1], bool)

    def get_state(self) -> Snapshot:
        """Everything the world is, copied."""
        return self.engine.get_state()

    def set_state(self, state: Snapshot) -> None:
        """Be what a snapshot was, exactly; in an environment that is new, by `reset(options={"state": ...})`."""
        self.engine.set_state(state)
        self.np_random = self.engine.rngs[0]

    def intervene(self, values: Mapping[str, Any]) -> None:
        """Set factors by name, now; see `WorldEnv.intervene`."""
        self.engine.intervene(values)

    def counterfactual(self, state: Snapshot, intervention: Mapping[str, Any], actions: np.ndarray) -> list[tuple]:
        """Live actions (T, A) from a snapshot under other causes, and come back: (observation, reward, terminated,
        info) of each step, up to the episode's end."""
        return _told(self.engine.counterfactual(state, intervention, actions))

    def oracle(self) -> np.ndarray:
        """The scripted expert's action, (A,)."""
        return self.engine.task.oracle(self.engine)[0].astype(np.float32)

    def floor(self) -> np.ndarray:
        """The action, (A,), of the best expert without what the world needs; see `Task.needs`."""
        return self.engine.task.floor(self.engine)[0].astype(np.float32)

    def render(self) -> np.ndarray | None:
        """A picture of the world, (height, width, 3) uint8, by default the ray camera's, which needs no OpenGL."""
        return self.engine.eye(*self._picture).look(self.engine, 0).rgb.copy() if self.render_mode else None

    def close(self) -> None:
        self.engine.close()


class BatchEnv(Face, VectorEnv):
    """n worlds. `autoreset_mode` NextStep (Gymnasium's default) or Disabled (reset(options={"reset_mask": ...}))."""

    def __init__(
        self,
        task: Task,
        num_envs: int,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        renderer: str = "ray",
        width: int = PICTURE,
        height: int = PICTURE,
        **engine: Any,
    ) -> None:
        if autoreset_mode is AutoresetMode.SAME_STEP:
            raise ValueError("autoreset_mode must be NextStep or Disabled")
        self.engine = WorldEnv(task, num_envs, **engine)
        self.num_envs, self.render_mode = num_envs, _check_render_mode(render_mode, renderer)
        self._picture = "view", width, height, renderer
        limit = task.max_episode_steps if max_episode_steps is None else max_episode_steps
        self.limit = limit if limit != -1 else sys.maxsize  # Gymnasium's word for none
        self.metadata = _metadata(self.engine) | {"autoreset_mode": autoreset_mode}
        self._autoreset = autoreset_mode is AutoresetMode.NEXT_STEP
        self._over = np.zeros(num_envs, bool)
        self.single_observation_space, self.single_action_space = _spaces(self.engine)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict, dict]:
        chosen, state = _chosen(options, "reset_mask")
        mask = self._check_mask(chosen.pop("reset_mask", None))
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else seed
        if seeds is not None and len(seeds) != self.num_envs:
            raise ValueError(f"{len(seeds)} seeds for {self.num_envs} worlds; give one for each, None for no new one")
        ids = np.flatnonzero(mask)
        observation = self.engine.reset(ids, None if seeds is None else [seeds[i] for i in ids], **chosen)
        if state is not None:
            self.engine.set_state(state, ids.tolist())
            observation = self.engine.observe()
        self._over[ids] = False
        return observation, _masked(self.engine.info(), mask)

    def step(
        self, actions: np.ndarray, mask: np.ndarray | None = None
    ) -> tuple[dict, np.ndarray, np.ndarray, np.ndarray, dict]:
        """Gymnasium's step; with Disabled, worlds outside `mask` (n,) bool stand still, such as those that have ended:
        what is told of them means nothing."""
        over = self._over if mask is None else self._over & mask
        if not over.any():
            observation, reward, terminated, info = self.engine.step(actions, mask)
        elif self._autoreset:
            observation, reward, terminated, info = self._step_or_reset(actions, over)
        else:
            raise RuntimeError(f"world {int(np.argmax(over))} has ended; reset it by options={{'reset_mask': ...}}")
        truncated = info["physics_error"] | (self.engine.steps >= self.limit)
        stepped = np.ones(self.num_envs, bool) if mask is None else mask
        self._over = np.where(stepped, terminated | truncated, self._over)
        return observation, reward, terminated, truncated, _masked(info, stepped)

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

    def oracle(self) -> np.ndarray:
        """The scripted expert's actions, (n, A)."""
        return self.engine.task.oracle(self.engine).astype(np.float32)

    def floor(self) -> np.ndarray:
        """The actions, (n, A), of the best expert without what the world needs; see `Task.needs`."""
        return self.engine.task.floor(self.engine).astype(np.float32)

    def intervene(self, values: Mapping[str, Any], worlds: Worlds = None) -> None:
        """Set factors by name, now, in `worlds` (all by default); see `WorldEnv.intervene`."""
        self.engine.intervene(values, worlds)

    def counterfactual(
        self, state: Snapshot, intervention: Mapping[str, Any], actions: np.ndarray, world: int = 0
    ) -> list[tuple]:
        """As `SingleEnv.counterfactual`, lived in `world`, which is then put back; the others stand still."""
        return _told(self.engine.counterfactual(state, intervention, actions, world))

    def get_state(self, world: int = 0) -> Snapshot:
        """Everything one world is, copied."""
        return self.engine.get_state(world)

    def set_state(self, state: Snapshot, worlds: Worlds = None) -> None:
        """Make `worlds` (all by default) copies of a snapshot; each goes on as far as its steps leave time."""
        ids = world_ids(worlds, self.num_envs)
        self.engine.set_state(state, ids)
        self._over[ids] = ~self.engine.alive[ids]

    def render(self) -> tuple[np.ndarray, ...] | None:
        if not self.render_mode:
            return None
        eye = self.engine.eye(*self._picture)
        return tuple(eye.look(self.engine, i).rgb.copy() for i in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        self.engine.close()


def _told(steps: list[Told]) -> list[tuple]:
    """Steps of one world, with infos as a single environment's."""
    return [(*step[:3], _first({name: value[None] for name, value in step[3].items()})) for step in steps]


def _first(info: dict[str, np.ndarray]) -> dict[str, Any]:
    """One world's info: plain numbers, and arrays where there is more than one number."""
    return {k: v[0].item() if v.ndim == 1 else v[0] for k, v in info.items()}


def _masked(info: dict[str, np.ndarray], mask: np.ndarray) -> dict[str, np.ndarray]:
    """Gymnasium's vector info: beside each value the mask of the worlds it is told of, zero in the others."""
    for value in info.values():
        value[~mask] = 0
    return info | {f"_{name}": mask.copy() for name in info}
