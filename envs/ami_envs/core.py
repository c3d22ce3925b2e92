"""The engine: n worlds of one task on `mujoco.batch`. A single environment is the same engine with n=1."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from gymnasium.spaces import Box, Space
from gymnasium.utils import seeding
from mujoco.batch import Batch, SimulationError

from ami_envs.sensors import Eye, Sensor, build
from ami_envs.task import Task

__all__ = ["Snapshot", "Task", "WorldEnv"]

NO_STAGE, VELOCITY_STAGE = int(mujoco.mjtStage.mjSTAGE_NONE), int(mujoco.mjtStage.mjSTAGE_VEL)
LIMIT = mujoco.mjMAXVAL  # MuJoCo's own: no coordinate or speed of a working simulation comes near
BROKEN = LIMIT / 10  # so that sums of coordinates, too, stay within the spaces' bounds
GOAL_KEYS = ("observation", "achieved_goal", "desired_goal")


@dataclass(frozen=True)
class Snapshot:
    """Everything one world is: restoring it continues the same episode bit for bit, in any engine of the same task."""

    physics: np.ndarray  # mjSTATE_INTEGRATION
    goal: np.ndarray
    hidden: dict[str, np.ndarray]
    steps: int
    readings: dict[str, np.ndarray]  # each sense's last reading
    random: Mapping[str, Any]  # the world's random generator


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
        if n < 1:
            raise ValueError(f"n, the number of worlds, must be 1 or more, not {n}")
        self._unbound = task
        self.task = task = copy.copy(task)  # `bind` makes it this engine's own
        self.n, self.strict = n, strict
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
        self.alive = np.zeros(n, bool)  # between reset and the end of the task
        self._all = np.arange(n, dtype=np.int32)
        self._warnings = self.batch.warning[:, :, 1]  # how often each kind was given, a view
        self._action_shape = (n, self.robot.action_size)
        self._eyes: dict[tuple[str, int], Eye] = {}
        task.bind(self)
        chosen = task.senses if senses is None else senses
        self.sensors: dict[str, Sensor] = {name: build(name, self) for name in chosen}
        derived = task.derived or any(sensor.derived for sensor in self.sensors.values())
        self._stage = VELOCITY_STAGE if derived else NO_STAGE  # how far derived fields describe the new state
        self._readings = {k: np.zeros((n, *s.space.shape), s.space.dtype) for k, s in self.sensors.items()}
        observation = task.observe(self)
        shapes = (observation.shape[1:], (task.goal_size,), (task.goal_size,))
        goals = {k: Box(-LIMIT, LIMIT, shape, np.float64) for k, shape in zip(GOAL_KEYS, shapes, strict=True)}
        self.spaces: dict[str, Space] = {**goals, **{name: sensor.space for name, sensor in self.sensors.items()}}

    # -- an episode ---------------------------------------------------------------------------------------------

    def reset(self, ids: np.ndarray | None = None, seeds: Sequence[int | None] | None = None) -> dict[str, np.ndarray]:
        """Start new episodes in worlds `ids` (all by default); a seed of None goes on with the world's generator.

        Returns the observation of all worlds, each (n, *shape).
        """
        ids = self._all if ids is None else np.asarray(ids, np.int32)
        for i, seed in zip(ids, seeds or [None] * len(ids), strict=True):
            if seed is not None:
                self.rngs[i] = seeding.np_random(seed)[0]
        self.batch.reset(ids, stage=NO_STAGE)
        for i in ids:
            self.task.reset(self, int(i), self.rngs[i])
        self.batch.forward(ids)
        self.steps[ids] = 0
        self.alive[ids] = True
        self._read(ids, self.sensors)
        return self.observe()

    def step(
        self, action: np.ndarray, mask: np.ndarray | None = None
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """One env step of every world with actions (n, A) in [-1, 1].

        Worlds outside `mask` (n,) bool stand still: their action is not looked at, what is told of them means nothing.

        Returns the observation, reward (n,), terminated (n,) and info by name, each (n, ...). Time limits are the
        caller's. `info["physics_error"]` marks worlds whose simulation failed: their episode is void, and they have
        been put back to the model's defaults, so that nothing unreal is sensed.

        Raises:
            ValueError: the action has another shape or a value that is not finite, named by index; nothing moved.
            RuntimeError: a world was not reset before its first step or after its end.
        """
        action, clipped = self._check_action(action, mask)
        ended = ~self.alive if mask is None else mask & ~self.alive
        if np.count_nonzero(ended):
            raise RuntimeError(f"step() of world {int(np.argmax(ended))} before reset(), or after its end")
        self.robot.apply(action)
        broken = self._advance(mask)
        self.steps += 1 if mask is None else mask
        self._sense(mask, broken)
        observation = self.observe()
        state, achieved = observation["observation"], observation["achieved_goal"]
        success = self.task.success(achieved, self.goal)
        reward = self.task.reward(achieved, self.goal, state)
        self.alive &= ~success if broken is None else ~(success | broken)
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
        achieved, desired, shape = self._pairs(achieved, desired)
        reward = self.task.reward(achieved, desired, _observations(info))
        return reward.reshape(shape) if shape else float(reward[0])

    def compute_terminated(self, achieved: np.ndarray, desired: np.ndarray, info: Any = None) -> np.ndarray | bool:
        """Whether the task is done at (..., goal_size) pairs: success ends an episode."""
        achieved, desired, shape = self._pairs(achieved, desired)
        done = self.task.success(achieved, desired)
        return done.reshape(shape) if shape else bool(done[0])

    def _pairs(self, achieved: Any, desired: Any) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
        """Goals as (pairs, goal_size) twice, and the shape (...) of what is asked."""
        achieved, desired = np.asarray(achieved, float), np.asarray(desired, float)
        size = self.task.goal_size
        if achieved.shape != desired.shape or achieved.shape[-1:] != (size,):
            raise ValueError(f"goals have shapes {achieved.shape} and {desired.shape}, expected (..., {size}) twice")
        return achieved.reshape(-1, size), desired.reshape(-1, size), achieved.shape[:-1]

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
        """Make `worlds` (all by default) copies of a snapshot; what they had lived is dropped.

        Senses that the snapshot's engine did not have are read anew. Raises ValueError if it is of another task.
        """
        if snapshot.physics.shape != (self.batch.nstate,) or snapshot.hidden.keys() != self.hidden.keys():
            raise ValueError(f"the snapshot is not of this {type(self.task).__name__}: its state differs in size")
        ids = self._all if worlds is None else np.asarray(worlds, np.int32)
        self.batch.reset(ids, stage=NO_STAGE)
        self.batch.state[ids] = snapshot.physics
        self.batch.forward(ids)
        self.batch.state[ids] = snapshot.physics  # forward has moved the solver's warm start
        self.goal[ids] = snapshot.goal
        for name, value in snapshot.hidden.items():
            self.hidden[name][ids] = value
        self.steps[ids] = snapshot.steps
        for i in ids:
            self.rngs[i].bit_generator.state = copy.deepcopy(snapshot.random)
        self.alive[ids] = True
        self._read(ids, [name for name in self.sensors if name not in snapshot.readings])
        for name in self.sensors.keys() & snapshot.readings.keys():
            self._readings[name][ids] = snapshot.readings[name]

    def __reduce__(self) -> tuple:
        """A copy is built from the same arguments and put into the same state, world by world."""
        arguments = (self._unbound, self.n, tuple(self.sensors), self.batch.nthread, self.strict)
        worlds = [self.get_state(i) for i in range(self.n)]
        return WorldEnv, arguments, {"worlds": worlds, "rngs": self.rngs, "alive": self.alive}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.rngs = state["rngs"]
        for i, snapshot in enumerate(state["worlds"]):
            self.set_state(snapshot, [i])
        self.alive[:] = state["alive"]

    def eye(self, camera: str, size: int) -> Eye:
        """The ray camera of that name and size, shared by the senses that look through it."""
        if (camera, size) not in self._eyes:
            self._eyes[camera, size] = Eye(self, camera, size)
        return self._eyes[camera, size]

    def moment(self, world: int) -> bytes:
        """What a world's looks depend on: a picture of the same moment need not be made again."""
        return self.batch.state[world].tobytes()

    # -- inside -------------------------------------------------------------------------------------------------

    def _check_action(self, action: Any, mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """The action as float64 in [-1, 1], and how many entries of each world had to be clipped, (n,)."""
        action = np.asarray(action)
        if action.dtype.kind not in "fiu":
            raise ValueError(f"action has dtype {action.dtype}, expected real numbers")
        if action.shape != self._action_shape:
            raise ValueError(f"action has shape {action.shape}, expected {self._action_shape}")
        action = action.astype(np.float64)
        if mask is not None:
            action[~mask] = 0.0
        inside = np.abs(action) <= 1.0
        if np.count_nonzero(inside) == inside.size:
            return action, np.zeros(self.n, np.int64)
        finite = np.isfinite(action)
        if not finite.all() or self.strict:
            world, index = np.argwhere(~inside if finite.all() else ~finite)[0]
            expected = "outside [-1, 1]" if finite.all() else "not finite"
            raise ValueError(f"action[{index}] of world {world} is {action[world, index]}, {expected}")
        return np.clip(action, -1.0, 1.0), (~inside).sum(axis=1)

    def _advance(self, mask: np.ndarray | None) -> np.ndarray | None:
        """Run the physics of one env step; the worlds where it failed, (n,) bool, or None."""
        failed = None
        try:
            self.batch.step(mask, self.robot.substeps, self._stage)
        except SimulationError as error:
            failed = np.isin(self._all, error.ids)
        whole = np.vdot(self.batch.state, self.batch.state) < BROKEN**2  # one quick pass; not for NaN
        if failed is None and whole and not np.count_nonzero(self._warnings):
            return None
        broken = self._warnings.any(axis=1) | ~(np.abs(self.batch.state).max(axis=1) < BROKEN)
        broken = broken if failed is None else broken | failed
        if not broken.any():
            return None
        self.batch.reset(np.flatnonzero(broken))
        return broken

    def _sense(self, mask: np.ndarray | None, broken: np.ndarray | None) -> None:
        """Refresh the readings that are due in the worlds of `mask`, and all readings of the broken ones."""
        for name, sensor in self.sensors.items():
            if sensor.every == 1 and mask is None:
                self._read(self._all, [name])
                continue
            due = self.steps % sensor.every == 0
            due = due if mask is None else due & mask
            self._read(np.flatnonzero(due if broken is None else due | broken), [name])

    def _read(self, ids: np.ndarray, names: Iterable[str]) -> None:
        for name in names:
            if len(ids):
                self._readings[name][ids] = self.sensors[name].read(self, ids)

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
