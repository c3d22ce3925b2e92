"""What a robot feels: its joints, touch, the wrist's force, the weight on a scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mujoco
import numpy as np
from gymnasium.spaces import Box

from ami_envs.senses.base import Sensor

if TYPE_CHECKING:
    from ami_envs.core import WorldEnv
    from ami_envs.task import Task


class Joints(Sensor):
    """The robot's own joints: coordinates (m or rad), then speeds (m/s or rad/s)."""

    derived = False

    def __init__(self, env: WorldEnv) -> None:
        self._count = env.robot.joints
        self.space = Box(-mujoco.mjMAXVAL, mujoco.mjMAXVAL, (2 * self._count,), np.float32)

    def read(self, env: WorldEnv, ids: np.ndarray) -> np.ndarray:
        state = env.robot.qpos[ids, : self._count], env.robot.qvel[ids, : self._count]
        return np.concatenate(state, axis=1).astype(np.float32)


class Touch(Sensor):
    """Normal force on each of the robot's touch pads, newtons, squashed by log(1 + f) so that a graze is felt too.

    The force is that of the latest physics step, as MuJoCo's touch sensors have it.
    """

    derived = False

    def __init__(self, env: WorldEnv) -> None:
        self._forces = [env.batch.sensor(name).data for name in env.robot.touch]
        self.space = Box(0.0, float(np.log1p(mujoco.mjMAXVAL)), (len(self._forces),), np.float32)

    def read(self, env: WorldEnv, ids: np.ndarray) -> np.ndarray:
        return np.log1p(np.concatenate([force[ids] for force in self._forces], axis=1)).astype(np.float32)


class Force(Sensor):
    """Force (N) and torque (N m) at the wrist, (6,), in the hand's frame: of its weight, of what it holds and meets."""

    span = 10.0
    derived = False

    def __init__(self, env: WorldEnv) -> None:
        self._parts = [env.batch.sensor(name).data for name in ("wrist_force", "wrist_torque")]
        self.space = Box(-mujoco.mjMAXVAL, mujoco.mjMAXVAL, (6,), np.float32)

    def read(self, env: WorldEnv, ids: np.ndarray) -> np.ndarray:
        return np.concatenate([part[ids] for part in self._parts], axis=1).astype(np.float32)

    @classmethod
    def offered(cls, task: Task | type[Task]) -> bool:
        return task.robot.wrist

    @classmethod
    def prepare(cls, spec: mujoco.MjSpec) -> None:
        for name, kind in (
            ("wrist_force", mujoco.mjtSensor.mjSENS_FORCE),
            ("wrist_torque", mujoco.mjtSensor.mjSENS_TORQUE),
        ):
            spec.add_sensor(name=name, type=kind, objtype=mujoco.mjtObj.mjOBJ_SITE, objname="wrist")


class Scale(Sensor):
    """What lies on the scene's scale, kg: the force on its touch sensor "scale", of the latest physics step."""

    derived = False

    def __init__(self, env: WorldEnv) -> None:
        self._force = env.batch.sensor("scale").data
        self._gravity = float(np.linalg.norm(env.model.opt.gravity))
        self.space = Box(0.0, mujoco.mjMAXVAL, (1,), np.float32)

    def read(self, env: WorldEnv, ids: np.ndarray) -> np.ndarray:
        return (self._force[ids] / self._gravity).astype(np.float32)

    @classmethod
    def offered(cls, task: Task | type[Task]) -> bool:
        return task.scale
