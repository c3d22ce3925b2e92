"""dm_control's environments, as "dm_control/DOMAIN-TASK-v0": Shimmy puts them into Gymnasium's registry."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from importlib import metadata
from io import StringIO

from packaging.version import Version

from ami_agent.errors import MissingError
from ami_agent.foreign.importing import need

NAMESPACE = "dm_control/"
LAST = Version("1.0.50")  # the latest dm_control known to break on MuJoCo 4: when a world is made, not before
CURE = "install it in an environment of its own, pip install 'ami-agent[dmc]': dm_control 1.0.50 needs mujoco<4"


def register(id: str) -> None:
    """Register dm_control's environments, for `id` is one of them. Raises MissingError, with the cure, if it cannot."""
    mujoco, ours = _version("mujoco"), _version("dm_control")
    if ours is not None and ours <= LAST and mujoco is not None and mujoco >= Version("4.0.0a0"):
        raise MissingError(f"{id}: dm_control {ours} does not work with the mujoco {mujoco} that is here; {CURE}")
    for module in ("dm_control", "shimmy"):
        with _without_opengl(), redirect_stdout(StringIO()):  # Shimmy prints what it leaves out
            need(module, id, CURE)


@contextmanager
def _without_opengl() -> Iterator[None]:
    """Keep dm_control from looking for OpenGL, which complains where there is no screen: our ray camera draws.

    Where the user has set MUJOCO_GL, as tasks that see by cameras need it, that holds.
    """
    if "MUJOCO_GL" in os.environ:
        yield
        return
    os.environ["MUJOCO_GL"] = "disable"
    try:
        yield
    finally:
        os.environ.pop("MUJOCO_GL", None)


def _version(package: str) -> Version | None:
    with suppress(metadata.PackageNotFoundError):
        return Version(metadata.version(package))
    return None
