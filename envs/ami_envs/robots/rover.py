"""`rover`: an omnidirectional base with a lidar."""

from __future__ import annotations

import numpy as np

from ami_envs.paths import ASSETS
from ami_envs.robots.base import Robot


class Rover(Robot):
    """Actions (3): forward and left speed (1.5 m/s), turn rate (3 rad/s), in its own frame, at 20 Hz."""

    file = ASSETS / "bodies" / "rover.xml"
    action_size = joints = 3
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
