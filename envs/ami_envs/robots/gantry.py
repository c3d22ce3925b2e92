"""`gantry`: a gripper on x/y/z slides with yaw."""

from __future__ import annotations

import numpy as np
from mujoco.batch import Batch

from ami_envs.paths import ASSETS
from ami_envs.robots.base import Manipulator


class Gantry(Manipulator):
    """Its joint coordinates are the hand's place itself."""

    file = ASSETS / "bodies" / "gantry.xml"
    joints = 6

    def __init__(self, batch: Batch) -> None:
        super().__init__(batch)
        self._pose, self._joints, self._speeds = self.qpos[:, :4], self.qpos[:, :6], self.qvel[:, :6]
        self.tip = self.qpos[:, :3]
        self._targets = self.ctrl[:, :6]
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

    def hand(self) -> np.ndarray:
        return np.concatenate([self._joints, self._speeds], axis=1)

    def place(self, i: int, tip: np.ndarray, yaw: float = 0.0, fingers: float = 0.01) -> None:
        self._joints[i] = self._targets[i] = (*tip, yaw, fingers, fingers)
