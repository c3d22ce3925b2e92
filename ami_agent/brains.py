"""Where brains are kept: those that an agent has learned, in its home, and those that ship with the package."""

from __future__ import annotations

import re
from pathlib import Path

from ami_agent.brain import Brain
from ami_agent.errors import ArtefactError, UsageError
from ami_agent.protocols import Spec
from ami_envs.paths import ASSETS


def slug(environment: str) -> str:
    """A file name for an environment's id."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", environment).strip("-")


def learned_path(folder: Path, environment: str) -> Path:
    """The brain of an environment in an agent's folder."""
    return folder / "brains" / f"{slug(environment)}.safetensors"


def shipped_path(environment: str) -> Path:
    """The brain of an environment that ships with the package."""
    return ASSETS / "pretrained" / f"{slug(environment)}.safetensors"


def find_brain(spec: Spec, folder: Path, weights: str = "auto") -> tuple[Brain, str] | None:
    """The brain to use and where it came from: "learned", "pretrained" or a path; None if there is none.

    Args:
        spec: the environment; the weights must fit it.
        folder: the agent's.
        weights: "auto" (what the agent has learned, else what ships), "pretrained", or a file.

    Raises:
        UsageError: what was asked for does not exist.
        ArtefactError: it is damaged, or was learned with other senses.
    """
    known = {"learned": learned_path(folder, spec.environment), "pretrained": shipped_path(spec.environment)}
    if weights == "auto":
        choices = [(name, path) for name, path in known.items() if path.exists()]
    else:
        choices = [(weights, known.get(weights, Path(weights)))]
        if not choices[0][1].exists():
            raise UsageError(f"no weights at {choices[0][1]}; `ami-agent train --env {spec.environment}` makes some")
    if not choices:
        return None
    origin, path = choices[0]
    try:
        brain = Brain.load(path)
        brain.check_fits(spec)
    except ArtefactError as error:
        cure = f"`ami-agent train --env {spec.environment}` makes new weights, --weights chooses others"
        raise ArtefactError(f"{error}; {cure}") from error
    return brain, origin
