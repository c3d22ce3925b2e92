"""Living a recorded episode again: to see it, and to prove that the world is deterministic."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium.envs.registration import EnvSpec

from ami_agent import console
from ami_agent.environment import find, make, to_box
from ami_agent.foreign.faults import close
from ami_agent.protocols import Episode
from ami_agent.repeat import split
from ami_envs.registry import is_ours
from ami_envs.senses.camera import FREE, RayCamera

PICTURE = 256  # pixels a side
Draw = Callable[[], Any]


def resimulate(
    episode: Episode, options: dict[str, Any], pictures: Collection[int] = (), name: str | None = None
) -> Iterator[tuple[dict[str, np.ndarray], float, np.ndarray | None]]:
    """Yield what the episode's actions bring about from its seed: observation, reward (nan at first) and picture.

    T+1 items. A picture is (H, W, 3) uint8; None where none was asked for, or the environment cannot be drawn here.

    Args:
        episode: what was lived.
        options: what its environment was made with.
        pictures: the moments, from 0 to T, to draw.
        name: how to find the environment, as it was typed; by the episode's id if not given.
    """
    id, repeat = split(episode.environment)
    spec = find(name or id)
    env, draw = _open_to_draw(spec, options, repeat) if pictures else (make(spec, options, repeat), _nothing)
    try:
        space: Any = env.action_space
        observation, _ = env.reset(seed=episode.seed)
        yield _senses(observation), np.nan, _picture(draw) if 0 in pictures else None
        for t, action in enumerate(episode.action, start=1):
            observation, reward, _, _, _ = env.step(to_box(action, space))
            yield _senses(observation), float(reward), _picture(draw) if t in pictures else None
    finally:
        close(env, id)


def film_of(episode: Episode, options: dict[str, Any], name: str | None = None, most: int = 200) -> list[np.ndarray]:
    """At most `most` pictures of an episode, evenly spread and alike in shape; empty where it cannot be drawn here.

    What goes wrong while drawing is said, not raised: an episode without a picture is still an episode.
    """
    count = min(most, len(episode) + 1)
    moments = set(np.linspace(0, len(episode), count).round().astype(int).tolist())
    try:
        lived = resimulate(episode, options, moments, name)
        film = [picture for _, _, picture in lived if picture is not None]
    except (Exception, SystemExit) as error:  # a foreign environment may raise anything
        console.say(f"no pictures of {episode.environment}: {type(error).__name__}: {error}")
        return []
    return [picture for picture in film if picture.shape == film[0].shape]


def difference(episode: Episode, options: dict[str, Any], name: str | None = None) -> str | None:
    """Where a second life differs from the recorded one, in words; None if nowhere, to the bit."""
    for t, (observation, reward, _) in enumerate(resimulate(episode, options, name=name)):
        for sense, recorded in episode.observation.items():
            if not np.array_equal(np.ravel(observation[sense]).astype(recorded.dtype), np.ravel(recorded[t])):
                return f"sense {sense!r} at step {t}"
        if t and np.float32(reward) != episode.reward[t - 1]:
            return f"reward of step {t - 1}: {reward} now, {episode.reward[t - 1]} recorded"
    return None


def _open_to_draw(spec: EnvSpec, options: dict[str, Any], repeat: int) -> tuple[gym.Env, Draw]:
    """The environment, and how it is drawn: ours by itself, others on MuJoCo by our ray camera, the rest as it can."""
    if is_ours(spec):
        env = make(spec, options, repeat, render_mode="rgb_array")
        return env, env.render
    env = make(spec, options, repeat)
    with suppress(ValueError):  # not on MuJoCo, or its camera is orthographic
        return env, Rays(env.unwrapped)
    with suppress(Exception, SystemExit):  # it may lack a way to draw, packages or a screen
        drawn = make(spec, options, repeat, render_mode="rgb_array")
        drawn.reset()
        if _picture(drawn.render) is not None:
            close(env, spec.id)
            return drawn, drawn.render
        close(drawn, spec.id)
    return env, _nothing


class Rays:
    """Our ray camera in a foreign world on MuJoCo. Raises ValueError where it cannot draw."""

    def __init__(self, world: Any) -> None:
        self._world = world
        self._model, _ = self._physics()
        self._camera = self._opened(self._model)

    def __call__(self) -> np.ndarray:
        model, data = self._physics()
        if model is not self._model:  # some of dm_control's are built anew for each episode
            self._model, self._camera = model, self._opened(model)
        return self._camera.render(data).rgb

    @staticmethod
    def _opened(model: mujoco.MjModel) -> RayCamera:
        """Its first camera; a view of the whole where it has none."""
        return RayCamera(model, 0 if model.ncam else FREE, PICTURE, PICTURE)

    def _physics(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """MuJoCo's own structures, as Gymnasium's worlds and dm_control's keep them."""
        holder = getattr(self._world, "physics", self._world)
        model, data = (getattr(holder, name, None) for name in ("model", "data"))
        model, data = getattr(model, "ptr", model), getattr(data, "ptr", data)
        if not isinstance(model, mujoco.MjModel) or not isinstance(data, mujoco.MjData):
            raise ValueError("this world is not on MuJoCo")
        return model, data


def _picture(draw: Draw) -> np.ndarray | None:
    """A copy of what is drawn, (H, W, 3) uint8; None if that fails or is no such picture."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # OpenGL's, where there is no screen: GLFW says so in four lines
            picture = np.array(draw())
    except (Exception, SystemExit):  # whatever a foreign renderer raises
        return None
    return picture if picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3 else None


def _nothing() -> None:
    return None


def _senses(observation: Any) -> dict[str, np.ndarray]:
    return observation if isinstance(observation, dict) else {"observation": observation}
