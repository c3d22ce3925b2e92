"""`ami/Drawer-v0`: open a drawer so far, or put a cube into it and shut it. Articulated things, preconditions."""

from __future__ import annotations

from collections.abc import Mapping

import mujoco
import numpy as np

from ami_envs.core import WorldEnv
from ami_envs.factors import Factor
from ami_envs.paths import ASSETS
from ami_envs.robots import Manipulator
from ami_envs.task import TabletopTask, distance
from ami_envs.worlds import skills

TASKS = ("open", "store")
FRONT = 0.14  # y of the cabinet's front, metres
MIDDLE = np.array([0.0, 0.058, 0.008])  # of the drawer's floor, in the cabinet's frame while it is shut, metres
HOOK = np.array([0.0, -0.017, 0.03])  # the place between its front and the bar of its handle, likewise
SLACK = 0.005  # metres that fingers there can move before they touch
HALF = 0.02  # of the cube's edge, metres
SIDES = np.array([0.06, 0.045, 0.015])  # metres from where the cube shall be that still mean inside
ENOUGH, WIDE_OPEN = 0.09, 0.105  # openings that the cube goes in by, and that the expert goes for, metres
OVER = 0.115  # height of the tip at which it passes over all, metres


class Drawer(TabletopTask):
    """Success: for 3 steps on end, "open": the drawer's opening within 1 cm of the goal (5 to 11 cm), and the drawer at
    rest; "store": the cube inside the drawer, which is shut up to a gap of at most 5 to 10 mm.

    The drawer starts open by at most 2 cm, and stays where it is left. "open": achieved goal: the opening (m) and how
    fast the drawer moves (m/s); desired: the opening, and what still counts as rest (5 to 10 mm/s). "store": the cube's
    place in the drawer's frame, which lies in the middle of its floor, and the opening (m); desired: a place near the
    middle (within 6, 4.5, 1.5 cm along x, y, z of it is inside) and the widest opening (m).

    Observation (17, or 28 for "store"): the hand's place (m), yaw (rad), finger slides, their velocities; the drawer's
    opening (m), its speed (m/s), the place behind the bar of its handle relative to the fingertip (m). "store" alone:
    the cube's place relative to the fingertip (m), and to its goal in the drawer (m), cos and sin of four times its yaw
    (it looks the same every quarter turn), its velocity (m/s).

    Args:
        task: "open", or "store"; give `gym.make` `max_episode_steps=300` along with that.
    """

    derived = False
    scene = ASSETS / "drawer" / "drawer.xml"
    senses = ("touch", "force")
    max_episode_steps = 120
    hold = 3
    radius = 0.01  # metres: of the opening

    def __init__(self, task: str = "open", robot: str = "gantry", reward_type: str = "dense") -> None:
        super().__init__(robot, reward_type)
        if task not in TASKS:
            raise ValueError(f"task must be one of {', '.join(TASKS)}, not {task!r}")
        self.store = task == "store"
        self.max_episode_steps = 300 if self.store else 120
        self.goal_size = 4 if self.store else 2
        self.things = ("cube",) if self.store else ()

    def build(self, spec: mujoco.MjSpec) -> None:
        if self.store:
            cube = spec.worldbody.add_body(name="cube", pos=[0, -0.15, HALF])
            cube.add_freejoint(name="cube")
            cube.add_geom(spec.find_default("cube"), name="cube")
        else:
            mark = spec.worldbody.add_body(name="mark", mocap=True)
            mark.add_geom(spec.find_default("look"), name="mark", size=[0.1, 0.002, 0.001], material="goal")

    def bind(self, env: WorldEnv) -> None:
        first = env.robot.joints
        self._slide, self._speed = env.robot.qpos[:, first], env.robot.qvel[:, first]
        self._cube, self._moving = env.robot.qpos[:, first + 1 :], env.robot.qvel[:, first + 1 : first + 4]
        self._mocap = env.batch.bind("mocap_pos")
        self._cabinet = self._mocap[:, 0]

    def factors(self, env: WorldEnv) -> Mapping[str, Factor]:
        return {"slide": Factor(1.0, (0.5, 2.0), (3.0, 5.0), "friction of the drawer's slide, x", _rub, least=0.0)}

    def reset(self, env: WorldEnv, i: int, rng: np.random.Generator) -> None:
        x = rng.uniform(-0.05, 0.05)
        self._cabinet[i] = x, FRONT, 0.0
        self._slide[i] = rng.uniform(0.0, 0.02)
        tip = rng.uniform([-0.15, -0.2, OVER], [0.15, 0.1, 0.2])
        env.robot.place(i, tip, fingers=Manipulator.open if self.store else Manipulator.closed)
        if not self.store:
            env.goal[i] = rng.uniform([0.05, 0.005], [0.11, 0.01])
            self._mocap[i, 1] = x, FRONT - 0.044 - env.goal[i, 0], 0.001
            return
        half, yaw = HALF * env.factors["size"][i], rng.uniform(-np.pi, np.pi)
        place = np.array([x, 0.0])
        while place[1] > -0.1 and abs(place[0] - x) < 0.15:  # in the drawer's way
            place = rng.uniform([-0.2, -0.2], [0.2, 0.1])
        self._cube[i] = (*place, half, np.cos(yaw / 2), 0, 0, np.sin(yaw / 2))
        env.goal[i] = rng.uniform([-0.01, -0.01, half - 0.004, 0.005], [0.01, 0.01, half + 0.004, 0.01])

    def _at(self, place: np.ndarray) -> np.ndarray:
        """Where a place (3,) that moves with the drawer is, given where it is while the drawer is shut, (B, 3)."""
        out = self._cabinet + place
        out[:, 1] -= self._slide
        return out

    def observe(self, env: WorldEnv) -> np.ndarray:
        tip = env.robot.tip
        parts = [env.robot.hand(), self._slide[:, None], self._speed[:, None], self._at(HOOK) - tip]
        if self.store:
            away = self.achieved(env) - env.goal
            parts += [self._cube[:, :3] - tip, away[:, :3], skills.turns(self._cube[:, 3:]), self._moving]
        return np.concatenate(parts, axis=1)

    def _inside(self, away: np.ndarray) -> np.ndarray:
        """Whether the cube is in the drawer, (B,) bool, from achieved less desired goals (B, 4)."""
        return (np.abs(away[:, :3]) < SIDES).all(axis=1)

    def achieved(self, env: WorldEnv) -> np.ndarray:
        if not self.store:
            return np.stack([self._slide, np.abs(self._speed)], axis=1)
        return np.concatenate([self._cube[:, :3] - self._at(MIDDLE), self._slide[:, None]], axis=1)

    def success(self, achieved: np.ndarray, desired: np.ndarray) -> np.ndarray:
        away = achieved - desired
        if self.store:
            return self._inside(away) & (away[:, 3] <= 0)
        return (np.abs(away[:, 0]) < self.radius) & (away[:, 1] <= 0)

    def terms(self, achieved: np.ndarray, desired: np.ndarray, observation: np.ndarray | None) -> dict[str, np.ndarray]:
        """A step costs at most 1. "store": what is to be done next costs by how far off it is, what comes later in
        full: open the drawer, grasp the cube, bring it in, shut the drawer."""
        away = achieved - desired
        if not self.store:
            terms = {"drawer": -0.8 * np.tanh(20 * np.abs(away[:, 0]))}
            if observation is not None:
                terms["reach"] = -0.2 * np.tanh(8 * distance(observation[:, 14:17], np.zeros(3)))
            return terms
        inside, share = self._inside(away), np.clip(achieved[:, 3] / ENOUGH, 0.0, 1.0)
        terms = {
            "drawer": np.where(inside, -0.3 * share, -0.4 - 0.25 * (1 - share)),
            "cube": np.where(inside, 0.0, -0.15 * np.tanh(5 * distance(away[:, :3], np.zeros(3)))),
        }
        if observation is not None:
            handle, cube = distance(observation[:, 14:17], np.zeros(3)), distance(observation[:, 17:20], np.zeros(3))
            width = observation[:, 4:6].mean(axis=1)
            held = (cube < 0.02) & (width > skills.THIN) & (width < skills.WIDE)
            to_cube = ~inside & (share == 1)
            terms["reach"] = -0.1 * np.tanh(5 * np.where(to_cube, cube, handle))
            terms["grasp"] = np.where(inside | (to_cube & held), 0.0, -0.1)
        return terms

    def oracle(self, env: WorldEnv) -> np.ndarray:
        """Hook the handle and bring the drawer to an opening; "store": first wide open, then the cube in, then shut."""
        if not self.store:
            return self._slide_to(env, env.goal[:, 0], np.zeros(env.n, bool))
        hand, cube = env.robot.hand(), self._cube[:, :3]
        held, inside = skills.in_hand(env, cube), self._inside(self.achieved(env) - env.goal)
        near = ~held & (distance(cube, hand[:, :3]) < 0.035) & (hand[:, 4:6].min(axis=1) < skills.WIDE)
        slide = self._slide_to(env, np.where(inside, 0.0, WIDE_OPEN), near)
        (x, y, _), (u, v, _) = np.abs(hand[:, :3] - self._at(HOOK)).T, np.abs(cube - self._at(HOOK)).T
        blocked = (u < 0.08) & (v < 0.03)  # the cube is caught behind the bar
        caught = ~held & ~blocked & (hand[:, 2] < 0.085) & (x < 0.06) & (y < 0.035)  # the hand is there
        ready = np.where(caught, (self._slide > ENOUGH + 0.005) & (np.abs(self._speed) < 0.08), self._slide > ENOUGH)
        hand[:, 1:3] = self._at(HOOK)[:, 1:] + [0.0, 0.08]  # straight up from the middle, so that nothing moves
        bring = np.where(caught[:, None], skills.go(env, hand[:, :3], skills.CLOSE), self._bring(env, held))
        return np.where((held | blocked | (ready & ~inside))[:, None], bring, slide)

    def _bring(self, env: WorldEnv, held: np.ndarray) -> np.ndarray:
        """Actions (B, 5) that carry the cube into the drawer; to the table in front of it, where it is not open."""
        place = self._at(MIDDLE)
        place[:, 2] += HALF * env.factors["size"] + 0.002
        aside = self._cabinet + [0.0, -0.3, 0.0]
        aside[:, 2] += HALF * env.factors["size"]
        place = np.where((self._slide > ENOUGH - 0.01)[:, None], place, aside)
        cube, yaw = self._cube, skills.cube_yaw(self._cube[:, 3:])
        action = skills.carry(env, cube[:, :3], yaw, place, OVER, near=0.008)
        hand, off = env.robot.hand(), cube[:, :2] - self._cabinet[:, :2]
        straight = np.clip(-hand[:, 3] / env.robot.step_size[3], -1.0, 1.0)  # fingers along the drawer's front
        action[:, 3] = np.where(held, straight, action[:, 3])
        beside = (off[:, 1] > -0.03) & (np.abs(off[:, 0]) > 0.088) & ~held
        askew = np.abs(hand[:, 3] - yaw - skills.QUARTER) > 0.2
        hand[:, 2] = OVER
        turn = skills.go(env, hand[:, :3], skills.OPEN, yaw + skills.QUARTER)
        return np.where((beside & askew)[:, None], turn, action)  # it is taken at the sides that are free

    def _slide_to(self, env: WorldEnv, opening: np.ndarray, around: np.ndarray) -> np.ndarray:
        """Actions (B, 5) that bring the drawer to an opening (B,) metres: up, over the handle, down behind its bar,
        to or fro. Where the fingers are `around` the cube, (B,) bool, they open first."""
        hand, hook, go = env.robot.hand(), self._at(HOOK), opening - self._slide
        tip, (dx, dy, _) = hand[:, :3], np.abs(hook - hand[:, :3]).T
        low, thin = tip[:, 2] < 0.065, hand[:, 4:6].max(axis=1) < 0.01
        aligned = np.where(low, (dx < 0.035) & (dy < 0.025), (dx < 0.02) & (dy < 0.004) & thin)
        deep = aligned & (tip[:, 2] < HOOK[2] + 0.01)
        rise = ~aligned & (tip[:, 2] < OVER - 0.02)
        target = np.where((rise | around)[:, None], tip, hook)
        target[:, 1] -= np.where(deep & (np.abs(go) > 0.003), go + SLACK * np.sign(go), 0.0)
        target[:, 2] = np.where(around, tip[:, 2], np.where(aligned, HOOK[2], OVER))
        return skills.go(env, target, np.where(low & ~aligned, skills.OPEN, skills.CLOSE), np.zeros(env.n))


def _rub(env: WorldEnv, ids: np.ndarray, values: np.ndarray) -> None:
    dof = env.robot.joints
    env.field("dof_frictionloss")[ids, dof] = env.model.dof_frictionloss[dof] * values
