"""`ami/CareCup-v0`: bring a cup to the mouth of a person who moves. Safety constraints, gentle contact."""

from __future__ import annotations

import numpy as np

from ami_envs.core import WorldEnv
from ami_envs.paths import ASSETS
from ami_envs.robots import Gantry
from ami_envs.task import TabletopTask, distance
from ami_envs.worlds import skills

HALF, WIDTH = 0.035, 0.0225  # half of the cup's height, its radius, metres
GRASP = 0.012  # metres above the cup's middle at which it is taken
NECK, MOUTH = 0.215, np.array([0.045, 0.045])  # metres: above the hips; before and above the neck
GENTLE = 2.0  # newtons on the person that are free of cost
TILT, FORCE = np.radians(20.0), 10.0  # the cup's tilt (rad) and the force on the person (N) that are a strain of 1
HARM = 3.0  # the strain that ends an episode: 60 degrees, 30 newtons
GAP = 0.014  # metres that the expert keeps between cup and lips
CLOSE_BY = 0.1  # metres before the mouth at which the expert turns the hand, before it comes near


class CareCup(TabletopTask):
    """Success: for 3 steps on end, the middle of the cup's rim is within 5 cm of the mouth, and the strain is no more
    than is allowed: the larger of the cup's tilt / 20 degrees and the force on the person / 10 N.

    The person, a training mannequin at a reduced scale, moves to another place on the chair, turns its head and leans
    to and fro, slowly; the desired goal follows. Achieved goal: the rim's middle (m), the strain. Desired goal: the
    mouth (m), the strain allowed (0.75 to 1: how full the cup is, what the person bears). The force is the sum over all
    contacts with the person at the latest physics step. The cost of a step is a tenth of each newton beyond 2, and 1
    while a cup that has been picked up is tilted more than is allowed: it spills. A strain of more than 3 (injury, or
    the cup fell over) ends the episode.

    Observation (22): the hand's place (m), yaw (rad), finger slides, their velocities; the cup's place relative to the
    fingertip (m), x and y of its axis (0 while it stands upright), its velocity (m/s); cos and sin of where the face
    looks to.

    Args:
        robot: "gantry" or "arm7".
        reward_type: "dense" or "sparse".
    """

    derived = False
    scene = ASSETS / "carecup" / "carecup.xml"
    senses = ("force", "touch")
    things = ("cup",)
    goal_size = 4
    max_episode_steps = 250
    hold = 3
    radius = 0.05

    def bind(self, env: WorldEnv) -> None:
        first = env.robot.joints
        self._cup, self._speed = env.robot.qpos[:, first : first + 7], env.robot.qvel[:, first : first + 3]
        self._mocap, self._turned = env.batch.bind("mocap_pos"), env.batch.bind("mocap_quat")  # torso, head, chair
        self._press = [env.batch.sensor(name).data for name in ("press_torso", "press_head")]
        sizes = {"person": (6,), "sway": (6,), "face": (), "force": (), "lifted": ()}
        env.hidden |= {name: np.zeros((env.n, *size)) for name, size in sizes.items()}

    def reset(self, env: WorldEnv, i: int, rng: np.random.Generator) -> None:
        hidden = env.hidden
        # hips (m), where the chair faces (rad), how far to its side the person moves (m), in what time (s)
        low, high = [0.2, -0.1, -0.06, np.pi - 0.3, 0.05, 1.5], [0.25, 0.1, -0.02, np.pi + 0.3, 0.08, 4.0]
        hidden["person"][i] = rng.uniform(low, high)
        hidden["person"][i, 4] *= rng.choice([-1, 1])
        # of turning the head, then of leaning: how far (rad), how fast (rad/s), at which phase it begins
        hidden["sway"][i] = rng.uniform([0.2, 0.6, 0.0, 0.06, 0.8, 0.0], [0.5, 1.1, 6.28, 0.15, 1.6, 6.28])
        hidden["force"][i] = hidden["lifted"][i] = 0.0
        env.goal[i, 3] = rng.uniform(0.75, 1.0)
        self._move(env, np.array([i]), np.zeros(1))
        yaw = rng.uniform(-np.pi, np.pi)
        place = rng.uniform([-0.2, -0.15], [hidden["person"][i, 0] - 0.17, 0.15])  # free of the person's hands
        self._cup[i] = (*place, HALF * env.factors["size"][i], np.cos(yaw / 2), 0, 0, np.sin(yaw / 2))
        env.robot.place(i, rng.uniform([-0.15, -0.15, 0.11], [0.05, 0.15, 0.2]), fingers=Gantry.open)

    def _move(self, env: WorldEnv, rows: np.ndarray, time: np.ndarray) -> None:
        """Put the persons of worlds `rows` (k,) to where they are at `time` (k,) seconds, the goal to their mouths."""
        x, y, z, facing, shift, lasts = env.hidden["person"][rows].T.copy()
        far, fast, phase, lean, rate, start = env.hidden["sway"][rows].T.copy()
        turn, lean = far * np.sin(fast * time + phase), lean * np.sin(rate * time + start)
        c, s, forward, up = np.cos(facing), np.sin(facing), np.sin(lean), np.cos(lean)
        chair = np.stack([x, y, z], axis=1)
        shift *= -0.5 * np.cos(np.pi * np.minimum(time / lasts, 1.0))
        hips = np.stack([x - shift * s, y + shift * c, z], axis=1)
        neck = hips + NECK * np.stack([forward * c, forward * s, up], axis=1)
        before, aside = MOUTH[0] * np.cos(turn), MOUTH[0] * np.sin(turn)
        ahead = before * up + MOUTH[1] * forward
        reach = np.stack([ahead * c - aside * s, ahead * s + aside * c, MOUTH[1] * up - before * forward], axis=1)
        env.goal[rows, :3] = neck + reach
        env.hidden["face"][rows] = facing + turn
        torso = _product(_turn(facing, 3), _turn(lean, 2))
        self._mocap[rows, :3] = np.stack([hips, neck, chair], axis=1)
        self._turned[rows, :3] = np.stack([torso, _product(torso, _turn(turn, 3)), _turn(facing, 3)], axis=1)

    def before(self, env: WorldEnv, action: np.ndarray, mask: np.ndarray) -> None:
        rows = np.flatnonzero(mask)
        self._move(env, rows, (env.steps[rows] + 1) * env.period)

    def after(self, env: WorldEnv, mask: np.ndarray) -> None:
        force = self._press[0][:, 0] + self._press[1][:, 0]
        env.hidden["force"][mask] = force[mask]
        env.hidden["lifted"][mask & (self._cup[:, 2] > HALF * env.factors["size"] + 0.02)] = 1.0

    def _axis(self) -> np.ndarray:
        """The cup's axis, from its bottom to its rim, (B, 3)."""
        w, x, y, z = self._cup[:, 3:].T
        return np.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)], axis=1)

    def observe(self, env: WorldEnv) -> np.ndarray:
        face = env.hidden["face"][:, None]
        relative = self._cup[:, :3] - env.robot.tip
        parts = [env.robot.hand(), relative, self._axis()[:, :2], self._speed, np.cos(face), np.sin(face)]
        return np.concatenate(parts, axis=1)

    def achieved(self, env: WorldEnv) -> np.ndarray:
        axis, out = self._axis(), np.empty((env.n, 4))
        out[:, :3] = self._cup[:, :3] + (HALF * env.factors["size"])[:, None] * axis
        out[:, 3] = np.maximum(_tilt(axis) / TILT, env.hidden["force"] / FORCE)
        return out

    def success(self, achieved: np.ndarray, desired: np.ndarray) -> np.ndarray:
        near = distance(achieved[:, :3], desired[:, :3]) < self.radius
        return near & (achieved[:, 3] <= desired[:, 3])

    def failure(self, achieved: np.ndarray, desired: np.ndarray, observation: np.ndarray | None) -> np.ndarray:
        return achieved[:, 3] > HARM

    def cost(self, env: WorldEnv) -> np.ndarray:
        spilling = (env.hidden["lifted"] > 0) & (_tilt(self._axis()) > TILT * env.goal[:, 3])
        return np.maximum(env.hidden["force"] - GENTLE, 0.0) / 10 + spilling

    def privileged(self, env: WorldEnv) -> dict[str, np.ndarray]:
        return {"force": env.hidden["force"]}

    def terms(self, achieved: np.ndarray, desired: np.ndarray, observation: np.ndarray | None) -> dict[str, np.ndarray]:
        """A step costs at most 0.4 but for strain; ending badly costs as much as a whole episode of these."""
        terms = {
            "mouth": -0.2 * np.tanh(5 * distance(achieved[:, :3], desired[:, :3])),
            "strain": -0.1 * np.minimum(achieved[:, 3], HARM),
            "harm": -0.4 * self.max_episode_steps * self.failure(achieved, desired, observation),
        }
        if observation is not None:
            handle = observation[:, 12:15] + [0.0, 0.0, GRASP]
            near, width = np.sqrt(np.vecdot(handle, handle)), observation[:, 4:6].mean(axis=1)
            held = (near < 0.02) & (width > skills.THIN) & (width < skills.WIDE)
            terms["reach"] = -0.1 * np.tanh(5 * near)
            terms["grasp"] = np.where(held, 0.0, -0.1)
        return terms

    def oracle(self, env: WorldEnv) -> np.ndarray:
        """Pick the cup up, bring it before the face, turn the fingers to its sides, then follow the mouth closely."""
        hand, cup, size = env.robot.hand(), self._cup[:, :3], env.factors["size"]
        rim, face = self.achieved(env)[:, :3], env.hidden["face"]
        look = np.stack([np.cos(face), np.sin(face)], axis=1)
        away = rim - env.goal[:, :3]
        aside = np.abs(away[:, 0] * look[:, 1] - away[:, 1] * look[:, 0])
        yaw = hand[:, 3] + (face - hand[:, 3]) % np.pi - np.pi / 2  # across the look, whichever finger is left
        yaw -= np.pi * np.sign(yaw) * (np.abs(yaw) > 3.0)
        ready = (aside < 0.02) & (np.abs(away[:, 2]) < 0.02) & (np.abs(yaw - hand[:, 3]) < 0.3)
        ahead = np.where(ready, WIDTH * size + GAP, CLOSE_BY)
        ahead += np.where(env.hidden["force"] > GENTLE / 2, 0.02, 0.0)
        move = np.column_stack([ahead[:, None] * look, np.full(env.n, -0.005)]) - away
        move[cup[:, 2] < HALF * size + 0.03, :2] = 0.0
        speed = np.where(ready, 0.25, 0.5) / np.clip(env.factors["mass"], 1.0, 2.5)  # a heavy cup slips
        bring = skills.go(env, hand[:, :3] + move, skills.CLOSE, yaw, speed)
        pick = skills.carry(env, cup, hand[:, 3], cup, release=False, grasp=GRASP)
        pick[:, 3] = bring[:, 3]
        return np.where(self._held(env, hand)[:, None], bring, pick)

    def _held(self, env: WorldEnv, hand: np.ndarray) -> np.ndarray:
        """Whether the fingers hold the cup, (B,) bool: in the air, too, where it has slipped a bit."""
        offset, width = self._cup[:, :3] - hand[:, :3], hand[:, 4:6].mean(axis=1)
        beside = (np.hypot(offset[:, 0], offset[:, 1]) < 0.02) & (np.abs(offset[:, 2]) < 0.04)
        still = (hand[:, 10:].mean(axis=1) < 0.1) & (np.abs(offset[:, 2] + GRASP) < 0.01)
        aloft = self._cup[:, 2] > HALF * env.factors["size"] + 0.01
        return beside & (width > skills.THIN) & (width < skills.WIDE) & (still | aloft)


def _tilt(axis: np.ndarray) -> np.ndarray:
    """Angle (B,) radians between axes (B, 3) and upright."""
    return np.arctan2(np.hypot(axis[:, 0], axis[:, 1]), axis[:, 2])


def _turn(angle: np.ndarray, axis: int) -> np.ndarray:
    """Quaternions (B, 4) of turns by `angle` (B,) radians about axis 1, 2 or 3."""
    quat = np.zeros((len(angle), 4))
    quat[:, 0], quat[:, axis] = np.cos(angle / 2), np.sin(angle / 2)
    return quat


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Quaternions (B, 4) that turn as b, seen from a."""
    w, v, real, other = a[:, :1], a[:, 1:], b[:, :1], b[:, 1:]
    scalar = w * real - np.vecdot(v, other)[:, None]
    return np.concatenate([scalar, w * other + real * v + np.cross(v, other)], axis=1)
