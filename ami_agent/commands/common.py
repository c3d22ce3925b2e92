"""What several commands ask of their flags."""

from __future__ import annotations

import json
from typing import Any

from ami_agent.environment import find
from ami_agent.errors import MissingError, UsageError
from ami_envs import registry

LARGEST_SEED = 100_000


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raise UsageError, telling the range, unless low <= value <= high."""
    if not low <= value <= high:
        raise UsageError(f"--{name} must lie from {low} to {high}, not {value}")


def parse_options(text: str) -> dict[str, Any]:
    """The environment's options from JSON, e.g. '{"size": 6}'."""
    try:
        options = json.loads(text)
    except ValueError as error:
        raise UsageError(f"--options must be a JSON object such as '{{\"size\": 6}}', not {text!r}: {error}") from error
    if not isinstance(options, dict):
        raise UsageError(f"--options must be a JSON object such as '{{\"size\": 6}}', not {text!r}")
    return options


def in_session(name: str, text: str, seed: int) -> str:
    """The environment's options, as JSON, with the session that `seed` stands for where its world has sessions."""
    spec, chosen = find(name), parse_options(text)
    if registry.is_ours(spec) and registry.task_of(spec.id, chosen).sessions:
        return json.dumps({"session": seed, **chosen})
    return text


def pick_device(name: str) -> str:
    """auto, cpu or cuda -> the device to think on. Raises MissingError for cuda where there is none."""
    import torch  # here, so that commands which do not think start quickly

    if name == "cuda" and not torch.cuda.is_available():
        raise MissingError("--device cuda: torch finds no CUDA GPU here; use --device cpu, or see `ami-agent doctor`")
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
