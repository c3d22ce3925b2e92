"""Every registered world keeps every promise; and each check notices a world that breaks its promise."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import ami_envs
from ami_envs.checks import CHECKS, Subject, examine
from ami_envs.checks.trials import Fault
from ami_envs.factors import Factor
from ami_envs.registry import TASKS, load
from ami_envs.senses import offered
from ami_envs.worlds.reach import Reach

WORLDS = [(id, {}) for id in TASKS] + [
    ("ami/MazeNav-v0", {"map": "fixed", "size": 5, "max_episode_steps": 300}),
    ("ami/Push-v0", {"reward_type": "sparse"}),
    ("ami/Push-v0", {"robot": "arm7"}),
    ("ami/Stack-v0", {"n": 2, "max_episode_steps": 300}),
    ("ami/Drawer-v0", {"task": "store", "max_episode_steps": 300}),
    ("ami/CueDelay-v0", {"variant": "shell", "robot": "arm7"}),
]
IDS = [" ".join([id.removeprefix("ami/"), *map(str, options.values())]) for id, options in WORLDS]
# What SB3 says of images that are not for a network of pixels: metres, and names of things.
EXPECTED = r".*observation (space depth|depth|segmentation) (is an image|has an unconventional shape)"
warned = pytest.mark.filterwarnings("error")
loud = pytest.mark.filterwarnings("ignore::UserWarning:gymnasium")  # of the broken environments here


@warned
@pytest.mark.parametrize(("id", "options"), WORLDS, ids=IDS)
@pytest.mark.parametrize("name", CHECKS)
def test_promise(name: str, id: str, options: dict[str, Any]) -> None:
    CHECKS[name].run(Subject(id, options))


@warned
@pytest.mark.parametrize("id", TASKS)
def test_sb3_accepts(id: str) -> None:
    env_checker = pytest.importorskip("stable_baselines3.common.env_checker")
    env_checker.check_env(gym.make(id).unwrapped, skip_render_check=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", EXPECTED)
        env_checker.check_env(gym.make(id, sensors=offered(load(id))).unwrapped)


@pytest.mark.parametrize("id", TASKS)
def test_sb3_relabels_with_hindsight(id: str) -> None:
    sb3 = pytest.importorskip("stable_baselines3")
    from stable_baselines3.common.vec_env import DummyVecEnv

    env = DummyVecEnv([lambda: gym.make(id, max_episode_steps=10)])
    for copy_info in (False, True):
        buffer = sb3.HerReplayBuffer(
            100, env.observation_space, env.action_space, env, device="cpu", copy_info_dict=copy_info
        )
        seen = env.reset()
        for _ in range(30):
            action = np.array([env.action_space.sample()])
            then, reward, done, infos = env.step(action)
            buffer.add(seen, then, action, reward, done, infos)
            seen = then
        rewards = buffer.sample(64).rewards
        assert rewards.shape == (64, 1) and bool(rewards.isfinite().all())


@pytest.mark.parametrize("id", TASKS)
def test_make_vec(id: str) -> None:
    env = gym.make_vec(id, num_envs=3)
    observation, info = env.reset(seed=[1, None, 3])
    assert env.metadata["autoreset_mode"] is gym.vector.AutoresetMode.NEXT_STEP
    assert observation in env.observation_space and info["success"].shape == (3,)
    observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
    assert observation in env.observation_space
    assert reward.shape == terminated.shape == truncated.shape == info["_success"].shape == (3,)
    env.close()
    env.close()


@pytest.mark.parametrize("id", TASKS)
def test_named_by_its_module_too(id: str) -> None:
    assert gym.make(f"ami_envs:{id}").spec.id == id  # type: ignore[union-attr]


# -- each check has teeth -------------------------------------------------------------------------------------------


class Remembers(Reach):
    """Keeps state of its own that no snapshot holds."""

    count = 0

    def observe(self, env):
        type(self).count += 1
        return super().observe(env) + 1e-9 * self.count


class Shares(Reach):
    def bind(self, env):
        super().bind(env)
        self._kept = np.zeros((env.n, 12))

    def observe(self, env):
        self._kept[:] = super().observe(env)
        return self._kept


class Constant(Reach):
    def observe(self, env):
        return np.pad(super().observe(env), ((0, 0), (0, 1)))


class Unseeded(Reach):
    def reset(self, env, i, rng):
        super().reset(env, i, np.random.default_rng(0))


class Hopeless(Reach):
    def oracle(self, env):
        return np.zeros((env.n, 5))


class Trivial(Reach):
    radius = 0.3


class Moody(Reach):
    """Its reward is not a function of the goals."""

    def reward(self, achieved, desired, observation):
        return super().reward(achieved, desired, observation) + np.random.default_rng().random(len(achieved))


class Mixed(Reach):
    """What one world senses depends on how many others there are."""

    def observe(self, env):
        return super().observe(env) + env.n


class Escapes(Reach):
    def observe(self, env):
        return super().observe(env) * 1e12


class Clings(Reach):
    """Draws where the goal is from a generator of its own, which a copy does not have."""

    def bind(self, env):
        super().bind(env)
        self._own = np.random.default_rng(7)

    def reset(self, env, i, rng):
        super().reset(env, i, self._own)


def paint(scale_on_scale: bool = False, everywhere: bool = False, meet: bool = False) -> dict[str, Factor]:
    """A factor of the goal's size that is written wrongly."""

    def write(env, ids, values):
        field = env.field("geom_size")
        rows = slice(None) if everywhere else ids
        field[rows] = (field[rows] if scale_on_scale else env.model.geom_size) * values.reshape(-1, 1, 1)[: len(ids)]

    return {"swell": Factor(1.0, (0.9, 1.2), (1.0 if meet else 1.3, 1.5), "the world's size, x", write)}


class Hoards(Reach):
    """Its factor scales what it had scaled before."""

    def factors(self, env):
        return paint(scale_on_scale=True)


class Spills(Reach):
    """Its factor changes all worlds."""

    senses = ("segmentation",)

    def factors(self, env):
        return paint(everywhere=True)


class Meets(Reach):
    """Its factor's ranges meet."""

    def factors(self, env):
        return paint(meet=True)


class Counts(Reach):
    """Its start depends on how often it was visited."""

    def reset(self, env, i, rng):
        super().reset(env, i, rng)
        env.goal[i] += 0.01 * env.visit[i]


class Needless(Reach):
    """Claims to need what its floor does without."""

    needs = "memory"

    def floor(self, env):
        return self.oracle(env)

    def chance(self):
        return 0.3, 0.1


class Misplaced(Reach):
    """Says that its goals are places, and names joints."""

    place, near, goes = (3, 4, 5), 0.1, True


CURES = {
    (Trivial, "can_be_solved"): "make success stricter",
    (Constant, "says_something"): "leave out of observe",
    (Unseeded, "says_something"): "set env.goal[i] in reset",
}


@loud
@pytest.mark.parametrize(
    ("task", "name"),
    [
        (Remembers, "repeats"),
        (Remembers, "restores_snapshots"),
        (Remembers, "copies"),
        (Shares, "hands_out_fresh_arrays"),
        (Constant, "says_something"),
        (Unseeded, "seeds_matter"),
        (Unseeded, "says_something"),
        (Hopeless, "can_be_solved"),
        (Trivial, "can_be_solved"),
        (Moody, "rewards_by_goals"),
        (Moody, "follows_gymnasium"),
        (Mixed, "batches"),
        (Escapes, "repeats"),
        (Escapes, "follows_gymnasium"),
        (Clings, "restores_snapshots"),
        (Remembers, "imagines_other_causes"),
        (Hoards, "intervenes_exactly"),
        (Spills, "gives_each_world_its_causes"),
        (Meets, "offers_causes"),
        (Counts, "keeps_sessions"),
        (Needless, "needs_what_it_claims"),
        (Misplaced, "tells_its_place"),
    ],
)
def test_check_notices(task: type[Reach], name: str) -> None:
    id = f"ami-test/{task.__name__}-v0"
    if id not in gym.registry:
        ami_envs.register(id, task)
    try:
        with pytest.raises((Fault, AssertionError)) as caught:
            CHECKS[name].run(Subject(id, {}))
        message = str(caught.value)
        assert "\x1b" not in message or not isinstance(caught.value, Fault)
        assert CURES.get((task, name), "") in getattr(caught.value, "cure", "")
    finally:
        gym.registry.pop(id)
        TASKS.pop(id)


class Chaos(gym.Env):
    """A foreign environment that draws from nowhere and hands out one array."""

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float64)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    seen = np.zeros(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seen[:] = np.random.default_rng().random(2)
        return self.seen, {}

    def step(self, action):
        self.seen[:] = np.random.default_rng().random(2)
        return self.seen, 0.0, False, False, {}


@loud
def test_foreign_environments() -> None:
    gym.register("ami-test/Chaos-v0", Chaos, max_episode_steps=20)
    try:
        findings = {finding.check: finding for finding in examine("ami-test/Chaos-v0")}
    finally:
        gym.registry.pop("ami-test/Chaos-v0")
    assert set(findings) == {name for name, check in CHECKS.items() if check.anyone}
    assert {name for name, one in findings.items() if one.fault} == {"hands_out_fresh_arrays", "repeats"}
    waiting = {name: one.waits_for for name, one in findings.items() if one.waits_for}
    assert waiting == dict.fromkeys(("seeds_matter", "follows_gymnasium"), "hands_out_fresh_arrays")
    assert "differs" in findings["repeats"].fault
    assert not any(finding.fault for finding in examine("Pendulum-v1"))
