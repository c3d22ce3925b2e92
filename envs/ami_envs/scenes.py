"""From a task's scene to MuJoCo's model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import mujoco

from ami_envs.mjcf import SceneError, load_scene, quiet_log
from ami_envs.senses import SENSORS

if TYPE_CHECKING:
    from ami_envs.task import Task

INCLUDE = 'put <include file="ami/robot.xml"/> before the first <worldbody>'


def compile_task(task: Task, senses: Mapping[str, Any]) -> mujoco.MjModel:
    """The scene, with the robot, what the senses need in it, and what the task's options change.

    Raises SceneError for a scene that is refused, or without the robot as its first body.
    """
    quiet_log()
    spec = load_scene(task.scene, task.robot.file)
    if spec.body(task.robot.body) is None:
        raise SceneError(f"{task.scene}: it has no robot; {INCLUDE}")
    for name in senses:
        SENSORS[name].prepare(spec)
    task.build(spec)
    model = spec.compile()
    roots = model.body_rootid[[model.body(task.robot.body).id, *model.jnt_bodyid[: task.robot.joints]]]
    if (roots != roots[0]).any():
        raise SceneError(f"{task.scene}: the robot's joints do not come first; {INCLUDE}")
    return model
