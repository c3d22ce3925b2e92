"""The worlds by name, as a dict one can see, and their entry into Gymnasium's registry."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode

from ami_envs.faces import BatchEnv, SingleEnv
from ami_envs.task import Task

TASKS: dict[str, str | type[Task]] = {
    "ami/Reach-v0": "ami_envs.worlds.reach:Reach",
    "ami/Push-v0": "ami_envs.worlds.push:Push",
    "ami/Stack-v0": "ami_envs.worlds.stack:Stack",
    "ami/Drawer-v0": "ami_envs.worlds.drawer:Drawer",
    "ami/MazeNav-v0": "ami_envs.worlds.mazenav:MazeNav",
    "ami/Recall-v0": "ami_envs.worlds.recall:Recall",
    "ami/CueDelay-v0": "ami_envs.worlds.cuedelay:CueDelay",
    "ami/Levers-v0": "ami_envs.worlds.levers:Levers",
    "ami/HiddenMass-v0": "ami_envs.worlds.hiddenmass:HiddenMass",
    "ami/Depot-v0": "ami_envs.worlds.depot:Depot",
    "ami/CareCup-v0": "ami_envs.worlds.carecup:CareCup",
    "ami/Lane-v0": "ami_envs.worlds.lane:Lane",
}

ENTRY_POINT = "ami_envs.registry:make_single"
CREATOR = " was raised from the environment creator"  # Gymnasium adds this, and options, to what it raises anew
ENGINE_OPTIONS = ("sensors", "threads", "strict", "factors", "session", "render_mode", "renderer", "width", "height")


def register(id: str, task: str | type[Task]) -> None:
    """Make a task known as `id` to `gymnasium.make` and `gymnasium.make_vec`.

    Args:
        id: "namespace/Name-v0".
        task: the Task class, or "module:Class" to import it when it is first made.

    Raises:
        ValueError: another environment has that id.
    """
    if id in gymnasium.registry and _name(TASKS.get(id, "")) != _name(task):
        raise ValueError(f"the id {id} is taken: give the world another name or namespace")
    limit = _class(task).max_episode_steps
    TASKS[id] = task
    gymnasium.register(
        id=id,
        entry_point=ENTRY_POINT,
        vector_entry_point="ami_envs.registry:make_batch",
        max_episode_steps=limit,
        kwargs={"world": id},
    )


def register_all() -> None:
    """Register the worlds that come with the package; those already registered stay as they are."""
    for id, task in list(TASKS.items()):
        if id not in gymnasium.registry:
            register(id, task)


def find(id: str) -> EnvSpec:
    """The environment registered as `id`, ours or not; "module:namespace/Name-v0" imports the module first.

    Raises gymnasium.error.Error for an unknown id, whatever the module's import raises.
    """
    module, _, name = id.rpartition(":")
    if module:
        importlib.import_module(module)
    return gymnasium.spec(name)


def is_ours(spec: EnvSpec) -> bool:
    """Whether an environment is made of a Task on our engine."""
    return spec.entry_point == ENTRY_POINT


def load(id: str) -> type[Task]:
    """The Task class behind a registered id."""
    return _class(TASKS[id])


def _class(task: str | type[Task]) -> type[Task]:
    """A Task class, imported where only its name is given."""
    if not isinstance(task, str):
        return task
    module, _, name = task.partition(":")
    return getattr(importlib.import_module(module), name)


def task_of(id: str, kwargs: Mapping[str, Any]) -> Task:
    """The task of a world that is made with these options; those of the engine are passed over."""
    known = options(id)
    return load(id)(**{name: value for name, value in kwargs.items() if name in known})


def options(id: str) -> dict[str, Any]:
    """What the task of that id can be made with, each with its default."""
    return {name: parameter.default for name, parameter in inspect.signature(load(id)).parameters.items()}


def make_single(world: str, **kwargs: Any) -> SingleEnv:
    made, engine = _make_task(world, kwargs)
    return SingleEnv(made, **engine)


def make_batch(
    num_envs: int,
    world: str,
    max_episode_steps: int | None = None,
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    **kwargs: Any,
) -> BatchEnv:
    made, engine = _make_task(world, kwargs)
    if max_episode_steps == load(world).max_episode_steps:  # what Gymnasium gives where the user gave nothing
        max_episode_steps = None
    return BatchEnv(made, num_envs, max_episode_steps, AutoresetMode(autoreset_mode), **engine)


def _make_task(id: str, kwargs: dict[str, Any]) -> tuple[Task, dict[str, Any]]:
    """The task, and the options left for the engine; raises TypeError for one that neither has."""
    engine = {name: value for name, value in kwargs.items() if name in ENGINE_OPTIONS}
    own = {name: value for name, value in kwargs.items() if name not in engine}
    engine["senses"] = engine.pop("sensors", None)
    known = options(id)
    for name in own:
        if name not in known:
            raise TypeError(f"{id} has no option {name!r}; there are {', '.join((*known, *ENGINE_OPTIONS))}")
    return load(id)(**own), engine


def _name(task: str | type[Task]) -> str:
    """`module:Class` of a task however it was given."""
    return task if isinstance(task, str) else f"{task.__module__}:{task.__qualname__}"
