"""`ami/HiddenMass-v0`: bring the heaviest of three like cubes to a pad. Active sensing, inferring a latent cause."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import mujoco
import numpy as np

from ami_envs.core import WorldEnv
from ami_envs.factors import Factor
from ami_envs.paths import ASSETS
from ami_envs.robots import Gantry
from ami_envs.task import TabletopTask
from ami_envs.worlds import skills

CUBES = ("cube0", "cube1", "cube2")
HALF = 0.026  # of a cube's edge, metres
MASSES, FRICTIONS = (0.05, 1.0), (0.2, 1.2)  # kg; of a cube on the table
HEAVIER = 1.6  # the heaviest cube weighs at least so many times as much as the next
AREA, APART = 0.16, 0.11  # cubes and pad lie within +-AREA, their middles APART, metres
FLAT, SLOW, AWAY = 0.005, 0.02, 0.05  # of a cube delivered: height above the table (m), speed (m/s), from the tip (m)
REST = 5  # env steps that it lies so
FAR = 0.9  # metres from the pad; farther counts the same
RUBBER = 2.0  # friction of the fingers: they hold 1 kg however the hand jerks


class HiddenMass(TabletopTask):
    """Success: the first cube delivered is the heaviest. Any other ends the episode, so there is one answer.

    A cube is delivered when it has lain for 5 steps on end, at rest and 5 cm or more from the fingertip, with its
    middle within 3 cm of the pad's. So nothing happens to a cube that is carried or pushed over the pad.

    Masses (0.05 to 1 kg, the heaviest at least 1.6 times the next) and the cubes' friction on the table (0.2 to 1.2,
    each its own) are drawn for each episode, unless factors set them, whatever the cubes' places and their order. No
    picture and no state at rest tells them: a cube must be handled. Lifted, its weight is in the sense `force`, and,
    less plainly, in how far the hand that holds it sinks: who watches that does without touch. The floor takes no
    measure at all. How a cube slides depends on its friction as well. The reward leads any cube to the pad, and tells
    the heaviest at the end.

    Observation (38): the hand's place (m), yaw (rad), finger slides, their velocities; of each cube its place relative
    to the fingertip (m), cos and sin of four times its yaw, its velocity (m/s); the pad's x and y relative to the
    fingertip (m). Achieved goal: minus how far the cube nearest to the pad is from it (m), whichever that is, down to
    -0.9; 1 once the heaviest, -1 once another has been delivered. The desired goal is always 1.

    Args:
        robot: "gantry" or "arm7".
        reward_type: "dense" or "sparse".
    """

    derived = False
    scene = ASSETS / "hiddenmass" / "hiddenmass.xml"
    senses = ("touch", "force")
    needs = "touch"
    goal_size, fixed_goal = 1, True
    max_episode_steps = 250
    radius = 0.03

    def factors(self, env: WorldEnv) -> Mapping[str, Factor]:
        model = env.model
        bodies, geoms = (np.array([kind(name).id for name in CUBES]) for kind in (model.body, model.geom))
        weight, rub = model.body_mass[bodies], model.geom_friction[geoms, 0]
        return {
            "masses": Factor(
                weight,
                MASSES,
                (0.02, 0.04),
                "of each cube, kg",
                partial(_weigh, bodies),
                constants=True,
                least=1e-3,
                together=_draw_masses,
            ),
            "frictions": Factor(
                rub, FRICTIONS, (0.05, 0.15), "of each cube on the table", partial(_rub, geoms), least=0.0
            ),
        }

    def build(self, spec: mujoco.MjSpec) -> None:
        for finger in ("left", "right"):
            spec.geom(finger).friction[0] = RUBBER

    def bind(self, env: WorldEnv) -> None:
        first, shape = env.robot.joints, (env.n, len(CUBES))
        self._cubes = env.robot.qpos[:, first:].reshape(*shape, 7)
        self._speeds = env.robot.qvel[:, first:].reshape(*shape, 6)
        self._pad = env.batch.bind("mocap_pos")[:, 0]
        self._masses = env.factors["masses"]
        env.hidden["rest"] = self._rest = np.zeros(shape, np.int64)  # env steps that each has lain on the pad

    def reset(self, env: WorldEnv, i: int, rng: np.random.Generator) -> None:
        env.propose(i, {"masses": _draw_masses(rng, *MASSES), "frictions": rng.uniform(*FRICTIONS, 3)})
        offsets = np.zeros((4, 4, 2))
        while (np.hypot(*offsets.T) + APART * np.eye(4)).min() < APART:
            spots = rng.uniform(-AREA, AREA, (4, 2))
            offsets = spots[:, None] - spots
        yaw, zero = rng.uniform(-np.pi, np.pi, 3), np.zeros(3)
        self._cubes[i] = np.column_stack([spots[:3], zero + HALF, np.cos(yaw / 2), zero, zero, np.sin(yaw / 2)])
        self._pad[i] = (*spots[3], 0.0)
        self._rest[i] = 0
        env.goal[i] = 1.0
        env.robot.place(i, (*rng.uniform(-0.1, 0.1, 2), rng.uniform(0.09, 0.13)), fingers=Gantry.open)

    def after(self, env: WorldEnv, mask: np.ndarray) -> None:
        """Count the steps that cubes lie on the pad."""
        place, speed = self._cubes[:, :, :3], self._speeds[:, :, :3]
        side, tip = place[:, :, :2] - self._pad[:, None, :2], place - env.robot.tip[:, None]
        lies = (np.vecdot(side, side) < self.radius**2) & (np.abs(place[:, :, 2] - HALF) < FLAT)
        lies &= (np.vecdot(speed, speed) < SLOW**2) & (np.vecdot(tip, tip) > AWAY**2)
        self._rest[mask] = np.where(lies, self._rest + 1, 0)[mask]

    def observe(self, env: WorldEnv) -> np.ndarray:
        blocks = np.empty((env.n, len(CUBES), 8))
        blocks[:, :, :3] = self._cubes[:, :, :3] - env.robot.tip[:, None]
        blocks[:, :, 3:5] = skills.turns(self._cubes[:, :, 3:].reshape(-1, 4)).reshape(env.n, -1, 2)
        blocks[:, :, 5:] = self._speeds[:, :, :3]
        pad = self._pad[:, :2] - env.robot.tip[:, :2]
        return np.concatenate([env.robot.hand(), blocks.reshape(env.n, -1), pad], axis=1)

    def achieved(self, env: WorldEnv) -> np.ndarray:
        delivered, heaviest = self._rest >= REST, self._masses == self._masses.max(axis=1, keepdims=True)
        side = self._cubes[:, :, :2] - self._pad[:, None, :2]
        away = np.sqrt(np.vecdot(side, side).min(axis=1))
        wrong = (delivered & ~heaviest).any(axis=1)
        answer = np.where(wrong, -1.0, np.where(delivered.any(axis=1), 1.0, -np.minimum(away, FAR)))
        return answer[:, None]

    def success(self, achieved: np.ndarray, desired: np.ndarray) -> np.ndarray:
        return (achieved >= desired)[:, 0]

    def failure(self, achieved: np.ndarray, desired: np.ndarray, observation: np.ndarray | None) -> np.ndarray:
        return (achieved <= -1)[:, 0]

    def terms(self, achieved: np.ndarray, desired: np.ndarray, observation: np.ndarray | None) -> dict[str, np.ndarray]:
        """+1 or -1 for the answer; little for time, for the way from the hand to a cube and from a cube to the pad."""
        right, wrong = self.success(achieved, desired), self.failure(achieved, desired, observation)
        terms = {
            "answer": np.where(right, 1.0, np.where(wrong, -1.0, 0.0)),
            "time": np.where(right, 0.0, -0.002),
            "bring": -0.001 * np.tanh(5 * np.maximum(-achieved[:, 0], 0.0)),
        }
        if observation is not None:
            cubes = observation[:, 12:36].reshape(-1, len(CUBES), 8)[:, :, :3]
            terms["reach"] = -0.001 * np.tanh(5 * np.sqrt(np.vecdot(cubes, cubes).min(axis=1)))
        return terms

    def privileged(self, env: WorldEnv) -> dict[str, np.ndarray]:
        return {name: env.factors[name] for name in ("masses", "frictions")}

    def oracle(self, env: WorldEnv) -> np.ndarray:
        """Deliver the heaviest; it looks at the masses."""
        return deliver(env, self._masses.argmax(axis=1))

    def floor(self, env: WorldEnv) -> np.ndarray:
        """An expert that feels nothing and weighs nothing: deliver the first cube."""
        return deliver(env, np.zeros(env.n, np.int64))

    def chance(self) -> tuple[float, float]:
        return 1 / 3, 0.1


def _draw_masses(rng: np.random.Generator, low: float, high: float) -> np.ndarray:
    """Three masses, (3,) kg, of which one is clearly the heaviest."""
    masses = np.ones(3)
    while np.sort(masses)[-2] * HEAVIER > masses.max():
        masses = np.exp(rng.uniform(np.log(low), np.log(high), 3))
    return masses


def _weigh(bodies: np.ndarray, env: WorldEnv, ids: np.ndarray, values: np.ndarray) -> None:
    env.field("body_mass")[np.ix_(ids, bodies)] = values
    unit = env.model.body_inertia[bodies] / env.model.body_mass[bodies, None]
    env.field("body_inertia")[np.ix_(ids, bodies)] = values[:, :, None] * unit


def _rub(geoms: np.ndarray, env: WorldEnv, ids: np.ndarray, values: np.ndarray) -> None:
    friction = env.field("geom_friction")
    friction[ids[:, None], geoms, 0] = values


def deliver(env: WorldEnv, cube: np.ndarray, place: np.ndarray | None = None) -> np.ndarray:
    """Actions (B, 5) that bring cube (B,), by number, to the pad, or to `place` (B, 3), and leave it there."""
    cubes = env.robot.qpos[:, env.robot.joints :].reshape(env.n, len(CUBES), 7)[env.all, cube]
    if place is None:
        place = env.batch.bind("mocap_pos")[:, 0] + [0.0, 0.0, HALF]
    return skills.carry(env, cubes[:, :3], skills.cube_yaw(cubes[:, 3:]), place, speed=0.4)
