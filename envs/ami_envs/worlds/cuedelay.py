"""`ami/CueDelay-v0`: touch the pad that was lit, or the cup that hides the ball. Working memory, object permanence."""

from __future__ import annotations

import math

import mujoco
import numpy as np

from ami_envs.core import WorldEnv
from ami_envs.inputs import whole
from ami_envs.paths import ASSETS
from ami_envs.robots import Manipulator
from ami_envs.task import TabletopTask, distance
from ami_envs.worlds import cups
from ami_envs.worlds.skills import go

CUES = {"cue": 1, "sequence": 3, "shell": 1}  # pads to press
SHOWN = {"cue": 5, "sequence": 5, "shell": 6}  # env steps that each cue is there to be seen
CENTRE, RADIUS, SPREAD, TURN = np.array([0.0, 0.08]), 0.2, math.radians(80), 0.15  # of the fan: metres, radians
LIFT = 0.08  # metres that the ball's cup is raised by at first
COUNTS = ("pad", "held", "right", "bell")  # pad under the hand, for how long, right presses, what the last step brought
DARK, LIT = (0.42, 0.50, 0.62, 1.0), (1.0, 0.86, 0.25, 1.0)  # colours of a pad
WAIT, OPEN = (0.75, 0.20, 0.17, 1.0), (0.25, 0.90, 0.35, 1.0)  # colours of the lamp


class CueDelay(TabletopTask):
    """Success: the pad that was lit is the first one pressed. The hand is held still until answers are open.

    In variant "sequence" three pads are lit one by one and are to be pressed in that order. In "shell" cups stand in
    the pads' place: a ball is seen under one, neighbours swap places `delay // 10` times, and the cup that hides the
    ball is to be pressed. A press is two steps on end with closed fingers on one pad, from above; a wrong one ends
    the episode. So that the hand cannot do the remembering, it stands in the same place, whatever the actions, from
    the start to the end of the delay. A guess without memory is right in one of n episodes, in "sequence" in fewer.

    Observation (14 + 3n): fingertip (m), yaw (rad), finger slides, their velocities; 1 while answers are open; 1 after
    the step of a right press, -1 of a wrong one; for each pad, left to right, 1 while it is lit or the ball is seen
    under it; the pads' x and y relative to the fingertip (m), left to right. Achieved goal: share of the right presses
    done, -1 after a wrong one; the desired goal is always 1 and tells nothing.

    Args:
        variant: "cue", "sequence" or "shell"; give `gym.make` `max_episode_steps=100 + delay` along with
            "sequence".
        n: pads, 3, 5 or 9; None for 5, or 3 cups.
        delay: env steps from the end of the cues to when answers are open, 10 to 100; give
            `gym.make` `max_episode_steps=40 + delay` along with it.
    """

    derived = False
    scene = ASSETS / "cuedelay" / "cuedelay.xml"
    senses = ("touch",)
    needs = "memory"
    goal_size, fixed_goal = 1, True
    max_episode_steps = 60
    radius, press = 0.028, 2  # of a pad, metres; of a press, env steps
    home = np.array([*CENTRE, 0.1])

    def __init__(
        self,
        variant: str = "cue",
        n: int | None = None,
        delay: int = 20,
        robot: str = "gantry",
        reward_type: str = "dense",
    ) -> None:
        super().__init__(robot, reward_type)
        if variant not in CUES:
            raise ValueError(f"variant must be one of {', '.join(CUES)}, not {variant!r}")
        if n not in (None, 3, 5, 9):
            raise ValueError(f"n must be 3, 5 or 9, not {n}")
        whole("delay", delay, 10, 100)
        self.max_episode_steps = delay + (100 if variant == "sequence" else 40)
        self.shell = variant == "shell"
        self.n = n or (3 if self.shell else 5)
        self.cues, self.shown = CUES[variant], SHOWN[variant]
        self.swaps = delay // cups.SWAP if self.shell else 0
        self.start = self.cues * self.shown  # of the delay, env step
        self.go = self.start + delay  # answers are open from here on
        self.top = 0.06 if self.shell else 0.012  # of a pad, metres

    def build(self, spec: mujoco.MjSpec) -> None:
        cylinder, bare = mujoco.mjtGeom.mjGEOM_CYLINDER, {"contype": 0, "conaffinity": 0}
        for index in range(self.n):
            pad = spec.worldbody.add_body(name=f"pad{index}", mocap=True)
            size, look = ([0.026, 0.03, 0], "cup") if self.shell else ([self.radius, 0.006, 0], "pad")
            pad.add_geom(name=f"pad{index}", type=cylinder, size=size, pos=[0, 0, size[1]], material=look)
            size, look = ([0.03, 0.004, 0], "cup_rim") if self.shell else ([0.034, 0.004, 0], "rim")
            pad.add_geom(type=cylinder, size=size, pos=[0, 0, size[1]], material=look, **bare)
        if self.shell:
            ball = spec.worldbody.add_body(name="ball", mocap=True, pos=[0, 0, 0.021])
            ball.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.02, 0, 0], material="ball", **bare)

    def bind(self, env: WorldEnv) -> None:
        mocap = env.batch.bind("mocap_pos")
        self._pads, self._places, self._ball = mocap[:, : self.n], mocap[:, : self.n, :2], mocap[:, -1]
        self._tip, self._rgba = env.robot.tip, env.field("geom_rgba")
        self._fingers = [env.batch.joint(name).qpos for name in ("left", "right")]
        self._forces = [env.batch.sensor(name).data for name in env.robot.touch]
        self._lamp, *self._lights = (env.model.geom(name).id for name in ("lamp", *(f"pad{k}" for k in range(self.n))))
        zeros = {"cue": self.cues, "answer": self.cues, "guess": self.cues, "swaps": self.swaps, "ball": self.swaps + 1}
        env.hidden |= {name: np.zeros((env.n, size), np.int64) for name, size in zeros.items()}  # numbers of pads
        env.hidden |= {name: np.zeros(env.n, np.int64) for name in COUNTS}
        env.hidden["fan"] = np.zeros((env.n, self.n, 2))  # where the pads or cups rest

    def reset(self, env: WorldEnv, i: int, rng: np.random.Generator) -> None:
        hidden, env.goal[i] = env.hidden, 1.0
        env.robot.place(i, self.home, fingers=Manipulator.closed)
        angle = np.linspace(-SPREAD, SPREAD, self.n) + rng.uniform(-TURN, TURN)
        hidden["fan"][i] = self._places[i] = CENTRE + RADIUS * np.stack([np.sin(angle), -np.cos(angle)], axis=1)
        hidden["cue"][i] = hidden["answer"][i] = rng.permutation(self.n)[: self.cues]
        hidden["guess"][i] = rng.permutation(self.n)[: self.cues]
        for name in COUNTS:
            hidden[name][i] = 0
        if self.shell:
            hidden["swaps"][i], hidden["ball"][i] = cups.draw(rng, self.n, int(hidden["cue"][i, 0]), self.swaps)
            hidden["answer"][i] = hidden["ball"][i, -1]
            self._move(env, np.array([i]), np.zeros(1, np.int64))
        self._paint(env, np.array([i]), np.zeros_like(env.steps))

    def _move(self, env: WorldEnv, rows: np.ndarray, time: np.ndarray) -> None:
        """Put the cups and the ball of worlds `rows` (k,) where they are at step `time` (k,)."""
        hidden, since = env.hidden, np.maximum(time - self.start, 0)
        self._places[rows] = cups.places(hidden["fan"][rows], hidden["swaps"][rows], since)
        self._ball[rows, :2] = self._places[rows, cups.ball_under(hidden["ball"][rows], since)]
        self._pads[rows, hidden["cue"][rows, 0], 2] = LIFT / 4 * np.clip(self.start - time, 0, 4)

    def _paint(self, env: WorldEnv, rows: np.ndarray, time: np.ndarray) -> None:
        """Colour the pads and the lamp of worlds `rows` (k,) as they are at step `time` (B,)."""
        self._rgba[rows, self._lamp] = np.where((time[rows] >= self.go)[:, None], OPEN, WAIT)
        if not self.shell:
            self._rgba[rows[:, None], self._lights] = np.where(self._lit(env, time)[rows][:, :, None], LIT, DARK)

    def _lit(self, env: WorldEnv, time: np.ndarray) -> np.ndarray:
        """Which pad is lit, or has the ball under it to be seen, at step `time` (B,): (B, n) bool."""
        cue = np.minimum(time // self.shown, self.cues - 1)
        return (env.hidden["cue"][env.all, cue, None] == np.arange(self.n)) & (time < self.start)[:, None]

    def before(self, env: WorldEnv, action: np.ndarray, mask: np.ndarray) -> None:
        rows = np.flatnonzero(mask & (env.steps < self.go))
        if len(rows):
            action[rows] = go(env, self.home, 1.0)[rows]
            if self.shell:
                self._move(env, rows, env.steps[rows] + 1)

    def after(self, env: WorldEnv, mask: np.ndarray) -> None:
        hidden = env.hidden
        self._paint(env, np.flatnonzero(mask & (env.steps <= self.go)), env.steps)
        offset = self._places - self._tip[:, None, :2]
        away = np.vecdot(offset, offset)
        pad = away.argmin(axis=1)
        pressing = (away.min(axis=1) < self.radius**2) & (self._tip[:, 2] < self.top + 0.02)
        pressing &= (self._fingers[0] + self._fingers[1] < 0.03)[:, 0] & (self._forces[0] + self._forces[1] > 0)[:, 0]
        held = np.where(pressing, np.where(pad == hidden["pad"], hidden["held"], 0) + 1, 0)
        pressed = held == self.press
        right = pressed & (pad == hidden["answer"][env.all, np.minimum(hidden["right"], self.cues - 1)])
        bell = np.where(right, 1, -pressed.astype(int))
        count = np.where(bell < 0, -self.cues, hidden["right"] + right)
        for name, value in zip(COUNTS, (pad, held, count, bell), strict=True):
            hidden[name][:] = np.where(mask, value, hidden[name])

    def observe(self, env: WorldEnv) -> np.ndarray:
        told = np.stack([env.steps >= self.go, env.hidden["bell"]], axis=1)
        places = (self._places - self._tip[:, None, :2]).reshape(env.n, -1)
        return np.concatenate([env.robot.hand(), told, self._lit(env, env.steps), places], axis=1)

    def achieved(self, env: WorldEnv) -> np.ndarray:
        return env.hidden["right"][:, None] / self.cues

    def success(self, achieved: np.ndarray, desired: np.ndarray) -> np.ndarray:
        return achieved[:, 0] >= desired[:, 0]

    def failure(self, achieved: np.ndarray, desired: np.ndarray, observation: np.ndarray | None) -> np.ndarray:
        return achieved[:, 0] < 0

    def terms(self, achieved: np.ndarray, desired: np.ndarray, observation: np.ndarray | None) -> dict[str, np.ndarray]:
        """+1 for a right press, -1 for a wrong one; once answers are open, time and the way to the nearest pad cost."""
        if observation is None:
            return {"answer": self.success(achieved, desired) * 1.0 - (achieved[:, 0] < 0)}
        waited, bell, tip = observation[:, 12], observation[:, 13], observation[:, :3]
        relative = observation[:, 14 + self.n :].reshape(-1, self.n, 2)
        away = np.sqrt(np.vecdot(relative, relative).min(axis=1) + (tip[:, 2] - self.top) ** 2)
        return {"answer": bell, "time": -0.05 * waited, "near": -0.5 * waited * away}

    def privileged(self, env: WorldEnv) -> dict[str, np.ndarray]:
        return {"answer": env.hidden["answer"]}

    def oracle(self, env: WorldEnv) -> np.ndarray:
        return self._answer(env, env.hidden["answer"])

    def floor(self, env: WorldEnv) -> np.ndarray:
        return self._answer(env, env.hidden["guess"])

    def chance(self) -> tuple[float, float]:
        return 1 / math.perm(self.n, self.cues), 0.05

    def _answer(self, env: WorldEnv, pads: np.ndarray) -> np.ndarray:
        """Go to above the next of `pads` (B, cues), then press it."""
        pad = pads[env.all, np.minimum(env.hidden["right"], self.cues - 1)]
        tip, target = self._tip, np.empty((env.n, 3))
        target[:, :2] = self._places[env.all, pad]
        away = distance(target[:, :2], tip[:, :2])
        target[:, 2] = np.where(away < 0.015, np.maximum(tip[:, 2] - 0.012, self.top), self.top + 0.045)
        low = (tip[:, 2] < self.top + 0.02) & (away > self.radius)
        target[:, :2] = np.where(low[:, None], tip[:, :2], target[:, :2])  # up first
        return go(env, target, 1.0)
