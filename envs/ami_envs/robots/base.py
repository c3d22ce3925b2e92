"""What a robot is: MJCF, and how an action in [-1, 1] becomes actuator controls.

Targets are set relative to the measured joint positions, not to the previous target, so a world's state has nothing
hidden in it and a snapshot is exact.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

import numpy as np
from mujoco.batch import Batch


class Robot(ABC):
    """A body with actuators. A scene takes it in, first of all, by `<include file="ami/robot.xml"/>`."""

    file: ClassVar[Path]  # its MJCF
    action_size: ClassVar[int]
    substeps: ClassVar[int] = 10  # physics steps that an action lasts
    body: ClassVar[str]  # the body that carries its senses
    touch: ClassVar[tuple[str, ...]]  # names of its touch sensors
    joints: ClassVar[int]  # number of its joints, one coordinate each: they come first in qpos
    lidar: ClassVar[bool] = False  # whether it has a site "lidar" to look from
    rays: ClassVar[int] = 32  # of its lidar
    derived: ClassVar[bool] = False  # whether it acts by places of bodies, not joint coordinates alone
    wrist: ClassVar[bool] = False  # whether it has a site "wrist" to feel forces at

    def __init__(self, batch: Batch) -> None:
        self.qpos: np.ndarray = batch.bind("qpos")  # (B, nq), live
        self.qvel: np.ndarray = batch.bind("qvel")  # (B, nv), live
        self.ctrl: np.ndarray = batch.bind("ctrl")  # (B, nu), live

    @abstractmethod
    def apply(self, action: np.ndarray) -> None:
        """Write the controls for one env step from actions (B, A) in [-1, 1]."""


class Manipulator(Robot):
    """A hand with two fingers over a table, however it is carried: tasks work with any of them.

    Actions (5): dx, dy, dz (2 cm), dyaw (0.1 rad), grip (-1 open, 1 closed), at 25 Hz.
    """

    action_size = 5
    body = "hand"
    touch = ("touch_left", "touch_right")
    wrist = True
    home = np.array([0.0, 0.0, 0.15, 0.0, 0.01, 0.01])  # x, y, z, yaw, left, right: metres and radians
    step_size = np.array([0.02, 0.02, 0.02, 0.1])
    low = np.array([-0.25, -0.25, 0.012, -3.1])  # of x, y, z, yaw that can be gone to
    high = np.array([0.25, 0.25, 0.28, 3.1])
    open, closed = 0.032, -0.004  # finger slide, metres

    tip: np.ndarray  # (B, 3), live: the place between the fingertips, metres

    @abstractmethod
    def hand(self) -> np.ndarray:
        """(B, 12), a fresh array: the hand's x, y, z (m), yaw (rad), left and right finger (m), and their speeds."""

    @abstractmethod
    def place(self, i: int, tip: np.ndarray, yaw: float = 0.0, fingers: float = 0.01) -> None:
        """Put the hand of world i, at rest, with its tip (3,) metres at yaw (rad), fingers at that slide (m)."""
