"""A camera that draws with OpenGL: textures, transparency and shadows, for large pictures and for videos.

The ray camera stays the default, as it needs no driver. OpenGL is loaded with the first `GLCamera`: what MUJOCO_GL says
or else the first that works, on Linux EGL, OSMesa, a window. Another driver may draw other bytes.
"""

from __future__ import annotations

import atexit
import contextlib
import copy
import ctypes
import importlib
import os
import platform
import warnings
import weakref
from collections.abc import Collection
from typing import Any

import mujoco
import numpy as np

from ami_envs.senses.camera import FAINT, STRONG, TONE, TONES, Frame, _sky, checker

PARTS = ("rgb", "depth", "geom_id")
EVERYTHING = int(mujoco.mjtCatBit.mjCAT_ALL)
LARGEST = 8192  # pixels a side
SPARE = 10_000  # things to draw besides the model's geoms: pieces of tendons and the like
LARGE = 256  # pixels of the longer side from which on a picture is drawn nicely
FAST = {"shadowsize": 0, "offsamples": 0, "numslices": 28, "numstacks": 16, "numquads": 1}
NICE = FAST | {"shadowsize": 2048, "offsamples": 4}
SHADED = 2.0  # extents of the scene from a light's axis in which things cast shadows; at its rim the ground is mottled
SKY, SQUARES = "ami/sky", "ami/squares"  # textures of bodies/common.xml; the second covers 2 m x 2 m
BACKENDS = {"Linux": ("egl", "osmesa", "glfw"), "Darwin": ("cgl", "glfw")}.get(platform.system(), ("glfw",))
LIBRARIES = {"egl": "libEGL.so.1", "osmesa": "libOSMesa.so.8"}
HELP = (
    "On Debian or Ubuntu, `apt install libegl1 libgl1 libgl1-mesa-dri` and leave MUJOCO_GL unset (or MUJOCO_GL=egl), "
    "or `apt install libosmesa6` and MUJOCO_GL=osmesa; with a screen, MUJOCO_GL=glfw. The ray camera needs none of it"
)


class NoGraphics(RuntimeError):
    """There is no OpenGL here; the message says what was tried and what to install."""


class GLCamera:
    """Renders one camera of a model; a stand-in for RayCamera, to be used from one thread.

    It sees the geoms that the ray camera sees, besides flexes, skins and tendons, whose id is -1. The sky is the
    model's skybox, or black; with bodies/common.xml, sky and squares are the ray camera's. Other textures,
    meshes and height fields are those of the model it was made with.

    Args:
        model: where the camera is looked up; not changed.
        camera: its name or id. Raises KeyError (with the names there are) or ValueError.
        width, height: pixels, 1 to 8192; the model's `offwidth` and `offheight` do not limit them.
        fast: True for no shadows and no smoothed edges, False for what the model's `quality` says; None for fast below
            256 pixels a side, else shadows and smooth edges.

    Raises NoGraphics where OpenGL does not work.
    """

    _context: Any = None
    _mjr: Any = None

    def __init__(
        self, model: mujoco.MjModel, camera: str | int, width: int = 640, height: int = 480, fast: bool | None = None
    ) -> None:
        if not (1 <= width <= LARGEST and 1 <= height <= LARGEST):
            raise ValueError(f"width and height must be 1 to {LARGEST}, not {width}, {height}")
        self.camera = model.camera(camera).id if isinstance(camera, str) else int(camera)
        if not 0 <= self.camera < model.ncam:
            raise ValueError(f"no camera {camera}: the model has {model.ncam}")
        self.model, self.width, self.height = model, width, height
        self._view = mujoco.MjvCamera()
        self._view.type, self._view.fixedcamid = int(mujoco.mjtCamera.mjCAMERA_FIXED), self.camera
        self._option = mujoco.MjvOption()  # shows geoms of groups 0 to 2
        self._option.sitegroup[:] = 0
        self._option.flags[mujoco.mjtVisFlag.mjVIS_RANGEFINDER] = False
        self._scene = mujoco.MjvScene(model, model.ngeom + SPARE)
        self._rect = mujoco.MjrRect(0, 0, width, height)

        wanted = copy.copy(model)
        wanted.vis.global_.offwidth, wanted.vis.global_.offheight = width, height
        quality = {True: FAST, False: {}, None: NICE if max(width, height) >= LARGE else FAST}[fast]
        for name, value in quality.items():
            setattr(wanted.vis.quality, name, value)
        wanted.vis.map.shadowclip = max(wanted.vis.map.shadowclip, SHADED)
        _paint(wanted)
        self._context, self._mjr = _open(wanted, width, height)
        self._mjr.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        _cameras.add(self)
        atexit.unregister(_close_all)  # registered last, it runs first: before the driver is shut down
        atexit.register(_close_all)

    def render(self, data: mujoco.MjData, model: mujoco.MjModel | None = None, parts: Collection[str] = PARTS) -> Frame:
        """What the camera sees in `data`, whose kinematics must be current; `model` gives this world's colours, lights
        and field of view. Arrays not in `parts` have no pixels: depth and ids take a pass of their own."""
        if self._mjr is None:
            raise RuntimeError("the camera is closed")
        if unknown := sorted(set(parts) - set(PARTS)):
            raise ValueError(f"no part {unknown[0]!r}; there are {', '.join(PARTS)}")
        self._context.make_current()
        mujoco.mjv_updateScene(model or self.model, data, self._option, None, self._view, EVERYTHING, self._scene)
        self._follow()
        rgb, depth, geom_id = np.empty((0, 0, 3), np.uint8), np.empty((0, 0, 1), np.float32), np.empty((0, 0), np.int32)
        if "rgb" in parts:
            rgb = self._draw(coded=False)[0]
        if "depth" in parts or "geom_id" in parts:
            code, nearness = self._draw(coded=True)
            depth = self._metres(nearness)[..., None] if "depth" in parts else depth
            geom_id = self._ids(code) if "geom_id" in parts else geom_id
        return Frame(rgb, depth, geom_id)

    def close(self) -> None:
        """Give back what the driver holds; the camera is of no use afterwards. Twice does no harm."""
        context, mjr, self._context, self._mjr = self._context, self._mjr, None, None
        with contextlib.suppress(Exception):  # nothing can be done about it, least of all at exit
            context.make_current()
            mjr.free()
            context.free()

    def __del__(self) -> None:
        self.close()

    def _follow(self) -> None:
        """Suns go with a camera that has left the scene's middle, so that things cast shadows there."""
        away = self._scene.camera[0].pos - self.model.stat.center
        if np.linalg.norm(away) > SHADED * self.model.stat.extent:
            for light in self._scene.lights[: self._scene.nlight]:
                light.pos += away * (light.type == int(mujoco.mjtLightType.mjLIGHT_DIRECTIONAL))

    def _draw(self, coded: bool) -> tuple[np.ndarray, np.ndarray]:
        """Colours (H, W, 3), or things' codes as colours; nearness (H, W), 1 at the near clip and 0 at the far one."""
        self._scene.flags[[int(mujoco.mjtRndFlag.mjRND_SEGMENT), int(mujoco.mjtRndFlag.mjRND_IDCOLOR)]] = coded
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._mjr)
        mujoco.mjr_render(self._rect, self._scene, self._mjr)
        colour = np.empty((self.height, self.width, 3), np.uint8)
        nearness = np.empty((self.height, self.width) if coded else (0, 0), np.float32)
        mujoco.mjr_readPixels(colour, nearness if coded else None, self._rect, self._mjr)
        return colour[::-1].copy(), nearness[::-1].copy()  # OpenGL begins with the bottom row

    def _ids(self, code: np.ndarray) -> np.ndarray:
        """Geom ids (H, W) from codes (H, W, 3): 0 is nothing, 1 the first thing drawn; the lowest byte comes first."""
        table = np.full(self._scene.ngeom + 1, -1, np.int32)
        for thing in self._scene.geoms[: self._scene.ngeom]:
            if thing.objtype == int(mujoco.mjtObj.mjOBJ_GEOM) and thing.segid >= 0:
                table[thing.segid + 1] = thing.objid
        return table[np.einsum("hwc,c->hw", code, np.array([1, 1 << 8, 1 << 16], np.int32))]

    def _metres(self, nearness: np.ndarray) -> np.ndarray:
        """Depth (H, W) along the optical axis."""
        eye = self._scene.camera[0]
        near, far = float(eye.frustum_near), float(eye.frustum_far)
        step = nearness * (far - near)
        return np.where(nearness > 0, far - step if eye.orthographic else near * far / (step + near), far)


_cameras: weakref.WeakSet[GLCamera] = weakref.WeakSet()


def _close_all() -> None:
    for camera in list(_cameras):
        camera.close()


def _paint(model: mujoco.MjModel) -> None:
    """Give bodies/common.xml's textures the ray camera's sky and squares, these on every plane of a plain material."""
    if {SKY, SQUARES} - {model.texture(i).name for i in range(model.ntex)}:
        return
    sky, squares = model.texture(SKY), model.texture(SQUARES)
    (x, y), one = _grid(sky.width[0]), np.ones((sky.width[0],) * 2)
    wall, above, below = (np.stack(face, axis=-1).reshape(-1, 3) for face in ((x, one, -y), (x, y, one), (x, y, -one)))
    light = _sky(np.concatenate([wall, wall, above, below, wall, wall])).T
    sky.data[:] = TONE[(light * (TONES / 2)).astype(int)].reshape(sky.data.shape)

    (x, y), width = _grid(squares.width[0]), np.full((squares.width[0],) * 2, 2 / squares.width[0])
    dark = STRONG * checker(x, -y, width, 0.1) + FAINT * checker(x, -y, width, 1)
    squares.data[:] = np.round(255 * (1 - dark))[..., None]
    plane = model.geom_type == int(mujoco.mjtGeom.mjGEOM_PLANE)
    for material in set(model.geom_matid[plane]) - set(model.geom_matid[~plane]) - {-1}:
        if (model.mat_texid[material] < 0).all():
            model.mat_texid[material, int(mujoco.mjtTextureRole.mjTEXROLE_RGB)] = squares.id
            model.mat_texuniform[material], model.mat_texrepeat[material] = True, 1


def _grid(side: int) -> tuple[np.ndarray, ...]:
    """x and y (side, side) of a texture's points, -1 to 1."""
    return tuple(np.meshgrid(*[(np.arange(side) + 0.5) * 2 / side - 1] * 2))


def _backends() -> tuple[str, ...]:
    """What to try, in order. Raises NoGraphics if MUJOCO_GL leaves nothing."""
    wish = os.environ.get("MUJOCO_GL", "").lower().strip()
    if wish in ("", "enable", "enabled", "on", "true", "1"):
        screen = platform.system() != "Linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        return BACKENDS if screen else BACKENDS[:-1]
    backend = "glfw" if wish in ("glx", "wgl") else wish  # as MuJoCo has it
    if backend not in BACKENDS:
        raise NoGraphics(f"MUJOCO_GL={wish} leaves no OpenGL to use; here there are {', '.join(BACKENDS)}. {HELP}")
    return (backend,)


def _open(model: mujoco.MjModel, width: int, height: int) -> tuple[Any, mujoco.MjrContext]:
    """An OpenGL context, and MuJoCo's drawing state in it, of the first backend that works."""
    reasons = []
    for backend in _backends():
        try:
            return _try(backend, model, width, height)
        except Exception as error:  # drivers and their bindings fail in every way there is
            reasons.append(f"{backend}: {type(error).__name__}: {error}")
    raise NoGraphics(f"no OpenGL works here ({'; '.join(reasons)}). {HELP}")


def _try(backend: str, model: mujoco.MjModel, width: int, height: int) -> tuple[Any, mujoco.MjrContext]:
    _check(backend)
    own, context = "PYOPENGL_PLATFORM" in os.environ, None
    try:
        with warnings.catch_warnings(action="ignore"):
            kind = importlib.import_module(f"mujoco.{backend}").GLContext
            context = type("Context", (kind,), {"__del__": lambda self: None})(width, height)  # freed by the camera
            context.make_current()
            return context, mujoco.MjrContext(model, int(mujoco.mjtFontScale.mjFONTSCALE_100))
    except Exception:
        if context is not None:
            context.free()
        raise
    finally:
        if not own:  # MuJoCo has set it then
            os.environ.pop("PYOPENGL_PLATFORM", None)


def _check(backend: str) -> None:
    """Raises OSError if the library or EGL's driver is missing: PyOpenGL, loaded for one, is of no use for another."""
    library = ctypes.CDLL(LIBRARIES[backend]) if backend in LIBRARIES else None
    if library and backend == "egl":
        library.eglGetProcAddress.restype = ctypes.c_void_p
        kind, count = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p), ctypes.c_int()
        address = library.eglGetProcAddress(b"eglQueryDevicesEXT")
        if not address or not kind(address)(0, None, ctypes.addressof(count)) or not count.value:
            raise OSError(f"{LIBRARIES[backend]} has no driver")
