"""`car`: a model car, a tenth of a real one, that steers with its front wheels."""

from __future__ import annotations

import numpy as np

from ami_envs.paths import ASSETS
from ami_envs.robots.base import Robot


class Car(Robot):
    """Actions (2): pace up (3 m/s^2) or brake (5 m/s^2), and where to steer (0.4 rad, left is positive), at 20 Hz.

    0.5 m long, at most 3 m/s, never backwards. It moves as the kinematic bicycle model says, about its middle (Kong et
    al., "Kinematic and dynamic vehicle models for autonomous driving control design", 2015), without slip of the tyres.
    """

    file = ASSETS / "bodies" / "car.xml"
    action_size, joints = 2, 5
    touch = ("touch_bumper",)
    lidar, rays = True, 48
    body = "car"
    top, speed_up, brake, lock = 3.0, 3.0, 5.0, 0.4  # m/s, m/s^2, m/s^2, rad
    axle = 0.165  # metres from the middle to either axle
    half_length, half_width = 0.25, 0.13  # metres
    period = 0.05  # seconds that an action lasts

    def pace(self) -> np.ndarray:
        """How fast it goes, metres a second, (B,); negative when it is pushed backwards."""
        x, y, yaw = self.qvel[:, 0], self.qvel[:, 1], self.qpos[:, 2]
        return np.copysign(np.sqrt(x * x + y * y), x * np.cos(yaw) + y * np.sin(yaw))

    def apply(self, action: np.ndarray) -> None:
        pedal = action[:, 0] * np.where(action[:, 0] > 0, self.speed_up, self.brake)
        pace = np.clip(self.pace() + pedal * self.period, 0.0, self.top)
        slip = np.arctan(0.5 * np.tan(self.qpos[:, 3]))  # between where the car points and where its middle goes
        turn = pace / self.axle * np.sin(slip)
        course = self.qpos[:, 2] + slip + 0.5 * self.period * turn  # halfway through the step
        self.ctrl[:, 0] = pace * np.cos(course)
        self.ctrl[:, 1] = pace * np.sin(course)
        self.ctrl[:, 2] = turn
        self.ctrl[:, 3:5] = self.lock * action[:, 1:2]
