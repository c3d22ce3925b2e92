"""`ami/Levers-v0`: find out which levers open a hatch, and reach in. Causal discovery by intervention."""

from __future__ import annotations

import numpy as np

from ami_envs.core import WorldEnv
from ami_envs.paths import ASSETS
from ami_envs.robots import Manipulator
from ami_envs.senses.audio import click
from ami_envs.task import TabletopTask, distance
from ami_envs.worlds.skills import CLOSE, go

RULES = ("one", "and", "order")
LEVERS = 4
KNOBS = np.array([[-0.195, -0.139], [-0.065, -0.139], [0.065, -0.139], [0.195, -0.139]])  # x, y when pressed, metres
STROKE = 0.45  # radians from up to level
PRESSED, RELEASED = 0.8, 0.4  # shares of the stroke: down from the one on, up again below the other
HATCH = np.array([0.0, 0.13, 0.03])  # middle of the well, metres
DOOR, APART, HEIGHT = 0.0265, 0.05, 0.075  # of the doors' middles from the well's: shut, and how far they slide, metres
OPENING = 10  # env steps that the doors slide for
FLASH, BLINKS = 12, 4  # env steps that the idle lamp stays lit; how often by itself
DARK, LIT = np.array([0.30, 0.34, 0.42, 1.0]), np.array([1.0, 0.90, 0.30, 1.0])  # colours of a lamp
SNAP, BOLT = 1e-3 * click(2500.0), 1e-3 * click(600.0)  # sounds of a lever pressed, of the hatch unlocked, joules
OVER, LOW = 0.11, 0.038  # heights of the tip, metres: it passes over all; it has pressed a lever


class Levers(TabletopTask):
    """Success: the fingertip within 3 cm of a place in the well of the hatch, whose doors are open.

    A rule, which stays the same for a session, opens the doors. It looks at the last two different levers that were
    pressed, the older and the newer:

        "one"    the newer is a
        "and"    they are a and b
        "order"  the older is a, the newer b

    Pressing the newer again changes nothing; any other press makes it the newer, and what was the newer the older. So
    no press spoils anything: after any history, a and then b open the doors. Unlocked, they stay so for the episode.
    Levers spring back when they are let go. A press counts once, at 80 % of the stroke, and clicks; unlocking sounds
    lower. One lamp is idle: it flashes with a lever that is drawn apart from the rule, and at times of its own. Whoever
    tries all pairs in turn comes in, in about 120 steps: what is found out and kept shows in the steps of later visits.

    Observation (23): the hand's place and fingers, and their speeds; how far each lever is pressed, left to right
    (0 to 1); its lamp (1 the newer, 0.5 the older, 0 others); the idle lamp; the lamp of the hatch (1 unlocked); how
    far the doors are open (0 to 1). Achieved goal: fingertip (m) and how far the doors are open; the desired one, the
    place (m) and how far they must be open.

    Args:
        rule: "one", "and", "order", or "any" to draw one of them for each session.
    """

    derived = False
    scene = ASSETS / "levers" / "levers.xml"
    senses = ("touch", "audio")
    sessions = True
    goal_size = 4
    max_episode_steps = 300
    radius = 0.03

    def __init__(self, rule: str = "any", robot: str = "gantry", reward_type: str = "dense") -> None:
        super().__init__(robot, reward_type)
        if rule not in ("any", *RULES):
            raise ValueError(f"rule must be one of any, {', '.join(RULES)}, not {rule!r}")
        self.rule = rule

    def bind(self, env: WorldEnv) -> None:
        first = env.robot.joints
        self._levers = env.robot.qpos[:, first : first + LEVERS]
        mocap = env.batch.bind("mocap_pos")
        self._doors, self._marker = mocap[:, :2, 0], mocap[:, 2]
        self._rgba = env.field("geom_rgba")
        names = [*(f"lamp{k}" for k in range(LEVERS)), "decoy_lamp", "hatch_lamp"]
        self._lamps = [env.model.geom(name).id for name in names]
        whole = {"kind": (), "pair": (2,), "decoy": (), "last": (2,), "sliding": (), "flash": (), "blinks": (BLINKS,)}
        env.hidden |= {name: np.zeros((env.n, *shape), np.int64) for name, shape in whole.items()}
        env.hidden |= {name: np.zeros((env.n, LEVERS), bool) for name in ("down", "hit")}
        env.hidden |= {name: np.zeros(env.n, bool) for name in ("unlocked", "bolt")}
        env.hidden["lamps"] = np.zeros((env.n, len(self._lamps)))

    def reset(self, env: WorldEnv, i: int, rng: np.random.Generator) -> None:
        hidden, session = env.hidden, env.session_rng(i)
        kind, levers = int(session.integers(len(RULES))), session.permutation(LEVERS)
        hidden["kind"][i] = kind if self.rule == "any" else RULES.index(self.rule)
        hidden["pair"][i], hidden["decoy"][i] = levers[:2], session.integers(LEVERS)
        hidden["last"][i] = -1
        for name in ("sliding", "flash", "down", "hit", "unlocked", "bolt", "lamps"):
            hidden[name][i] = 0
        hidden["blinks"][i] = rng.integers(1, self.max_episode_steps, BLINKS)
        tip = rng.uniform([-0.2, -0.2, OVER], [0.2, 0.2, 0.18])
        env.robot.place(i, tip, fingers=Manipulator.closed)
        self._marker[i] = HATCH + rng.uniform(-0.01, 0.01, 3)
        env.goal[i] = (*self._marker[i], rng.uniform(0.7, 0.95))

    def before(self, env: WorldEnv, action: np.ndarray, mask: np.ndarray) -> None:
        sliding = env.hidden["sliding"]
        rows = np.flatnonzero(mask & env.hidden["unlocked"] & (sliding < OPENING))
        sliding[rows] += 1
        self._doors[rows] = (DOOR + APART / OPENING * sliding[rows, None]) * np.array([-1.0, 1.0])

    def after(self, env: WorldEnv, mask: np.ndarray) -> None:
        hidden = env.hidden
        share = self._levers / STROKE
        down = np.where(hidden["down"], share > RELEASED, share > PRESSED)
        hit = down & ~hidden["down"]
        last, flash = hidden["last"], hidden["flash"]
        for lever in np.flatnonzero(hit.any(axis=0)):
            fresh = hit[:, lever] & (last[:, 1] != lever)
            last = np.where(fresh[:, None], np.stack([last[:, 1], np.full(env.n, lever)], axis=1), last)
        flashing = hit[env.all, hidden["decoy"]] | (hidden["blinks"] == env.steps[:, None]).any(axis=1)
        flash = np.where(flashing, env.steps + FLASH, flash)
        unlocked = hidden["unlocked"] | self._fits(env, last)
        shown = 0.5 * (last[:, :1] == np.arange(LEVERS)) + (last[:, 1:] == np.arange(LEVERS))
        lamps = np.concatenate([shown, np.stack([env.steps < flash, unlocked], axis=1)], axis=1)
        now = {"down": down, "hit": hit, "last": last, "flash": flash, "lamps": lamps}
        now |= {"unlocked": unlocked, "bolt": unlocked & ~hidden["unlocked"]}
        rows = np.flatnonzero(mask & (lamps != hidden["lamps"]).any(axis=1))
        if len(rows):
            self._rgba[rows[:, None], self._lamps] = DARK + lamps[rows, :, None] * (LIT - DARK)
        for name, value in now.items():
            hidden[name][mask] = value[mask]

    def _fits(self, env: WorldEnv, last: np.ndarray) -> np.ndarray:
        """Whether the last two levers (B, 2) fulfil the rule, (B,) bool."""
        (a, b), (older, newer) = env.hidden["pair"].T, last.T
        order = (older == a) & (newer == b)
        return np.choose(env.hidden["kind"], [newer == a, order | ((older == b) & (newer == a)), order])

    def observe(self, env: WorldEnv) -> np.ndarray:
        parts = [env.robot.hand(), self._levers / STROKE, env.hidden["lamps"], self._opening(env)]
        return np.concatenate(parts, axis=1)

    def _opening(self, env: WorldEnv) -> np.ndarray:
        """How far the doors are open, from 0 to 1, (B, 1)."""
        return env.hidden["sliding"][:, None] / OPENING

    def achieved(self, env: WorldEnv) -> np.ndarray:
        return np.concatenate([env.robot.tip, self._opening(env)], axis=1)

    def success(self, achieved: np.ndarray, desired: np.ndarray) -> np.ndarray:
        return (distance(achieved[:, :3], desired[:, :3]) < self.radius) & (achieved[:, 3] >= desired[:, 3])

    def terms(self, achieved: np.ndarray, desired: np.ndarray, observation: np.ndarray | None) -> dict[str, np.ndarray]:
        """Shut doors cost; when they are open, the way to the place does."""
        opening = achieved[:, 3]
        return {"hatch": opening - 1.0, "distance": -2.0 * opening * distance(achieved[:, :3], desired[:, :3])}

    def sounds(self, env: WorldEnv) -> np.ndarray:
        snaps = env.hidden["hit"].sum(axis=1)
        return snaps[:, None] * SNAP + env.hidden["bolt"][:, None] * BOLT

    def privileged(self, env: WorldEnv) -> dict[str, np.ndarray]:
        """The kind of rule by its number in RULES, its levers a and b, the lever that the idle lamp flashes with."""
        return {name: env.hidden[name] for name in ("kind", "pair", "decoy")}

    def oracle(self, env: WorldEnv) -> np.ndarray:
        """Press a, or b after a; then reach in."""
        hidden, (a, b) = env.hidden, env.hidden["pair"].T
        lever = np.where((hidden["last"][:, 1] == a) & (hidden["kind"] != RULES.index("one")), b, a)
        return np.where(hidden["unlocked"][:, None], enter(env), press(env, lever))


def press(env: WorldEnv, lever: np.ndarray) -> np.ndarray:
    """Actions (B, 5) that press lever (B,), by number, once: over it, down on it; up again if it is down already."""
    return _descend(env, KNOBS[lever], np.where(env.hidden["down"][env.all, lever], OVER, LOW))


def enter(env: WorldEnv) -> np.ndarray:
    """Actions (B, 5) that wait above the hatch until its doors are open, and go in."""
    return _descend(env, env.goal[:, :2], np.where(env.hidden["sliding"] == OPENING, env.goal[:, 2], OVER))


def _descend(env: WorldEnv, place: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Actions (B, 5): the hand, fingers closed, passes over all that stands here to `place` (B, 2), then to `height`
    (B,), metres."""
    tip = env.robot.tip
    away = distance(place, tip[:, :2])
    target = np.empty((env.n, 3))
    low = (away > 0.02) & (tip[:, 2] < OVER - 0.02)
    target[:, :2] = np.where(low[:, None], tip[:, :2], place)
    target[:, 2] = np.where(away < 0.012, height, OVER)
    return go(env, target, CLOSE, np.zeros(env.n))
