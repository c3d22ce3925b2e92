"""The OpenGL camera: it sees what the ray camera sees, at any size, and says so where there is no OpenGL."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import gymnasium as gym
import mujoco
import numpy as np
import pytest

import ami_envs  # noqa: F401
from ami_envs.senses.camera import Frame, RayCamera
from ami_envs.senses.gl import GLCamera, NoGraphics

ENVS = Path(__file__).resolve().parents[1] / "envs"
SCENE = """
<mujoco>
  <statistic extent="2" center="0 0 0"/>
  <visual><quality offsamples="4"/></visual>
  <worldbody>
    <light name="sun" directional="true" pos="0 0 5" dir="-1 .5 -2" diffuse=".6 .6 .6"/>
    <camera name="down" pos="0 0 2" fovy="60"/>
    <camera name="flat" pos="0 0 2" projection="orthographic" fovy="1"/>
    <camera name="up" pos="0 0 2" xyaxes="1 0 0 0 -1 0"/>
    <site name="marker" size=".3" pos="0 0 1" rgba="1 1 0 1"/>
    <geom name="floor" type="plane" size="0 0 1" pos="0 0 -.25" rgba=".7 .7 .7 1"/>
    {}
  </worldbody>
</mujoco>"""
BALL = '<geom name="ball" type="sphere" size=".25" rgba=".8 .1 .1 1"/>'
CHILD = """
import os, sys
import mujoco
os.environ.update(argument.split("=") for argument in sys.argv[1:])  # after MuJoCo: it may refuse a value at import
from ami_envs.senses.gl import GLCamera, NoGraphics
before = dict(os.environ)
model = mujoco.MjModel.from_xml_string('<mujoco><worldbody><camera/><geom size=".1"/></worldbody></mujoco>')
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
try:
    cameras = [GLCamera(model, 0, 64, 64) for _ in range(3)]
    cameras[0].render(data), cameras[1].close()
    cameras[2].itself = cameras[2]  # for the cycle collector
    print("drawn")
except NoGraphics as error:
    print("NoGraphics", error)
if dict(os.environ) != before:
    print("the environment has changed")
"""


def child(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process that MUJOCO_GL and its like say nothing to."""
    kept = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "PYOPENGL_PLATFORM", "DISPLAY")}
    kept.pop("WAYLAND_DISPLAY", None)
    path = os.pathsep.join([str(ENVS), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**kept, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def camera(model: mujoco.MjModel, *arguments, **options) -> GLCamera:
    """A GLCamera; where there is no OpenGL the test is skipped."""
    try:
        return GLCamera(model, *arguments, **options)
    except NoGraphics as error:
        pytest.skip(str(error))


def scene(body: str = BALL) -> tuple[mujoco.MjModel, mujoco.MjData]:
    model = mujoco.MjModel.from_xml_string(SCENE.format(body))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


@pytest.fixture(scope="module")
def push() -> tuple[mujoco.MjModel, mujoco.MjData]:
    env = gym.make("ami/Push-v0")
    env.reset(seed=0)
    engine = env.unwrapped.engine
    data = mujoco.MjData(engine.model)
    engine.batch.get_data(0, data)
    mujoco.mj_forward(engine.model, data)
    return engine.model, data


def digest(frame: Frame) -> str:
    return hashlib.sha256(b"".join(a.tobytes() for a in (frame.rgb, frame.depth, frame.geom_id))).hexdigest()


def agrees(drawn: Frame, cast: Frame, share: float = 0.99) -> None:
    same = drawn.geom_id == cast.geom_id
    assert same.mean() > share
    np.testing.assert_allclose(drawn.depth[same], cast.depth[same], rtol=1e-3)


def test_push_looks_as_to_the_ray_camera(push) -> None:
    model, data = push
    drawn, cast = (kind.render(data) for kind in (camera(model, "view", 128, 128), RayCamera(model, "view", 128, 128)))
    assert len(np.unique(cast.geom_id)) > 4
    agrees(drawn, cast)
    for array, other in zip(vars(drawn).values(), vars(cast).values(), strict=True):
        assert (array.shape, array.dtype) == (other.shape, other.dtype) and array.flags.c_contiguous
    sky = drawn.geom_id == -1
    assert sky.any() and (drawn.depth[sky] == np.float32(model.vis.map.zfar * model.stat.extent)).all()
    cube = drawn.geom_id == model.geom("cube").id
    assert drawn.rgb[cube].mean(axis=0).argmax() == cast.rgb[cube].mean(axis=0).argmax() == 0


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(
    "thing",
    [
        '<geom type="box" size=".2 .3 .1" euler="20 30 0"/>',
        '<geom type="box" size=".2 .2 .1" group="3"/>',
        '<geom type="box" size=".2 .2 .1" rgba="1 0 0 0"/>',
        '<geom type="box" size=".2 .2 .1" rgba="1 0 0 .3"/>',
    ],
    ids=["box", "group 3", "alpha 0", "alpha 0.3"],
)
def test_the_same_things_are_seen(thing: str, fast: bool) -> None:
    model, data = scene(thing)
    agrees(camera(model, "down", 96, 64, fast).render(data), RayCamera(model, "down", 96, 64).render(data), share=0.995)


@pytest.mark.parametrize("size", [128, 256])
def test_the_sky_and_the_squares_of_the_floor_are_the_ray_cameras(push, size: int) -> None:
    model, data = push
    drawn, cast = (
        kind.render(data) for kind in (camera(model, "view", size, size), RayCamera(model, "view", size, size))
    )
    agrees(drawn, cast)
    sky, floor = drawn.geom_id == -1, drawn.geom_id == model.geom("floor").id
    assert np.abs(drawn.rgb[sky].astype(int) - cast.rgb[sky]).mean() < 3
    shades = [frame.rgb[floor & (cast.geom_id == drawn.geom_id)].mean(axis=1) for frame in (drawn, cast)]
    assert np.corrcoef(*shades)[0, 1] > 0.7 and abs(shades[0].mean() - shades[1].mean()) < 20


def test_large_pictures_have_shadows_and_smooth_edges() -> None:
    model, data = scene('<geom type="box" size=".2 .2 .02" pos="0 0 .3" euler="0 0 30" rgba=".8 .1 .1 1"/>')
    nice, fast = (camera(model, "down", 256, 256, fast) for fast in (None, True))
    frame, plain = nice.render(data), fast.render(data)
    floor = (frame.geom_id == 0) & (plain.geom_id == 0)
    darker = frame.rgb[floor].mean(axis=1) < plain.rgb[floor].mean(axis=1) - 20
    assert 0.01 < darker.mean() < 0.5
    assert len(np.unique(frame.rgb.reshape(-1, 3), axis=0)) > len(np.unique(plain.rgb.reshape(-1, 3), axis=0))
    assert digest(frame) == digest(nice.render(data)) == digest(camera(model, "down", 256, 256).render(data))


def test_things_stand_where_they_are_the_right_way_up() -> None:
    model, data = scene('<geom type="box" size=".1 .1 .1" pos=".5 .7 0"/>')
    frame = camera(model, "down", 64, 64).render(data)
    rows, columns = np.nonzero(frame.geom_id == 1)
    assert columns.min() > 32 and rows.max() < 32
    assert frame.depth[rows, columns].min() == pytest.approx(1.9, rel=1e-4)


def test_orthographic_depth() -> None:
    model, data = scene('<geom type="box" size=".2 .2 .2"/>')
    frame = camera(model, "flat", 33, 33).render(data)
    assert frame.geom_id[16, 16] == 1 and frame.depth[16, 16, 0] == pytest.approx(1.8, rel=1e-3)
    assert frame.depth[0, 0, 0] == pytest.approx(2.25, rel=1e-3)


def test_large_pictures_and_the_models_own_settings() -> None:
    model, data = scene()
    before = model.vis.global_.offwidth, model.vis.global_.offheight, model.vis.quality.offsamples
    large, small = camera(model, "down", 1280, 720), camera(model, "down", 32, 18)
    frame = large.render(data)
    assert frame.rgb.shape == (720, 1280, 3) and frame.depth.shape == (720, 1280, 1)
    assert frame.geom_id[360, 640] == 1 and frame.geom_id[0, 0] == 0
    assert (small.render(data).geom_id == 1).mean() == pytest.approx((frame.geom_id == 1).mean(), rel=0.2)
    assert (model.vis.global_.offwidth, model.vis.global_.offheight, model.vis.quality.offsamples) == before


def test_same_bytes_every_time(push) -> None:
    model, data = push
    one, two = (camera(model, "view", 160, 120) for _ in range(2))
    first = one.render(data)
    digests = {digest(first), digest(one.render(data)), digest(two.render(data))}
    for array in vars(first).values():
        array[:] = 0  # no later frame may notice
    assert digests == {digest(one.render(data))}


def test_a_worlds_own_model_gives_colour_light_and_view() -> None:
    model, data = scene()
    eye = camera(model, "down", 65, 65)
    before = eye.render(data)
    other, _ = scene()
    other.geom("ball").rgba[:3] = 0.1, 0.1, 0.8
    blue = eye.render(data, other)
    assert before.rgb[32, 32].argmax() == 0 and blue.rgb[32, 32].argmax() == 2
    np.testing.assert_array_equal(blue.depth, before.depth)
    other.vis.headlight.active, other.light_active[:] = 0, False
    dark = eye.render(data, other).rgb
    assert dark.mean() < before.rgb.mean() / 2 and (dark[:, :, 0] == dark[0, 0, 0]).sum() > 3000  # OpenGL's own glow
    other.cam_fovy[eye.camera] = 20
    assert (eye.render(data, other).geom_id == 1).sum() > 4 * (before.geom_id == 1).sum()
    assert digest(eye.render(data)) == digest(before)


def test_only_what_is_asked_for_is_drawn() -> None:
    model, data = scene()
    eye = camera(model, "down", 48, 32)
    whole = eye.render(data)
    for part in ("rgb", "depth", "geom_id"):
        frame = eye.render(data, parts=(part,))
        for name, array in vars(frame).items():
            whole_array = getattr(whole, name)
            assert array.dtype == whole_array.dtype and array.ndim == whole_array.ndim
            assert (array == whole_array).all() if name == part else not array.size
    with pytest.raises(ValueError, match="'colour'"):
        eye.render(data, parts=("colour",))


def test_nothing_is_seen_in_the_sky() -> None:
    model, data = scene()
    frame = camera(model, "up", 16, 16).render(data)
    assert (frame.geom_id == -1).all() and (frame.depth == model.vis.map.zfar * model.stat.extent).all()


@pytest.mark.parametrize(
    "arguments",
    [{"camera": 9}, {"camera": -1}, {"camera": "down", "width": 0}, {"camera": "down", "height": 100_000}],
    ids=str,
)
def test_what_cannot_work_is_refused(arguments: dict) -> None:
    model, _ = scene()
    with pytest.raises(ValueError):
        GLCamera(model, **arguments)
    with pytest.raises(KeyError, match="down"):
        GLCamera(model, "nowhere")


def test_closed_cameras_leave_the_others_alone() -> None:
    model, data = scene()
    one, two = (camera(model, "down", 32, 32) for _ in range(2))
    before = digest(two.render(data))
    one.close()
    one.close()
    with pytest.raises(RuntimeError, match="closed"):
        one.render(data)
    assert digest(two.render(data)) == before


@pytest.mark.parametrize("value", ["nonsense", "off"])
def test_a_mujoco_gl_that_leaves_nothing_is_named(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", value)
    with pytest.raises(NoGraphics, match=f"MUJOCO_GL={value} .*egl.*apt install libegl1 .*libosmesa6"):
        GLCamera(scene()[0], "down")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="EGL and OSMesa are Linux's")
@pytest.mark.parametrize("backend", ["", "egl", "osmesa"])
def test_missing_libraries_are_named(backend: str, tmp_path: Path) -> None:
    for name in ("EGL", "OSMesa", "OpenGL", "GL"):
        for suffix in ("", *(f".{i}" for i in range(10))):
            (tmp_path / f"lib{name}.so{suffix}").touch()  # found first, and no library
    done = child(CHILD, f"MUJOCO_GL={backend}", LD_LIBRARY_PATH=str(tmp_path))
    assert done.stdout.startswith("NoGraphics") and "environment" not in done.stdout
    assert "apt install libegl1" in done.stdout and "MUJOCO_GL=osmesa" in done.stdout
    for name in {"egl": ["EGL"], "osmesa": ["OSMesa"]}.get(backend, ["EGL", "OSMesa"]):
        assert f"lib{name}.so" in done.stdout
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="EGL and OSMesa are Linux's")
@pytest.mark.parametrize("backend", ["", "egl", "osmesa", "no driver for EGL"])
def test_a_process_without_a_screen_draws_and_ends_quietly(backend: str) -> None:
    if backend == "no driver for EGL":
        done = child(CHILD, __EGL_VENDOR_LIBRARY_DIRS="/nowhere")
    else:
        done = child(CHILD, f"MUJOCO_GL={backend}")
    assert (done.returncode, done.stderr) == (0, "")
    if done.stdout.startswith("NoGraphics"):
        pytest.skip(done.stdout.strip())
    assert done.stdout == "drawn\n"


def test_opengl_is_not_loaded_before_it_is_used() -> None:
    done = child("import ami_envs, ami_envs.senses.gl, sys; print('OpenGL' in sys.modules)")
    assert done.stdout == "False\n", done.stderr


def test_speed(push) -> None:
    model, data = push
    for width, height in ((64, 64), (256, 256), (1280, 720)):
        eye = camera(model, "view", width, height)
        for parts in (("rgb",), ("rgb", "depth", "geom_id")):
            times = []
            for _ in range(30):
                start = time.perf_counter()
                eye.render(data, parts=parts)
                times.append(1e3 * (time.perf_counter() - start))
            print(f"{width}x{height} {'+'.join(parts)}: min {min(times):.2f}, median {np.median(times):.2f} ms")
    assert min(times) < 500
