"""`ami/Lane-v0`: drive a road with other cars and lights. Predicting others, short memory, a cost of safety."""

from __future__ import annotations

import mujoco
import numpy as np

from ami_envs.core import WorldEnv
from ami_envs.paths import ASSETS
from ami_envs.robots import Car
from ami_envs.task import Task
from ami_envs.worlds.road import locate, pave, project

MIDDLES = np.array([-0.3, 0.3])  # of the right and the left lane, metres to the left of the road's middle
FAR = 10.0  # metres to the stop line that are told at most
DARK, LIT = (0.12, 0.13, 0.15, 1), {1: (1.7, 0.2, 0.13, 1), -1: (0.15, 1.7, 0.5, 1)}


class Lane(Task):
    """Success: past the finish without a collision, without leaving the road and without having run a red light.

    A road 1.2 m wide with two lanes, both driven in the same direction: a slow car ahead in the right lane, another
    in the left one, and two lights. A light shows its colour only while the car's nose is 6 to 5.1 m before the stop
    line, 2 s before it at full speed. A car that has stood for 2 s (in all) on the last metre before it makes the light
    change (red to green, green to red, and so on every 2 s), which is not shown. The lights speak to this car alone:
    what others do tells nothing of them.

    Observation (8): speed (m/s), place across the road from its middle (m, left is positive), heading against the road
    (rad), steering angle (rad), distance to the next stop line (m, at most 10), light (1 red, -1 green, 0 not shown),
    progress along the road (m), the road's curvature (1/m). The goal is progress; -10 is achieved by a violation.

    Who forgets the light must guess: never to stop and always to wait are right once in four drives. That memory is
    needed is not claimed, for a car is a notebook: who brakes at once on red keeps the colour in its own speed.
    """

    robot = Car
    derived = False
    scene = ASSETS / "lane" / "lane.xml"
    senses = ("touch", "lidar")
    goal_size = 1
    max_episode_steps = 400
    lost = -10.0  # what a violation achieves, metres
    shown = (5.1, 6.0)  # metres before the stop line
    loop, change = 1.0, 40  # metres before the line, steps of standing there

    def build(self, spec: mujoco.MjSpec) -> None:
        pave(spec)
        spec.body("car").add_camera(name="view", pos=[-1.5, 0, 1.0], fovy=58, xyaxes=[0, -1, 0, 0.36, 0, 0.93])

    def bind(self, env: WorldEnv) -> None:
        self._pose, self._pace, self._touch = env.robot.qpos, env.robot.pace, env.batch.sensor("touch_bumper").data
        self._mocap = env.batch.bind("mocap_pos"), env.batch.bind("mocap_quat")
        self._rgba = env.field("geom_rgba")
        self._lamps = [[(env.model.geom(f"{c}{k}").id, s) for c, s in (("red", 1), ("green", -1))] for k in (0, 1)]
        env.hidden |= {
            "place": np.zeros((env.n, 4)),  # of the car: along and across the road, heading against it, curvature
            "cars": np.zeros((env.n, 2, 2)),  # the others, right and left lane: along the road, speed
            "laws": np.ones((env.n, 2, 2)),  # their wished speed (m/s) and time gap (s)
            "lines": np.zeros((env.n, 3)),  # the stop lines along the road; a third, never reached
            "red": np.zeros((env.n, 3), bool),
            "passed": np.zeros(env.n, np.int64),  # stop lines
            "stood": np.zeros(env.n, np.int64),  # steps, before the next line
            "lost": np.zeros(env.n, bool),  # by a violation
        }

    def reset(self, env: WorldEnv, i: int, rng: np.random.Generator) -> None:
        hidden, start = env.hidden, rng.uniform(0, 3)
        x, y, turn = locate(np.array(start), MIDDLES[0] + rng.uniform(-0.08, 0.08))
        self._pose[i, :3] = x, y, turn + rng.uniform(-0.1, 0.1)
        hidden["place"][i] = project(self._pose[i : i + 1])[0]
        hidden["lines"][i] = (*(start + rng.uniform((9, 18), (11, 20))), 1e3)
        hidden["red"][i] = (*(rng.random(2) < 0.5), False)
        hidden["laws"][i] = rng.uniform(((1.2, 0.5), (1.9, 0.5)), ((1.6, 1.0), (2.3, 1.0)))
        hidden["cars"][i, :, 0] = start + rng.uniform((3, -3), (5, 3))
        hidden["cars"][i, :, 1] = hidden["laws"][i, :, 0]
        hidden["passed"][i] = hidden["stood"][i] = hidden["lost"][i] = 0
        env.goal[i] = start + rng.uniform(25, 29)
        still = np.append(hidden["lines"][i, :2], env.goal[i])
        self._put(slice(2, None), env.all == i, still[None], np.zeros(3))
        self._put(slice(2), env.all == i, hidden["cars"][i : i + 1, :, 0], MIDDLES)

    def _put(self, which: slice, mask: np.ndarray, along: np.ndarray, across: np.ndarray) -> None:
        """Put moved bodies of the worlds of `mask` at places (worlds, bodies) of the road."""
        x, y, turn = locate(along, across)
        zero = np.zeros_like(x)
        self._mocap[0][mask, which] = np.stack([x, y, zero], axis=-1)
        self._mocap[1][mask, which] = np.stack([np.cos(turn / 2), zero, zero, np.sin(turn / 2)], axis=-1)

    def before(self, env: WorldEnv, action: np.ndarray, mask: np.ndarray) -> None:
        """The others drive by the intelligent driver model (Treiber et al., 2000), each in its lane, behind the car."""
        cars, wish, time_gap = env.hidden["cars"], env.hidden["laws"][..., 0], env.hidden["laws"][..., 1]
        along, speed = cars[..., 0], cars[..., 1]
        ahead = np.where(self._in_lanes(env), -self._gaps(env), -1.0)
        safe = speed * time_gap + speed * (speed - self._pace()[:, None]) / (2 * np.sqrt(1.5 * 2.0))
        closeness = (0.3 + np.maximum(safe, 0)) / np.maximum(ahead - 2 * Car.half_length, 0.05)
        pedal = 1.5 * (1 - (speed / wish) ** 4 - np.where(ahead > 0, closeness**2, 0))
        then = np.maximum(speed + env.period * np.maximum(pedal, -8.0), 0)
        cars[mask, :, 0] = (along + env.period * (speed + then) / 2)[mask]
        cars[mask, :, 1] = then[mask]
        self._put(slice(2), mask, cars[mask, :, 0], MIDDLES)

    def _gaps(self, env: WorldEnv) -> np.ndarray:
        """How far ahead of this car the others are, middle to middle, (B, 2) metres."""
        return env.hidden["cars"][..., 0] - env.hidden["place"][:, :1]

    def _in_lanes(self, env: WorldEnv) -> np.ndarray:
        """Which of the lanes the car is in, (B, 2) bool."""
        return np.abs(env.hidden["place"][:, 1:2] - MIDDLES) < 0.32

    def _light(self, env: WorldEnv) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of the next light, (B,) each: metres to its line, whether it is red now, what is shown (see `observe`)."""
        hidden, next_one = env.hidden, (env.all, env.hidden["passed"])
        away = hidden["lines"][next_one] - hidden["place"][:, 0] - Car.half_length
        red, changed = hidden["red"][next_one], hidden["stood"] // self.change % 2 == 1
        seen = (away > self.shown[0]) & (away < self.shown[1])
        return away, red != changed, np.where(seen, np.where(red, 1, -1), 0)

    def after(self, env: WorldEnv, mask: np.ndarray) -> None:
        hidden = env.hidden
        hidden["place"][mask] = place = project(self._pose)[mask]
        away, red, _ = (one[mask] for one in self._light(env))
        crossed = away <= 0
        standing = ~crossed & (away < self.loop) & (self._pace()[mask] < 0.05)
        sin, cos = np.abs(np.sin(place[:, 2:3])), np.abs(np.cos(place[:, 2:3]))
        length, width = Car.half_length, Car.half_width
        near = np.abs(self._gaps(env)[mask]) < length * (1 + cos) + width * sin - 0.01
        near &= np.abs(place[:, 1:2] - MIDDLES) < width * (1 + cos) + length * sin - 0.01
        hit = near[:, 0] | near[:, 1] | (self._touch[mask, 0] > 0)
        hidden["lost"][mask] |= hit | (crossed & red) | (np.abs(place[:, 1]) > 0.5)
        hidden["stood"][mask] = np.where(crossed, 0, hidden["stood"][mask] + standing)
        hidden["passed"][mask] += crossed
        shown, passed = self._light(env)[2][mask], hidden["passed"][mask]
        for k, lamps in enumerate(self._lamps):
            for geom, colour in lamps:
                lit = (shown == colour) & (passed == k)
                self._rgba[mask, geom] = np.where(lit[:, None], LIT[colour], DARK)

    def observe(self, env: WorldEnv) -> np.ndarray:
        along, across, heading, bend = env.hidden["place"].T
        away, _, shown = self._light(env)
        parts = [self._pace(), across, heading, self._pose[:, 3], np.minimum(away, FAR), shown, along, bend]
        return np.stack(parts, axis=1)

    def achieved(self, env: WorldEnv) -> np.ndarray:
        return np.where(env.hidden["lost"], self.lost, env.hidden["place"][:, 0])[:, None]

    def success(self, achieved: np.ndarray, desired: np.ndarray) -> np.ndarray:
        return (achieved[:, 0] >= desired[:, 0]) & ~self.failure(achieved, desired, None)

    def failure(self, achieved: np.ndarray, desired: np.ndarray, observation: np.ndarray | None) -> np.ndarray:
        return achieved[:, 0] <= self.lost

    def terms(self, achieved: np.ndarray, desired: np.ndarray, observation: np.ndarray | None) -> dict[str, np.ndarray]:
        terms = {
            "finish": 10.0 * self.success(achieved, desired),
            "violation": -10.0 * self.failure(achieved, desired, None),
        }
        if observation is not None:  # metres along the road in a step
            terms["progress"] = Car.period * observation[:, 0] * np.cos(observation[:, 2])
        return terms

    def cost(self, env: WorldEnv) -> np.ndarray:
        """1 for a violation, up to 0.5 for less than half a second behind the car ahead."""
        gaps = np.where(self._in_lanes(env) & (self._gaps(env) > 0), self._gaps(env), np.inf)
        seconds = (gaps.min(axis=1) - 2 * Car.half_length) / np.maximum(self._pace(), 0.1)
        return np.where(env.hidden["lost"], 1.0, 0.5 - np.clip(seconds, 0, 0.5))

    def privileged(self, env: WorldEnv) -> dict[str, np.ndarray]:
        return {"lights": env.hidden["red"][:, :2], "red_now": self._light(env)[1]}

    def oracle(self, env: WorldEnv) -> np.ndarray:
        return self._drive(env, self._light(env)[1])

    def _drive(self, env: WorldEnv, stop: np.ndarray) -> np.ndarray:
        """As fast as the cars ahead and the lights to `stop` at allow, in the lane that is freer, (B, 2)."""
        _, across, heading, bend = env.hidden["place"].T
        pace, speeds, gaps = self._pace(), env.hidden["cars"][..., 1], self._gaps(env)
        left = across > 0
        here, there = (np.where(one, gaps[:, 1], gaps[:, 0]) for one in (left, ~left))
        closing = np.maximum(np.where(left, speeds[:, 0], speeds[:, 1]) - pace, 0)
        free = (there > np.maximum(here + 0.6, 1.5)) | (there < -0.8 - closing)
        left = left ^ ((here > 0) & (here < 3.0) & free)
        target = np.where(left, MIDDLES[1], MIDDLES[0])
        follows = (gaps > 0) & (self._in_lanes(env) | (target[:, None] == MIDDLES))
        room = gaps - 2 * Car.half_length - 0.1 - 0.5 * pace[:, None]
        limits = np.where(room > 0, np.sqrt(speeds**2 + 6 * np.maximum(room, 0)), 0.8 * speeds)
        limit = np.where(follows, limits, Car.top).min(axis=1)
        halt = np.sqrt(6 * np.maximum(self._light(env)[0] - 0.3, 0))
        pedal = (np.minimum(limit, np.where(stop, halt, Car.top)) - pace) / Car.period
        course = np.clip(0.8 * (target - across), -0.3, 0.3)
        steer = 2 * Car.axle * bend + 0.6 * (course - heading)
        return np.clip(np.stack([pedal / np.where(pedal > 0, Car.speed_up, Car.brake), steer / Car.lock], 1), -1, 1)
