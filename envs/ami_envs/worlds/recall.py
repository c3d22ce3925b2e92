"""`ami/Recall-v0`: go to the pad of a colour, in a room that stays the same over visits. Memory across episodes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ami_envs.core import WorldEnv
from ami_envs.faces import BatchEnv
from ami_envs.paths import ASSETS
from ami_envs.robots import Rover
from ami_envs.task import Task, distance
from ami_envs.worlds.ways import blocked, route, shortest

COLOURS = ("red", "yellow", "green", "cyan", "blue", "violet")
PLACES, SCREENS = 16, 8
VISITS = 8  # episodes that make a session
SIGHT = 0.8  # metres: how far a pad can be seen
RADIUS = 0.3  # metres: at a pad's middle
HALF = 2.5  # metres from the middle of the room to its walls
PITCH = 1.2  # metres between the places where pads may stand, and between the lines that screens stand on
LENGTH, THICKNESS = 0.6, 0.04  # metres, half of a screen's
FASTEST = Rover.speed * np.sqrt(2)  # m/s: forward and left together


class Recall(Task):
    """Success: the rover within 0.3 m of the middle of the pad whose colour is asked for.

    The layout, 6 pads and 8 screens, belongs to the session, of which 8 episodes are visits; each has another start and
    asks for any colour. A pad is seen within 0.8 m where no screen hides it. Goals are what is seen (see `achieved`):
    they do not tell where a pad is. The picture `rgb`, taken from above, does.

    Observation (19): place (m), cos and sin of the yaw, velocity of place and yaw (m/s, rad/s), the colour asked for
    (one of 6 is 1), and for each colour how near its pad is seen, from 0 (not, or 0.8 m away) to 1 (at it).
    """

    robot = Rover
    derived = False
    scene = ASSETS / "recall" / "recall.xml"
    senses = ("touch", "lidar")
    goal_size = len(COLOURS)
    place, near = (0, 1), 0.15
    max_episode_steps = 200
    sessions = True
    needs = "memory"
    away = 1.2  # metres from the pad asked for, at least, to a start

    def bind(self, env: WorldEnv) -> None:
        self._pose, self._velocity = env.robot.qpos, env.robot.qvel
        mocap, self._turns = env.batch.bind("mocap_pos"), env.batch.bind("mocap_quat")[:, -SCREENS:]
        self._rim, self._pads, self._screens = mocap[:, 0], mocap[:, 1 : 1 + self.goal_size], mocap[:, -SCREENS:]
        env.hidden |= {
            "screens": np.zeros((env.n, SCREENS, 4)),  # x, y, and half the size along x and y, metres
            "places": np.zeros((env.n, PLACES, 2)),  # where pads may stand, metres
            "stands": np.zeros((env.n, self.goal_size), np.int64),  # the place of each colour's pad
            "ways": np.zeros((env.n, 4 * SCREENS + PLACES, PLACES)),  # metres, see `shortest`
            "seen": np.zeros((env.n, 2, PLACES), bool),  # which places have been, in the session; in this visit
            "way": np.zeros(env.n),  # the shortest to success, at the start, metres
            "near": np.zeros((env.n, self.goal_size)),  # see `achieved`
        }

    def reset(self, env: WorldEnv, i: int, rng: np.random.Generator) -> None:
        hidden = {name: value[i] for name, value in env.hidden.items()}
        hidden["seen"][1] = False
        if env.visit[i] == 0:
            hidden["seen"][:] = False
            _lay_out(hidden, env.session_rng(i))
        pads, screens = hidden["places"][hidden["stands"]], hidden["screens"]
        self._pads[i, :, :2], self._pads[i, :, 2] = pads, 0.006
        self._screens[i, :, :2], self._screens[i, :, 2] = screens[:, :2], 0.2
        half_turn = (screens[:, 2] < screens[:, 3]) * np.pi / 4
        self._turns[i, :, 0], self._turns[i, :, 3] = np.cos(half_turn), np.sin(half_turn)
        colour = rng.integers(self.goal_size)
        env.goal[i] = np.arange(self.goal_size) == colour
        self._rim[i] = (*pads[colour], 0.002)
        start = pads[colour]
        while distance(start, pads[colour]) < self.away or blocked(start, start, screens, 0.25):
            start = rng.uniform(0.3 - HALF, HALF - 0.3, 2)
        self._pose[i] = (*start, rng.uniform(-np.pi, np.pi))
        here = self._pose[i : i + 1, :2]
        ways, _ = route(here, *(hidden[name][None] for name in ("screens", "ways", "places")))
        env.hidden["way"][i] = ways[0, hidden["stands"][colour]] - RADIUS
        self._look(env, np.array([i]))

    def after(self, env: WorldEnv, mask: np.ndarray) -> None:
        self._look(env, np.flatnonzero(mask))

    def _look(self, env: WorldEnv, ids: np.ndarray) -> None:
        """Bring what is and has been seen up to date in worlds `ids`."""
        hidden, here = env.hidden, self._pose[ids, None, :2]
        places = hidden["places"][ids]
        away = distance(here, places)
        sight = away < SIGHT
        row, place = np.nonzero(sight)  # few, and screens are many
        sight[row, place] = ~blocked(here[row, 0], places[row, place], hidden["screens"][ids[row]], 0.0)
        near = np.where(sight, 1.0 - away / SIGHT, 0.0)
        hidden["near"][ids] = np.take_along_axis(near, hidden["stands"][ids], axis=1)
        hidden["seen"][ids] |= sight[:, None]

    def observe(self, env: WorldEnv) -> np.ndarray:
        yaw = self._pose[:, 2:3]
        parts = [self._pose[:, :2], np.cos(yaw), np.sin(yaw), self._velocity, env.goal, env.hidden["near"]]
        return np.concatenate(parts, axis=1)

    def achieved(self, env: WorldEnv) -> np.ndarray:
        """How near each colour's pad is seen, (B, 6), from 0 to 1; the goal is 1 for the colour asked for."""
        return env.hidden["near"].copy()

    def success(self, achieved: np.ndarray, desired: np.ndarray) -> np.ndarray:
        return _closeness(achieved, desired) > 1.0 - RADIUS / SIGHT

    def terms(self, achieved: np.ndarray, desired: np.ndarray, observation: np.ndarray | None) -> dict[str, np.ndarray]:
        near, found = _closeness(achieved, desired), self.success(achieved, desired)
        return {"time": np.full(len(near), -0.05), "near": 0.05 * near, "found": 1.0 * found}

    def privileged(self, env: WorldEnv) -> dict[str, np.ndarray]:
        """Where the pad is that is asked for (m), the shortest way to success at first (m), which pads were seen."""
        hidden = env.hidden
        seen = np.take_along_axis(hidden["seen"][:, 0], hidden["stands"], axis=1)
        return {"place": hidden["places"][env.all, self._place(env)], "way": hidden["way"], "seen": seen}

    def oracle(self, env: WorldEnv) -> np.ndarray:
        """Go to the pad, if it has been seen in this session; else look where it may be.

        It knows the screens and the places where pads may stand, but not which pad stands where.
        """
        return self._drive(env, env.hidden["seen"][:, 0])

    def floor(self, env: WorldEnv) -> np.ndarray:
        """The same, but remembering this visit only."""
        return self._drive(env, env.hidden["seen"][:, 1])

    def _drive(self, env: WorldEnv, seen: np.ndarray) -> np.ndarray:
        """Full speed, with a corner of the square of speeds turned ahead; `seen` (B, PLACES)."""
        worlds, place = np.arange(env.n), self._place(env)
        ways, aims = self._route(env)
        apart = np.where(seen[:, None], 0.0, env.hidden["ways"][:, -PLACES:]).sum(axis=2)
        apart /= np.maximum((~seen).sum(axis=1, keepdims=True) - 1, 1)  # those far from the others first: else a long
        search = np.where(seen, np.inf, ways - 0.8 * apart).argmin(axis=1)  # way back is left for the end
        place = np.where(seen[worlds, place], place, search)
        x, y = (aims[worlds, place] - self._pose[:, :2]).T
        cos, sin = np.cos(self._pose[:, 2]), np.sin(self._pose[:, 2])
        ahead, left = cos * x + sin * y, cos * y - sin * x
        scale = np.maximum(np.maximum(np.abs(ahead), np.abs(left)), 0.1)
        astray = np.arctan2(left, ahead) % (np.pi / 2) - np.pi / 4
        return np.stack([ahead / scale, left / scale, np.clip(6.0 * astray, -1.0, 1.0)], axis=1)

    def _place(self, env: WorldEnv) -> np.ndarray:
        """The place of the pad asked for, (B,) its index."""
        return env.hidden["stands"][np.arange(env.n), env.goal.argmax(axis=1)]

    def _route(self, env: WorldEnv) -> tuple[np.ndarray, np.ndarray]:
        """Lengths (B, PLACES) of the shortest ways to all places, and where each first turns (B, PLACES, 2)."""
        hidden = env.hidden
        return route(self._pose[:, :2], hidden["screens"], hidden["ways"], hidden["places"])


def least_steps(way: float, period: float) -> float:
    """The fewest env steps of `period` seconds that a way takes, metres; one is lost in getting going."""
    return float(np.ceil(way / (FASTEST * period) + 1.0))


def path_ratios(env: BatchEnv, act: Callable[[BatchEnv], np.ndarray], seed: int = 0) -> np.ndarray:
    """Steps taken over those that the shortest path takes at least, by visit and world: (VISITS, n).

    `env` is made with `autoreset_mode="Disabled"`; world i lives the session of seed + i. `act(env)` says the actions
    (n, 3) of each step. A visit that fails counts with all its steps.
    """
    ratios = np.full((VISITS, env.num_envs), np.nan)
    way = env.reset(seed=seed)[1]["privileged/way"]
    while np.isnan(ratios).any():
        _, _, terminated, truncated, info = env.step(act(env))
        over = terminated | truncated
        for i in np.flatnonzero(over & (info["visit"] < VISITS)):
            ratios[info["visit"][i], i] = env.engine.steps[i] / least_steps(way[i], env.engine.period)
        if over.any():
            way = np.where(over, env.reset(options={"reset_mask": over})[1]["privileged/way"], way)
    return ratios


def _closeness(achieved: np.ndarray, desired: np.ndarray) -> np.ndarray:
    """How near the pad of the colour that is most desired is seen, (B,); 0 where none is."""
    pairs, wanted = np.arange(len(desired)), desired.argmax(axis=1)
    return np.where(desired[pairs, wanted] > 0.0, achieved[pairs, wanted], 0.0)


def _lay_out(hidden: dict[str, np.ndarray], rng: np.random.Generator) -> None:
    """Draw a layout in which every place can be reached, into one world's arrays."""
    rows = PITCH * (np.arange(4) - 1.5)
    cells = np.array([(x, y) for x in rows for y in rows])
    lines = [(along, across, turned) for along in rows for across in rows[:3] + PITCH / 2 for turned in (False, True)]
    ways = np.full_like(hidden["ways"], np.inf)
    while np.isinf(ways[-PLACES:]).any():
        hidden["places"][:] = cells + rng.uniform(-0.15, 0.15, cells.shape)
        for index, line in enumerate(rng.choice(len(lines), SCREENS, replace=False)):
            along, across, turned = lines[line]
            along = np.clip(along + rng.uniform(-0.3, 0.3), LENGTH - HALF, HALF - LENGTH)
            hidden["screens"][index] = (
                (across, along, THICKNESS, LENGTH) if turned else (along, across, LENGTH, THICKNESS)
            )
        ways = shortest(hidden["screens"], hidden["places"], HALF)
    hidden["ways"][:] = ways
    hidden["stands"][:] = rng.choice(PLACES, len(COLOURS), replace=False)
