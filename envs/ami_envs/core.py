"""The engine: n worlds of one task on `mujoco.batch`. A single environment is the same engine with n=1."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import mujoco
import numpy as np
from gymnasium.spaces import Box, Dict, Space
from gymnasium.utils import seeding
from mujoco.batch import Batch, SimulationError

from ami_envs import senses as sense
from ami_envs.causes import Causes, Chosen
from ami_envs.factors import space
from ami_envs.inputs import Worlds, check_action, observations, pairs, whole, world_ids
from ami_envs.readings import Readings, follow, noise_key
from ami_envs.scenes import compile_task
from ami_envs.senses import Eye, Senses
from ami_envs.sessions import Sessions
from ami_envs.snapshots import Snapshot, Told, counterfactual, put, take
from ami_envs.task import Task, hooks

__all__ = ["Snapshot", "Task", "WorldEnv"]

NO_STAGE, VELOCITY_STAGE = int(mujoco.mjtStage.mjSTAGE_NONE), int(mujoco.mjtStage.mjSTAGE_VEL)
LIMIT = mujoco.mjMAXVAL  # MuJoCo's own: no coordinate or speed of a working simulation comes near
BROKEN = LIMIT / 10  # so that sums of coordinates, too, stay within the spaces' bounds
TASK_SALT = 0x7A5C  # keeps numbered tasks' chances apart from those of seeds
GOAL_KEYS = ("observation", "achieved_goal", "desired_goal")


class WorldEnv:
    """n worlds, stepped together; world axis first in everything.

    Args:
        task: what the worlds are.
        n: number of worlds.
        senses: names from `SENSORS`, beyond the three goal keys, or a mapping from names to settings such as
            `{"rgb": {"size": 128, "every": 2, "delay": 1, "noise": 0.01}}`; None for the task's own.
        threads: of the physics; the result is the same at any number.
        strict: refuse actions outside [-1, 1] instead of clipping them.
        factors: causes of every episode: values by name, or "training" or "held_out" to draw them (see `Causes`).
        session: which session every episode is a visit of; None to leave it to seeds (see `reset`).
    """

    def __init__(
        self,
        task: Task,
        n: int = 1,
        senses: Senses | None = None,
        threads: int = 1,
        strict: bool = False,
        factors: Chosen = None,
        session: int | None = None,
    ) -> None:
        self._unbound = task
        self.task = task = copy.copy(task)  # `bind` makes it this engine's own
        self.n, self.strict = whole("n, the number of worlds,", n, 1), strict
        self._senses = sense.settle(task.senses if senses is None else senses, task)
        self.model = compile_task(task, self._senses)
        self.batch = Batch(self.model, n, nthread=whole("threads", threads, 1, 1024))
        self.robot: Any = task.robot(self.batch)  # of the task's own kind
        self.period = self.robot.substeps * self.model.opt.timestep
        self.goal = np.zeros((n, task.goal_size))
        self.hidden: dict[str, np.ndarray] = {}
        self.qvel_before = np.zeros((n, self.model.nv))  # speeds as the latest step began
        self.steps, self.held = np.zeros((2, n), np.int64)  # of the episode; for which success has lasted
        self.sessions = Sessions(n, session)
        self.session, self.visit = self.sessions.session, self.sessions.visit
        self.rngs = [np.random.default_rng() for _ in range(n)]
        self.noise_keys = np.zeros((n, 2), np.uint64)
        self.noisy = False  # whether any sense of any world is, by its factor
        self.alive = np.zeros(n, bool)  # between reset and the end of the task
        self.all = np.arange(n, dtype=np.int32)
        self._every = np.ones(n, bool)
        self._warnings = self.batch.warning[:, :, 1]  # how often each kind was given, a view
        self._action_shape = (n, self.robot.action_size)
        self._eyes: dict[tuple, Eye] = {}
        self._before, self._after, self._failure, self._cost, self._privileged = hooks(task)
        self.causes = Causes(self, factors)
        task.bind(self)
        self.batch.forward()
        self.readings = {
            name: Readings(sense.build(name, self, settings), n, name) for name, settings in self._senses.items()
        }
        derived = task.derived or self.robot.derived or any(one.sensor.derived for one in self.readings.values())
        self._stage = VELOCITY_STAGE if derived else NO_STAGE  # how far derived fields describe the new state
        follow(self)
        shapes = (task.observe(self).shape[1:], (task.goal_size,), (task.goal_size,))
        goals = {k: Box(-LIMIT, LIMIT, shape, np.float64) for k, shape in zip(GOAL_KEYS, shapes, strict=True)}
        self.spaces: dict[str, Space] = {**goals, **{k: one.sensor.space for k, one in self.readings.items()}}

    # -- an episode ---------------------------------------------------------------------------------------------

    def reset(
        self,
        ids: np.ndarray | None = None,
        seeds: Sequence[int | None] | None = None,
        session: int | None = None,
        factors: Chosen = None,
        task_id: int | None = None,
    ) -> dict[str, np.ndarray]:
        """Start new episodes in worlds `ids` (all by default); a seed of None goes on with the world's generator.

        Args:
            ids: which worlds.
            seeds: one each.
            session: which session the episodes are visits of, over the engine's own; without any, a seed begins a
                session of its own, and no seed goes on with the world's latest.
            factors: causes of these episodes alone, as the engine's own argument, which they go before.
            task_id: a numbered start and goal, the same for every seed; in a session of that number, if none is given.

        Nothing has changed where a ValueError is raised for one of these.

        Returns the observation of all worlds, each (n, *shape).
        """
        ids = world_ids(ids, self.n)
        self.causes.check(factors)
        session = self.sessions.check(session, task_id)
        self.alive[ids] = False  # should a task's own reset raise
        for i, seed in zip(ids, seeds or [None] * len(ids), strict=True):
            if seed is not None:
                self.rngs[i] = seeding.np_random(seed)[0]
            self.sessions.begin(int(i), seed, session, self.rngs[i])
            self.noise_keys[i] = noise_key(self.rngs[i])
            self.causes.begin(int(i), factors, self.noise_keys[i])
        self.batch.reset(ids, stage=NO_STAGE)
        for i in ids:
            rng = self.rngs[i] if task_id is None else np.random.default_rng([TASK_SALT, task_id])
            self.task.reset(self, int(i), rng)
        self.batch.forward(ids)
        self.qvel_before[ids] = self.robot.qvel[ids]
        self.steps[ids] = self.held[ids] = 0
        self.alive[ids] = True
        follow(self)
        for one in self.readings.values():
            one.fill(self, ids)
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
        action, clipped = check_action(action, self._action_shape, mask, self.strict)
        moved = self._every if mask is None else mask
        if np.count_nonzero(moved & ~self.alive):
            raise RuntimeError(f"step() of world {np.argmax(moved & ~self.alive)} before reset(), or after its end")
        if self._before is not None:
            self._before(self, action, moved)
        standing = None if mask is None else self.robot.ctrl[~mask]
        self.robot.apply(action)
        if mask is not None:
            self.robot.ctrl[~mask] = standing
        broken = self._advance(mask)
        self.steps += moved
        if self._after is not None:
            self._after(self, moved)
        for one in self.readings.values():
            one.refresh(self, mask, broken)
        observation = self.observe()
        state, achieved = observation["observation"], observation["achieved_goal"]
        reward = self.task.reward(achieved, self.goal, state)
        lost = None if self._failure is None else self._failure(achieved, self.goal, state)
        at_goal = self.task.success(achieved, self.goal)
        success = self._lasting(at_goal if lost is None else at_goal & ~lost, moved)
        over = ends = success if lost is None else success | lost
        if broken is not None:  # what is told of it is of the model's defaults
            success, over, ends = success & ~broken, over & ~broken, over | broken
        self.alive &= ~(ends & moved)
        return observation, reward, over, self._info(success, clipped, broken, state)

    def observe(self) -> dict[str, np.ndarray]:
        """What all worlds sense now: fresh arrays, each (n, *shape)."""
        observation = {
            "observation": self.task.observe(self),
            "achieved_goal": self.task.achieved(self),
            "desired_goal": self.goal.copy(),
        }
        for name, one in self.readings.items():
            observation[name] = one.told(self)
        return observation

    def info(self) -> dict[str, np.ndarray]:
        """The info of worlds that have just been reset: the same keys as a step's."""
        return self._info(np.zeros(self.n, bool), np.zeros(self.n, np.int64), None, self.task.observe(self))

    # -- the goal's rewards, for arrays of goals (hindsight relabelling) ------------------------------------------

    def compute_reward(self, achieved: np.ndarray, desired: np.ndarray, info: Any) -> np.ndarray | float:
        """Reward of (..., goal_size) pairs; `info["observation"]`, where given, feeds the terms that need it."""
        achieved, desired, shape = pairs(achieved, desired, self.task.goal_size)
        reward = self.task.reward(achieved, desired, observations(info, len(achieved)))
        return reward.reshape(shape) if shape else float(reward[0])

    def compute_terminated(self, achieved: np.ndarray, desired: np.ndarray, info: Any = None) -> np.ndarray | bool:
        """Whether the episode ends at (..., goal_size) pairs. Where success must last, once counts as lasting."""
        achieved, desired, shape = pairs(achieved, desired, self.task.goal_size)
        done = self.task.success(achieved, desired)
        if self._failure is not None:
            done = done | self._failure(achieved, desired, observations(info, len(achieved)))
        return done.reshape(shape) if shape else bool(done[0])

    # -- causes ---------------------------------------------------------------------------------------------------

    @property
    def factors(self) -> dict[str, np.ndarray]:
        """The factors' values now, (n, ...) each."""
        return self.causes.values

    def factor_space(self, split: str = "training") -> Dict:
        """The factors with their ranges, to learn in ("training") or to be tested in ("held_out")."""
        return space(self.causes.factors, split)

    def intervene(self, values: Mapping[str, Any], worlds: Worlds = None) -> None:
        """Set factors by name, now, in `worlds` (all by default): a value for all, or one each; others stay.

        Raises ValueError for an unknown name, a wrong shape or a value that makes no sense.
        """
        before = self.factors["delay"].astype(int)
        self.causes.intervene(values, world_ids(worlds, self.n))
        follow(self, before)

    def propose(self, world: int, values: Mapping[str, Any]) -> None:
        """For `Task.reset`: set factors of an episode by the task's own draw; what the user has chosen stays."""
        self.causes.propose(world, values)

    def counterfactual(
        self, snapshot: Snapshot, values: Mapping[str, Any], actions: np.ndarray, world: int = 0
    ) -> list[Told]:
        """Live `actions` (T, A) from a snapshot under other causes, in one world, which is then put back.

        Returns (observation, reward, terminated, info) of each step, up to the episode's end.
        """
        return counterfactual(self, snapshot, values, actions, world)

    def field(self, name: str) -> np.ndarray:
        """A field of MuJoCo's model, a row a world, (n, ...), live: for colours and lamps. Each episode begins with
        the compiled model's values; snapshots hold it."""
        return self.causes.field(name)

    def model_of(self, world: int) -> mujoco.MjModel:
        """The model of one world with all its causes; valid until the next call."""
        return self.causes.model_of(world)

    def session_rng(self, world: int) -> np.random.Generator:
        """The generator of what stays the same over all episodes of a world's session; each call begins it anew."""
        return self.sessions.rng(world)

    # -- snapshots ----------------------------------------------------------------------------------------------

    def get_state(self, world: int = 0) -> Snapshot:
        """All of one world, copied."""
        return take(self, world)

    def set_state(self, snapshot: Snapshot, worlds: Worlds = None) -> None:
        """Make `worlds` (all by default) copies of a snapshot; what they had lived is dropped.

        Senses that the snapshot's engine had not, or otherwise, are read anew. Raises ValueError if it is of another
        task or of other options.
        """
        put(self, snapshot, world_ids(worlds, self.n))

    def __reduce__(self) -> tuple:
        """A copy is built from the same arguments and put into the same state, world by world."""
        senses, threads = self._senses, self.batch.nthread
        arguments = (self._unbound, self.n, senses, threads, self.strict, self.causes.chosen, self.sessions.fixed)
        worlds = [self.get_state(i) for i in range(self.n)]
        return WorldEnv, arguments, {"worlds": worlds, "rngs": self.rngs, "alive": self.alive}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.rngs = state["rngs"]
        for i, snapshot in enumerate(state["worlds"]):
            self.set_state(snapshot, [i])
        self.alive[:] = state["alive"]

    def eye(self, camera: str, width: int, height: int, renderer: str = "ray") -> Eye:
        """The camera of that name and size, shared by all who look through it."""
        key = camera, width, height, renderer
        if key not in self._eyes:
            self._eyes[key] = Eye(self, *key)
        return self._eyes[key]

    def close(self) -> None:
        """Let go of what is outside Python's memory; closing twice is harmless."""
        while self._eyes:
            self._eyes.popitem()[1].close()

    def moment(self, world: int) -> bytes:
        """What a world's looks depend on: a picture of the same moment need not be made again."""
        return self.batch.state[world].tobytes() + self.causes.moment(world)

    # -- inside -------------------------------------------------------------------------------------------------

    def _advance(self, mask: np.ndarray | None) -> np.ndarray | None:
        """Run the physics of one env step; the worlds where it failed, (n,) bool, or None."""
        failed = None
        self.qvel_before[:] = self.robot.qvel
        try:
            self.batch.step(mask, self.robot.substeps, self._stage)
        except SimulationError as error:
            failed = np.isin(self.all, error.ids)
        whole = np.vdot(self.batch.state, self.batch.state) < BROKEN**2  # one quick pass; not for NaN
        if failed is None and whole and not np.count_nonzero(self._warnings):
            return None
        broken = self._warnings.any(axis=1) | ~(np.abs(self.batch.state).max(axis=1) < BROKEN)
        broken = broken if failed is None else broken | failed
        broken = broken if mask is None else broken & mask
        if not broken.any():
            return None
        self.batch.reset(np.flatnonzero(broken))
        self.qvel_before[broken] = 0.0
        return broken

    def _lasting(self, at_goal: np.ndarray, moved: np.ndarray) -> np.ndarray:
        """Where success has lasted as long as it must, (n,) bool."""
        if self.task.hold == 1:
            return at_goal
        self.held[moved] = np.where(at_goal, self.held + 1, 0)[moved]
        return self.held >= self.task.hold

    def _info(
        self, success: np.ndarray, clipped: np.ndarray, broken: np.ndarray | None, state: np.ndarray
    ) -> dict[str, np.ndarray]:
        info = {
            "success": success,
            "is_success": success.copy(),
            "clipped": clipped,
            "physics_error": np.zeros(self.n, bool) if broken is None else broken,
            "cost": np.zeros(self.n) if self._cost is None else np.array(self._cost(self), float),
            "session": self.session.copy(),
            "visit": self.visit.copy(),
            "observation": state.copy(),
        }
        if self._privileged is not None:
            info |= {f"privileged/{name}": value.copy() for name, value in self._privileged(self).items()}
        return info
