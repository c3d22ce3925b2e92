"""The winding road of `ami/Lane-v0`: its shape, places on it, and what it looks like."""

from __future__ import annotations

import mujoco
import numpy as np

SWING, WAVE = 1.2, 2 * np.pi / 20  # the road's middle is y = SWING sin(WAVE x), metres
X = np.linspace(-12, 75, 3481)
ALONG = np.append(0, np.cumsum(np.hypot(np.diff(X), np.diff(SWING * np.sin(WAVE * X)))))  # length of the road up to X
ALONG -= np.interp(0, X, ALONG)
HALF = 0.6  # metres from its middle to its edges


def locate(along: np.ndarray, across: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, y (m) and the road's direction (rad) at places of the road, metres."""
    x = np.interp(along, ALONG, X)
    turn = np.arctan(SWING * WAVE * np.cos(WAVE * x))
    return x - across * np.sin(turn), SWING * np.sin(WAVE * x) + across * np.cos(turn), turn


def project(pose: np.ndarray) -> np.ndarray:
    """x, y, yaw, ... (B, 3 or more) to metres along and across the road, heading against it, curvature, (B, 4)."""
    x, y, yaw = pose[:, 0], pose[:, 1], pose[:, 2]
    foot = x
    for _ in range(4):  # to the nearest point of the middle
        turn = np.arctan(SWING * WAVE * np.cos(WAVE * foot))
        foot = foot + np.cos(turn) * (np.cos(turn) * (x - foot) + np.sin(turn) * (y - SWING * np.sin(WAVE * foot)))
    turn = np.arctan(SWING * WAVE * np.cos(WAVE * foot))
    across = np.cos(turn) * (y - SWING * np.sin(WAVE * foot)) - np.sin(turn) * (x - foot)
    bend = -SWING * WAVE**2 * np.sin(WAVE * foot) * np.cos(turn) ** 3
    heading = np.mod(yaw - turn + np.pi, 2 * np.pi) - np.pi
    return np.stack([np.interp(foot, X, ALONG), across, heading, bend], axis=1)


def pave(spec: mujoco.MjSpec) -> None:
    """Add the road, with its lines, and trees beside it. Only the trees are high enough for a lidar."""

    def add(along: float, across: float, size: list[float], z: float, material: str, kind: mujoco.mjtGeom) -> None:
        x, y, turn = locate(np.array(along), np.array(across))
        geom = spec.worldbody.add_geom(type=kind, pos=[x, y, z], size=size, material=material)
        geom.quat = [np.cos(turn / 2), 0, 0, np.sin(turn / 2)]
        geom.contype = geom.conaffinity = 0

    box, rng = mujoco.mjtGeom.mjGEOM_BOX, np.random.default_rng(4)
    for along in np.arange(-6, 57, 1.5):
        add(along, 0, [0.8, HALF + 0.08, 0.001], 0.0, "asphalt", box)
        add(along, 0, [0.3, 0.012, 0.001], 0.001, "paint", box)
        for edge in (-HALF, HALF):
            add(along, edge, [0.8, 0.012, 0.001], 0.001, "paint", box)
    for along in np.arange(-2, 58, 2.5):
        across, height = rng.choice([-1, 1]) * rng.uniform(1.2, 3.0), rng.uniform(0.5, 0.8)
        add(along, across, [0.05, height / 2, 0], height / 2, "trunk", mujoco.mjtGeom.mjGEOM_CYLINDER)
        add(along, across, [0.3, 0.3, 0.4], height + 0.2, "leaves", mujoco.mjtGeom.mjGEOM_ELLIPSOID)
