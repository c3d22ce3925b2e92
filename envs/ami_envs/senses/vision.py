"""Sight: colour, depth and segmentation, through one camera that draws each moment once."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

import mujoco
import numpy as np
from gymnasium.spaces import Box

from ami_envs.inputs import whole
from ami_envs.senses.base import Sensor
from ami_envs.senses.camera import Frame, RayCamera
from ami_envs.senses.gl import GLCamera

if TYPE_CHECKING:
    from ami_envs.core import WorldEnv
    from ami_envs.task import Task


LARGEST = 4096  # pixels a side of a picture


class Vision(Sensor):
    """What a camera sees, `size` pixels a side, row 0 at the top."""

    derived = False
    part: ClassVar[str]  # of a `Frame`

    def __init__(self, env: WorldEnv, camera: str = "view", size: int = 64, renderer: str = "ray") -> None:
        self._eye = env.eye(camera, size, size, renderer)
        self.space = self._space(env, size)

    @abstractmethod
    def _space(self, env: WorldEnv, size: int) -> Box: ...

    def read(self, env: WorldEnv, ids: np.ndarray) -> np.ndarray:
        return np.stack([getattr(self._eye.look(env, int(i)), self.part) for i in ids])


class Rgb(Vision):
    """Colour, (H, W, 3) uint8."""

    part, span = "rgb", 255.0

    def _space(self, env: WorldEnv, size: int) -> Box:
        return Box(0, 255, (size, size, 3), np.uint8)


class Depth(Vision):
    """Distance along the optical axis, (H, W, 1) metres; the far clip distance where nothing is hit."""

    part = "depth"

    def _space(self, env: WorldEnv, size: int) -> Box:
        return Box(0.0, env.model.vis.map.zfar * env.model.stat.extent, (size, size, 1), np.float32)


class Segmentation(Vision):
    """Which geom is seen, (H, W) its id, -1 for nothing. Names have no noise."""

    part, span = "geom_id", 0.0

    def _space(self, env: WorldEnv, size: int) -> Box:
        return Box(-1, env.model.ngeom, (size, size), np.int32)

    @classmethod
    def offered(cls, task: Task | type[Task]) -> bool:
        return not task.alike


def check_renderer(renderer: str) -> None:
    """ValueError for a renderer that there is not."""
    if renderer not in ("ray", "gl"):
        raise ValueError(f"renderer must be 'ray' or 'gl', not {renderer!r}")


class Eye:
    """One camera, shared by the senses that look through it: one picture a world and step serves them all.

    Args:
        env: whose worlds are seen.
        camera: its name.
        width, height: pixels.
        renderer: "ray" (the same bytes on every machine) or "gl" (OpenGL: for large pictures). Raises ValueError for
            another, `ami_envs.senses.gl.NoGraphics` where there is no OpenGL.
    """

    def __init__(self, env: WorldEnv, camera: str, width: int, height: int, renderer: str = "ray") -> None:
        check_renderer(renderer)
        width, height = (whole("a picture's side", side, 1, LARGEST) for side in (width, height))
        kind = GLCamera if renderer == "gl" else RayCamera
        self._camera: GLCamera | RayCamera = kind(env.model, camera, width, height)
        self._data = mujoco.MjData(env.model)
        self._seen: dict[int, tuple[bytes, Frame]] = {}

    def look(self, env: WorldEnv, world: int) -> Frame:
        """The picture of a world as it is now; copy what you keep."""
        moment = env.moment(world)
        seen, frame = self._seen.get(world, (b"", None))
        if frame is None or seen != moment:
            model = env.model_of(world)
            env.batch.get_data(world, self._data)
            mujoco.mj_kinematics(model, self._data)
            mujoco.mj_camlight(model, self._data)
            frame = self._camera.render(self._data, model)
            self._seen[world] = (moment, frame)
        return frame

    def close(self) -> None:
        """Let go of the graphics card's memory, if any is held."""
        if isinstance(self._camera, GLCamera):
            self._camera.close()
