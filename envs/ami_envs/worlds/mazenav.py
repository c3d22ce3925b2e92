"""`ami/MazeNav-v0`: drive through a maze to a place. Finding a way; with a fixed map, reusing it."""

from __future__ import annotations

import mujoco
import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import shortest_path

from ami_envs.core import WorldEnv
from ami_envs.inputs import whole
from ami_envs.paths import ASSETS
from ami_envs.robots import Rover
from ami_envs.task import Task, distance

UNDERGROUND = -5.0  # where walls that a map does not have wait, metres


class MazeNav(Task):
    """Success: the rover within 0.3 m of the goal. Cells are 1 m wide.

    Observation (6): place (m), cos and sin of the yaw, the place's velocity (m/s).

    Args:
        size: cells a side, 4 to 8; give `gym.make` `max_episode_steps=100 * (size - 2)` along with it.
        map: "seed", a new map drawn for each episode from its seed, or "fixed", one map a session.
    """

    robot = Rover
    derived = False
    scene = ASSETS / "mazenav" / "mazenav.xml"
    senses = ("touch", "lidar")
    goal_size = 2
    place, near, goes = (0, 1), 0.15, True
    max_episode_steps = 200
    radius = 0.3
    braid = 0.25  # share of the walls of a perfect maze that are taken away again: loops, hence choices

    def __init__(self, size: int = 4, map: str = "seed", reward_type: str = "dense") -> None:
        super().__init__(reward_type)
        whole("size", size, 4, 8)
        self.max_episode_steps = 100 * (size - 2)
        if map not in ("fixed", "seed"):
            raise ValueError(f"map must be 'fixed' or 'seed', not {map!r}")
        self.size, self.map = size, map
        self.sessions = map == "fixed"
        self._edges = [(c, c + 1) for c in range(size * size) if (c + 1) % size]
        self._edges += [(c, c + size) for c in range(size * (size - 1))]

    def build(self, spec: mujoco.MjSpec) -> None:
        half = self.size / 2
        box = {"type": mujoco.mjtGeom.mjGEOM_BOX, "material": "wall"}
        for sign in (-1, 1):
            spec.worldbody.add_geom(pos=[sign * half, 0, 0.2], size=[0.05, half + 0.05, 0.2], **box)
            spec.worldbody.add_geom(pos=[0, sign * half, 0.2], size=[half + 0.05, 0.05, 0.2], **box)
        for index, (a, b) in enumerate(self._edges):
            wall = spec.worldbody.add_body(name=f"wall{index}", mocap=True, pos=[0, 0, UNDERGROUND])
            wall.add_geom(size=[0.05, 0.55, 0.2] if b == a + 1 else [0.55, 0.05, 0.2], **box)
        spec.worldbody.add_camera(
            name="view", pos=[0, -0.85 * self.size, 1.3 * self.size], fovy=50, xyaxes=[1, 0, 0, 0, 0.84, 0.55]
        )

    def bind(self, env: WorldEnv) -> None:
        self._pose, self._velocity = env.robot.qpos, env.robot.qvel
        mocap = env.batch.bind("mocap_pos")
        self._marker, self._walls = mocap[:, 0], mocap[:, 1:]
        env.hidden["walls"] = np.zeros((env.n, len(self._edges)), bool)

    def reset(self, env: WorldEnv, i: int, rng: np.random.Generator) -> None:
        walls = self.draw_map(rng if self.map == "seed" else env.session_rng(i))
        env.hidden["walls"][i] = walls
        for index, (a, b) in enumerate(self._edges):
            middle = (self.centre(a) + self.centre(b)) / 2
            self._walls[i, index] = (*middle, 0.2 if walls[index] else UNDERGROUND)
        start, goal = rng.choice(self.size**2, 2, replace=False)
        self._pose[i, :2] = self.centre(start) + rng.uniform(-0.2, 0.2, 2)
        self._pose[i, 2] = rng.uniform(-np.pi, np.pi)
        env.goal[i] = self.centre(goal) + rng.uniform(-0.2, 0.2, 2)
        self._marker[i] = (*env.goal[i], 0.005)

    def draw_map(self, rng: np.random.Generator) -> np.ndarray:
        """Which of the inner walls stand, (edges,) bool: a random spanning tree is open (Kruskal), and some more."""
        parent = list(range(self.size**2))

        def root(cell: int) -> int:
            while parent[cell] != cell:
                cell = parent[cell]
            return cell

        walls = np.ones(len(self._edges), bool)
        for index in rng.permutation(len(self._edges)):
            a, b = (root(cell) for cell in self._edges[index])
            if a != b or rng.random() < self.braid:
                walls[index], parent[a] = False, b
        return walls

    def centre(self, cell: int) -> np.ndarray:
        """The middle of a cell, (2,) metres."""
        return np.array([cell % self.size, cell // self.size]) - (self.size - 1) / 2

    def cell(self, place: np.ndarray) -> int:
        """The cell that a place (2,) lies in."""
        x, y = np.clip(np.floor(place + self.size / 2), 0, self.size - 1).astype(int)
        return int(y * self.size + x)

    def observe(self, env: WorldEnv) -> np.ndarray:
        yaw = self._pose[:, 2:3]
        return np.concatenate([self._pose[:, :2], np.cos(yaw), np.sin(yaw), self._velocity[:, :2]], axis=1)

    def achieved(self, env: WorldEnv) -> np.ndarray:
        return self._pose[:, :2].copy()

    def success(self, achieved: np.ndarray, desired: np.ndarray) -> np.ndarray:
        return distance(achieved, desired) < self.radius

    def terms(self, achieved: np.ndarray, desired: np.ndarray, observation: np.ndarray | None) -> dict[str, np.ndarray]:
        return {"time": np.full(len(achieved), -0.5), "distance": -0.1 * distance(achieved, desired)}

    def oracle(self, env: WorldEnv) -> np.ndarray:
        """Follow the shortest path over the cells, middle to middle, by the true map."""
        action = np.zeros((env.n, 3))
        for i in range(env.n):
            here, there = self.cell(self._pose[i, :2]), self.cell(env.goal[i])
            target = env.goal[i] if here == there else self._waypoint(env.hidden["walls"][i], here, there, i)
            offset = target - self._pose[i, :2]
            cos, sin = np.cos(self._pose[i, 2]), np.sin(self._pose[i, 2])
            velocity = 4.0 * np.array([cos * offset[0] + sin * offset[1], -sin * offset[0] + cos * offset[1]])
            action[i, :2] = velocity / max(1.0, float(np.abs(velocity).max()))
        return action

    def _waypoint(self, walls: np.ndarray, here: int, there: int, world: int) -> np.ndarray:
        open_edges = [edge for edge, wall in zip(self._edges, walls, strict=True) if not wall]
        a, b = np.array(open_edges).T
        graph = csr_array((np.ones(len(a)), (a, b)), shape=(self.size**2,) * 2)
        _, before = shortest_path(graph, directed=False, unweighted=True, indices=there, return_predecessors=True)
        middle, ahead = self.centre(here), self.centre(int(before[here]))
        along = ahead - middle
        offset = self._pose[world, :2] - middle
        astray = np.abs(offset - (offset @ along) * along).max() > 0.25
        return middle if astray else ahead
