"""`ami-agent env preview`: a moving picture of one episode."""

from __future__ import annotations

import importlib.util
import re
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import tyro

from ami_agent import console
from ami_agent.commands.common import check_range, parse_options
from ami_agent.environment import control_period, find, make
from ami_agent.errors import ArtefactError, MissingError, UsageError
from ami_agent.evaluation.resimulate import Draw, Rays
from ami_agent.files import write_bytes
from ami_agent.foreign.faults import close
from ami_envs.registry import is_ours
from ami_envs.senses.gl import NoGraphics

HOLD = 10  # how often a film shows its last picture
MOST = 200  # pictures of a film: longer episodes are sped up
PATIENCE = 3.0  # seconds without a word while a film is made, twice as many each time
SIZES = 16, 1024  # pixels a side
KINDS = {".gif": "", ".mp4": "imageio_ffmpeg"}  # of files, and the module that each needs


@dataclass(frozen=True)
class Config:
    """A moving picture of one episode."""

    id: tyro.conf.Positional[str]
    """Which one, e.g. ami/Push-v0, or module:namespace/Name-v0 for one that a module registers."""
    out: Path | None = None
    """Where it goes, a .gif or .mp4; ami-push-v0.gif and the like, in this folder, if not given."""
    seed: int = 0
    """Which episode."""
    agent: Literal["oracle", "random"] = "oracle"
    """Who acts: the scripted expert that our worlds have, or chance."""
    renderer: Literal["ray", "gl"] | None = None
    """Who draws: the ray camera, which needs no driver, or OpenGL, with shadows and smooth edges."""
    size: int | None = None
    """Pixels a side; 256 if not given."""
    force: bool = False
    """Replace a file that is there."""
    options: str = "{}"
    """What it is made with, as JSON, e.g. '{"robot": "arm7"}'."""
    json: bool = False
    """Print one JSON object on stdout."""


@dataclass
class Film:
    """Pictures of one episode, each (H, W, 3) uint8, thinned to every `pace`-th step where it is long."""

    frames: list[np.ndarray]
    steps: int = 0
    pace: int = 1
    success: bool = False


def main(config: Config) -> int:
    """Live the episode, write its film, and say where it is."""
    spec = find(config.id)
    path = config.out or Path(file_name(spec.id, ".gif"))
    _check_path(path, config.force)
    env, draw = stage(config.id, parse_options(config.options), config.renderer, config.size)
    if config.agent == "oracle" and not hasattr(env.unwrapped, "oracle"):
        raise UsageError(f"{spec.id} has no oracle: only worlds of ami_envs have; try --agent random")
    console.say(f"one episode of {spec.id} ...")
    film = shoot(env, draw, config.agent, config.seed)
    period = control_period(env.unwrapped)
    close(env, spec.id)
    write_bytes(path, _encode(path.suffix.lower(), [*film.frames, *film.frames[-1:] * HOLD], period))
    told = {"file": path.absolute(), "steps": film.steps, "success": film.success, "pace": film.pace}
    if config.json:
        console.emit(told)
    else:
        pace = f", shown {film.pace} times as fast" if film.pace > 1 else ""
        print(f"{path.absolute()}: {film.steps} steps{pace}, {'success' if film.success else 'no success'}")
    return 0


def file_name(id: str, suffix: str) -> str:
    """What a picture of an environment is called, e.g. ami-push-v0.gif."""
    return re.sub(r"[^a-z0-9]+", "-", id.lower()).strip("-") + suffix


def stage(
    id: str, options: dict[str, Any], renderer: str | None = None, size: int | None = None
) -> tuple[gym.Env, Draw]:
    """One world, and how it is drawn: others' on MuJoCo by our ray camera, which needs no screen.

    Raises UsageError for others' worlds with a renderer or size of ours.
    """
    spec = find(id)
    chosen: dict[str, Any] = {} if renderer is None else {"renderer": renderer}
    if size is not None:
        check_range("size", size, *SIZES)
        chosen |= {"width": size, "height": size}
    if not is_ours(spec):
        if chosen:
            raise UsageError(f"--renderer and --size are for worlds of ami_envs, not for {spec.id}")
        env = make(spec, options)
        with suppress(ValueError):  # not on MuJoCo, or its camera is orthographic
            return env, Rays(env.unwrapped)
        close(env, spec.id)
    env = make(spec, options, render_mode="rgb_array", **chosen)
    return env, partial(picture, env)


def shoot(env: gym.Env, draw: Draw, agent: str, seed: int) -> Film:
    """Live one episode before the camera."""
    env.action_space.seed(seed)
    env.reset(seed=seed)
    film, over = Film([draw()]), False
    info: dict[str, Any] = {}
    last, patience = time.monotonic(), PATIENCE
    limit = env.spec.max_episode_steps if env.spec else None
    act: Callable = env.unwrapped.oracle if agent == "oracle" else env.action_space.sample  # type: ignore[attr-defined]
    while not over:
        _, _, terminated, truncated, info = env.step(act())
        over = bool(terminated or truncated)
        film.steps += 1
        if film.steps % film.pace == 0 or over:
            film.frames.append(draw())
        if time.monotonic() - last > patience:
            last, patience = time.monotonic(), 2 * patience
            console.say(f"step {film.steps}" + (f" of at most {limit}" if limit else ""))
        if len(film.frames) > MOST:
            film.frames, film.pace = film.frames[::2], 2 * film.pace
    film.success = bool(info.get("success", info.get("is_success", False)))
    return film


def picture(env: gym.Env) -> np.ndarray:
    """What the world looks like now, (H, W, 3) uint8. Raises what a user can act on."""
    try:
        frame = env.render()
    except NotImplementedError:  # Gymnasium's default
        frame = None
    except (gym.error.DependencyNotInstalled, NoGraphics) as error:
        raise MissingError(f"{env} cannot be drawn: {error}") from error
    except KeyError as error:
        if "camera" not in str(error).lower():
            raise
        raise ArtefactError(f'{env} cannot be drawn: its scene has no camera named "view"; add one') from error
    if not isinstance(frame, np.ndarray):
        raise UsageError(f"{env} draws no pictures")
    return frame


def _check_path(path: Path, force: bool) -> None:
    kind = path.suffix.lower()
    if kind not in KINDS:
        raise UsageError(f"--out must end in .gif or .mp4, not {path}")
    if KINDS[kind] and importlib.util.find_spec(KINDS[kind]) is None:
        raise MissingError(f"{kind} needs the extra 'video': pip install 'ami-agent[video]'; or end --out in .gif")
    if path.is_dir() or (path.exists() and not force):
        raise UsageError(f"{path} is there already; give another --out, or --force to replace a file")


def _encode(kind: str, frames: list[np.ndarray], period: float) -> bytes:
    """A film as bytes, a step in `period` seconds; 0 where that is not known."""
    from ami_agent.evaluation.film import PERIOD, gif

    fps = 1 / (period or PERIOD)
    if kind == ".gif":
        return gif(frames, fps)
    import imageio.v2 as imageio

    with tempfile.TemporaryDirectory(prefix="ami-film-") as folder:
        file = Path(folder, "film.mp4")
        high, wide = (side // 2 * 2 for side in frames[0].shape[:2])  # even, as H.264 wants
        even: list[Any] = [frame[:high, :wide] for frame in frames]
        imageio.mimwrite(file, even, fps=fps, codec="libx264", quality=8, macro_block_size=2)
        return file.read_bytes()
