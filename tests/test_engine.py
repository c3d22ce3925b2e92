"""The engine and its two Gymnasium faces: exactness, faults, and what stays out of the user's way."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from ami_envs import Sensor, WorldEnv
from ami_envs.checks import Subject
from ami_envs.checks.trials import difference, expect_same_from_here, live
from ami_envs.registry import TASKS, load, options
from ami_envs.senses import SENSORS, offered
from ami_envs.worlds.reach import Reach

ROOT = Path(__file__).resolve().parents[1]
FRAME = """
import hashlib, sys
import gymnasium as gym, ami_envs
env = gym.make(sys.argv[1], sensors=("rgb", "depth", "segmentation"))
seen, _ = env.reset(seed=4)
for action in (env.unwrapped.oracle(),) * 5:
    seen = env.step(action)[0]
print(hashlib.sha256(b"".join(seen[k].tobytes() for k in ("rgb", "depth", "segmentation"))).hexdigest())
"""


def python(code: str, *words: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code, *words], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


def engine(n: int = 1, senses: tuple[str, ...] | None = (), **more) -> WorldEnv:
    env = WorldEnv(Reach(), n, senses, **more)
    env.reset(seeds=list(range(n)))
    return env


# -- copies and snapshots -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", TASKS)
def test_pickled_environment_goes_on(id: str) -> None:
    env = gym.make(id)
    live(env, seed=1, steps=10)
    expect_same_from_here(env.unwrapped, pickle.loads(pickle.dumps(env)).unwrapped)


def test_pickled_before_its_first_reset() -> None:
    env = pickle.loads(pickle.dumps(gym.make("ami/Push-v0")))
    assert difference(env.reset(seed=3), gym.make("ami/Push-v0").reset(seed=3)) is None


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_copied_batch_goes_on(duplicate) -> None:
    env = gym.make_vec("ami/MazeNav-v0", 3, threads=2, map="seed")
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(5):
        env.step(rng.uniform(-1, 1, (3, 3)))
    other = duplicate(env)
    for _ in range(210):  # over the time limit, into new episodes
        action = rng.uniform(-1, 1, (3, 3))
        assert difference(env.step(action), other.step(action)) is None


def test_snapshot_fills_every_world_and_any_senses() -> None:
    blind, seeing = engine(), engine(4, ("touch", "rgb"))
    for _ in range(7):
        blind.step(blind.task.oracle(blind))
    seeing.step(np.zeros((4, 5)))
    seeing.set_state(blind.get_state(), [1, 3])
    there = seeing.observe()
    assert difference(there["observation"][1], blind.observe()["observation"][0]) is None
    assert np.array_equal(there["rgb"][1], there["rgb"][3]) and not np.array_equal(there["rgb"][0], there["rgb"][1])
    assert seeing.steps.tolist() == [1, 7, 1, 7]


def test_snapshot_of_another_task_is_refused() -> None:
    maze = WorldEnv(load("ami/MazeNav-v0")(), 1)
    with pytest.raises(ValueError, match="not of this MazeNav"):
        maze.set_state(engine().get_state())


def test_reset_to_a_snapshot() -> None:
    env, batch = gym.make("ami/Push-v0"), gym.make_vec("ami/Push-v0", 2)
    env.reset(seed=0)
    seen = env.step(np.ones(5, np.float32))[0]
    state = env.unwrapped.get_state()
    assert difference(env.reset(seed=5, options={"state": state})[0], seen) is None
    mask = np.array([False, True])
    batch.reset(seed=1)
    there, info = batch.reset(options={"state": state, "reset_mask": mask})
    assert difference({k: v[1] for k, v in there.items()}, seen) is None
    assert info["_success"].tolist() == [False, True]


def test_engines_may_share_a_task() -> None:
    task = Reach()
    first = WorldEnv(task, 1)
    first.reset(seeds=[0])
    before = first.observe()
    WorldEnv(task, 2).reset(seeds=[1, 2])
    assert difference(first.observe(), before) is None


# -- what is refused, and how it is said ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("id", "wrong", "say"),
    [
        ("ami/Push-v0", {"sensors": ("smell",)}, "unknown sense 'smell'; there are joints, touch"),
        ("ami/Push-v0", {"sensors": ("lidar",)}, "a Push has no sense 'lidar'"),
        ("ami/Push-v0", {"colour": 1}, "no option 'colour'; there are robot, reward_type"),
        ("ami/Push-v0", {"reward_type": "odd"}, "'dense' or 'sparse', not 'odd'"),
        ("ami/MazeNav-v0", {"size": 9}, "from 4 to 8, not 9"),
        ("ami/MazeNav-v0", {"map": "none"}, "'fixed' or 'seed'"),
    ],
)
def test_wrong_options(id: str, wrong: dict, say: str) -> None:
    for make in (lambda: gym.make(id, **wrong), lambda: gym.make_vec(id, 2, **wrong)):
        with pytest.raises((TypeError, ValueError), match=say):
            make()


def test_wrong_calls() -> None:
    with pytest.raises(ValueError, match="whole number from 1"):
        WorldEnv(Reach(), 0)
    with pytest.raises(ValueError, match="SAME_STEP|NextStep or Disabled"):
        gym.make_vec("ami/Push-v0", 2, autoreset_mode=gym.vector.AutoresetMode.SAME_STEP)
    with pytest.raises(ValueError, match="render_mode"):
        gym.make_vec("ami/Push-v0", 2, render_mode="human")
    batch = gym.make_vec("ami/Push-v0", 2, autoreset_mode="Disabled")
    for wrong in ([True, False], np.ones(3, bool), np.ones(2)):
        with pytest.raises(ValueError, match="reset_mask must be"):
            batch.reset(options={"reset_mask": wrong})
    with pytest.raises(ValueError, match="3 seeds for 2 worlds"):
        batch.reset(seed=[1, 2, 3])
    with pytest.raises(ValueError, match="no option 'odd'; there are state"):
        batch.reset(options={"odd": 1})
    with pytest.raises(RuntimeError, match="world 0 before reset"):
        batch.step(np.zeros((2, 5)))
    with pytest.raises(ValueError, match=r"shapes \(3,\) and \(2,\), expected \(..., 3\) twice"):
        engine().compute_reward(np.zeros(3), np.zeros(2), {})


def test_bad_action_in_a_batch_names_its_world() -> None:
    env = engine(3)
    action = np.zeros((3, 5))
    action[2, 1] = np.nan
    with pytest.raises(ValueError, match=r"action\[1\] of world 2 is nan, not finite"):
        env.step(action)
    action[2, 1] = -1.5
    assert env.step(action)[3]["clipped"].tolist() == [0, 0, 1]
    with pytest.raises(ValueError, match=r"action\[1\] of world 2 is -1.5, outside \[-1, 1\]"):
        engine(3, strict=True).step(action)


def test_world_that_ended_must_be_reset() -> None:
    env = gym.make_vec("ami/Reach-v0", 2, autoreset_mode="Disabled", max_episode_steps=3)
    env.reset(seed=0)
    for _ in range(3):
        truncated = env.step(np.zeros((2, 5)))[3]
    assert truncated.all()
    with pytest.raises(RuntimeError, match="world 0 has ended"):
        env.step(np.zeros((2, 5)))
    env.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(RuntimeError, match="world 1 has ended"):
        env.step(np.zeros((2, 5)))


def test_actions_of_standing_worlds_do_not_matter() -> None:
    env = engine(2)
    action = np.zeros((2, 5))
    action[0] = np.nan
    before = env.observe()["observation"]
    after = env.step(action, np.array([False, True]))[0]["observation"]
    assert np.array_equal(before[0], after[0]) and env.steps.tolist() == [0, 1]


# -- senses ---------------------------------------------------------------------------------------------------------


def test_slow_sense_keeps_its_reading(monkeypatch) -> None:
    class Clock(Sensor):
        every = 3

        def __init__(self, env):
            self.space = gym.spaces.Box(0, 1e3, (1,), np.float64)

        def read(self, env, ids):
            return env.steps[ids, None].astype(float)

    monkeypatch.setitem(SENSORS, "clock", Clock)
    env = engine(2, ("clock",))
    told = [env.step(np.zeros((2, 5)))[0]["clock"][0, 0] for _ in range(7)]
    assert told == [0, 0, 3, 3, 3, 6, 6]
    env.reset(np.array([1]))
    assert env.observe()["clock"].ravel().tolist() == [6, 0]


def test_picture_follows_what_is_written_into_the_state() -> None:
    env = engine(1, ("rgb",))
    eye = env.eye("view", 64, 64)
    before = eye.look(env, 0)
    assert eye.look(env, 0) is before
    env.robot.qpos[0, 0] += 0.1
    assert not np.array_equal(eye.look(env, 0).rgb, before.rgb)


@pytest.mark.parametrize("id", TASKS)
def test_frame_is_the_same_in_another_process(id: str) -> None:
    assert python(FRAME, id) == python(FRAME, id)


@pytest.mark.parametrize("id", TASKS)
def test_render(id: str) -> None:
    env = gym.make(id, render_mode="rgb_array")
    env.reset(seed=0)
    first = env.render()
    assert first.shape == (256, 256, 3) and first.dtype == np.uint8  # type: ignore[union-attr]
    batch = gym.make_vec(id, 2, render_mode="rgb_array")
    batch.reset(seed=[0, 1])
    assert np.array_equal(batch.render()[0], first)  # type: ignore[index]
    assert gym.make_vec(id, 2).render() is None


def test_senses_a_robot_can_have() -> None:
    assert "lidar" in offered(load("ami/MazeNav-v0")) and "lidar" not in offered(load("ami/Push-v0"))
    assert set(options("ami/MazeNav-v0")) == {"size", "map", "reward_type"}


# -- out of the user's way ------------------------------------------------------------------------------------------


def test_broken_physics_writes_no_log(tmp_path: Path, monkeypatch, capfd) -> None:
    monkeypatch.chdir(tmp_path)
    env = Subject("ami/Push-v0", {}).batch(2)
    env.reset(seed=0)
    for bad in (np.nan, np.inf, 1e300):
        env.engine.robot.qpos[0, 0] = bad
        assert env.step(np.zeros((2, 5)))[4]["physics_error"].tolist() == [True, False]
        assert not env.step(np.zeros((2, 5)))[4]["physics_error"].any()
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


def test_state_too_large_is_broken_without_a_warning_of_mujoco() -> None:
    env = engine(2)
    env.batch.bind("time")[1] = 5e9
    assert env.step(np.zeros((2, 5)))[3]["physics_error"].tolist() == [False, True]


def test_import_is_light() -> None:
    heavy = "('torch', 'OpenGL', 'imageio', 'stable_baselines3')"
    assert python(f"import sys, ami_envs, ami_envs.checks; print([m for m in {heavy} if m in sys.modules])") == "[]"


def test_rewards_of_any_shape() -> None:
    env, rng = engine(), np.random.default_rng(0)
    achieved, desired = rng.random((2, 4, 5, 3))
    rewards = env.compute_reward(achieved, desired, {})
    assert rewards.shape == (4, 5)
    assert rewards[2, 3] == env.compute_reward(achieved[2, 3], desired[2, 3], {})
    assert env.compute_terminated(achieved, achieved).all()
