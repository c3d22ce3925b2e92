"""`arm7`: a seven-joint arm behind the table that carries the gantry's gripper."""

from __future__ import annotations

import mujoco
import numpy as np
from mujoco.batch import Batch

from ami_envs.paths import ASSETS
from ami_envs.robots.base import Manipulator

REST = np.array([0.0, 0.628, 0.0, 0.351, 0.0, -0.979, 0.0])  # radians: the hand hangs 15 cm above the table's middle
PLANE = [0, 1, 3, 5, 6]  # the joints that keep the arm in a vertical plane
POSTURE = np.array([0.0, 0.0, -0.5, 0.0, -0.5, 0.0, 0.0])  # in one step the others go this share of the way to 0
DAMPING = 1e-4 * np.eye(6)  # of the least squares, squared: metres and radians weigh the same
REACH = np.array([0.05, 0.05, 0.05, 0.3, 0.3, 0.3])  # most that one step of inverse kinematics goes: metres, radians


class Arm7(Manipulator):
    """Inverse kinematics carries the hand, always upright, where the gantry's slides would.

    Of the seven joints one is free: it holds the elbow above the line from the shoulder to the wrist.
    """

    file = ASSETS / "bodies" / "arm7.xml"
    joints = 9
    derived = True  # needs its tip and axes current after every step

    def __init__(self, batch: Batch) -> None:
        super().__init__(batch)
        hand = batch.model.body("hand").id
        site = batch.model.site("fingertip").id
        self.tip = batch.bind("site_xpos")[:, site]
        self._frame = batch.bind("site_xmat")[:, site]  # (B, 9)
        self._axis, self._anchor = batch.bind("xaxis")[:, :7], batch.bind("xanchor")[:, :7]  # (B, 7, 3)
        self._twist = batch.bind("cvel")[:, hand]  # (B, 6): turning, then the speed of the point that is at `_centre`
        self._centre = batch.bind("subtree_com")[:, batch.model.body_rootid[hand]]
        self._arm, self._fingers, self._finger_speeds = self.qpos[:, :7], self.qpos[:, 7:9], self.qvel[:, 7:9]
        self._targets, self._grip = self.ctrl[:, :7], self.ctrl[:, 7:9]
        self._model, self._scratch = batch.model, mujoco.MjData(batch.model)
        self._limits = batch.model.jnt_range[:7].T

    def apply(self, action: np.ndarray) -> None:
        arm, low, high = self._arm, self.low, self.high
        pose = np.empty((len(action), 4))
        pose[:, :3] = self.tip
        pose[:, 3] = yaw(arm, self._frame)
        target = pose + action[:, :4] * self.step_size
        np.maximum(target, low, out=target)
        np.minimum(target, high, out=target)
        target -= pose
        moves = jacobian(self._axis, self._anchor, self.tip)
        posture = (POSTURE * arm)[:, :, None]  # its share that leaves the hand alone: Liegeois (1977)
        change = posture + damped(moves, errors(self._frame, target) - moves @ posture)
        np.add(arm, change[:, :, 0], out=self._targets)
        half = (self.closed - self.open) / 2
        self._grip[:] = half * action[:, 4:] + (self.open + self.closed) / 2

    def hand(self) -> np.ndarray:
        """The speeds are those of a body that turns and moves: v + w x r, from the hand's spatial velocity."""
        out = np.empty((len(self._arm), 12))
        out[:, :3] = self.tip
        out[:, 3] = yaw(self._arm, self._frame)
        out[:, 4:6] = self._fingers
        out[:, 6:9] = self._twist[:, 3:]
        out[:, 6:9] += cross(self._twist[:, :3], self.tip - self._centre)
        out[:, 9] = self._twist[:, 2]
        out[:, 10:] = self._finger_speeds
        return out

    def place(self, i: int, tip: np.ndarray, yaw: float = 0.0, fingers: float = 0.01) -> None:
        self._arm[i] = self._targets[i] = self.solve(np.asarray(tip, float), float(yaw))
        self._fingers[i] = self._grip[i] = fingers
        self.qvel[i, :9] = 0.0

    def solve(self, tip: np.ndarray, turn: float) -> np.ndarray:
        """The joints (7,) radians that hold the hand upright with its tip (3,) metres at yaw `turn` (radians).

        Newton's method from REST, damped as in `apply`. Joints 3 and 5 stay 0: the elbow is above the hand's line.

        Raises:
            ValueError: the arm does not get there.
        """
        model, data = self._model, self._scratch
        site = model.site("fingertip").id
        arm = REST.copy()
        for _ in range(100):
            data.qpos[:7] = arm
            mujoco.mj_kinematics(model, data)
            place, frame = data.site_xpos[site][None], data.site_xmat[site][None]
            target = np.append(tip - place[0], turn - yaw(arm[None], frame)[0])[None]
            part = jacobian(data.xaxis[None, PLANE], data.xanchor[None, PLANE], place)
            change = damped(part, errors(frame, target))[0, :, 0]
            arm[PLANE] += change
            if np.abs(change).max() < 1e-9 and (self._limits[0] <= arm).all() and (arm <= self._limits[1]).all():
                return arm
        raise ValueError(f"the arm cannot put its hand at {tip} m, yaw {turn} rad")


def yaw(arm: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Yaw (B,) radians of hands with axes `frame` (B, 9), counted on beyond half a turn as the joints (B, 7) are."""
    turns = arm[:, 0] + arm[:, 6]  # the yaw itself as long as the arm stays in a vertical plane
    part = np.arctan2(frame[:, 3], frame[:, 0]) - turns
    return turns + (part - 2 * np.pi * np.round(part / (2 * np.pi)))


def jacobian(axis: np.ndarray, anchor: np.ndarray, tip: np.ndarray) -> np.ndarray:
    """How the tip (B, 3) moves (m) and turns (rad) with k joints, (B, 6, k): from their axes and places (B, k, 3)."""
    out = np.empty((len(tip), 6, axis.shape[1]))
    out[:, :3] = cross(axis, tip[:, None] - anchor).swapaxes(1, 2)
    out[:, 3:] = axis.swapaxes(1, 2)
    return out


def errors(frame: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Where a hand with axes `frame` (B, 9) is to move (m) and turn (rad) in one step: (B, 6, 1).

    It goes by `target` (B, 4): x, y, z (m), yaw (rad). It turns upright: hand's axis x (0, 0, 1).
    """
    out = np.empty((len(frame), 6))
    out[:, :3], out[:, 5] = target[:, :3], target[:, 3]
    out[:, 3], out[:, 4] = frame[:, 5], -frame[:, 2]
    return np.clip(out, -REACH, REACH)[:, :, None]


def damped(jacobian: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Joint steps (B, k, 1) that make up for errors (B, 6, 1): J' (J J' + damping)^-1 e, damped least squares.

    After Wampler (1986), "Manipulator inverse kinematic solutions based on vector formulations and damped least-squares
    methods".
    """
    back = jacobian.swapaxes(1, 2)
    return back @ np.linalg.solve(jacobian @ back + DAMPING, error)


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross product over the last axis, (..., 3) twice."""
    out = np.empty(b.shape)
    out[..., 0] = a[..., 1] * b[..., 2] - a[..., 2] * b[..., 1]
    out[..., 1] = a[..., 2] * b[..., 0] - a[..., 0] * b[..., 2]
    out[..., 2] = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    return out
