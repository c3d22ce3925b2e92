"""Scene files that users wrote: read and checked here, compiled once in a process that may die, only then used.

What MuJoCo gets is a private copy (a temporary folder, until exit) of the very bytes that were checked, meshes and
pictures too: a file that changes after its check changes nothing, and a `Task.build` that adds files must name them by
absolute path. What it adds is the user's own code and is not checked.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from xml.parsers import expat

import mujoco

XML_BYTES, FILE_BYTES, TOTAL_BYTES = 5 << 20, 64 << 20, 256 << 20  # one XML file, one other file, all of a scene
TAGS, DEPTH, MODELS, FILES = 200_000, 400, 16, 2000  # of a scene; nesting of elements, of models; its files
TIMESTEP, PIXELS, REPLICAS = (1e-4, 0.05), 8192, 10_000  # seconds; a side of a PNG; nested counts multiplied
_MOST = {  # what the product of an attribute's numbers may be, element.attribute
    1000: "contact.num size.nkey option.sdf_iterations option.sdf_initpoints quality.numslices quality.numstacks"
    " quality.numquads quality.offsamples size.nuser_body size.nuser_jnt size.nuser_geom size.nuser_site size.nuser_cam"
    " size.nuser_tendon size.nuser_actuator size.nuser_sensor",
    4096: "hfield.nrow hfield.ncol",
    8192: "texture.width texture.height global.offwidth global.offheight quality.shadowsize",
    10_000: "flexcomp.count flexcomp.cellcount flex.cellcount composite.count user.dim *.nsample option.iterations"
    " option.ls_iterations option.noslip_iterations option.ccd_iterations",
    50_000: "size.njmax size.nconmax",
    1 << 20: "numeric.size size.nuserdata",
    1 << 24: "camera.resolution",
    1 << 27: "size.nstack",
    1 << 30: "size.memory",
}
LIMITS = {name: most for most, names in _MOST.items() for name in names.split()}
TRIAL = {"cpu_s": 20, "wall_s": 30, "address_space": 4 << 30, "output": 1 << 16, "steps": 10}  # what it may use
TRIAL |= {"nbody": 10_000, "ngeom": 20_000, "nv": 2000, "bytes": 1 << 30}  # the largest model that may come of it
FOLDERS = {"meshdir", "texturedir", "assetdir"}
MISNAMED = {  # files are named by plain relative paths
    r"^/": "absolute paths are refused",
    r":": "addresses and resource providers (with a colon) are refused",
    r"(^|/)\.\.(/|$)": "paths with '..' are refused",
    r"^\s|\s$|[\\\x00-\x1f\x7f]": "backslashes, outer spaces and control characters are refused",
}
NOT_FINITE = re.compile(r"(?<!\S)[+-]?(nan(\(\w*\))?|inf(inity)?)(?!\S)", re.IGNORECASE)


class SceneError(ValueError):
    """A scene that is malformed, unsafe or too large; the message names the file, the fault and the cure."""


@dataclass
class _Element:
    tag: str
    attributes: dict[str, str]
    line: int
    children: list[_Element] = field(default_factory=list)


@dataclass(frozen=True)
class _Place:
    """Where an element stands."""

    path: Path  # its file
    root: Path  # the folder that its references may not leave
    folder: Path  # what they are relative to
    copied: PurePosixPath  # that folder in the copy
    models: tuple[Path, ...]  # by which one got here, each attaching the next
    replicas: float = 1
    depth: int = 0

    def refusal(self, element: _Element, name: str, fault: str, cure: str) -> SceneError:
        shown = f" {name}={element.attributes[name][:100]!r}" if name in element.attributes else ""
        return SceneError(f"{self.path}, line {element.line}: <{element.tag}{shown}>: {fault}; {cure}")


_Stamp = tuple[int, ...]
_checked: dict[tuple[Path, Path | None], tuple[Path, dict[Path, _Stamp]]] = {}  # the copy, the originals when read


def load_scene(scene: Path, robot: Path | None) -> mujoco.MjSpec:
    """The parsed scene, with `<include file="ami/common.xml"/>` (our look) and `<include file="ami/robot.xml"/>`.

    Our own scenes and robots are trusted. Any other is checked first, once while its files stay the same; names in it
    are relative to its own folder, for a robot its own, and may not lead out of it. Raises SceneError.
    """
    from ami_envs.paths import ASSETS  # not for the trial, which runs this file alone

    quiet_log()
    assets = ASSETS.resolve()
    scene, robot = Path(os.path.realpath(scene)), None if robot is None else Path(os.path.realpath(robot))
    virtual = {"ami/common.xml": assets / "bodies" / "common.xml"} | ({"ami/robot.xml": robot} if robot else {})
    if scene.is_relative_to(assets) and (robot is None or robot.is_relative_to(assets)):
        include = {name: path.read_bytes() for name, path in virtual.items()}
        return mujoco.MjSpec.from_file(str(scene), include=include)
    copy, stamps = _checked.get((scene, robot), (None, {}))
    if copy is None or not copy.exists() or any(_stamp(path) != stamp for path, stamp in stamps.items()):
        copy, _ = _checked[scene, robot] = _check(scene, virtual)
    return mujoco.MjSpec.from_file(str(copy / scene.name))


def quiet_log() -> None:
    """Keep MuJoCo from writing MUJOCO_LOG.TXT into the user's folder."""
    if hasattr(mujoco, "MjLogConfig"):
        config = mujoco.MjLogConfig.get()
        config.logto_file = config.logto_console = False
        mujoco.MjLogConfig.set(config)


def _check(scene: Path, virtual: dict[str, Path]) -> tuple[Path, dict[Path, _Stamp]]:
    survey = _Survey(scene, virtual)
    copy = Path(tempfile.mkdtemp(prefix="ami-scene-"))  # for this user's eyes only
    owner = os.getpid()  # a forked child leaves it alone
    atexit.register(lambda: shutil.rmtree(copy, ignore_errors=True) if os.getpid() == owner else None)
    try:
        for name, content in survey.files.items():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes(content)
        if (fault := _try(copy / scene.name)) is not None:
            raise SceneError(f"{scene}: {survey.located(fault.replace(str(copy), str(scene.parent)))}")
    except BaseException:
        shutil.rmtree(copy, ignore_errors=True)
        raise
    return copy, survey.stamps


def _stamp(file: Path | int) -> _Stamp:
    """What changes when a file does, empty for a missing one."""
    if not os.path.exists(file):
        return ()
    status = os.stat(file)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class _Survey:
    """One pass over a scene and all that it refers to: what is unsafe is refused, the rest is kept in `files`."""

    def __init__(self, scene: Path, virtual: dict[str, Path]) -> None:
        self.virtual = virtual
        self.files: dict[PurePosixPath, bytes] = {}  # by their place in the copy
        self.stamps: dict[Path, _Stamp] = {}
        self.elements: list[tuple[Path, _Element]] = []
        self.attached: set[PurePosixPath] = set()
        self.model(_Place(scene, scene.parent, scene.parent, PurePosixPath(), (scene,)), PurePosixPath(scene.name))

    def model(self, place: _Place, copied: PurePosixPath) -> None:
        """A whole model: the scene, or one that it attaches."""
        root = self.parse(place.path, copied)
        if root.tag != "mujoco":
            raise place.refusal(root, "", "a scene is MJCF, with the root <mujoco>", "give such a file")
        stack = [(child, place) for child in root.children]
        included, folders, named = {place.path}, {""}, []
        while stack:
            element, place = stack.pop()
            self.elements.append((place.path, element))
            copies = max(1, _product(element.attributes.get("count", "1"))) if element.tag == "replicate" else 1
            place = replace(place, depth=place.depth + 1, replicas=place.replicas * copies)
            _check_element(element, place)
            folders |= {value for name, value in element.attributes.items() if name in FOLDERS}
            if element.tag == "include":
                stack += self.include(element, place, included)
            else:
                named += [(element, name, place) for name in element.attributes if name.startswith("file")]
            stack += [(child, place) for child in element.children]
        for element, name, place in named:
            self.file(element, name, place, folders)

    def include(self, element: _Element, place: _Place, included: set[Path]) -> list[tuple[_Element, _Place]]:
        """What an <include> brings."""
        name = element.attributes.get("file", "")
        if name == "ami/robot.xml" and name not in self.virtual:
            raise place.refusal(element, "file", "this environment has no robot", "remove the include")
        path = self.virtual.get(name) or self.find(element, "file", place, {name})[name]
        root, folder = (path.parent, path.parent) if name in self.virtual else (place.root, place.folder)
        inside = replace(place, path=path, root=root, folder=folder)
        if path in included:
            raise place.refusal(element, "file", "it is included twice, or in a cycle", "include it once")
        included.add(path)
        return [(child, inside) for child in self.parse(path, place.copied / name).children]

    def file(self, element: _Element, name: str, place: _Place, folders: set[str]) -> None:
        """A mesh, picture, ... or attached model, wherever MuJoCo may look for it."""
        value = PurePosixPath(element.attributes[name])
        names = {str(folder / one) for folder in map(PurePosixPath, folders) for one in (value, value.name)}
        for found, path in self.find(element, name, place, names).items():
            copied, folder = place.copied / found, (place.folder / found).parent
            if element.tag != "model":
                self.read(path, copied, FILE_BYTES)
            elif path in place.models or len(place.models) > MODELS:
                raise place.refusal(element, name, f"models in a cycle, or nested deeper than {MODELS}", "break it")
            elif copied not in self.attached:
                self.attached.add(copied)
                self.model(_Place(path, place.root, folder, copied.parent, (*place.models, path)), copied)

    def find(self, element: _Element, name: str, place: _Place, names: set[str]) -> dict[str, Path]:
        """The files of these names that exist, at least one and all inside the root."""
        found = {one: (place.folder / one).resolve() for one in names if os.path.exists(place.folder / one)}
        if not found:
            raise place.refusal(element, name, "there is no such file", f"put it into {place.folder}")
        if not all(path.is_relative_to(place.root) for path in found.values()):
            raise place.refusal(element, name, f"a link out of the folder {place.root}", "copy the file into it")
        return found

    def read(self, path: Path, copied: PurePosixPath, limit: int) -> bytes:
        """The bytes of a regular file, noted for the copy; never waits, as on a pipe."""
        try:
            with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW), "rb") as file:
                self.stamps[path] = _stamp(file.fileno())  # first, so that a later change shows
                content = file.read(limit + 1) if os.path.isfile(file.fileno()) else b""
        except OSError as error:
            raise SceneError(f"{path}: it cannot be read as a file ({error.strerror}); give a readable file") from None
        if len(content) > limit:
            raise SceneError(f"{path}: it has more than {limit >> 20} MB; use a smaller file")
        if content.startswith(b"\x89PNG") and max(map(int.from_bytes, (content[16:20], content[20:24]))) > PIXELS:
            raise SceneError(f"{path}: the picture is wider or higher than {PIXELS} pixels; use a smaller one")
        if self.files.setdefault(copied, content) != content:
            raise SceneError(f"{path}: the scene and its robot have different files {copied}; rename one")
        if len(self.files) > FILES or sum(map(len, self.files.values())) > TOTAL_BYTES:
            raise SceneError(f"{path}: more than {FILES} files or {TOTAL_BYTES >> 20} MB with this one; use fewer")
        return content

    def parse(self, path: Path, copied: PurePosixPath) -> _Element:
        """The tree of an XML file without DOCTYPE, so without entities."""
        content = self.read(path, copied, XML_BYTES)
        if b"<!DOCTYPE" in content or b"\0" in content:
            raise SceneError(f"{path}: DOCTYPE, its entities and zero bytes are refused; write plain XML in UTF-8")
        if len(self.elements) + content.count(b"<") > TAGS:
            raise SceneError(f"{path}: the scene has more than {TAGS} tags with this file; use fewer")
        parser = expat.ParserCreate("utf-8")  # as MuJoCo reads it, whatever the file declares
        nest = [_Element("", {}, 0)]
        parser.StartElementHandler = lambda tag, has: nest.append(_Element(tag, has, parser.CurrentLineNumber))
        parser.EndElementHandler = lambda _: nest[-2].children.append(nest.pop())
        try:
            parser.Parse(content.decode(), True)
        except (expat.ExpatError, UnicodeDecodeError) as error:
            raise SceneError(f"{path}: malformed XML, {error}; correct it there") from None
        return nest[0].children[0]

    def located(self, fault: str) -> str:
        """MuJoCo's message, with the place that it does not know in an included file."""
        said = re.search(r"attribute: '([^']*)'\s+Element '([^']*)', line 0", fault)
        named = [(p, e) for p, e in self.elements if said and e.tag == said[2] and said[1] in e.attributes]
        return fault + "".join(f" ({path}, line {element.line})" for path, element in named[:1])


def _check_element(element: _Element, place: _Place) -> None:
    tag = element.tag
    if place.depth > DEPTH:
        raise place.refusal(element, "", f"elements nested deeper than {DEPTH}", "nest fewer")
    if tag in ("extension", "plugin"):
        raise place.refusal(element, "plugin", "plugins, which are programs, are refused", "remove it")
    if place.replicas > REPLICAS:
        raise place.refusal(element, "count", f"{place.replicas:.0f} replicas, more than {REPLICAS}", "use fewer")
    for name, value in element.attributes.items():
        if name.startswith("file") or name in FOLDERS:
            for fault in (fault for pattern, fault in MISNAMED.items() if re.search(pattern, value)):
                raise place.refusal(element, name, fault, f"use a relative path inside {place.root}")
        elif tag != "text" and NOT_FINITE.search(value):
            raise place.refusal(element, name, "NaN and infinity are refused", "write a finite number")
        limit = LIMITS.get(f"{tag}.{name}", LIMITS.get(f"*.{name}"))
        if limit is not None and abs(_product(value)) > limit:
            raise place.refusal(element, name, f"more than {limit}", "use a smaller number")
    if tag == "option" and not TIMESTEP[0] <= _product(element.attributes.get("timestep", "0.002")) <= TIMESTEP[1]:
        raise place.refusal(element, "timestep", f"outside {list(TIMESTEP)} s", "choose one inside")


def _product(value: str) -> float:
    """The product of an attribute's numbers, "2G" among them; 0 for what is no number: MuJoCo refuses that itself."""
    product = 1.0
    for word in value.split():
        power = "KMGTPE".find(word[-1].upper()) + 1
        try:
            product *= float(word[:-1] if power else word) * 1024.0**power
        except ValueError:
            return 0.0
    return product


def _try(main: Path) -> str | None:
    """Compile and step the scene in a process of its own; what went wrong, or None."""
    command = [sys.executable, "-P", "-B", __file__, str(main), json.dumps(TRIAL | {"parent": os.getpid()})]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with tempfile.TemporaryFile() as out:  # its size is limited, a pipe's is not
        try:
            code = subprocess.run(command, stdout=out, stderr=out, env=env, timeout=TRIAL["wall_s"]).returncode
        except subprocess.TimeoutExpired:
            code = -signal.SIGXCPU
        out.seek(0)
        said = out.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
    if code == -signal.SIGXCPU:
        return f"it takes more than {TRIAL['wall_s']} s, or {TRIAL['cpu_s']} s of CPU, to compile and step; simplify it"
    if code < 0:
        return f"MuJoCo crashed ({signal.Signals(-code).name}) compiling or stepping it; halve it until you find why"
    try:
        return json.loads(said[-1])["fault"]
    except (ValueError, TypeError, KeyError):
        return f"its trial ended without a verdict (exit status {code}): {said[-1][:500]}"


def _trial(main: str, limits: dict) -> str | None:
    """Compile the scene and step it; what went wrong, or None."""
    model = mujoco.MjSpec.from_file(main).compile()
    for name in ("nbody", "ngeom", "nv"):
        if getattr(model, name) > limits[name]:
            return f"it has {name} = {getattr(model, name)}, more than {limits[name]}; use fewer"
    data = mujoco.MjData(model)
    if max(mujoco.mj_sizeModel(model), data.nbuffer) > limits["bytes"]:
        return f"it takes more than {limits['bytes'] >> 20} MB; use smaller meshes, pictures or height fields"
    bad = (mujoco.mjtWarning.mjWARN_BADQPOS, mujoco.mjtWarning.mjWARN_BADQVEL, mujoco.mjtWarning.mjWARN_BADQACC)
    for step in range(1, limits["steps"] + 1):
        mujoco.mj_step(model, data)
        if any(data.warning[kind].number for kind in bad):
            return f"its state is not finite at step {step}; use a smaller timestep, or part what overlaps"
    return None


def _serve(main: str, limits: dict) -> None:
    """The whole life of the trial's process: limits, trial, one line of JSON."""
    import ctypes
    import resource

    os.chdir(os.path.dirname(main))
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: do not outlive who asked
    gone = os.getppid() != limits["parent"]  # who asked ended before that
    signal.alarm(1 if gone else limits["wall_s"] + 5)  # nor by any other way
    wanted = {"CORE": 0, "FSIZE": limits["output"], "CPU": limits["cpu_s"], "AS": limits["address_space"]}
    for name, value in wanted.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
    quiet_log()
    try:
        fault = _trial(main, limits)
    except Exception as error:  # MuJoCo's own message, but it does not know its own std::bad_alloc
        fault = str(error).strip()
        if isinstance(error, MemoryError) or not fault or "unknown exception" in fault:
            fault = f"it seems to need more than {limits['address_space'] >> 20} MB of memory; use smaller sizes"
    print("\n" + json.dumps({"fault": fault}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    _serve(sys.argv[1], json.loads(sys.argv[2]))
