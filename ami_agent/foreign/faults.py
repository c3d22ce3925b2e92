"""Whose fault it is, when code that may be someone else's raises."""

from __future__ import annotations

import re
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gymnasium as gym
from gymnasium.vector import VectorEnv

from ami_agent import console
from ami_agent.errors import AmiError, ArtefactError, MissingError, UsageError, WorldError
from ami_envs import registry
from ami_envs.mjcf import SceneError
from ami_envs.senses.gl import NoGraphics


@contextmanager
def explained(id: str) -> Iterator[None]:
    """Turn what the making of an environment raises into what its user can act on; its warnings are not shown."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ModuleNotFoundError as error:
        raise MissingError(f"{id} needs the package {error.name}, which is not installed") from error
    except (ImportError, gym.error.DependencyNotInstalled, NoGraphics) as error:
        raise MissingError(f"{id}: {error}") from error
    except SceneError as error:
        raise ArtefactError(f"{id}: {error}") from error
    except (TypeError, ValueError, gym.error.Error) as error:
        text = str(error).partition(registry.CREATOR)[0]
        needs = "; give it by --options '{\"NAME\": VALUE}'" if re.search("required .*argument", text) else ""
        raise UsageError((text if text.startswith(id) else f"{id}: {text}") + needs) from error
    except (Exception, SystemExit) as error:
        if id.startswith("ami/"):
            raise
        what = f"{type(error).__name__}: {error}"  # someone else's code may raise anything
        raise UsageError(f"{id} cannot be made: {what}; `ami-agent env check` says where") from error


@contextmanager
def living(id: str) -> Iterator[None]:
    """Tell whose fault it is when the code of someone else's environment raises in the middle of a life."""
    try:
        yield
    except (AmiError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        if id.startswith("ami/"):
            raise
        last = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__}: {error} ({Path(last.filename).name}, line {last.lineno})"
        raise WorldError(f"{id} raised {what}; `ami-agent env check` tries all of it") from error


def close(env: gym.Env | VectorEnv, id: str) -> None:
    """Close what may be someone else's. What it raises then is said, not raised: all has been lived by now."""
    try:
        with living(id):
            env.close()
    except WorldError as error:
        console.say(f"while it was closed, {error}")
