"""Distance all round, by rays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from gymnasium.spaces import Box

from ami_envs.senses.base import Sensor

if TYPE_CHECKING:
    from ami_envs.core import WorldEnv
    from ami_envs.task import Task


class Lidar(Sensor):
    """Distance to the nearest surface along `rays` horizontal rays, metres, counter-clockwise from the robot's front.

    Nothing within `reach` reads as `reach`.
    """

    derived = False

    def __init__(self, env: WorldEnv, rays: int | None = None, reach: float = 5.0) -> None:
        rays = env.robot.rays if rays is None else rays
        self.space = Box(0.0, reach, (rays,), np.float32)
        self.span = self._reach = reach
        self._angles = np.arange(rays) * (2 * np.pi / rays)
        self._body = env.model.body(env.robot.body).id
        self._height = float(env.model.site("lidar").pos[2] + env.model.body(env.robot.body).pos[2])
        self._vec = np.zeros((env.n, rays, 3))
        self._pnt = np.zeros((env.n, rays, 3))

    def read(self, env: WorldEnv, ids: np.ndarray) -> np.ndarray:
        pose = env.robot.qpos[ids, :3]
        angle = pose[:, 2:3] + self._angles
        vec, pnt = self._vec[: len(ids)], self._pnt[: len(ids)]
        vec[..., 0], vec[..., 1] = np.cos(angle), np.sin(angle)
        pnt[..., :2], pnt[..., 2] = pose[:, None, :2], self._height
        dist, _ = env.batch.ray(pnt, vec, bodyexclude=self._body, ids=ids)
        return np.where((dist < 0) | (dist > self._reach), self._reach, dist).astype(np.float32)

    @classmethod
    def offered(cls, task: Task | type[Task]) -> bool:
        return task.robot.lidar
