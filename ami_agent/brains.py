"""Where brains are kept: those that an agent has learned, in its home, and those that ship with the package."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from ami_agent.brain import Brain
from ami_agent.errors import ArtefactError, UsageError
from ami_agent.protocols import Spec
from ami_agent.repeat import split
from ami_envs.paths import ASSETS


def slug(environment: str) -> str:
    """A file name for an environment's id, with its action repeat if that is not 1."""
    return re.sub(r"[^A-Za-z0-9.@]+", "-", environment).strip("-")


def learned_path(folder: Path, environment: str) -> Path:
    """The brain of an environment in an agent's folder."""
    return folder / "brains" / f"{slug(environment)}.safetensors"


def shipped_path(environment: str) -> Path:
    """The brain of an environment that ships with the package."""
    return ASSETS / "pretrained" / f"{slug(environment)}.safetensors"


def learned_repeat(id: str, folder: Path, weights: str = "auto") -> int:
    """The action repeat that the brain was learned with which `find_brain` is to find; 1 if there is none.

    Raises UsageError if there are brains of several repeats to choose from, ArtefactError for a damaged file.
    """
    places = {"learned": learned_path(folder, id).parent, "pretrained": shipped_path(id).parent}
    if weights not in ("auto", *places):
        return Brain.load(Path(weights)).spec.action_repeat if Path(weights).exists() else 1
    for origin in places if weights == "auto" else [weights]:
        stems = [path.name.removesuffix(".safetensors") for path in places[origin].glob(f"{slug(id)}*.safetensors")]
        repeats = sorted(split(stem)[1] for stem in stems if split(stem)[0] == slug(id))
        if len(repeats) > 1:
            told = " and ".join(map(str, repeats))
            raise UsageError(f"{id} was learned with action repeats {told}: choose one by --action-repeat")
        if repeats:
            return repeats[0]
    return 1


def train_command(environment: str, repeat: int = 1) -> str:
    """How to learn weights for an environment, with an action repeat."""
    return f"ami-agent train --env {environment}" + (f" --action-repeat {repeat}" if repeat > 1 else "")


def find_brain(spec: Spec, folder: Path, weights: str = "auto", name: str = "") -> tuple[Brain, str] | None:
    """The brain to use and where it came from: "learned", "pretrained" or a path; None if there is none. Learned in
    another environment that it fits, it is from now on a brain of this one.

    Args:
        spec: the environment; the weights must fit it.
        folder: the agent's.
        weights: "auto" (what the agent has learned, else what ships), "pretrained", or a file.
        name: of the environment, as it was asked for: its id may not be enough to find it.

    Raises:
        UsageError: what was asked for does not exist.
        ArtefactError: it is damaged, or was learned with other senses or another action repeat.
    """
    id, repeat = split(spec.environment)
    command = train_command(name or id, repeat)
    known = {"learned": learned_path(folder, spec.environment), "pretrained": shipped_path(spec.environment)}
    if weights == "auto":
        choices = [(name, path) for name, path in known.items() if path.exists()]
    else:
        choices = [(weights, known.get(weights, Path(weights)))]
        if not choices[0][1].exists():
            raise UsageError(f"no weights at {choices[0][1]}; `{command}` makes some")
    if not choices:
        return None
    origin, path = choices[0]
    try:
        brain = Brain.load(path)
        brain.check_fits(spec)
    except ArtefactError as error:
        cure = f"`{command}` makes new weights, --weights chooses others"
        raise ArtefactError(f"{error}; {cure}") from error
    if origin in known and brain.spec.environment != spec.environment:
        told = f"{path} was learned in {brain.spec.environment}, whose name in files is that of {spec.environment}, too"
        raise ArtefactError(f"{told}; give another --name")
    brain.spec = replace(brain.spec, environment=spec.environment)
    return brain, origin
