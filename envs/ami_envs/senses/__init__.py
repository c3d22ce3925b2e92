"""The senses by name, and how the ones asked for are made."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ami_envs.inputs import whole
from ami_envs.senses.audio import Audio
from ami_envs.senses.base import Sensor
from ami_envs.senses.body import Force, Joints, Scale, Touch
from ami_envs.senses.lidar import Lidar
from ami_envs.senses.vision import Depth, Eye, Rgb, Segmentation

if TYPE_CHECKING:
    from ami_envs.core import WorldEnv
    from ami_envs.task import Task

__all__ = ["SENSORS", "Eye", "Senses", "Sensor", "build", "offered", "settle"]

Senses = Sequence[str] | Mapping[str, Mapping[str, Any]]  # names, or names with settings
PIPELINE = {"every": 1, "delay": 0, "noise": 0.0}  # the settings that every sense has
SENSORS: dict[str, type[Sensor]] = {
    "joints": Joints,
    "touch": Touch,
    "force": Force,
    "scale": Scale,
    "audio": Audio,
    "lidar": Lidar,
    "rgb": Rgb,
    "depth": Depth,
    "segmentation": Segmentation,
}


def offered(task: Task | type[Task]) -> tuple[str, ...]:
    """The senses that a world of this task can have."""
    return tuple(name for name, kind in SENSORS.items() if kind.offered(task))


def settle(senses: Senses, task: Task) -> dict[str, dict[str, Any]]:
    """Senses by name, each with its settings. Raises ValueError for one that a world of this task cannot have."""
    if isinstance(senses, str):
        raise ValueError(f"sensors are a sequence of names, or names with settings: ({senses!r},), not {senses!r}")
    chosen = senses if isinstance(senses, Mapping) else {name: {} for name in senses}
    for name in chosen:
        if name not in (known := offered(task)):
            why = f"a {type(task).__name__} has no sense {name!r}" if name in SENSORS else f"unknown sense {name!r}"
            raise ValueError(f"{why}; there are {', '.join(known)}")
    return {name: dict(settings or {}) for name, settings in chosen.items()}


def build(name: str, env: WorldEnv, settings: Mapping[str, Any]) -> Sensor:
    """The sense of that name, for the worlds of `env`. Raises TypeError for a setting it does not have."""
    kind = SENSORS[name]
    own = list(inspect.signature(kind).parameters)[1:]
    for setting in settings:
        if setting not in (*own, *PIPELINE):
            raise TypeError(f"sense {name!r} has no setting {setting!r}; there are {', '.join((*own, *PIPELINE))}")
    sensor = kind(env, **{key: value for key, value in settings.items() if key in own})
    shared = {key: settings.get(key, getattr(sensor, key)) for key in PIPELINE}
    if not isinstance(shared["noise"], (int, float)) or not 0 <= shared["noise"] < np.inf:
        raise ValueError(f"sense {name!r}: noise must be a number of at least 0, not {shared['noise']!r}")
    sensor.every = whole(f"sense {name!r}: every", shared["every"], 1, 10**6)
    sensor.delay = whole(f"sense {name!r}: delay", shared["delay"], 0, 100)
    sensor.noise = shared["noise"]
    return sensor
