"""Loading a user's scene: every attack is refused with a message that names the culprit, and good scenes load."""

import os
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mujoco
import pytest

from ami_envs import mjcf
from ami_envs.mjcf import SceneError, load_scene
from ami_envs.paths import ASSETS

ROVER = ASSETS / "bodies" / "rover.xml"
BALL = '<worldbody><body><freejoint/><geom size="0.1"/></body></worldbody>'
TETRAHEDRON = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 2 3 4\nf 3 1 4\n"
OUTSIDE = '<asset><mesh file="outside.obj"/></asset>'
LAUGHS = '<!DOCTYPE m [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'


@pytest.fixture
def folder(tmp_path):
    """A scene's folder, and beside it what the scene must not reach."""
    (tmp_path / "outside.xml").write_text("<mujocoinclude><worldbody/></mujocoinclude>")
    (tmp_path / "outside.obj").write_text(TETRAHEDRON)
    (tmp_path / "scene" / "sub.xml").mkdir(parents=True)
    for name in ("xml", "obj"):
        (tmp_path / "scene" / f"link.{name}").symlink_to(tmp_path / f"outside.{name}")
    (tmp_path / "scene" / "link").symlink_to(tmp_path)
    return tmp_path / "scene"


@pytest.fixture
def trials(monkeypatch):
    started = []
    run = subprocess.run
    monkeypatch.setattr(
        mjcf.subprocess, "run", lambda command, **rest: (started.append(command), run(command, **rest))[1]
    )
    return started


def write(folder, text):
    scene = folder / "scene.xml"
    scene.write_text(f"<mujoco>{text}</mujoco>")
    return scene


def refused(scene, *said, robot=None):
    """The scene is refused in these words, and nothing is left of it."""
    with pytest.raises(SceneError) as caught:
        load_scene(scene, robot)
    for word in (str(scene.parent), *said):
        assert word in str(caught.value)


def asset(text):
    return f"<asset>{text}</asset>"


def model(text):
    return f"<worldbody>{text}</worldbody>"


NAMES = {
    "absolute include": ('<include file="/etc/passwd"/>', "include", "/etc/passwd", "absolute"),
    "include above": ('<include file="../outside.xml"/>', "include", "../outside.xml", "'..'"),
    "include through above": ('<include file="a/../../outside.xml"/>', "'..'"),
    "linked include": ('<include file="link.xml"/>', "include", "link.xml", "link out of the folder"),
    "include in linked folder": ('<include file="link/outside.xml"/>', "link/outside.xml", "link out of the folder"),
    "include of a link's entity": ('<include file="&#x2f;etc/passwd"/>', "absolute"),
    "missing include": ('<include file="nowhere.xml"/>', "nowhere.xml", "no such file"),
    "include of a folder": ('<include file="sub.xml"/>', "sub.xml", "cannot be read", "directory"),
    "no robot": ('<include file="ami/robot.xml"/>', "ami/robot.xml", "no robot"),
    "address": ('<include file="http://x.org/a.xml"/>', "http://x.org/a.xml", "resource providers"),
    "provider": (asset('<mesh file="foo:a.obj"/>'), "mesh", "foo:a.obj", "resource providers"),
    "drive": (asset('<mesh file="C:\\a.obj"/>'), "resource providers"),
    "backslash": (asset('<mesh file="..\\a.obj"/>'), "backslashes"),
    "newline": (asset('<mesh file="&#10;/a.obj"/>'), "control characters"),
    "mesh above": (asset('<mesh file="../outside.obj"/>'), "mesh", "../outside.obj", "'..'"),
    "linked mesh": (asset('<mesh file="link.obj"/>'), "link.obj", "link out of the folder"),
    "missing mesh": (asset('<mesh file="nowhere.obj"/>'), "mesh", "nowhere.obj", "no such file"),
    "hfield": (asset('<hfield file="/dev/zero" size="1 1 1 1"/>'), "hfield", "/dev/zero", "absolute"),
    "skin": ('<deformable><skin file="/a.skn"/></deformable>', "skin", "/a.skn", "absolute"),
    "flexcomp": (model('<flexcomp name="f" type="mesh" file="../outside.obj"/>'), "flexcomp", "'..'"),
    "texture": (asset('<texture file="/a.png"/>'), "texture", "/a.png", "absolute"),
    **{
        f"side {side}": (asset(f'<texture type="cube" file{side}="../a.png"/>'), f"file{side}='../a.png'", "'..'")
        for side in ("right", "left", "up", "down", "front", "back")
    },
    **{
        f"{kind} {where}": (f'<compiler {kind}="{where}"/>' + OUTSIDE, kind, where)
        for kind in ("meshdir", "texturedir", "assetdir")
        for where in ("/tmp", "..", "x:y")
    },
    "linked meshdir": ('<compiler meshdir="link"/>' + OUTSIDE, "link out of the folder"),
    "model above": (asset('<model name="m" file="../outside.xml"/>'), "model", "../outside.xml", "'..'"),
    "model of itself": (asset('<model name="m" file="scene.xml"/>'), "model", "scene.xml", "cycle"),
}
CONTENTS = {
    "plugin": ('<extension><plugin plugin="mujoco.pid"/></extension>', "extension", "plugins"),
    "plugin of a geom": (model('<geom><plugin plugin="a.b"/></geom>'), "plugin='a.b'", "plugins"),
    "NaN": (model('<geom size="1"\n pos="0 nan 0"/>'), "geom", "pos='0 nan 0'", "NaN"),
    "infinity": (model('<geom size="1" pos="-Infinity 0 0"/>'), "pos", "infinity"),
    "too large a number": (model('<geom size="1" pos="1e999 0 0"/>'), "pos", "too large"),
    "infinite timestep": ('<option timestep="inf"/>', "timestep='inf'", "infinity"),
    "negative timestep": ('<option timestep="-0.01"/>', "option", "timestep='-0.01'", "outside"),
    "zero timestep": ('<option timestep="0"/>', "timestep='0'", "outside"),
    "long timestep": ('<option timestep="1"/>', "timestep='1'", "outside"),
    "worded timestep": ('<option timestep="soon"/>', "timestep='soon'", "outside"),
    "replicate": (model('<replicate count="100000"><geom size="1"/></replicate>'), "replicate", "count='100000'"),
    "nested replicate": (
        model('<replicate count="200"><frame><replicate count="200"><geom size="1"/></replicate></frame></replicate>'),
        "replicate count='200'",
        "40000 replicas",
    ),
    "flexcomp": (model('<flexcomp name="f" count="100 100 100"/>'), "flexcomp count='100 100 100'", "10000"),
    "composite": (model('<body><composite count="9999 9999 1"/></body>'), "composite count"),
    "height field": (asset('<hfield nrow="100000" ncol="100000" size="1 1 1 1"/>'), "hfield nrow='100000'", "4096"),
    "texture": (asset('<texture builtin="flat" width="9" height="100000"/>'), "texture height='100000'", "8192"),
    "memory": ('<size memory="1T"/>', "size memory='1T'", "1073741824"),
    "user data": ('<size nuser_geom="1000000000"/>', "size nuser_geom"),
    "numeric": ('<custom><numeric name="n" size="2000000000"/></custom>', "numeric size"),
    "picture": ('<visual><global offwidth="100000"/></visual>', "global offwidth"),
    "iterations": ('<option iterations="1000000000"/>', "option iterations"),
    "nesting": (model("<body>" * 500 + "</body>" * 500), "body", "nested deeper"),
    "degrees of freedom": (
        model('<replicate count="700" offset="1 0 0"><body><freejoint/><geom size=".1"/></body></replicate>'),
        "nv = 4200",
    ),
    "explosion": (
        '<option gravity="0 0 -1e30"/>' + BALL,
        "not finite at step",
    ),
    "unknown attribute": (model('\n\n<geom size="1" colour="red"/>'), "'colour'", "'geom', line 3"),
    "unknown element": (model("\n<sphere/>"), "unrecognized element", "'sphere', line 2"),
    "bad reference": (model('<geom type="mesh" mesh="nan_"/>'), "nan_"),
}


@pytest.mark.parametrize("text, said", [pytest.param(t, s, id=k) for k, (t, *s) in (NAMES | CONTENTS).items()])
def test_attacks(folder, text, said, monkeypatch):
    (folder.parent / "copies").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder.parent / "copies"))
    refused(write(folder, text), *said)
    assert not list((folder.parent / "copies").iterdir())
    assert not (folder / "MUJOCO_LOG.TXT").exists()


@pytest.mark.parametrize(
    "content, said",
    [
        pytest.param(b"", "no element found", id="empty"),
        pytest.param(bytes(range(1, 256)), "malformed", id="binary"),
        pytest.param(b"<mujoco>\n<worldbody>\n</mujoco>", "malformed XML, mismatched tag: line 3", id="malformed"),
        pytest.param(b"<mujoco/><mujoco/>", "junk after document element", id="two roots"),
        pytest.param(b'<mujoco a="1" a="2"/>', "duplicate attribute", id="duplicate"),
        pytest.param('<?xml version="1.0" encoding="utf-16"?><mujoco/>'.encode("utf-16"), "zero bytes", id="utf-16"),
        pytest.param(b"\xfe\xff<mujoco/>", "malformed XML, 'utf-8'", id="byte order mark"),
        pytest.param(f'{LAUGHS}<mujoco model="&b;"/>'.encode(), "DOCTYPE", id="billion laughs"),
        pytest.param(b'<!DOCTYPE m SYSTEM "file:///etc/passwd"><mujoco/>', "DOCTYPE", id="doctype"),
        pytest.param(b"<robot/>", "<robot>: a scene is MJCF", id="URDF"),
        pytest.param(b"<mujoco>" + b"<a/>" * 200_001 + b"</mujoco>", "200000 tags", id="elements"),
    ],
)
def test_files_that_are_no_scene(folder, content, said):
    (folder / "scene.xml").write_bytes(content)
    refused(folder / "scene.xml", "scene.xml", said)


def test_no_file(folder):
    refused(folder / "nowhere.xml", "nowhere.xml", "No such file")
    refused(folder / "sub.xml", "sub.xml", "directory")
    os.mkfifo(folder / "pipe.xml")
    refused(folder / "pipe.xml", "pipe.xml", "no element found")
    with open(folder / "huge.xml", "wb") as file:
        file.truncate(100 << 20)
    refused(folder / "huge.xml", "huge.xml", "more than 5 MB")
    write(folder, '<include file="ami/robot.xml"/>')
    refused(folder / "scene.xml", "robots/none.xml", robot=folder / "robots" / "none.xml")


def test_cycles_and_nesting_over_files(folder, tmp_path):
    scene = write(folder, '<include file="a.xml"/>')
    (folder / "a.xml").write_text('<mujocoinclude>\n<include file="b.xml"/></mujocoinclude>')
    (folder / "b.xml").write_text('<mujocoinclude><include file="a.xml"/></mujocoinclude>')
    refused(scene, "b.xml, line 1: <include file='a.xml'>", "cycle")
    (folder / "b.xml").write_text('<mujocoinclude><replicate count="200"><geom size="1"/></replicate></mujocoinclude>')
    write(folder, model('<replicate count="200"><include file="b.xml"/></replicate>'))
    refused(scene, "b.xml", "40000 replicas")
    write(folder, asset('<model name="m" file="m0.xml"/>'))
    for i in range(20):
        (folder / f"m{i}.xml").write_text(f"<mujoco><asset><model name='m' file='m{i + 1}.xml'/></asset></mujoco>")
    refused(scene, "nested deeper than 16")
    (folder / "m0.xml").write_text('<mujoco><include file="../outside.xml"/></mujoco>')
    refused(scene, "m0.xml", "'..'")
    write(folder, asset('<mesh file="m0.xml"/><model name="m" file="m0.xml"/>'))
    refused(scene, "m0.xml", "'..'")


def test_fault_in_an_include_is_located(folder):
    (folder / "a.xml").write_text('<mujocoinclude>\n\n<worldbody><geom size="1" foo="1"/></worldbody></mujocoinclude>')
    refused(write(folder, '<include file="a.xml"/>'), "'foo'", "a.xml, line 3")


def test_large_picture_is_not_unpacked(folder):
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 100_000, 100_000, 8, 2, 0, 0, 0)
    (folder / "a.png").write_bytes(head)
    refused(write(folder, asset('<texture name="a" type="2d" file="a.png"/>')), "a.png", "8192 pixels")


@pytest.mark.parametrize(
    "code, said",
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashed (SIGSEGV)"),
        ("import os; os.abort()", "crashed (SIGABRT)"),
        ("import time; time.sleep(60)", "takes more than"),
        ("raise SystemExit(3)", "without a verdict (exit status 3)"),
        ("print('[1]')", "without a verdict"),
        ("while True: print('x' * 99)", "takes more than"),
    ],
)
def test_child_fails(folder, monkeypatch, code, said):
    children = []
    popen = subprocess.Popen

    class Child(popen):
        def __init__(self, command, **rest):
            limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (9999, 9999))\n"
            super().__init__(
                [sys.executable, "-c", f"try:\n {limit} {code}\nexcept OSError:\n while True: pass"], **rest
            )
            children.append(self)

    monkeypatch.setattr(subprocess, "Popen", Child)
    monkeypatch.setitem(mjcf.TRIAL, "wall_s", 1)
    refused(write(folder, BALL), "scene.xml", said)
    assert len(children) == 1 and children[0].returncode is not None  # no orphan
    assert load_scene(ROVER.parents[1] / "mazenav" / "mazenav.xml", ROVER).worldbody is not None


def test_limits_of_the_child(folder, monkeypatch):
    heavy, began = model('<replicate count="10000" offset="1 0 0"><body/><body/></replicate>'), time.monotonic()
    with monkeypatch.context() as hurried:  # a busy machine may take a second for what follows, too
        hurried.setitem(mjcf.TRIAL, "cpu_s", 1)
        refused(write(folder, heavy), "takes more than")
    assert time.monotonic() - began < 10
    monkeypatch.setitem(mjcf.TRIAL, "address_space", 400 << 20)
    refused(write(folder, asset('<texture builtin="flat" name="t" type="2d" width="8192" height="8192"/>')), "memory")
    monkeypatch.setitem(mjcf.TRIAL, "address_space", 4 << 30)
    monkeypatch.setitem(mjcf.TRIAL, "nbody", 100)
    refused(write(folder, model('<replicate count="100" offset="1 0 0"><body/></replicate>')), "nbody = 101")
    monkeypatch.setitem(mjcf.TRIAL, "bytes", 1 << 20)
    refused(write(folder, asset('<texture builtin="flat" name="t" type="2d" width="999" height="999"/>')), "1 MB")


def test_child_does_not_outlive_its_parent(folder):
    scene = write(folder, model('<replicate count="10000" offset="1 0 0"><body/><body/></replicate>'))
    code = f"from ami_envs.mjcf import load_scene; load_scene({str(scene)!r}, None)"
    with subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(folder.parent)}) as parent:
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        while not (trial := [pid for pid in children.read_text().split() if "mjcf.py" in said_by(pid)]):
            assert parent.poll() is None
            time.sleep(0.01)
        while "/mujoco/libmujoco" not in said_by(trial[0], "maps"):
            time.sleep(0.01)
        time.sleep(0.3)  # it has set its limits, and compiles for seconds
        parent.kill()
    end = time.monotonic() + 10
    while "mjcf.py" in said_by(trial[0]):
        assert time.monotonic() < end
        time.sleep(0.01)


def said_by(pid, what="cmdline"):
    try:
        return Path("/proc", pid, what).read_text()
    except OSError:
        return ""


def test_own_scenes_are_trusted(trials):
    for name in ("mazenav", "push", "reach"):
        load_scene(ASSETS / name / f"{name}.xml", ROVER)
    assert not trials


def test_good_scene_is_checked_once(folder, trials):
    scene = write(folder, '<include file="ami/common.xml"/><include file="ami/robot.xml"/>' + BALL)
    for _ in range(3):
        compiled = load_scene(scene, ROVER).compile()
    assert len(trials) == 1
    assert compiled.body("rover").id > 0 and compiled.light("sun").id == 0
    os.utime(scene)
    load_scene(scene, ROVER)
    assert len(trials) == 2
    write(folder, '<option timestep="9"/>')
    refused(scene, "timestep")


def test_meshes_includes_and_models_inside(folder, tmp_path):
    for name in ("meshes", "parts", "parts/own"):
        (folder / name).mkdir()
    (folder / "meshes" / "a.obj").write_text(TETRAHEDRON)
    (folder / "parts" / "own" / "a.obj").write_text(TETRAHEDRON.replace("1", "1", 1))
    (folder / "robot.xml").write_text('<mujocoinclude><worldbody><site name="local"/></worldbody></mujocoinclude>')
    (folder / "parts" / "part.xml").write_text(
        '<mujoco><compiler meshdir="own"/><asset><mesh name="p" file="a.obj"/></asset>'
        '<worldbody><body name="part"><geom type="mesh" mesh="p"/></body></worldbody></mujoco>'
    )
    scene = write(
        folder,
        '<include file="robot.xml"/><include file="ami/common.xml"/><include file="ami/robot.xml"/>'
        '<compiler meshdir="meshes"/>'
        '<asset><mesh name="a" file="a.obj"/><model name="part" file="parts/part.xml"/></asset>'
        '<worldbody><geom type="mesh" mesh="a"/><attach model="part" body="part" prefix="x_"/></worldbody>',
    )
    compiled = load_scene(scene, ROVER).compile()
    assert compiled.nmesh == 2 and compiled.site("local").id >= 0 and compiled.body("rover").id >= 0


def test_robot_with_a_mesh_in_our_scene(folder):
    (folder / "a.obj").write_text(TETRAHEDRON)
    (folder / "bot.xml").write_text(
        '<mujocoinclude><asset><mesh name="a" file="a.obj"/></asset>'
        '<worldbody><body name="bot"><geom type="mesh" mesh="a"/></body></worldbody></mujocoinclude>'
    )
    compiled = load_scene(ASSETS / "mazenav" / "mazenav.xml", folder / "bot.xml").compile()
    assert compiled.body("bot").id > 0
    (folder / "bot.xml").write_text('<mujocoinclude><asset><mesh file="../outside.obj"/></asset></mujocoinclude>')
    with pytest.raises(SceneError, match=r"bot.xml, line 1: <mesh file='../outside.obj'>"):
        load_scene(ASSETS / "mazenav" / "mazenav.xml", folder / "bot.xml")


def test_what_was_checked_is_what_is_compiled(folder):
    (folder / "a.obj").write_text(TETRAHEDRON)
    scene = write(folder, asset('<mesh name="a" file="a.obj"/>') + model('<geom type="mesh" mesh="a"/>'))
    spec = load_scene(scene, None)
    (folder / "a.obj").unlink()
    scene.unlink()
    assert isinstance(spec.compile(), mujoco.MjModel)


def test_names_that_look_like_numbers(folder):
    text = '<custom><text name="t" data="inf"/></custom>' + model('<site name="infrared"/><site name="nano"/>')
    assert load_scene(write(folder, text), None).compile().nsite == 2
