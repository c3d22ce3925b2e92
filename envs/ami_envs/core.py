"""The engine: n worlds of one task on `mujoco.batch`. A single environment is the same engine with n=1."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from gymnasium.spaces import Box
from gymnasium.utils import seeding
from mujoco.batch import Batch, SimulationError

from ami_envs.sensors import SENSORS, Eye, Sensor
from ami_envs.task import Task

__all__ = ["Snapshot", "Task", "WorldEnv"]

POSITION_AND_VELOCITY = int(mujoco.mjtStage.mjSTAGE_VEL)
GOAL_KEYS = ("observation", "achieved_goal", "desired_goal")


@dataclass(frozen=True)
class Snapshot:
    """Everything one world is: restoring it continues the same episode bit for bit, in any engine of the same task."""

    physics: np.ndarray  # mjSTATE_INTEGRATION
    goal: np.ndarray
    hidden: dict[str, np.ndarray]
    steps: int
    readings: dict[str, np.ndarray]  # each sense's last reading
    random: dict[str, Any]  # the world's random generator


class WorldEnv:
    """n worlds, stepped together; world axis first in everything.

    Args:
        task: what the worlds are.
        n: number of worlds.
        senses: names from `SENSORS`, beyond the three goal keys; None for the task's own.
        threads: of the physics; the result is the same at any number.
        strict: refuse actions outside [-1, 1] instead of clipping them.
    """

    def __init__(
        self, task: Task, n: int = 1, senses: Sequence[str] | None = None, threads: int = 1, strict: bool = False
    ) -> None:
        _quiet_log()
        self.task, self.n, self.strict = task, n, strict
        spec = mujoco.MjSpec.from_file(str(task.scene))
        task.build(spec)
        self.model = spec.compile()
        self.batch = Batch(self.model, n, nthread=threads)
        self.robot = task.robot(self.batch)
        self.period = self.robot.substeps * self.model.opt.timestep
        self.goal = np.zeros((n, task.goal_size))
        self.hidden: dict[str, np.ndarray] = {}
        self.steps = np.zeros(n, np.int64)
        self.rngs = [np.random.default_rng() for _ in range(n)]
        self.tick = 0  # grows with every change of any world: what has been seen is keyed by it
        self.alive = np.zeros(n, bool)  # between reset and the end of the task
        self._all = np.arange(n, dtype=np.int32)
        self._warnings = self.batch.warning[:, :, 1]
        self._eyes: dict[tuple[str, int], Eye] = {}
        task.bind(self)
        self.sensors: dict[str, Sensor] = {name: _sensor(name)(self) for name in _chosen(task, senses)}
        self._readings = {k: np.zeros((n, *s.space.shape), s.space.dtype) for k, s in self.sensors.items()}
        observation = task.observe(self)
        shapes = (observation.shape[1:], (task.goal_size,), (task.goal_size,))
        self.spaces = {k: Box(-np.inf, np.inf, shape, np.float64) for k, shape in zip(GOAL_KEYS, shapes, strict=True)}
        self.spaces.update({name: sensor.space for name, sensor in self.sensors.items()})

    # -- an episode ---------------------------------------------------------------------------------------------

    def reset(self, ids: np.ndarray | None = None, seeds: Sequence[int | None] | None = None) -> dict[str, np.ndarray]:
        """Start new episodes in worlds `ids` (all by default); a seed of None goes on with the world's generator.

        Returns the observation of all worlds, each (n, *shape).
        """
        ids = self._all if ids is None else np.asarray(ids, np.int32)
        for i, seed in zip(ids, seeds or [None] * len(ids), strict=True):
            if seed is not None:
                self.rngs[i] = seeding.np_random(seed)[0]
        self.batch.reset(ids, stage=int(mujoco.mjtStage.mjSTAGE_NONE))
        for i in ids:
            self.task.reset(self, int(i), self.rngs[i])
        self.batch.forward(ids)
        self.steps[ids] = 0
        self.alive[ids] = True
        self._read(ids, fresh=True)
        return self.observe()

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """One env step of every world with actions (n, A) in [-1, 1].

        Returns the observation, reward (n,), terminated (n,) and info by name, each (n, ...). Time limits are the
        caller's; `info["physics_error"]` marks worlds whose simulation failed: their episode is void.

        Raises:
            ValueError: the action has another shape or a value that is not finite, named by index; nothing moved.
            RuntimeError: a world was not reset before its first step or after its end.
        """
        action, clipped = self._check_action(action)
        if not self.alive.all():
            raise RuntimeError(f"step() of world {int(np.argmin(self.alive))} before reset(), or after its end")
        self.robot.apply(action)
        broken = self._advance()
        self.steps += 1
        self._read(self._all)
        observation = self.observe()
        state, achieved = observation["observation"], observation["achieved_goal"]
        if broken is not None:
            for value in observation.values():
                value[broken] = 0
        success = self.task.success(achieved, self.goal)
        reward = self.task.reward(achieved, self.goal, state)
        self.alive[:] = ~success if broken is None else ~(success | broken)
        return observation, reward, success, self._info(success, clipped, broken, state)

    def observe(self) -> dict[str, np.ndarray]:
        """What all worlds sense now: fresh arrays, each (n, *shape)."""
        observation = {
            "observation": self.task.observe(self),
            "achieved_goal": self.task.achieved(self),
            "desired_goal": self.goal.copy(),
        }
        for name, reading in self._readings.items():
            observation[name] = reading.copy()
        return observation

    def info(self) -> dict[str, np.ndarray]:
        """The info of worlds that have just been reset: the same keys as a step's."""
        return self._info(np.zeros(self.n, bool), np.zeros(self.n, np.int64), None, self.task.observe(self))

    # -- the goal's rewards, for arrays of goals (hindsight relabelling) ------------------------------------------

    def compute_reward(self, achieved: np.ndarray, desired: np.ndarray, info: Any) -> np.ndarray | float:
        """Reward of (..., goal_size) pairs; `info["observation"]`, where given, feeds the terms that need it."""
        achieved, desired = np.asarray(achieved, float), np.asarray(desired, float)
        one = achieved.ndim == 1
        reward = self.task.reward(np.atleast_2d(achieved), np.atleast_2d(desired), _observations(info))
        return float(reward[0]) if one else reward

    def compute_terminated(self, achieved: np.ndarray, desired: np.ndarray, info: Any = None) -> np.ndarray | bool:
        """Whether the task is done at (..., goal_size) pairs: success ends an episode."""
        achieved = np.asarray(achieved, float)
        done = self.task.success(np.atleast_2d(achieved), np.atleast_2d(np.asarray(desired, float)))
        return bool(done[0]) if achieved.ndim == 1 else done

    # -- snapshots ----------------------------------------------------------------------------------------------

    def get_state(self, world: int = 0) -> Snapshot:
        """All of one world, copied."""
        return Snapshot(
            physics=self.batch.state[world].copy(),
            goal=self.goal[world].copy(),
            hidden={name: value[world].copy() for name, value in self.hidden.items()},
            steps=int(self.steps[world]),
            readings={name: value[world].copy() for name, value in self._readings.items()},
            random=copy.deepcopy(self.rngs[world].bit_generator.state),
        )

    def set_state(self, snapshot: Snapshot, worlds: Sequence[int] | None = None) -> None:
        """Make `worlds` (all by default) copies of a snapshot; what they had lived is dropped."""
        ids = self._all if worlds is None else np.asarray(worlds, np.int32)
        self.batch.reset(ids, stage=int(mujoco.mjtStage.mjSTAGE_NONE))
        self.batch.state[ids] = snapshot.physics
        self.batch.forward(ids, stage=POSITION_AND_VELOCITY)
        self.batch.state[ids] = snapshot.physics  # forward may have moved the solver's warm start
        self.goal[ids] = snapshot.goal
        for name, value in snapshot.hidden.items():
            self.hidden[name][ids] = value
        for name, value in snapshot.readings.items():
            if name in self._readings:
                self._readings[name][ids] = value
        self.steps[ids] = snapshot.steps
        for i in ids:
            self.rngs[i].bit_generator.state = copy.deepcopy(snapshot.random)
        self.alive[ids] = True
        self.tick += 1

    def eye(self, camera: str, size: int) -> Eye:
        """The ray camera of that name and size, shared by the senses that look through it."""
        return self._eyes.setdefault((camera, size), Eye(self, camera, size))

    # -- inside -------------------------------------------------------------------------------------------------

    def _check_action(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        try:
            action = np.asarray(action, np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"action must be numbers of shape {(self.n, self.robot.action_size)}: {error}") from None
        if action.shape != (self.n, self.robot.action_size):
            raise ValueError(f"action has shape {action.shape}, expected {(self.n, self.robot.action_size)}")
        if np.abs(action).max() <= 1.0:
            return action, np.zeros(self.n, np.int64)
        if not np.isfinite(action).all():
            world, index = np.argwhere(~np.isfinite(action))[0]
            raise ValueError(f"action[{index}] of world {world} is {action[world, index]}; actions must be finite")
        outside = np.abs(action) > 1.0
        if self.strict:
            world, index = np.argwhere(outside)[0]
            raise ValueError(f"action[{index}] of world {world} is {action[world, index]}, outside [-1, 1]")
        return np.clip(action, -1.0, 1.0), outside.sum(axis=1)

    def _advance(self) -> np.ndarray | None:
        """Run the physics of one env step; the worlds where it failed, (n,) bool, or None."""
        self.tick += 1
        failed = None
        try:
            self.batch.step(nstep=self.robot.substeps, stage=POSITION_AND_VELOCITY)
        except SimulationError as error:
            failed = np.isin(self._all, error.ids)
        if failed is None and not self._warnings.any():
            return None
        warned = self._warnings.any(axis=1)
        return warned if failed is None else warned | failed

    def _read(self, ids: np.ndarray, fresh: bool = False) -> None:
        """Refresh the readings of worlds whose sensor is due."""
        if fresh:
            self.tick += 1
        for name, sensor in self.sensors.items():
            due = ids if fresh or sensor.every == 1 else ids[self.steps[ids] % sensor.every == 0]
            if len(due):
                self._readings[name][due] = sensor.read(self, due)

    def _info(
        self, success: np.ndarray, clipped: np.ndarray, broken: np.ndarray | None, state: np.ndarray
    ) -> dict[str, np.ndarray]:
        return {
            "success": success,
            "is_success": success.copy(),
            "clipped": clipped,
            "physics_error": np.zeros(self.n, bool) if broken is None else broken,
            "observation": state.copy(),
        }


def _sensor(name: str) -> Any:
    if name not in SENSORS:
        raise ValueError(f"unknown sense {name!r}; there are {', '.join(sorted(SENSORS))}")
    return SENSORS[name]


def _chosen(task: Task, senses: Sequence[str] | None) -> Sequence[str]:
    return task.senses if senses is None else senses


def _observations(info: Any) -> np.ndarray | None:
    """The observation vectors in an info dict, or in a sequence of them; None where they are not given."""
    infos = [info] if isinstance(info, dict) else list(info) if info is not None else []
    if not infos or any("observation" not in one for one in infos):
        return None
    return np.concatenate([np.atleast_2d(one["observation"]) for one in infos])


def _quiet_log() -> None:
    """Keep MuJoCo from writing MUJOCO_LOG.TXT into the user's folder: the engine reads the warning counters itself."""
    if hasattr(mujoco, "MjLogConfig"):
        config = mujoco.MjLogConfig.get()
        config.logto_file = config.logto_console = False
        mujoco.MjLogConfig.set(config)
