"""Hearing: silence at rest, blows, sliding, materials, and what a task sounds by itself."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from ami_envs import WorldEnv
from ami_envs.registry import load
from ami_envs.senses.audio import BANDS, Audio, click

Push = load("ami/Push-v0")
ONE = np.arange(1)


class Table(Push):  # type: ignore[misc, valid-type]
    """Push with its cube aside, out of the hand's reach; `material` is the cube's, `own` what the task sounds."""

    material = "plastic"
    own: np.ndarray | None = None

    def build(self, spec: mujoco.MjSpec) -> None:
        super().build(spec)
        spec.add_material(name=self.material)
        spec.geom("cube").material = self.material

    def reset(self, env: WorldEnv, i: int, rng: np.random.Generator) -> None:
        super().reset(env, i, rng)
        env.batch.joint("cube").qpos[i] = (0.4, 0.4, 0.02, 1, 0, 0, 0)

    def sounds(self, env: WorldEnv) -> np.ndarray | None:
        return self.own


def table(n: int = 1, material: str = "plastic") -> tuple[WorldEnv, Audio]:
    task = Table()
    task.material = material
    env = WorldEnv(task, n, senses=())
    env.reset(seeds=list(range(n)))
    return env, Audio(env)


def still(env: WorldEnv) -> np.ndarray:
    return np.zeros((env.n, env.robot.action_size))


def drop(height: float, tilt: float = 0.0, material: str = "plastic", steps: int = 25) -> np.ndarray:
    """What is heard of a cube that falls from `height` metres, (steps, 12)."""
    env, audio = table(material=material)
    cube = env.batch.joint("cube")
    cube.qpos[0, 2:] = 0.02 + 0.6 * 0.02 * (tilt > 0) + height, np.cos(tilt / 2), np.sin(tilt / 2), 0, 0
    heard = np.zeros((steps, len(BANDS)))
    for k in range(steps):
        env.step(still(env))
        heard[k] = audio.read(env, ONE)[0]
    return heard


def slide(speed: float) -> np.ndarray:
    """What is heard of a cube that is kept sliding at `speed` m/s, (8, 12)."""
    env, audio = table()
    cube = env.batch.joint("cube")
    heard = []
    for _ in range(10):
        cube.qvel[0, 0] = speed
        env.step(still(env))
        heard.append(audio.read(env, ONE)[0])
    return np.array(heard[2:])


def test_bands() -> None:
    assert BANDS.shape == (12,) and BANDS[0] == 100 and np.isclose(BANDS[-1], 8000)


def test_rest_is_silent() -> None:
    env, audio = table()
    assert not audio.read(env, ONE).any()
    for _ in range(20):
        env.step(still(env))
        assert not audio.read(env, ONE).any()


@pytest.mark.parametrize("tilt", [0.0, 0.3])
@pytest.mark.parametrize("height", [0.013, 0.02, 0.035, 0.05, 0.07, 0.1, 0.15, 0.2])
def test_every_fall_is_heard_once_it_lands(height: float, tilt: float) -> None:
    heard = drop(height, tilt)
    flight = int(np.sqrt(2 * height / 9.81) / 0.04)
    assert not heard[:flight].any()
    assert heard[flight : flight + 3].max() > 2
    assert not heard[-5:].any()


def test_a_higher_fall_is_louder() -> None:
    loudness = [drop(height).max() for height in (0.02, 0.08, 0.3)]
    assert loudness[0] + 1 < loudness[1] and loudness[1] + 0.5 < loudness[2]


def test_sliding_is_steady_and_grows_with_speed() -> None:
    slow, fast = slide(0.35), slide(0.7)
    for heard in (slow, fast):
        assert heard.max() > 1
        assert heard.max(axis=1).min() > 0.7 * heard.max()
    assert fast.mean() > slow.mean() + 0.3


def test_a_kicked_body_is_heard_in_flight() -> None:
    env, audio = table()
    cube = env.batch.joint("cube")
    cube.qpos[0, 2] = 1.0
    env.step(still(env))
    assert not audio.read(env, ONE).any()  # falling
    env.batch.bind("xfrc_applied")[0, env.model.body("cube").id, 0] = 5.0
    env.step(still(env))
    assert not audio.read(env, ONE).any()  # drawn by a force that lasts
    env.batch.bind("xfrc_applied")[:] = 0.0
    env.step(still(env))
    cube.qvel[0, 0] += 0.5  # a blow, over before the step ends
    assert audio.read(env, ONE).max() > 2


def test_a_robot_that_pushes_is_heard() -> None:
    env, audio = WorldEnv(Push(), 8, senses=()), None
    env.reset(seeds=list(range(8)))
    audio = Audio(env)
    loudest = np.zeros(8)
    for _ in range(40):
        env.step(env.task.oracle(env), env.alive)
        loudest = np.maximum(loudest, audio.read(env, np.arange(8)).max(axis=1))
    assert (loudest > 3).all()


def test_materials_differ() -> None:
    spectra = {name: drop(0.1, material=name).max(axis=0) for name in ("metal", "wood", "plastic", "rubber", "metal_2")}
    assert np.array_equal(spectra["metal"], spectra["metal_2"])
    assert spectra["metal"].max() > spectra["plastic"].max() > spectra["rubber"].max()  # rubber swallows, on wood
    high = {name: one[8:].mean() - one[:4].mean() for name, one in spectra.items()}
    assert high["metal"] > high["plastic"] > high["wood"]


def test_a_batch_is_its_worlds() -> None:
    batch, audio = table(3)
    singles = [table() for _ in range(3)]
    for i, (single, _) in enumerate(singles):
        single.reset(seeds=[i])
    for _ in range(15):
        for i, (single, _) in enumerate(singles):
            for env, row in ((batch, i), (single, 0)):
                if batch.steps[i] == 0:
                    env.batch.joint("cube").qpos[row] = (0.4, 0.4, 0.04 + 0.02 * i, 1, 0.1 * i, 0.2, 0)
            single.step(still(single))
        batch.step(still(batch))
        heard = audio.read(batch, np.arange(3))
        for i, (single, ear) in enumerate(singles):
            assert np.array_equal(heard[i], ear.read(single, ONE)[0])
        assert np.array_equal(audio.read(batch, np.array([2])), heard[2:])


@pytest.mark.parametrize("speed", [1e3, 1e8])
def test_huge_forces_stay_in_the_space(speed: float) -> None:
    env, audio = table()
    assert not audio.read(env, ONE[:0]).size
    env.batch.joint("cube").qpos[0, 2] = -0.5
    env.batch.joint("cube").qvel[0, :3] = speed, 0, -speed
    heard = audio.read(env, ONE)
    assert heard.dtype == np.float32 and audio.space.contains(heard[0]) and np.isfinite(heard).all()
    env.step(still(env))
    assert audio.space.contains(audio.read(env, ONE)[0])


def test_a_tasks_own_sounds_add() -> None:
    env, audio = table(2)
    profile = click(2000.0)
    assert profile.shape == (12,) and np.isclose(profile.sum(), 1)
    assert np.argmax(profile) == np.argmin(np.abs(np.log(BANDS / 2000.0)))
    env.task.own = np.stack([0 * profile, 1e-3 * profile])
    heard = audio.read(env, np.arange(2))
    assert not heard[0].any() and np.allclose(heard[1], np.log1p(1e4 * profile), rtol=1e-5)
    env.task.own = np.stack([profile, np.full(12, np.nan)])
    assert all(audio.space.contains(one) for one in audio.read(env, np.arange(2)))


def test_out_of_hearing() -> None:
    assert np.argmax(click(20.0)) == 0 and np.argmax(click(2e4)) == 11
