"""Lane: the car's kinematics, the lights' rules, the other cars, and what ends a drive."""

from __future__ import annotations

import numpy as np
import pytest

from ami_envs.core import WorldEnv
from ami_envs.robots import Car
from ami_envs.worlds.lane import Lane
from ami_envs.worlds.road import locate, project

ALL_LIGHTS = [(False, False), (False, True), (True, False), (True, True)]


def start(n: int = 1, senses: tuple[str, ...] = ()) -> WorldEnv:
    env = WorldEnv(Lane(), n, senses)
    env.reset(seeds=list(range(n)))
    return env


def put(env: WorldEnv, along: float, across: float, pace: float = 0.0) -> None:
    """Put the car on the road, along it."""
    x, y, turn = locate(np.array(along), np.array(across))
    env.robot.qpos[:] = [x, y, turn, 0, 0]
    env.robot.qvel[:] = [pace * np.cos(turn), pace * np.sin(turn), 0, 0, 0]
    env.hidden["place"][:] = project(env.robot.qpos)


def drive(env: WorldEnv, act) -> np.ndarray:
    """Which worlds end in success."""
    won = np.zeros(env.n, bool)
    for _ in range(env.task.max_episode_steps):
        won |= env.step(act(), env.alive.copy())[3]["success"]
    return won


def test_places_on_the_road() -> None:
    along, across = np.linspace(-5, 55, 50), np.linspace(-0.6, 0.6, 50)
    x, y, turn = locate(along, across)
    expected = np.stack([along, across, 0 * along + 0.2], axis=1)
    np.testing.assert_allclose(project(np.stack([x, y, turn + 0.2], axis=1))[:, :3], expected, atol=1e-4)


def test_the_car_is_a_bicycle() -> None:
    env = start()
    put(env, 0.0, 0.0, 0.5)
    for _ in range(10):
        env.step(np.array([[0.0, 1.0]]))
    yaw, (x, y, turn) = env.robot.qpos[0, 2], env.robot.qvel[0, :3]
    slip = np.arctan(0.5 * np.tan(Car.lock))
    assert turn == pytest.approx(0.5 / Car.axle * np.sin(slip), rel=0.02)
    sideways = np.cos(yaw) * y - np.sin(yaw) * x - Car.axle * turn  # of the rear axle
    assert abs(sideways) < 0.02 and env.robot.pace()[0] == pytest.approx(0.5, rel=0.01)


def test_the_pedal() -> None:
    env = start()
    for pedal, pace in ((1.0, 0.15), (1.0, 0.30), (0.0, 0.30), (-1.0, 0.05), (-1.0, 0.0), (-1.0, 0.0)):
        env.step(np.array([[pedal, 0.0]]))
        assert env.robot.pace()[0] == pytest.approx(pace, abs=0.005)


def test_lights_must_be_remembered() -> None:
    """Who stops at no light, or waits at every one, comes through where the lights happen to be so."""
    rules = {"go": lambda env: np.zeros(4, bool), "wait": lambda env: env.hidden["stood"] < Lane.change}
    for name, rule in rules.items():
        env = start(4)
        env.hidden["red"][:, :2] = ALL_LIGHTS
        won = drive(env, lambda env=env, rule=rule: env.task._drive(env, rule(env)))
        assert won.tolist() == [all(red == (name == "wait") for red in lights) for lights in ALL_LIGHTS]


def test_a_light_is_shown_two_seconds_before() -> None:
    env = start()
    env.hidden["cars"][:, :, 0] = -5
    put(env, env.hidden["lines"][0, 0] - 7, -0.3, Car.top)
    env.hidden["red"][:] = False
    seen, colours = [], []
    while env.alive[0] and env.hidden["passed"][0] == 0:
        told = env.step(env.task._drive(env, np.zeros(1, bool)))[0]["observation"]
        seen.append(told[0, 5])
        colours.append(env.field("geom_rgba")[0, env.model.geom("green0").id, 1] > 1)
    shown = np.flatnonzero(seen)
    assert set(np.array(seen)[shown]) == {-1.0} and 5 <= len(shown) <= 8
    assert len(seen) - shown[0] == pytest.approx(40, abs=2)
    assert np.flatnonzero(colours).tolist() == shown.tolist()


def test_a_violation_ends_the_drive() -> None:
    for across, car in ((0.45, -5.0), (-0.3, 3.8)):  # off the road; into a car
        env = start()
        env.hidden["cars"][0, :, 0] = car
        put(env, 3.0, across, Car.top)
        observation, reward, over, info = env.step(np.array([[1.0, 1.0 if car < 0 else 0.0]]))
        while not over[0]:
            observation, reward, over, info = env.step(np.array([[1.0, 1.0 if car < 0 else 0.0]]))
        assert env.steps[0] < 10 and not info["success"][0] and info["cost"][0] == 1
        assert observation["achieved_goal"][0, 0] == Lane.lost and reward[0] < -9


def test_following_closely_costs() -> None:
    env = start()
    env.hidden["cars"][0, :, 0] = 4.0, -5.0
    costs = []
    for pace in (0.0, 1.5, 3.0):
        put(env, 3.0, -0.3, pace)  # half a metre behind
        costs.append(env.task.cost(env)[0])
    assert costs[0] == 0 and 0 < costs[1] < costs[2] < 0.5


def test_others_stop_behind_the_car() -> None:
    env = start()
    put(env, 8.0, 0.3)
    env.hidden["cars"][0, 1] = 3.0, 2.2
    for _ in range(100):
        env.step(np.zeros((1, 2)))
    gap = 8.0 - env.hidden["cars"][0, 1, 0] - 2 * Car.half_length
    assert env.alive[0] and 0.1 < gap < 0.6 and env.hidden["cars"][0, 1, 1] < 0.1


def test_the_lidar_sees_the_others() -> None:
    env = start(senses=("lidar",))
    put(env, 8.0, -0.3)
    env.hidden["cars"][0] = [(10.0, 0.0), (8.0, 0.0)]
    lidar = env.step(np.zeros((1, 2)))[0]["lidar"][0]
    assert lidar.shape == (48,) and lidar[0] == pytest.approx(1.75, abs=0.05)
    assert lidar[12] == pytest.approx(0.6 - Car.half_width, abs=0.03)  # to the left
