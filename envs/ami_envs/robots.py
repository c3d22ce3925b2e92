"""The robots: how an action in [-1, 1] becomes actuator controls.

A robot is a few names in the scene plus `apply`. Targets are set relative to the measured joint positions, not to the
previous target, so a world's state has nothing hidden in it and a snapshot is exact.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from mujoco.batch import Batch


class Robot(ABC):
    """A body with actuators; `action_size` and `substeps` (physics steps an action lasts) are fixed by the kind."""

    action_size: int
    substeps = 10
    touch: tuple[str, ...]  # names of its touch sensors in the scene
    lidar = False  # whether the scene has a site "lidar" to look from
    body: str  # the body a lidar sits on and ignores

    def __init__(self, batch: Batch) -> None:
        self.qpos: np.ndarray = batch.bind("qpos")  # (B, nq), live
        self.qvel: np.ndarray = batch.bind("qvel")  # (B, nv), live
        self.ctrl: np.ndarray = batch.bind("ctrl")  # (B, nu), live

    @abstractmethod
    def apply(self, action: np.ndarray) -> None:
        """Write the controls for one env step from actions (B, A) in [-1, 1]."""


class Gantry(Robot):
    """Gripper on x/y/z slides with yaw: dx, dy, dz (2 cm), dyaw (0.1 rad), grip (-1 open, 1 closed), at 25 Hz."""

    action_size = 5
    touch = ("touch_left", "touch_right")
    body = "hand"
    home = np.array([0.0, 0.0, 0.15, 0.0, 0.01, 0.01])  # x, y, z, yaw, left, right: metres and radians
    step_size = np.array([0.02, 0.02, 0.02, 0.1])
    low = np.array([-0.25, -0.25, 0.012, -3.1])
    high = np.array([0.25, 0.25, 0.28, 3.1])
    open, closed = 0.032, -0.004  # finger slide, metres

    def __init__(self, batch: Batch) -> None:
        super().__init__(batch)
        self._pose, self._targets = self.qpos[:, :4], self.ctrl[:, :6]
        self._gain = np.zeros((5, 6))  # from actions to targets, which start from the pose and the fingers' middle
        self._gain[:4, :4] = np.diag(self.step_size)
        self._gain[4, 4:] = (self.closed - self.open) / 2
        self._from = np.full((batch.nsim, 6), (self.open + self.closed) / 2)
        self._low = np.append(self.low, [-np.inf, -np.inf])
        self._high = np.append(self.high, [np.inf, np.inf])

    def apply(self, action: np.ndarray) -> None:
        self._from[:, :4] = self._pose
        target = action @ self._gain
        target += self._from
        np.maximum(target, self._low, out=target)
        np.minimum(target, self._high, out=self._targets)


class Rover(Robot):
    """Omnidirectional base: forward and left speed (1.5 m/s), turn rate (3 rad/s), in its own frame, at 20 Hz."""

    action_size = 3
    touch = ("touch_bumper",)
    lidar = True
    body = "rover"
    speed, turn = 1.5, 3.0

    def apply(self, action: np.ndarray) -> None:
        yaw = self.qpos[:, 2]
        cos, sin = np.cos(yaw), np.sin(yaw)
        forward, left = self.speed * action[:, 0], self.speed * action[:, 1]
        self.ctrl[:, 0] = cos * forward - sin * left
        self.ctrl[:, 1] = sin * forward + cos * left
        self.ctrl[:, 2] = self.turn * action[:, 2]
