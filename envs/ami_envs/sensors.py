"""The senses. A sensor is an object with its own space and rate; it reads all worlds of the engine at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

import mujoco
import numpy as np
from gymnasium.spaces import Box

from ami_envs.camera import Frame, RayCamera

if TYPE_CHECKING:
    from ami_envs.core import WorldEnv
    from ami_envs.robots import Robot


class Sensor(ABC):
    """One sense of every world.

    `space` is the Box of one world's reading, `every` the env steps between two readings (the last one stays between),
    `derived` whether it reads places of bodies or sites from the engine (see `Task.derived`).
    """

    space: Box
    every: int = 1
    derived: bool = True

    @abstractmethod
    def read(self, env: WorldEnv, ids: np.ndarray) -> np.ndarray:
        """Read worlds `ids` (n,) -> (n, *space.shape): a fresh array, never a view that is used again."""


class Touch(Sensor):
    """Normal force on each of the robot's touch pads, newtons, squashed by log(1 + f) so that a graze is felt too.

    The force is that of the latest physics step, as MuJoCo's touch sensors have it.
    """

    derived = False

    def __init__(self, env: WorldEnv) -> None:
        self._forces = [env.batch.sensor(name).data for name in env.robot.touch]
        self.space = Box(0.0, float(np.log1p(mujoco.mjMAXVAL)), (len(self._forces),), np.float32)

    def read(self, env: WorldEnv, ids: np.ndarray) -> np.ndarray:
        return np.log1p(np.concatenate([force[ids] for force in self._forces], axis=1)).astype(np.float32)


class Lidar(Sensor):
    """Distance to the nearest surface along `rays` horizontal rays, metres, counter-clockwise from the robot's front.

    Nothing within `reach` reads as `reach`.
    """

    derived = False

    def __init__(self, env: WorldEnv, rays: int = 32, reach: float = 5.0) -> None:
        if not env.robot.lidar:
            raise ValueError(f"a {type(env.robot).__name__} carries no lidar; it has {', '.join(offered(env.robot))}")
        self.space = Box(0.0, reach, (rays,), np.float32)
        self._reach = reach
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


class Vision(Sensor):
    """What the ray camera sees: `part` is "rgb" (H, W, 3) uint8, "depth" (H, W, 1) metres, "segmentation" (H, W) id."""

    derived = False

    def __init__(self, env: WorldEnv, part: str, camera: str = "view", size: int = 64) -> None:
        self._part = part
        self._eye = env.eye(camera, size)
        spaces: dict[str, Box] = {
            "rgb": Box(0, 255, (size, size, 3), np.uint8),
            "depth": Box(0.0, env.model.vis.map.zfar * env.model.stat.extent, (size, size, 1), np.float32),
            "segmentation": Box(-1, env.model.ngeom, (size, size), np.int32),
        }
        self.space = spaces[part]

    def read(self, env: WorldEnv, ids: np.ndarray) -> np.ndarray:
        part = "geom_id" if self._part == "segmentation" else self._part
        return np.stack([getattr(self._eye.look(env, int(i)), part) for i in ids])


class Eye:
    """A ray camera shared by the senses that look through it: one picture a world and step serves them all."""

    def __init__(self, env: WorldEnv, camera: str, size: int) -> None:
        self._camera = RayCamera(env.model, camera, size, size)
        self._data = mujoco.MjData(env.model)
        self._seen: dict[int, tuple[bytes, Frame]] = {}

    def look(self, env: WorldEnv, world: int) -> Frame:
        """The picture of a world as it is now; copy what you keep."""
        moment = env.moment(world)
        seen, frame = self._seen.get(world, (b"", None))
        if frame is None or seen != moment:
            env.batch.get_data(world, self._data)
            mujoco.mj_kinematics(env.model, self._data)
            mujoco.mj_camlight(env.model, self._data)
            frame = self._camera.render(self._data)
            self._seen[world] = (moment, frame)
        return frame


SENSORS: dict[str, Callable[[WorldEnv], Sensor]] = {
    "touch": Touch,
    "lidar": Lidar,
    "rgb": lambda env: Vision(env, "rgb"),
    "depth": lambda env: Vision(env, "depth"),
    "segmentation": lambda env: Vision(env, "segmentation"),
}


def build(name: str, env: WorldEnv) -> Sensor:
    """The sense of that name, for the worlds of `env`. Raises ValueError for one that its robot has not."""
    if name not in SENSORS:
        raise ValueError(f"unknown sense {name!r}; there are {', '.join(offered(env.robot))}")
    return SENSORS[name](env)


def offered(robot: Robot | type[Robot]) -> tuple[str, ...]:
    """The senses that a robot can have."""
    return tuple(name for name in SENSORS if name != "lidar" or robot.lidar)
