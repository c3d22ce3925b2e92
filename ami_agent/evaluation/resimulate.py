"""Living a recorded episode again: to see it, and to prove that the world is deterministic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium.envs.registration import EnvSpec

from ami_agent.protocols import Episode
from ami_envs import registry
from ami_envs.camera import RayCamera

PICTURE = 256  # pixels a side
Draw = Callable[[], np.ndarray | None]


def resimulate(
    episode: Episode, options: dict[str, Any], pictures: bool = False
) -> Iterator[tuple[dict[str, np.ndarray], float, np.ndarray | None]]:
    """Yield what the episode's actions bring about from its seed: observation, reward (nan at first) and picture.

    T+1 items. A picture is (H, W, 3) uint8, or None where the environment cannot be drawn here.
    """
    env, draw = _open(episode.environment, options, pictures)
    try:
        space: Any = env.action_space
        middle, half = (space.high + space.low) / 2, (space.high - space.low) / 2
        observation, _ = env.reset(seed=episode.seed)
        yield _senses(observation), np.nan, draw()
        for action in episode.action:
            raw = (middle + half * np.clip(action, -1.0, 1.0)).astype(space.dtype)
            observation, reward, _, _, _ = env.step(raw)
            yield _senses(observation), float(reward), draw()
    finally:
        env.close()


def film_of(episode: Episode, options: dict[str, Any]) -> list[np.ndarray]:
    """The pictures of an episode, empty where the environment cannot be drawn here."""
    return [picture for _, _, picture in resimulate(episode, options, pictures=True) if picture is not None]


def difference(episode: Episode, options: dict[str, Any]) -> str | None:
    """Where a second life differs from the recorded one, in words; None if nowhere, to the bit."""
    for t, (observation, reward, _) in enumerate(resimulate(episode, options)):
        for name, recorded in episode.observation.items():
            if not np.array_equal(np.asarray(observation[name], recorded.dtype), recorded[t]):
                return f"sense {name!r} at step {t}"
        if t and np.float32(reward) != episode.reward[t - 1]:
            return f"reward of step {t - 1}: {reward} now, {episode.reward[t - 1]} recorded"
    return None


def _open(id: str, options: dict[str, Any], pictures: bool) -> tuple[gym.Env, Draw]:
    """The environment, and how it is drawn: ours by itself, others on MuJoCo by our ray camera, the rest as it can."""
    spec = registry.find(id)
    if pictures and registry.is_ours(spec):
        env = gym.make(spec, render_mode="rgb_array", disable_env_checker=True, **options)
        return env, lambda: np.asarray(env.render())
    env = gym.make(spec, disable_env_checker=True, **options)
    if not pictures:
        return env, lambda: None
    inner: Any = env.unwrapped
    if isinstance(getattr(inner, "model", None), mujoco.MjModel) and inner.model.ncam:
        camera = RayCamera(inner.model, 0, PICTURE, PICTURE)
        return env, lambda: camera.render(inner.data).rgb
    env.close()
    return _as_it_can(spec, options)


def _as_it_can(spec: EnvSpec, options: dict[str, Any]) -> tuple[gym.Env, Draw]:
    """An environment with its own drawing, or with none: that may need packages or a screen which are not here."""
    try:
        env = gym.make(spec, render_mode="rgb_array", disable_env_checker=True, **options)
        env.reset()
        env.render()
    except Exception:  # whatever a foreign renderer raises, an episode without a picture is still an episode
        return gym.make(spec, disable_env_checker=True, **options), lambda: None
    return env, lambda: np.asarray(env.render())


def _senses(observation: Any) -> dict[str, np.ndarray]:
    return observation if isinstance(observation, dict) else {"observation": observation}
