"""Moves that scripted experts share: go somewhere with the hand, and carry a thing from where it is to a place.

All of them are functions of the state alone: what to do next is read off where the hand, its fingers and the thing
are, so they mend whatever goes wrong. Each returns actions (B, 5). They use `env.robot.tip` and `env.robot.hand()`.

    go(env, target, grip, yaw=None, speed=1.0)                  move the tip to `target` (B, 3)
    carry(env, thing, yaw, place, height=0.12, release=True, speed=0.5, near=0.005, grasp=0.0)
                                                                pick `thing` (B, 3) up, bring it to `place` (B, 3)
    in_hand(env, thing, reach=0.02)                             whether the fingers hold it, (B,) bool
    turns(quat)                                                 cos and sin of four times a cube's yaw, (B, 2)
    cube_yaw(quat)                                              a cube's yaw, whichever face it lies on, (B,)

Where there are many things, give `carry` the next one to move; change it whenever the state says so: a hand that
holds something else lets go of it first. A thing that moves (on a belt) is met by giving its place one env step on.
"""

from __future__ import annotations

import numpy as np

from ami_envs.core import WorldEnv
from ami_envs.task import distance

OPEN, CLOSE = -1.0, 1.0  # the action's grip
WIDE = 0.026  # finger slide, metres, from which on fingers count as open
THIN = 0.003  # below it they have closed on nothing
QUARTER = np.pi / 2
ABOVE = 0.06  # metres from a thing's centre to where the tip can pass over it
DONE = 0.012  # metres from its place at which a thing that was let go is left there


def go(
    env: WorldEnv,
    target: np.ndarray,
    grip: np.ndarray | float,
    yaw: np.ndarray | None = None,
    speed: np.ndarray | float = 1.0,
) -> np.ndarray:
    """Actions (B, 5) that move the tip straight to `target` (B, 3) metres.

    Args:
        env: the engine; its robot is a manipulator.
        target: where to.
        grip: -1 opens, 1 closes, (B,) or one for all.
        yaw: the hand's, radians, (B,); None to leave it.
        speed: most share of the robot's own top speed, up to 1, (B,) or one for all.
    """
    size, hand = env.robot.step_size, env.robot.hand()
    action = np.zeros((env.n, 5))
    move = (target - hand[:, :3]) / size[:3]
    longest = np.abs(move).max(axis=1)
    action[:, :3] = move * (np.minimum(longest, speed) / np.maximum(longest, 1e-9))[:, None]
    if yaw is not None:
        action[:, 3] = np.clip((yaw - hand[:, 3]) / size[3], -1.0, 1.0)
    action[:, 4] = grip
    return action


def in_hand(env: WorldEnv, thing: np.ndarray, reach: float = 0.02) -> np.ndarray:
    """Whether the fingers have closed upon the thing at (B, 3), within `reach` metres of the tip: (B,) bool."""
    hand = env.robot.hand()
    width, opening = (hand[:, 4] + hand[:, 5]) / 2, (hand[:, 10] + hand[:, 11]) / 2
    return (distance(thing, hand[:, :3]) < reach) & (width > THIN) & (width < WIDE) & (opening < 0.1)


def turns(quat: np.ndarray) -> np.ndarray:
    """Cosine and sine of four times the yaw of cubes with orientations (B, 4): (B, 2).

    It is the same for every face that a cube may lie on and for every quarter turn: the sum of the fourth powers of
    its three axes, seen from above as complex numbers.
    """
    w, x, y, z = quat.T
    axes = (
        (1 - 2 * (y * y + z * z), 2 * (x * y + w * z)),
        (2 * (x * y - w * z), 1 - 2 * (x * x + z * z)),
        (2 * (x * z + w * y), 2 * (y * z - w * x)),
    )
    real, imaginary = np.zeros(len(quat)), np.zeros(len(quat))
    for a, b in axes:
        c, d = a * a - b * b, 2 * a * b
        real += c * c - d * d
        imaginary += 2 * c * d
    return np.stack([real, imaginary], axis=1) / 2


def cube_yaw(quat: np.ndarray) -> np.ndarray:
    """Yaw of cubes with orientations (B, 4), within an eighth turn of 0, (B,) radians."""
    cos, sin = turns(quat).T
    return np.arctan2(sin, cos) / 4


def _turn(hand: np.ndarray, yaw: np.ndarray, high: float) -> np.ndarray:
    """The yaw to turn the hand to, the nearest that fits a thing that is the same every quarter turn: (B,) radians."""
    short = (yaw - hand + QUARTER / 2) % QUARTER - QUARTER / 2
    near = hand + short
    return near - QUARTER * np.sign(near) * (np.abs(near) > high)


def carry(
    env: WorldEnv,
    thing: np.ndarray,
    yaw: np.ndarray,
    place: np.ndarray,
    height: float | np.ndarray = 0.12,
    release: bool | np.ndarray = True,
    speed: float | np.ndarray = 0.5,
    near: float = 0.005,
    grasp: float = 0.0,
) -> np.ndarray:
    """Actions (B, 5) that bring a thing to its place; then the hand waits above it, or holds it there.

    Args:
        env: the engine; its robot is a manipulator.
        thing: its centre, (B, 3) metres.
        yaw: of the thing, (B,) radians; quarter turns of it are as good.
        place: where its centre shall be, (B, 3) metres.
        height: the tip, and the thing in hand, travel at least this high, metres, (B,) or one for all.
        release: put it down and let go; False holds on to it (for places in the air), (B,) or one for all.
        speed: with the thing in hand, most share of the top speed, (B,) or one for all: 0.5 for 0.1 kg, less for
            what is heavier; it goes slower by itself where the thing slips.
        near: metres from the place, sideways and up or down, at which it is let go.
        grasp: how high above the thing's centre it is taken, metres.
    """
    hand, limit = env.robot.hand(), env.robot.high
    handle = thing + [0.0, 0.0, grasp]
    handle[:, 2] = np.maximum(handle[:, 2], env.robot.low[2] + 0.002)
    held = in_hand(env, handle)
    release = np.broadcast_to(np.asarray(release), held.shape)
    left = release & ~held & (distance(thing, place) < DONE)  # put down: leave it there
    turn = _turn(hand[:, 3], yaw, float(limit[3]) - 0.1)
    target, grip = _pick(hand, handle, np.abs(turn - hand[:, 3]), height, left)
    bring, there = _bring(hand, thing, place, np.minimum(height, limit[2] - grasp - 0.01), near)
    target = np.where(held[:, None], bring, target)
    grip = np.where(held, np.where(there & release, OPEN, CLOSE), grip)
    slipped = np.maximum(distance(handle, hand[:, :3]) - 0.003, 0.0)
    careful = np.maximum(speed * np.maximum(1.0 - slipped / 0.017, 0.0) ** 2, 0.05)
    return go(env, target, grip, np.where(held | left, hand[:, 3], turn), np.where(held, careful, 1.0))


def _pick(
    hand: np.ndarray, thing: np.ndarray, askew: np.ndarray, height: float | np.ndarray, left: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Target (B, 3) and grip (B,) of a hand that does not hold the thing: above it, down, close; up where `left`."""
    tip, offset = hand[:, :3], thing - hand[:, :3]
    side = np.hypot(offset[:, 0], offset[:, 1])
    wide = hand[:, 4:6].min(axis=1) > WIDE
    travel = np.maximum(height, thing[:, 2] + ABOVE)
    deep = offset[:, 2] > -0.045  # the fingers are beside it
    over = np.where(deep, (side < 0.022) & (askew < 0.35), (side < 0.012) & (askew < 0.1)) & ~left
    around = over & (np.abs(offset[:, 2]) < 0.006) & (side < 0.01)
    low = ~over & ((tip[:, 2] < travel - 0.02) | left)
    target = np.where(low[:, None], tip, thing)
    still = ~wide & (low | (over & ~around))  # whatever else it holds, it lets go of before it moves up or down
    target[:, 2] = np.where(still, tip[:, 2], np.where(over, thing[:, 2], travel))
    return target, np.where(around, CLOSE, OPEN)


def _bring(
    hand: np.ndarray, thing: np.ndarray, place: np.ndarray, height: float | np.ndarray, near: float
) -> tuple[np.ndarray, np.ndarray]:
    """Target (B, 3) of a hand that holds the thing, and whether it is there, (B,): up, across, down."""
    tip, away = hand[:, :3], place - thing
    side = np.hypot(away[:, 0], away[:, 1])
    over = side < 0.015
    up = np.maximum(height, place[:, 2] + 0.03) - thing[:, 2]
    low = ~over & (up > 0.02)
    target = tip + np.where(low[:, None], 0.0, away)
    down = np.where(side < near, 0.6 * away[:, 2], 0.0)
    target[:, 2] = tip[:, 2] + np.where(over, down, up)
    slow = np.abs(hand[:, 6:9]).max(axis=1) < 0.1
    return target, (side < near) & (np.abs(away[:, 2]) < near) & slow
