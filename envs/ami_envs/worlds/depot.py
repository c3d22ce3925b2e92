"""`ami/Depot-v0`: sort parcels from a conveyor belt into bins, by an order that changes. Long horizon, re-planning."""

from __future__ import annotations

import mujoco
import numpy as np

from ami_envs.core import WorldEnv
from ami_envs.paths import ASSETS
from ami_envs.robots import Gantry
from ami_envs.task import TabletopTask
from ami_envs.worlds import skills

PARCELS, BINS = 6, 3
HALF = 0.018  # of a parcel's edge, metres
BELT, TOP, SPEED = 0.13, 0.02, 0.04  # the belt's middle line in y and its height, metres; m/s
START = -0.36  # x of where parcels come onto the belt, under the hood, metres
EDGE = 0.26  # beyond +-EDGE in x or y no hand gets: a parcel there is lost, metres
WAIT = 2.0 + 0.1 * np.arange(PARCELS)  # how high above it, out of sight, each waits and is put when lost, metres
MIDDLES = np.array([-0.152, 0.0, 0.152])  # x of the bins, metres
ROW, WIDE, DEEP, RIM = -0.16, 0.073, 0.07, 0.06  # the bins' y, halves of their sides, height below which one is in
LIFTED = 0.055  # metres: a parcel higher than this is in the hand
TAGS = 0.021 * (np.arange(PARCELS) - 2.5)  # x of the tags from the middle of a bin, metres
READY = np.array([-0.16, BELT, 0.12])  # where the expert waits, metres
LEAD = 2 * 0.04 * SPEED  # metres: what a parcel goes on until the hand is there


class Depot(TabletopTask):
    """Success: all six parcels in their bins, each in its own at the first go.

    A belt brings the parcels one by one, 4 to 8 s apart, in an order that is not told. `desired_goal` names the bin of
    each, 1 to 3 from the left, two parcels to a bin. Once in an episode two bins change places in it, for the parcels
    that are not lifted just then. `achieved_goal` is the bin that each has come to, 0 while it is on its way, -1 if it
    is lost: off the belt's end or out of reach. What a parcel has come to stays; the episode ends when none is left.

    Observation (72): the hand's place (m), yaw (rad), finger slides, their velocities; of each parcel, all 0 unless it
    is on its way: 1, its place relative to the fingertip (m), cos and sin of four times its yaw, its velocity (m/s);
    for each entry of the goals, whether its parcel came to a bin, or was lost, in this step.

    Args:
        order: "colour": each parcel has its own colour, and entries of observation and goals are by colour. "weight":
            parcels look alike; entries of the goals are by weight (two light, two middle, two heavy, 40, 80 and 120 g;
            of the same weight the one that comes first is first), entries of the observation in the order of coming.
        robot: "gantry" or "arm7".
        reward_type: "dense" or "sparse".
    """

    derived = False
    scene = ASSETS / "depot" / "depot.xml"
    senses = ("touch", "scale")
    scale = True
    goal_size = PARCELS
    max_episode_steps = 1500
    things = tuple(f"parcel{k}" for k in range(PARCELS))
    apart = (100, 200)  # env steps between two parcels

    def __init__(self, order: str = "colour", robot: str = "gantry", reward_type: str = "dense") -> None:
        super().__init__(robot, reward_type)
        if order not in ("colour", "weight"):
            raise ValueError(f"order must be 'colour' or 'weight', not {order!r}")
        self.order, self.alike = order, order == "weight"

    def build(self, spec: mujoco.MjSpec) -> None:
        if self.order == "weight":
            for k, name in enumerate(self.things):
                spec.geom(name).material = "carton"
                spec.geom(f"tag{k}").material = ("light", "middle", "heavy")[k // 2]

    def bind(self, env: WorldEnv) -> None:
        first, n = env.robot.joints, env.n
        self._parcels = env.robot.qpos[:, first:].reshape(n, PARCELS, 7)
        self._speeds = env.robot.qvel[:, first:].reshape(n, PARCELS, 6)
        self._place, self._tags = self._parcels[:, :, :3], env.batch.bind("mocap_pos")
        env.hidden["entry"] = self._entry = np.zeros((n, PARCELS), np.int64)  # the step each comes at
        env.hidden["sequence"] = self._sequence = np.zeros((n, PARCELS), np.int64)  # which comes first, second, ...
        env.hidden["change"] = self._change = np.zeros((n, 3), np.int64)  # the step, and the two bins
        env.hidden["status"], env.hidden["settled"] = self._status, self._settled = np.zeros((2, n, PARCELS))

    def reset(self, env: WorldEnv, i: int, rng: np.random.Generator) -> None:
        coming = np.cumsum(rng.integers(*self.apart, PARCELS)) - self.apart[0]
        entry, pairs = rng.permutation(coming), np.repeat(1 + np.arange(BINS), PARCELS // BINS).reshape(BINS, -1)
        if self.order == "weight":
            entry, goal = np.sort(entry.reshape(BINS, -1)).ravel(), rng.permutation(pairs).ravel()
        else:
            goal = rng.permutation(pairs.ravel())
        env.goal[i], self._entry[i], self._sequence[i] = goal, entry, np.argsort(entry)
        self._status[i] = self._settled[i] = 0
        last = goal[entry.argmax()]  # on its way until the end, so that the change matters
        self._change[i] = rng.integers(coming[1], coming[-2]), last, 1 + (last - 1 + rng.integers(1, BINS)) % BINS
        half_yaw, lane = rng.uniform(-0.25, 0.25, PARCELS), BELT + rng.uniform(-0.015, 0.015, PARCELS)
        zero = np.zeros(PARCELS)
        where = (zero + START, lane, WAIT, np.cos(half_yaw), zero, zero, np.sin(half_yaw))
        self._parcels[i] = np.column_stack(where)
        self._mark(env, np.array([i]))
        env.robot.place(i, (*rng.uniform(-0.15, 0.15, 2), rng.uniform(0.1, 0.16)), fingers=Gantry.open)

    def _mark(self, env: WorldEnv, ids: np.ndarray) -> None:
        """Lay every parcel's tag before its bin."""
        self._tags[ids, :, 0] = MIDDLES[env.goal[ids].astype(int) - 1] + TAGS
        self._tags[ids, :, 1:] = -0.265, 0.004

    def before(self, env: WorldEnv, action: np.ndarray, mask: np.ndarray) -> None:
        """Hold those that wait or are lost, let come the next, change the order."""
        left = np.where(mask[:, None], self._entry - env.steps[:, None], -1)  # steps
        wait, come = np.nonzero((left > 0) | (mask[:, None] & (self._status < 0))), np.nonzero(left == 0)
        self._place[*wait, 2], self._speeds[wait] = WAIT[wait[1]], 0.0
        self._place[*come, 2] = TOP + HALF * env.factors["size"][come[0]]
        self._speeds[come] = (SPEED, 0, 0, 0, 0, 0)
        changing = np.flatnonzero(mask & (self._change[:, 0] == env.steps))
        if len(changing):
            free = (self._status[changing] == 0) & ((left[changing] >= 0) | (self._place[changing, :, 2] < LIFTED))
            goal, (one, other) = env.goal[changing], self._change[changing, 1:].T[:, :, None]
            new = np.where(goal == one, other, np.where(goal == other, one, goal))
            env.goal[changing] = np.where(free, new, goal)
            self._mark(env, changing)

    def after(self, env: WorldEnv, mask: np.ndarray) -> None:
        """See where parcels have come to."""
        x, y, z = np.moveaxis(self._place, 2, 0)
        far = np.abs(x[:, :, None] - MIDDLES)
        inside = (far.min(axis=2) < WIDE) & (np.abs(y - ROW) < DEEP) & (z < RIM)
        lost = (np.maximum(np.abs(x), np.abs(y)) > EDGE) & ~((x < 0) & self._on_belt())
        new = np.where(inside, 1.0 + far.argmin(axis=2), np.where(lost, -1.0, 0.0)) * self._here(env)
        self._settled[mask] = new[mask] != 0
        self._status[mask] += new[mask]

    def _here(self, env: WorldEnv) -> np.ndarray:
        """Which parcels are on their way, (B, 6) bool."""
        return (self._entry < env.steps[:, None]) & (self._status == 0)

    def _on_belt(self) -> np.ndarray:
        """Which parcels are over the belt's strip of the table, (B, 6) bool."""
        return np.abs(self._place[:, :, 1] - BELT) < 0.06

    def observe(self, env: WorldEnv) -> np.ndarray:
        blocks = np.empty((env.n, PARCELS, 9))
        blocks[:, :, 0] = 1.0
        blocks[:, :, 1:4] = self._place - env.robot.tip[:, None]
        blocks[:, :, 4:6] = skills.turns(self._parcels[:, :, 3:].reshape(-1, 4)).reshape(-1, PARCELS, 2)
        blocks[:, :, 6:] = self._speeds[:, :, :3]
        blocks = np.where(self._here(env)[:, :, None], blocks, 0.0)
        if self.order == "weight":
            blocks = np.take_along_axis(blocks, self._sequence[:, :, None], axis=1)
        return np.concatenate([env.robot.hand(), blocks.reshape(env.n, -1), self._settled], axis=1)

    def achieved(self, env: WorldEnv) -> np.ndarray:
        return self._status.copy()

    def success(self, achieved: np.ndarray, desired: np.ndarray) -> np.ndarray:
        return (achieved == desired).all(axis=1)

    def failure(self, achieved: np.ndarray, desired: np.ndarray, observation: np.ndarray | None) -> np.ndarray:
        return (achieved != 0).all(axis=1) & ~self.success(achieved, desired)

    def terms(self, achieved: np.ndarray, desired: np.ndarray, observation: np.ndarray | None) -> dict[str, np.ndarray]:
        """1 for a parcel settled right, -1 for wrong; small costs for time, and for the way that the parcel nearest to
        the hand has to go."""
        right = achieved == desired
        terms = {"missing": -0.0002 * (~right).sum(axis=1)}
        if observation is None:
            return terms
        terms["settled"] = (observation[:, 66:] * np.where(right, 1.0, -1.0)).sum(axis=1)
        blocks = observation[:, 12:66].reshape(-1, PARCELS, 9)
        here, offset = blocks[:, :, 0] > 0, blocks[:, :, 1:4]
        near = np.where(here, np.sqrt(np.vecdot(offset, offset)), np.inf)
        rows, k, some = np.arange(len(near)), near.argmin(axis=1), here.any(axis=1)
        place = observation[:, :2] + offset[rows, k, :2]
        wide = place[:, :1] - MIDDLES  # (pairs, bins)
        bin = np.abs(wide).argmin(axis=1)
        if self.order == "colour":  # by weight it may be any bin: the reward does not tell what a parcel weighs
            bin = np.clip(desired[rows, k].astype(int), 1, BINS) - 1
        away = np.hypot(wide[rows, bin], place[:, 1] - ROW)
        terms["reach"] = np.where(some, -0.001 * np.tanh(5.0 * near[rows, k]), 0.0)
        terms["bring"] = np.where(some, -0.001 * np.tanh(5.0 * away), 0.0)
        return terms

    def privileged(self, env: WorldEnv) -> dict[str, np.ndarray]:
        """`entry`: the env step each entry of the goals comes at; `change`: the step, and the two bins."""
        return {"entry": self._entry, "change": self._change}

    def oracle(self, env: WorldEnv) -> np.ndarray:
        """Carry what is in the hand, else what is farthest along the belt, else what lies elsewhere, to its bin."""
        place, here, belt = self._place, self._here(env), self._on_belt()
        held = np.stack([skills.in_hand(env, place[:, k]) for k in range(PARCELS)], axis=1)
        urgent = np.where(held, 2.0, np.where(belt, place[:, :, 0], -1.0))
        urgent[~here | (place[:, :, 0] < -0.24)] = -2.0
        rows, k = env.all, urgent.argmax(axis=1)
        none = urgent[rows, k] == -2.0
        thing = place[rows, k]
        thing[:, 0] += np.where((belt & ~held)[rows, k], LEAD, 0.0)
        target = np.empty((env.n, 3))
        target[:, 0] = MIDDLES[env.goal[rows, k].astype(int) - 1] + 0.042 * (k % 3 - 1)
        target[:, 1] = ROW + 0.05 * (k // 3 - 0.5)
        target[:, 2] = 0.068
        yaw = skills.cube_yaw(self._parcels[rows, k, 3:])
        work = skills.carry(env, thing, yaw, target, near=0.01)
        across = (np.abs(env.robot.hand()[:, 3] - yaw) > 0.7) & ~held.any(axis=1)  # would close towards belt or wall
        goal = np.where((across & ~none)[:, None], env.robot.tip, READY)
        goal[:, 2] = READY[2]
        rest = skills.go(env, goal, skills.OPEN, np.where(none, 0.0, yaw))
        return np.where((none | across)[:, None], rest, work)
