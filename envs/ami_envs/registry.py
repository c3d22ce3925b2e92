"""The worlds by name, as a dict one can see, and their entry into Gymnasium's registry."""

from __future__ import annotations

import importlib
from typing import Any

import gymnasium
from gymnasium.vector import AutoresetMode

from ami_envs.faces import BatchEnv, SingleEnv
from ami_envs.task import Task

TASKS: dict[str, str] = {
    "ami/Reach-v0": "ami_envs.reach:Reach",
    "ami/Push-v0": "ami_envs.push:Push",
    "ami/MazeNav-v0": "ami_envs.mazenav:MazeNav",
}


def register(id: str, task: str | type[Task]) -> None:
    """Make a task known as `id` to `gymnasium.make` and `gymnasium.make_vec`.

    Args:
        id: "namespace/Name-v0".
        task: the Task class, or "module:Class" to import it when it is first made.
    """
    TASKS[id] = task if isinstance(task, str) else f"{task.__module__}:{task.__qualname__}"
    gymnasium.register(
        id=id,
        entry_point="ami_envs.registry:make_single",
        vector_entry_point="ami_envs.registry:make_batch",
        max_episode_steps=load(id).max_episode_steps,
        kwargs={"task": id},
    )


def register_all() -> None:
    """Register the worlds that come with the package; those already registered stay as they are."""
    for id, task in list(TASKS.items()):
        if id not in gymnasium.registry:
            register(id, task)


def load(id: str) -> type[Task]:
    """The Task class behind a registered id."""
    module, _, name = TASKS[id].partition(":")
    return getattr(importlib.import_module(module), name)


def make_single(task: str, **kwargs: Any) -> SingleEnv:
    engine, options = _split(kwargs)
    return SingleEnv(load(task)(**options), **engine)


def make_batch(
    num_envs: int,
    task: str,
    max_episode_steps: int | None = None,
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    **kwargs: Any,
) -> BatchEnv:
    engine, options = _split(kwargs)
    return BatchEnv(load(task)(**options), num_envs, max_episode_steps, AutoresetMode(autoreset_mode), **engine)


def _split(kwargs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of the engine, and options of the task."""
    engine = {k: v for k, v in kwargs.items() if k in ("sensors", "threads", "strict", "render_mode")}
    return engine, {k: v for k, v in kwargs.items() if k not in engine}
