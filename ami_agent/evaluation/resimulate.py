"""Living a recorded episode again: to see it, and to prove that the world is deterministic."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np

from ami_agent.protocols import Episode
from ami_envs import registry


def resimulate(
    episode: Episode, options: dict[str, Any], pictures: bool = False
) -> Iterator[tuple[dict[str, np.ndarray], float, np.ndarray | None]]:
    """Yield what the episode's actions bring about from its seed: observation, reward (nan at first) and picture.

    T+1 items. A picture is (H, W, 3) uint8, or None where the environment cannot be drawn here.
    """
    env, drawn = _make(episode.environment, options, pictures)
    try:
        space: Any = env.action_space
        middle, half = (space.high + space.low) / 2, (space.high - space.low) / 2
        observation, _ = env.reset(seed=episode.seed)
        yield _senses(observation), np.nan, _picture(env) if drawn else None
        for action in episode.action:
            raw = (middle + half * np.clip(action, -1.0, 1.0)).astype(space.dtype)
            observation, reward, _, _, _ = env.step(raw)
            yield _senses(observation), float(reward), _picture(env) if drawn else None
    finally:
        env.close()


def film_of(episode: Episode, options: dict[str, Any]) -> list[np.ndarray]:
    """The pictures of an episode, empty where the environment cannot be drawn here."""
    try:
        return [picture for _, _, picture in resimulate(episode, options, pictures=True) if picture is not None]
    except gym.error.DependencyNotInstalled:
        return []


def difference(episode: Episode, options: dict[str, Any]) -> str | None:
    """Where a second life differs from the recorded one, in words; None if nowhere, to the bit."""
    for t, (observation, reward, _) in enumerate(resimulate(episode, options)):
        for name, recorded in episode.observation.items():
            if not np.array_equal(np.asarray(observation[name], recorded.dtype), recorded[t]):
                return f"sense {name!r} at step {t}"
        if t and np.float32(reward) != episode.reward[t - 1]:
            return f"reward of step {t - 1}: {reward} now, {episode.reward[t - 1]} recorded"
    return None


def _make(id: str, options: dict[str, Any], pictures: bool) -> tuple[gym.Env, bool]:
    if not pictures:
        return gym.make(registry.find(id), disable_env_checker=True, **options), False
    try:
        return gym.make(registry.find(id), render_mode="rgb_array", disable_env_checker=True, **options), True
    except (gym.error.Error, TypeError, ImportError):
        return gym.make(registry.find(id), disable_env_checker=True, **options), False


def _senses(observation: Any) -> dict[str, np.ndarray]:
    return observation if isinstance(observation, dict) else {"observation": observation}


def _picture(env: gym.Env) -> np.ndarray | None:
    picture: Any = env.render()
    return None if picture is None else np.asarray(picture)
