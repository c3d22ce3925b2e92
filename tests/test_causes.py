"""Factors do what they say, sessions hold what they should, and senses come at their own rate, late and noisy."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from ami_envs import WorldEnv
from ami_envs.checks.trials import difference
from ami_envs.worlds.push import Push
from ami_envs.worlds.reach import Reach

DOWN = np.array([[0.0, 0.0, -1.0, 0.0, 1.0]])
STILL = np.zeros((1, 5))


def push(senses=(), **more) -> WorldEnv:
    env = WorldEnv(Push(), 1, senses, **more)
    env.reset(seeds=[0])
    return env


def slide(**causes) -> float:
    """How far, in metres, a cube slides that starts at 0.5 m/s."""
    env = push(factors=causes)
    env.robot.qvel[0, 6] = 0.5
    before = env.robot.qpos[0, 6]
    for _ in range(25):
        env.step(STILL)
    return float(env.robot.qpos[0, 6] - before)


# -- factors ----------------------------------------------------------------------------------------------------------


def test_friction_stops_things() -> None:
    usual = slide()
    assert usual == pytest.approx(0.5**2 / (2 * 0.6 * 9.81), rel=0.1), "v^2 / (2 mu g)"
    for friction in (0.4, 1.5):
        assert slide(friction=friction) == pytest.approx(usual / friction, rel=0.1)


def test_mass_changes_what_a_push_does() -> None:
    speeds = []
    for mass in (0.5, 1.0, 4.0):
        env = push(factors={"mass": mass})
        assert env.model_of(0).body("cube").mass[0] == pytest.approx(0.1 * mass)
        env.batch.bind("xfrc_applied")[0, env.model.body("cube").id, 2] = 3.0 * mass
        env.step(STILL)
        speeds.append(env.robot.qvel[0, 8])
    assert speeds == pytest.approx([speeds[0]] * 3), "the same force a kilogram, the same lift"
    assert speeds[0] > 0.5


def test_size_is_felt_and_seen() -> None:
    small, large = (push(("segmentation",), factors={"size": size}) for size in (0.9, 1.25))
    geom = small.model.geom("cube").id
    areas = [(env.observe()["segmentation"][0] == geom).sum() for env in (small, large)]
    assert areas[1] > 1.5 * areas[0]
    for env in (small, large):
        for _ in range(10):
            env.step(STILL)
    assert [env.robot.qpos[0, 8] for env in (small, large)] == pytest.approx([0.018, 0.025], abs=1e-3), "at rest"


@pytest.mark.parametrize("cause", [{"light": 0.3}, {"colour": [0.3, 0.5, 0.4]}, {"camera": [0.05, 0.0, 0.05]}])
def test_looks(cause: dict) -> None:
    one, other = push(), push(factors=cause)
    plain, changed = (env.eye("view", 64, 64).look(env, 0).rgb for env in (one, other))
    assert np.abs(plain.astype(int) - changed).mean() > 0.3
    other.intervene({name: np.ones_like(v) if name != "camera" else np.zeros(3) for name, v in cause.items()})
    assert np.array_equal(plain, other.eye("view", 64, 64).look(other, 0).rgb), "drawn anew at the same moment"


def test_gain_weakens_the_servos() -> None:
    ways = []
    for gain in (1.0, 0.6):
        env = WorldEnv(Reach(), 1, (), factors={"gain": gain})
        env.reset(seeds=[1])
        before = env.robot.tip[0, 0]
        env.step(np.array([[1.0, 0, 0, 0, 0]]))
        ways.append(env.robot.tip[0, 0] - before)
    assert 0.3 * ways[0] < ways[1] < 0.97 * ways[0]


def test_causes_of_each_world() -> None:
    batch = gym.make_vec("ami/Push-v0", 3, factors={"mass": [0.5, 1.0, 2.0], "light": 0.5}, autoreset_mode="Disabled")
    batch.reset(seed=0)
    engine = batch.engine
    masses = [engine.model_of(i).body("cube").mass[0] for i in range(3)]
    assert masses == pytest.approx([0.05, 0.1, 0.2]) and engine.factors["light"].tolist() == [0.5] * 3
    batch.intervene({"mass": 4.0}, [1])
    assert engine.factors["mass"].tolist() == [0.5, 4.0, 2.0]
    batch.reset(options={"reset_mask": np.array([False, True, False]), "factors": {"friction": 1.5}})
    assert engine.factors["mass"].tolist() == [0.5, 1.0, 2.0] and engine.factors["friction"].tolist() == [1, 1.5, 1]


def test_a_draw_of_causes_leaves_the_start_alone() -> None:
    plain, drawn = gym.make("ami/Push-v0"), gym.make("ami/Push-v0", factors="held_out")
    seen, told = plain.reset(seed=5)[0], drawn.reset(seed=5)[0]
    assert np.array_equal(seen["desired_goal"], told["desired_goal"])
    box = drawn.unwrapped.held_out_factor_space
    for name, value in drawn.unwrapped.engine.factors.items():
        assert np.asarray(value[0], box[name].dtype) in box[name], name
    again = {k: v.copy() for k, v in drawn.unwrapped.engine.factors.items()}
    drawn.reset(seed=6)
    assert difference(again, drawn.unwrapped.engine.factors) is not None
    drawn.reset(seed=5)
    assert difference(again, drawn.unwrapped.engine.factors) is None


def test_a_snapshot_brings_its_causes() -> None:
    one, other = push(("rgb",), factors="training"), push(("rgb",))
    one.step(DOWN)
    other.intervene({"friction": 0.3})
    other.set_state(one.get_state())
    assert difference(one.factors, other.factors) is None
    for _ in range(30):
        assert difference(one.step(DOWN), other.step(DOWN)) is None


@pytest.mark.parametrize(
    ("wrong", "say"),
    [
        ({"mas": 1.0}, "no factor 'mas'; did you mean 'mass'"),
        ({"mass": 0.0}, "'mass' takes numbers from 0.001"),
        ({"mass": [1.0, 2.0]}, "'mass' has shape ()"),
        ({"colour": 1.0}, "'colour' has shape (3,)"),
        ({"delay": 1.5}, "whole numbers"),
        ({"light": np.inf}, "'light' takes numbers"),
        ("easy", "'training', 'held_out' or values by name"),
    ],
)
def test_wrong_causes(wrong, say: str) -> None:
    with pytest.raises(ValueError, match="(?i)" + say.replace("(", r"\(").replace(")", r"\)")):
        WorldEnv(Push(), 1, factors=wrong)
    if not isinstance(wrong, str):
        env = push()
        before = env.get_state()
        with pytest.raises(ValueError):
            env.intervene(wrong)
        assert difference(env.get_state().factors, before.factors) is None


def test_numbered_tasks_are_the_same_for_every_seed() -> None:
    env = gym.make("ami/Push-v0")
    starts = [env.reset(seed=seed, options={"task_id": number})[0] for seed, number in ((1, 4), (2, 4), (1, 5))]
    assert difference(starts[0], starts[1]) is None and difference(starts[0], starts[2]) is not None


# -- senses -----------------------------------------------------------------------------------------------------------


def readings(steps: int = 12, **settings) -> list[np.ndarray]:
    env = gym.make("ami/Push-v0", sensors={"joints": settings})
    told = [env.reset(seed=3)[0]["joints"]]
    return told + [env.step(np.ones(5, np.float32) * (-1) ** k)[0]["joints"] for k in range(steps)]


def test_a_sense_comes_late() -> None:
    now, late = readings(), readings(delay=3)
    assert all(np.array_equal(late[k], now[max(k - 3, 0)]) for k in range(len(now)))
    env = gym.make("ami/Push-v0", sensors=("joints",))
    env.reset(seed=3, options={"factors": {"delay": 2}})
    told = [env.step(np.ones(5, np.float32) * (-1) ** k)[0]["joints"] for k in range(6)]
    assert all(np.array_equal(told[k], now[max(k - 1, 0)]) for k in range(6))


def test_a_sense_has_its_own_rate() -> None:
    now, slow = readings(), readings(every=4)
    assert all(np.array_equal(slow[k], now[k - k % 4]) for k in range(len(now)))
    both = readings(every=4, delay=1)
    assert all(np.array_equal(both[k], slow[max(k - 1, 0)]) for k in range(len(now)))


def test_noise_is_of_its_size_and_repeats() -> None:
    clean = np.stack(readings(60))
    first, second = (np.stack(readings(60, noise=0.05)) for _ in range(2))
    assert np.array_equal(first, second), "drawn from the seed"
    assert np.std(first - clean) == pytest.approx(0.05, rel=0.1)
    env = gym.make("ami/Push-v0", sensors=("rgb", "segmentation", "touch"), factors={"noise": 0.1})
    seen = env.reset(seed=0)[0]
    assert seen in env.observation_space
    clear = gym.make("ami/Push-v0", sensors=("rgb", "segmentation")).reset(seed=0)[0]
    assert np.array_equal(seen["segmentation"], clear["segmentation"]), "names have no noise"
    assert 5 < np.std(seen["rgb"].astype(int) - clear["rgb"]) < 30


@pytest.mark.parametrize(
    ("settings", "say"),
    [
        ({"every": 0}, "every must be a whole number from 1"),
        ({"delay": 1.5}, "delay must be a whole number from 0"),
        ({"noise": -1.0}, "noise must be a number of at least 0"),
        ({"colour": 1}, "no setting 'colour'"),
    ],
)
def test_wrong_settings_of_a_sense(settings: dict, say: str) -> None:
    with pytest.raises((TypeError, ValueError), match=say):
        gym.make("ami/Push-v0", sensors={"touch": settings})


def test_the_wrist_feels_weight() -> None:
    held = WorldEnv(Push(), 1, ("force",))
    held.reset(seeds=[0])
    for _ in range(20):
        observation = held.step(STILL)[0]
    hand = held.model.body("hand").id
    weight = 9.81 * held.model.body_subtreemass[hand]
    assert observation["force"][0, 2] == pytest.approx(weight, rel=0.02)


# -- sessions ---------------------------------------------------------------------------------------------------------


def maps(env: gym.Env, *resets: dict) -> list[bytes]:
    told = []
    for how in resets:
        env.reset(**how)
        told.append(env.unwrapped.engine.hidden["walls"].tobytes())
    return told


def test_a_session_keeps_its_map_over_visits_and_processes() -> None:
    env = gym.make("ami/MazeNav-v0", map="fixed")
    one = maps(env, {"seed": 1}, {}, {}, {"seed": 2}, {"seed": 1}, {"options": {"session": 2}}, {})
    assert one[0] == one[1] == one[2] == one[4] and one[3] == one[5] == one[6] != one[0]
    assert env.reset()[1]["visit"] == 2
    fixed = gym.make("ami/MazeNav-v0", map="fixed", session=1)
    assert maps(fixed, {"seed": 8}, {"seed": 9}, {}) == [one[0]] * 3, "whatever the seed, and in another environment"
    assert fixed.reset(seed=3)[1] | {"observation": None} == fixed.reset(seed=3)[1] | {"observation": None, "visit": 3}


def test_worlds_of_a_batch_have_their_sessions() -> None:
    batch = gym.make_vec("ami/MazeNav-v0", 3, map="fixed", autoreset_mode="Disabled")
    _, info = batch.reset(seed=[4, 4, 5])
    walls = batch.engine.hidden["walls"]
    assert info["session"].tolist() == [4, 4, 5]
    assert np.array_equal(walls[0], walls[1]) and not np.array_equal(walls[0], walls[2])
    for wrong in (-1, 1.5, "a", 2**63):
        with pytest.raises(ValueError, match="session must be a whole number"):
            gym.make("ami/MazeNav-v0", session=wrong)
