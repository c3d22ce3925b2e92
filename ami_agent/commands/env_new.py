"""`ami-agent env new`: a folder with a world that works, to be changed into one's own."""

from __future__ import annotations

import importlib.util
import keyword
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

import gymnasium as gym
import tyro

from ami_agent import console
from ami_agent.errors import UsageError
from ami_agent.files import writing

SUFFIX = ".txt"  # of the skeleton's files, so that no tool takes them for what they will become
LONGEST = 50  # characters of a name
OURS = "ami"  # the namespace of the worlds that come with the package
OWN = ("tests",)  # folders beside the package


@dataclass(frozen=True)
class Config:
    """A new world of your own: a folder with a package that works as it is."""

    name: tyro.conf.Positional[str]
    """Of the world: letters, digits, - and _, e.g. my-world. Its package is my_world, its id me/MyWorld-v0."""
    out: Path | None = None
    """The folder to make; the name, in this folder, if not given."""
    namespace: str = "me"
    """What stands before the slash in the id."""
    json: bool = False
    """Print one JSON object on stdout."""


def main(config: Config) -> int:
    """Write the folder, whole or not at all, and say what to type next."""
    _check_words(config)
    module = config.name.replace("-", "_").lower()
    camel = "".join(part[0].upper() + part[1:] for part in re.split("[-_]+", config.name))
    id = f"{config.namespace}/{camel}-v0"
    _check_free(config.name, module, id)
    folder = Path(config.out or config.name)
    if os.path.lexists(folder):
        raise UsageError(f"{folder} is there already; give another name, or a folder that is not there by --out")
    words = {"module": module, "project": module.replace("_", "-"), "camel": camel, "id": id}
    files = _write(folder, words)
    if config.json:
        console.emit({"folder": folder.absolute(), "id": id, "name": f"{module}:{id}", "files": files})
        return 0
    print(f"{folder.absolute()}: {id}")
    print("".join(f"  {file}\n" for file in files))
    print(f"Next:\n  cd {folder}\n  ami-agent env check {module}:{id}")
    print(f"  ami-agent env preview {module}:{id}\nThen change the goal in {module}/task.py; README.md tells more.")
    return 0


def _check_words(config: Config) -> None:
    """UsageError for a name that cannot be a package's, or a namespace that cannot be an id's."""
    if not re.fullmatch(r"[A-Za-z]([A-Za-z0-9_-]*[A-Za-z0-9])?", config.name) or len(config.name) > LONGEST:
        raise UsageError(
            f"the name {config.name[: 2 * LONGEST]!r} will not do: it must be letters, digits, - and _, begin with a "
            f"letter, end with a letter or digit, and have at most {LONGEST} characters, e.g. my-world"
        )
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", config.namespace) or config.namespace == OURS:
        what = "belongs to ami-agent's own worlds" if config.namespace == OURS else "must be letters, digits, - and _"
        raise UsageError(f"--namespace {config.namespace!r} will not do: it {what}; e.g. me")


def _check_free(name: str, module: str, id: str) -> None:
    """UsageError for a package's name that means something else already."""
    why = ""
    if keyword.iskeyword(module):
        why = "it is a word of Python's own"
    elif module in OWN:
        why = "the folder of the world's tests is called that"
    elif module in sys.builtin_module_names or module in sys.stdlib_module_names:
        why = "Python has a module of that name, which the world would hide"
    elif _installed(module):
        why = "a module of that name is installed, which the world would hide"
    elif id in gym.registry:
        why = f"the id {id} is taken"
    if why:
        raise UsageError(f"a world cannot be called {module}: {why}; give another name, e.g. my-{name}")


def _installed(module: str) -> bool:
    """Whether `import module` finds something that is more than a folder without code."""
    try:
        spec = importlib.util.find_spec(module)
    except ValueError:  # loaded, but by nobody knows what
        return True
    return spec is not None and spec.origin is not None


def _write(folder: Path, words: dict[str, str]) -> list[str]:
    """Write the skeleton beside `folder` first, then move it there; the names of its files."""
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        files = []
        for place, template in _skeleton(resources.files("ami_envs") / "template"):
            path = place.replace("package/", f"{words['module']}/").replace("test_world", f"test_{words['module']}")
            (aside / path).parent.mkdir(parents=True, exist_ok=True)
            (aside / path).write_text(Template(template).substitute(words), encoding="utf-8")
            files.append(path)
        aside.chmod(0o777 & ~_umask())  # a temporary folder is for one user only
        aside.rename(folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return sorted(files)


def _skeleton(folder: Traversable, place: str = "") -> Iterator[tuple[str, str]]:
    """The skeleton's files, each by its place without the suffix, and its text."""
    for item in folder.iterdir():
        if item.is_dir():
            yield from _skeleton(item, f"{place}{item.name}/")
        elif item.name.endswith(SUFFIX):
            yield place + item.name.removesuffix(SUFFIX), item.read_text(encoding="utf-8")


def _umask() -> int:
    os.umask(mask := os.umask(0o077))
    return mask
