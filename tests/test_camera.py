"""The ray camera against cases worked by hand."""

from __future__ import annotations

import hashlib
import time

import mujoco
import numpy as np
import pytest

from ami_envs.senses.camera import FREE, GROUPS, Frame, RayCamera, checker

SCENE = """
<mujoco>
  <statistic extent="2" center="0 0 0"/>
  <visual><headlight ambient=".3 .3 .3" diffuse=".3 .3 .3"/></visual>
  <worldbody>
    <light type="directional" dir="-.3 .2 -1" diffuse=".5 .5 .5"/>
    <camera name="down" pos="0 0 2" fovy="60"/>
    <camera name="level" pos="0 -2 .5" xyaxes="1 0 0 0 0 1" fovy="60"/>
    <camera name="flat" pos="0 0 2" projection="orthographic" fovy="1"/>
    {}
  </worldbody>
</mujoco>"""
BALL = '<geom name="ball" type="sphere" size=".25" rgba=".8 .1 .1 1"/>'
FLOOR = '<geom name="floor" type="plane" size="0 0 1" pos="0 0 -.25" rgba=".7 .7 .7 1"/>'
GRIPPER = "".join(
    f'<body pos="{0.03 * i - 0.15} 0 .3"><joint type="slide" axis="0 0 1"/>'
    f'<geom type="{"box" if i % 2 else "capsule"}" size=".01 .012 .05"/></body>'
    for i in range(11)
)
CUBE = '<body pos=".1 -.1 -.2"><freejoint/><geom type="box" size=".05 .05 .05" rgba=".9 .4 .1 1"/></body>'


def scene(body: str) -> tuple[mujoco.MjModel, mujoco.MjData]:
    model = mujoco.MjModel.from_xml_string(SCENE.format(body))
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    mujoco.mj_camlight(model, data)
    return model, data


def grid(size: int, fovy: float = 60) -> np.ndarray:
    """x to the right at the pixel centres, 1 m ahead; y upwards is the same, reversed."""
    return (2 * (np.arange(size) + 0.5) / size - 1) * np.tan(np.deg2rad(fovy / 2))


def digest(frame: Frame) -> str:
    return hashlib.sha256(b"".join(a.tobytes() for a in (frame.rgb, frame.depth, frame.geom_id))).hexdigest()


def test_shapes_and_types() -> None:
    model, data = scene(BALL + FLOOR)
    frame = RayCamera(model, "down", width=48, height=32).render(data)
    assert (frame.rgb.shape, frame.rgb.dtype) == ((32, 48, 3), np.uint8)
    assert (frame.depth.shape, frame.depth.dtype) == ((32, 48, 1), np.float32)
    assert (frame.geom_id.shape, frame.geom_id.dtype) == ((32, 48), np.int32)


def test_sphere_straight_ahead() -> None:
    model, data = scene(FLOOR + BALL)
    frame = RayCamera(model, "down", 65, 65).render(data)
    assert frame.depth[32, 32, 0] == pytest.approx(1.75, abs=1e-6)
    assert frame.geom_id[32, 32] == model.geom("ball").id
    assert frame.rgb[32, 32, 0] > 2 * frame.rgb[32, 32, 1]
    assert frame.depth[0, 0, 0] == pytest.approx(2.25, abs=1e-6)  # planar: the floor is as far in a corner as below


def test_without_a_camera_the_whole_is_seen_as_by_mujocos_viewer() -> None:
    view = '<visual><global azimuth="140" elevation="-35" fovy="50"/></visual>'
    body = f"<worldbody>{FLOOR}<body pos='.3 -.2 .1'>{BALL}</body></worldbody>"
    model = mujoco.MjModel.from_xml_string(f"<mujoco><statistic extent='2' center='.3 -.2 .1'/>{view}{body}</mujoco>")
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    camera = RayCamera(model, FREE, 65, 65)
    frame = camera.render(data)
    drawn, eye = mujoco.MjvScene(model, 9), mujoco.MjvCamera()
    mujoco.mjv_defaultFreeCamera(model, eye)
    mujoco.mjv_updateScene(model, data, mujoco.MjvOption(), None, eye, mujoco.mjtCatBit.mjCAT_ALL, drawn)
    place, axes = camera._pose(data)
    left, right = drawn.camera
    assert np.allclose((left.pos + right.pos) / 2, place, atol=1e-5)
    assert np.allclose(left.forward, -axes[:, 2], atol=1e-6) and np.allclose(left.up, axes[:, 1], atol=1e-6)
    assert frame.geom_id[32, 32] == model.geom("ball").id, "the centre of the model is in the middle"


def test_tilted_wall_has_planar_depth() -> None:
    tilt = np.deg2rad(30)
    model, data = scene(f'<geom type="box" size="9 9 .1" pos="0 0 -.1" euler="{np.rad2deg(tilt)} 0 0"/>')
    data.geom_xpos[0] = -0.1 * np.array([0, -np.sin(tilt), np.cos(tilt)])  # its face goes through the origin
    depth = RayCamera(model, "down", 32, 32).render(data).depth[..., 0]
    y = -grid(32)[:, None]  # the point (x z, y z, 2 - z) lies on the face where its product with the normal is 0
    expected = 2 * np.cos(tilt) / (np.cos(tilt) + y * np.sin(tilt))
    np.testing.assert_allclose(depth, np.broadcast_to(expected, (32, 32)), rtol=1e-6)


def test_right_is_right_and_up_is_up() -> None:
    model, data = scene('<geom type="sphere" size=".1" pos=".5 .7 0"/>')
    rows, columns = np.nonzero(RayCamera(model, "down").render(data).geom_id == 0)
    assert columns.min() > 32 and rows.max() < 32
    assert columns.mean() + 0.5 == pytest.approx(32 * (1 + 0.25 / np.tan(np.pi / 6)), abs=0.5)
    assert rows.mean() + 0.5 == pytest.approx(32 * (1 - 0.35 / np.tan(np.pi / 6)), abs=0.5)


def test_misses_are_sky_at_the_far_clip() -> None:
    model, data = scene(BALL.replace("size", 'pos="0 0 -9" size'))
    frame = RayCamera(model, "level").render(data)
    assert (frame.geom_id == -1).all()
    assert np.unique(frame.depth) == np.float32(model.vis.map.zfar * model.stat.extent)
    assert (frame.rgb[..., 2] >= frame.rgb[..., 0]).all() and frame.rgb.min() > 80


def test_nothing_beyond_the_far_clip_is_seen() -> None:
    model, data = scene(FLOOR + BALL)
    model.vis.map.zfar = 1.0  # times the extent: 2 m
    frame = RayCamera(model, "down", 65, 65).render(data)
    assert set(np.unique(frame.geom_id)) == {-1, model.geom("ball").id}
    assert frame.depth.max() == 2


@pytest.mark.parametrize("hidden", ['group="3"', 'rgba="1 0 0 0"'])
def test_hidden_geoms_are_not_hit(hidden: str) -> None:
    model, data = scene(FLOOR + f'<geom type="sphere" size=".25" {hidden}/>')
    assert (RayCamera(model, "down").render(data).geom_id == 0).all()


def test_same_bytes_every_time() -> None:
    digests = set()
    for _ in range(2):
        model, data = scene(FLOOR + BALL + GRIPPER + CUBE)
        camera = RayCamera(model, "level", shadows=True, supersample=2)
        first = camera.render(data)
        digests |= {digest(first), digest(camera.render(data))}
        first.rgb[:], first.depth[:], first.geom_id[:] = 0, 0, 0  # no later frame may notice
        digests.add(digest(camera.render(data)))
    assert len(digests) == 1


def test_a_worlds_own_model_gives_colour_light_and_view() -> None:
    model, data = scene(FLOOR + BALL)
    camera = RayCamera(model, "down", 65, 65)
    before = camera.render(data)
    other = mujoco.MjModel.from_xml_string(SCENE.format(FLOOR + BALL))
    other.geom("ball").rgba[:3] = 0.1, 0.1, 0.8
    blue = camera.render(data, other)
    assert blue.rgb[32, 32, 2] > 2 * blue.rgb[32, 32, 0] and (blue.depth == before.depth).all()
    other.vis.headlight.active, other.light_active[:] = 0, False
    assert not camera.render(data, other).rgb.any()
    other.cam_fovy[camera.camera] = 20
    assert (camera.render(data, other).geom_id == 1).sum() > 4 * (before.geom_id == 1).sum()
    assert digest(camera.render(data)) == digest(before)


def test_material_colours_follow_mujocos_rule() -> None:
    material = '<asset><material name="green" rgba="0 1 0 1"/></asset><worldbody>'
    balls = '<geom type="sphere" size=".3" material="green" pos="-.5 0 0"/>'
    balls += '<geom type="sphere" size=".3" material="green" rgba="1 0 0 1" pos=".5 0 0"/>'
    model = mujoco.MjModel.from_xml_string(SCENE.format(balls).replace("<worldbody>", material))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    rgb = RayCamera(model, "down").render(data).rgb
    assert rgb[32, 18].argmax() == 1 and rgb[32, 46].argmax() == 0


def test_shadow_lies_where_the_sun_is_hidden() -> None:
    model, data = scene(FLOOR + BALL.replace("size", 'pos="0 0 .3" size'))
    lit, shaded = (RayCamera(model, "down", shadows=shadows).render(data) for shadows in (False, True))
    darker = (shaded.rgb < lit.rgb).all(axis=2) & (lit.geom_id == 0)
    x, depth, hidden = grid(64), lit.depth[..., 0].astype(float), np.zeros((64, 64), bool)
    for row, column in zip(*np.nonzero(lit.geom_id == 0), strict=True):
        z = depth[row, column]
        point = np.array([x[column] * z, -x[row] * z, 2 - z + 1e-4])
        found = np.zeros(1, np.int32)
        hidden[row, column] = mujoco.mj_ray(model, data, point, -data.light_xdir[0], GROUPS, True, -1, found) >= 0
    assert hidden.sum() > 20 and (darker != hidden).sum() <= 2


def test_supersampling_smooths_colour_only() -> None:
    model, data = scene(FLOOR + BALL)
    plain, smooth = (RayCamera(model, "down", supersample=s).render(data) for s in (1, 3))
    assert smooth.rgb.shape == plain.rgb.shape
    np.testing.assert_array_equal(smooth.geom_id, plain.geom_id)  # of three by three, the middle one is the pixel's
    np.testing.assert_allclose(smooth.depth, plain.depth, rtol=1e-6)
    assert (smooth.rgb != plain.rgb).any()


def test_checker_fades_to_its_mean_instead_of_flickering() -> None:
    rng = np.random.default_rng(0)
    u, v = rng.uniform(-50, 50, (2, 10_000))
    sharp = checker(u, v, np.zeros(10_000), 1.0)
    np.testing.assert_allclose(sharp.round(), (np.floor(u) + np.floor(v)) % 2)
    np.testing.assert_allclose(checker(u, v, np.full(10_000, 100.0), 1.0), 0.5, atol=0.01)


@pytest.mark.parametrize(
    "arguments", [{"camera": 9}, {"camera": -2}, {"camera": "flat"}, {"camera": "down", "width": 0}], ids=str
)
def test_what_cannot_work_is_refused(arguments: dict) -> None:
    model, _ = scene(BALL)
    with pytest.raises(ValueError):
        RayCamera(model, **arguments)
    with pytest.raises(KeyError, match="level"):
        RayCamera(model, "nowhere")


def test_an_empty_world_is_all_sky() -> None:
    model, data = scene("")
    assert (RayCamera(model, "down", shadows=True).render(data).geom_id == -1).all()


def test_speed() -> None:
    model, data = scene(FLOOR + GRIPPER + CUBE)
    for shadows in (False, True):
        camera, times = RayCamera(model, "level", shadows=shadows), []
        for _ in range(50):
            start = time.process_time()
            camera.render(data)
            times.append(1e3 * (time.process_time() - start))
        print(
            f"64x64, {model.ngeom} geoms, shadows={shadows}: min {min(times):.2f}, median {np.median(times):.2f} CPU-ms"
        )
        assert min(times) < 10
