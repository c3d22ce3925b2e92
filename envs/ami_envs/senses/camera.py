"""A camera of rays: colour, depth and geom id of a MuJoCo scene without OpenGL.

Every pixel is one ray of `mujoco.mj_multiRay`, shaded in numpy. Nothing depends on a driver or a window, so a frame is
the same bytes on every run and can be hashed. What it draws, it draws simply: every geom is opaque in its own colour,
lights shine from infinity along their direction, planes carry a checker (textures are left to OpenGL). A geom is unseen
if its alpha is 0 or its group is 3 or more, as in MuJoCo's own viewer. A camera inside a geom sees it from within.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

GROUPS = np.array([1, 1, 1, 0, 0, 0], np.uint8)  # geom groups that are seen
UNSET = np.array([0.5, 0.5, 0.5, 1], np.float32)  # a geom of this colour wears its material's, if it has one
HORIZON = np.array([0.84, 0.89, 0.94], np.float32)
ZENITH = np.array([0.42, 0.58, 0.80], np.float32)
FAINT, STRONG = 0.07, 0.16  # how much darker a checker's dark squares are: the wide one, the narrow one
TONES = 4096  # entries of the tone table, which covers brightness 0 to 2
FREE = -1  # the camera that every model has: it sees the whole of it, as MuJoCo's viewer does at first


@dataclass(frozen=True)
class Frame:
    """One picture, row 0 at the top. Fresh arrays: nothing else holds them."""

    rgb: np.ndarray  # (H, W, 3) uint8
    depth: np.ndarray  # (H, W, 1) float32, metres along the optical axis; the far clip distance where nothing is hit
    geom_id: np.ndarray  # (H, W) int32, -1 where nothing is hit


@dataclass(frozen=True)
class Hits:
    """What P rays met."""

    geom_id: np.ndarray  # (P,) int32, -1 for nothing
    distance: np.ndarray  # (P,) float64, in lengths of the ray's vector
    normal: np.ndarray  # (P, 3) float64, unit, world frame


class RayCamera:
    """Renders one camera of a model; one instance serves every world that shares the model's structure.

    Args:
        model: where the camera is looked up.
        camera: its name or id, or `FREE` for a view of the whole model. Raises KeyError (with the names there are) or
            ValueError.
        width, height: pixels; the vertical field of view is the model's `cam_fovy`, pixels are square.
        shadows: cast the main light's shadow (about twice the time).
        supersample: render this many times larger and average the colour; depth and id stay samples.
        checker: side of the narrow squares on planes, metres; the wide ones are ten times that; 0 for none.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        camera: str | int,
        width: int = 64,
        height: int = 64,
        shadows: bool = False,
        supersample: int = 1,
        checker: float = 0.1,
    ) -> None:
        if min(width, height, supersample) < 1:
            raise ValueError(f"width, height and supersample must be 1 or more, not {width}, {height}, {supersample}")
        self.camera = model.camera(camera).id if isinstance(camera, str) else int(camera)
        if not FREE <= self.camera < model.ncam:
            raise ValueError(f"no camera {camera}: the model has {model.ncam}")
        told = model.vis.global_.orthographic if self.camera == FREE else model.cam_projection[self.camera]
        if int(told) != int(mujoco.mjtProjection.mjPROJ_PERSPECTIVE):
            raise ValueError(f"camera {camera!r} is orthographic; the ray camera draws perspective only")
        self.model, self.width, self.height = model, width, height
        self.shadows, self.supersample, self.checker = shadows, supersample, checker
        self._grid(self._angle(model))

    def render(self, data: mujoco.MjData, model: mujoco.MjModel | None = None) -> Frame:
        """What the camera sees in `data`, whose kinematics must be current (`mj_forward`, or `mj_kinematics` and
        `mj_camlight`); `model` gives this world's colours, lights and field of view if they differ from the first's.
        `data` is MuJoCo's scratch space meanwhile: one a thread.
        """
        model = self.model if model is None else model
        rays = self._rays(model, data)
        hits = cast(model, data, self._pose(data)[0], rays)
        far = model.vis.map.zfar * model.stat.extent
        missed = (hits.geom_id < 0) | (hits.distance > far)
        geom_id = np.where(missed, np.int32(-1), hits.geom_id)
        depth = np.where(missed, far, hits.distance).astype(np.float32)  # the rays' length along the axis is 1
        colour = self._shade(model, data, rays, Hits(geom_id, depth, hits.normal))

        s, height, width = self.supersample, self.height, self.width
        rgb = TONE.take((colour * (TONES / 2)).astype(np.intp), mode="clip")
        rgb = np.ascontiguousarray(rgb.T).reshape(height, s, width, s, 3)
        if s > 1:
            rgb = (rgb.astype(np.uint32).sum(axis=(1, 3)) + s * s // 2) // (s * s)
        nearest = (slice(None), s // 2, slice(None), s // 2)
        return Frame(
            rgb=rgb.reshape(height, width, 3).astype(np.uint8),
            depth=depth.reshape(height, s, width, s)[nearest].copy()[..., None],
            geom_id=geom_id.reshape(height, s, width, s)[nearest].copy(),
        )

    def _pose(self, data: mujoco.MjData) -> tuple[np.ndarray, np.ndarray]:
        """Where the camera is (3,), and its axes in columns (3, 3): right, up, back."""
        if self.camera == FREE:
            return _free_pose(self.model)
        return data.cam_xpos[self.camera], data.cam_xmat[self.camera].reshape(3, 3)

    def _angle(self, model: mujoco.MjModel) -> float:
        """The vertical field of view, degrees."""
        return float(model.vis.global_.fovy if self.camera == FREE else model.cam_fovy[self.camera])

    def _rays(self, model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
        """One vector a pixel, (P, 3) in the world frame, 1 long along the optical axis."""
        fovy = self._angle(model)
        if fovy != self._fovy:
            self._grid(fovy)
        right, up, back = self._pose(data)[1].T
        return (self._x[None, :, None] * right + (self._y[:, None, None] * up - back)).reshape(-1, 3)

    def _grid(self, fovy: float) -> None:
        """Where pixel centres lie at 1 m: x (W,) to the right, y (H,) upwards; a pixel's side there. All in metres."""
        width, height = self.width * self.supersample, self.height * self.supersample
        self._fovy, self._pixel = fovy, 2 * float(np.tan(np.deg2rad(fovy) / 2)) / height
        self._x = (np.arange(width) + 0.5 - width / 2) * self._pixel
        self._y = (height / 2 - np.arange(height) - 0.5) * self._pixel

    def _shade(self, model: mujoco.MjModel, data: mujoco.MjData, rays: np.ndarray, hits: Hits) -> np.ndarray:
        """Brightness (3, P) float32. A row a channel: numpy is quickest along the last axis."""
        albedo, ambient = _paint(model)
        towards, diffuse, main = self._lights(model, data)
        incidence = np.einsum("lk,kp->lp", towards, hits.normal.T.astype(np.float32, order="C"))
        np.maximum(incidence, 0, out=incidence)
        if self.shadows and main is not None:
            seen = np.flatnonzero((hits.geom_id >= 0) & (incidence[main] > 0))
            points = self._pose(data)[0] + rays[seen] * hits.distance[seen, None]
            incidence[main, seen[_shadowed(model, data, points, towards[main])]] = 0
        colour = np.einsum("lc,lp->cp", diffuse, incidence)
        colour *= albedo.take(hits.geom_id, axis=1, mode="wrap")  # nothing is -1, the tables' last column
        colour += ambient.take(hits.geom_id, axis=1, mode="wrap")

        for plane in np.flatnonzero(model.geom_type == int(mujoco.mjtGeom.mjGEOM_PLANE)) if self.checker else ():
            seen = np.flatnonzero(hits.geom_id == plane)
            colour[:, seen] *= self._squares(data, int(plane), rays[seen], hits.distance[seen])
        missed = np.flatnonzero(hits.geom_id < 0)
        colour[:, missed] = _sky(rays[missed])
        return colour

    def _lights(self, model: mujoco.MjModel, data: mujoco.MjData) -> tuple[np.ndarray, np.ndarray, int | None]:
        """Unit vectors towards the L lights (L, 3), their colours (L, 3), and which one casts the shadow, if any.
        The headlight comes first: it shines along the optical axis."""
        active = np.flatnonzero(model.light_active)
        back = self._pose(data)[1][:, 2]
        towards = np.vstack([back, -data.light_xdir[active]]).astype(np.float32)
        headlight = model.vis.headlight.diffuse * bool(model.vis.headlight.active)
        diffuse = np.vstack([headlight, model.light_diffuse[active]])
        casting = np.flatnonzero(model.light_castshadow[active])
        return towards, diffuse.astype(np.float32), 1 + int(casting[0]) if casting.size else None

    def _squares(self, data: mujoco.MjData, plane: int, rays: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """How bright a plane is under each ray, (P,) float32: two checkers in the plane's own axes."""
        offset = self._pose(data)[0] - data.geom_xpos[plane]
        axes = data.geom_xmat[plane].reshape(3, 3)
        local = np.einsum("pk,kl->lp", rays, axes) * depth + (offset @ axes)[:, None]
        tilt = np.maximum(np.abs(np.einsum("pk,k->p", rays, axes[:, 2])), 1e-6)
        footprint = self._pixel * depth / np.sqrt(tilt)
        u, v, width = (array.astype(np.float32) for array in (local[0], local[1], footprint))
        return 1 - STRONG * checker(u, v, width, self.checker) - FAINT * checker(u, v, width, 10 * self.checker)


def _free_pose(model: mujoco.MjModel) -> tuple[np.ndarray, np.ndarray]:
    """Where MuJoCo's viewer looks from at first, (3,), and its axes in columns, (3, 3)."""
    view = mujoco.MjvCamera()
    mujoco.mjv_defaultFreeCamera(model, view)
    turn, lift = np.deg2rad([view.azimuth, view.elevation])
    ahead = np.array([np.cos(lift) * np.cos(turn), np.cos(lift) * np.sin(turn), np.sin(lift)])
    right = np.array([np.sin(turn), -np.cos(turn), 0.0])
    return view.lookat - view.distance * ahead, np.stack([right, np.cross(right, ahead), -ahead], axis=1)


def cast(model: mujoco.MjModel, data: mujoco.MjData, origin: np.ndarray, rays: np.ndarray) -> Hits:
    """Send `rays` (P, 3), of any length, from `origin` (3,)."""
    count = len(rays)
    geom_id, distance, normal = np.empty(count, np.int32), np.empty(count), np.zeros(3 * count)
    if count:
        mujoco.mj_multiRay(
            model, data, origin, rays.reshape(-1), GROUPS, True, -1, geom_id, distance, normal, count, mujoco.mjMAXVAL
        )
    return Hits(geom_id, distance, normal.reshape(count, 3))


def checker(u: np.ndarray, v: np.ndarray, width: np.ndarray, side: float) -> np.ndarray:
    """Share of dark squares, 0 to 1, in a box `width` wide around each point (u, v): no moire at any distance.

    After Inigo Quilez, "Filtering procedural patterns", https://iquilezles.org/articles/checkerfiltering
    """
    half = np.clip(width / (2 * side), 1e-3, None)
    wave = [np.abs((a - half) / 2 % 1 - 0.5) - np.abs((a + half) / 2 % 1 - 0.5) for a in (u / side, v / side)]
    return 0.5 - 0.5 * wave[0] * wave[1] / (half * half)


def colours(model: mujoco.MjModel) -> np.ndarray:
    """Red, green, blue and alpha of every geom, its own or its material's, (ngeom, 4)."""
    rgba, material = model.geom_rgba, model.geom_matid
    dressed = (material >= 0) & (rgba == UNSET).all(axis=1)
    return np.where(dressed[:, None], model.mat_rgba[material], rgba) if model.nmat else rgba


def _paint(model: mujoco.MjModel) -> tuple[np.ndarray, np.ndarray]:
    """What each geom gives back of light that falls on it, and its brightness without: two tables (3, ngeom + 1)."""
    rgba, material = colours(model), model.geom_matid
    lights = model.light_ambient[np.flatnonzero(model.light_active)].sum(axis=0)
    ambient = np.tile(lights + model.vis.headlight.ambient * bool(model.vis.headlight.active), (model.ngeom, 1))
    if model.nmat:
        ambient += np.where(material >= 0, model.mat_emission[material], 0)[:, None]
    albedo = np.zeros((3, model.ngeom + 1), np.float32)
    albedo[:, :-1] = rgba[:, :3].T
    return albedo, albedo * np.pad(ambient.T, ((0, 0), (0, 1)))


def _shadowed(model: mujoco.MjModel, data: mujoco.MjData, points: np.ndarray, towards: np.ndarray) -> np.ndarray:
    """Which of `points` (P, 3) something hides from the light: one bundle of rays from far away, as from the sun."""
    sun = model.stat.center + 100 * model.stat.extent * towards.astype(np.float64)
    return cast(model, data, sun, points - sun).distance < 1 - 1e-5  # a thousandth of the scene short of the point


def _sky(rays: np.ndarray) -> np.ndarray:
    """Colour (3, P) of the empty sky: pale at the horizon, blue above, and pale below."""
    height = np.clip(rays[:, 2] / np.sqrt(np.einsum("pk,pk->p", rays, rays)), 0, 1).astype(np.float32)
    return HORIZON[:, None] + (ZENITH - HORIZON)[:, None] * np.sqrt(height)


def _tones() -> np.ndarray:
    """Screen value of each brightness: as it is up to 0.75, then rolled off so that strong light keeps its hue."""
    light = np.arange(TONES) * (2 / TONES)
    soft = 0.75 + 0.25 * (1 - np.exp(-(light - 0.75) / 0.25))
    return np.round(255 * np.where(light < 0.75, light, soft)).astype(np.uint8)


TONE = _tones()
