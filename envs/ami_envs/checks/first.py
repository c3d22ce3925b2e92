"""What comes first: an environment that cannot be made, reset and stepped can be asked nothing else."""

from __future__ import annotations

import inspect
import traceback
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from ami_envs.checks.trials import Fault, Subject
from ami_envs.faces import BatchEnv
from ami_envs.registry import load

WORLDS, STEPS = 2, 5


def lives(subject: Subject) -> None:
    """It can be made, reset and stepped, and its arrays have the shapes that they should."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they are of is told here, or by other checks
        try:
            _live(subject)
        except Fault:
            raise
        except Exception as error:
            _look_closer(subject)
            raise Fault(f"{_words(error)}{_place(error, subject)}") from error
        if subject.ours:
            _check_camera(subject)
            _check_shapes(subject)


def _live(subject: Subject) -> None:
    env = subject.make()
    env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(STEPS):
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            env.reset()
    env.close()


def _look_closer(subject: Subject) -> None:
    """A missing camera or a wrong shape says more than what it breaks later; where none can be seen, nothing."""
    if subject.ours:
        try:
            _check_camera(subject)
            _check_shapes(subject)
        except Fault:
            raise
        except Exception:
            return


def _words(error: Exception) -> str:
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return f"{type(error).__name__}: {text.partition(' was raised from the environment creator')[0]}"  # Gymnasium's


def _check_shapes(subject: Subject) -> None:
    env = subject.batch(WORLDS)
    engine, task = env.engine, env.engine.task
    size = engine.spaces["observation"].shape or ()
    for step in range(STEPS):
        if step == 0:
            env.reset(seed=0)
        seen = task.observe(engine)
        _expect("observe", seen, (WORLDS, *size), "it always has the same size, one row a world")
        achieved = task.achieved(engine)
        _expect("achieved", achieved, (WORLDS, task.goal_size), "one row a world, goal_size numbers")
        _expect("success", task.success(achieved, engine.goal), (WORLDS,), "one bool a world")
        for name, term in task.terms(achieved, engine.goal, seen).items():
            _expect(f"terms, {name!r},", term, (WORLDS,), "one number a world")
        _expect("oracle", task.oracle(engine), (WORLDS, engine.robot.action_size), "one action a world")
        env.step(_quiet(env))


def _quiet(env: BatchEnv) -> np.ndarray:
    return np.zeros(env.action_space.shape or (), np.float32)


def _expect(what: str, found: Any, shape: tuple[int, ...], meaning: str) -> None:
    if np.shape(found) != shape:
        raise Fault(f"{what} gives an array of shape {np.shape(found)}, not {shape}: {meaning}")
    if not np.isfinite(found).all():
        raise Fault(f"{what} gives a number that is not finite")


def _check_camera(subject: Subject) -> None:
    model = subject.single(sensors=()).engine.model
    names = [model.camera(i).name for i in range(model.ncam)]
    if "view" not in names:
        others = f", only {', '.join(names)}" if names else ""
        raise Fault(f'the scene has no camera named "view"{others}: pictures of the world are taken with it')


def _place(error: BaseException | None, subject: Subject) -> str:
    """Where in its author's own code an error came up, or nothing if it did not."""
    kind = load(subject.id) if subject.ours else gym.spec(subject.id).entry_point
    home = Path(inspect.getfile(kind)).resolve().parent if inspect.isclass(kind) else None
    place = ""
    while error is not None:  # Gymnasium raises some anew
        for frame in traceback.extract_tb(error.__traceback__):
            if Path(frame.filename).resolve().parent == home:
                place = f" ({frame.filename}, line {frame.lineno}, in {frame.name})"
        error = error.__cause__
    return place
