"""What comes first: an environment that cannot be made, reset and stepped can be asked nothing else."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium as gym
import numpy as np

from ami_envs.checks.trials import DECLARED, Fault, Subject, outside, words
from ami_envs.faces import BatchEnv, SingleEnv
from ami_envs.registry import task_of
from ami_envs.scenes import compile_task

WORLDS, STEPS, FOREIGN_STEPS = 2, 5, 200
FINITE = "keep logs, roots and divisions in range"


def lives(subject: Subject) -> None:
    """It can be made, reset and stepped; its arrays have the right shapes, its rewards are numbers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they are of is told here, or by other checks
        try:
            _live(subject)
        except Fault:
            raise
        except (Exception, SystemExit) as error:
            _look_closer(subject)
            raise Fault(words(error, subject)) from error
        if subject.ours:
            _check_camera(subject)
            _check_shapes(subject)
            for actor in ("random actions", "the oracle"):
                _check_numbers(subject, actor)


def _live(subject: Subject) -> None:
    env = subject.make()
    env.reset(seed=0)
    env.action_space.seed(0)
    for step in range(STEPS if subject.ours else FOREIGN_STEPS):
        observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        if not subject.ours:
            _check_told(env.observation_space, observation, reward, step)
        if terminated or truncated:
            env.reset()
    env.close()


def _check_told(space: gym.Space, observation: Any, reward: Any, step: int) -> None:
    """What others' environments tell at a step; of ours more is asked below."""
    if np.ndim(reward) or not isinstance(reward, (int, float, np.ndarray, np.number, np.bool_)):
        raise Fault(f"the reward of step {step} is {reward!r}, not a number", "return one number a step")
    if not np.isfinite(reward):
        raise Fault(f"the reward of step {step} is {reward}", FINITE)
    if wrong := outside(space, observation):
        raise Fault(f"at step {step} {wrong}", DECLARED)


def _look_closer(subject: Subject) -> None:
    """A misspelt name or a wrong shape says more than what it breaks later; where none can be seen, nothing."""
    if subject.ours:
        try:
            _check_things(subject)
            _check_camera(subject)
            _check_shapes(subject)
        except Fault:
            raise
        except Exception:
            return


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
        for name, value in (("observe", seen), ("achieved", achieved)):
            if value.dtype != np.float64:
                raise Fault(f"{name} gives {value.dtype}", cure=f"{name} must give float64: .astype(np.float64)")
        _expect("success", task.success(achieved, engine.goal), (WORLDS,), "one bool a world")
        for name, term in task.terms(achieved, engine.goal, seen).items():
            _expect(f"the reward's term {name!r}", term, (WORLDS,), "one number a world")
        _expect("oracle", task.oracle(engine), (WORLDS, engine.robot.action_size), "one action a world")
        if step == 0:
            _check_bare(env, achieved, subject)
        env.step(_quiet(env))


def _quiet(env: BatchEnv) -> np.ndarray:
    return np.zeros(env.action_space.shape or (), np.float32)


def _expect(what: str, found: Any, shape: tuple[int, ...], meaning: str) -> None:
    if np.shape(found) != shape:
        raise Fault(f"{what} gives an array of shape {np.shape(found)}, not {shape}: {meaning}")
    if not np.isfinite(found).all():
        value = np.asarray(found)[~np.isfinite(found)].flat[0]
        raise Fault(f"{what} gives a number that is not finite: {value}", FINITE)


def _check_camera(subject: Subject) -> None:
    model = subject.single(sensors=()).engine.model
    names = [model.camera(i).name for i in range(model.ncam)]
    if "view" not in names:
        others = f", only {', '.join(names)}" if names else ""
        raise Fault(f'the scene has no camera named "view"{others}: pictures of the world are taken with it')


def _check_things(subject: Subject) -> None:
    task = task_of(subject.id, subject.options)
    model = compile_task(task, {})
    robot = model.body_rootid[model.body(task.robot.body).id]
    there = [model.body(i).name for i in range(1, model.nbody) if model.body_rootid[i] != robot]
    for name in task.things:
        if name not in [*there, "world"]:
            has = ", ".join(one for one in there if one) or "no named body beside the robot's"
            raise Fault(
                f"`things` names a body {name!r} that the scene has not; it has: {has}",
                cure="let `things` name bodies of the scene",
            )


def _check_bare(env: BatchEnv, achieved: np.ndarray, subject: Subject) -> None:
    try:
        env.engine.task.reward(achieved, env.engine.goal, None)
    except Exception as error:
        cure = "terms is called without an observation by compute_reward: leave out the terms that need one"
        raise Fault(f"where observation is None, {words(error, subject)}", cure) from error


def _check_numbers(subject: Subject, actor: str) -> None:
    """An episode of random actions, and one of the oracle: whatever is reached, all that is told is finite."""
    env = subject.single(sensors=())
    env.action_space.seed(0)
    told = env.reset(seed=0)[0]
    for step in range(env.engine.task.max_episode_steps):
        told, reward, terminated, truncated, info = env.step(
            env.oracle() if actor == "the oracle" else env.action_space.sample()
        )
        if info["physics_error"]:
            return
        where = f"at step {step} of an episode of {actor}"
        for name, value in told.items():
            if not np.isfinite(value).all():
                raise Fault(f"{name}{np.flatnonzero(~np.isfinite(value)).tolist()} is not finite {where}", FINITE)
        if not np.isfinite(reward):
            raise Fault(f"the reward{_term(env, told)} is {reward} {where}", FINITE)
        if terminated or truncated:
            return


def _term(env: SingleEnv, told: dict[str, np.ndarray]) -> str:
    """The name of the reward's first term that is not finite, if it is one of them."""
    seen = (told[name][None] for name in ("achieved_goal", "desired_goal", "observation"))
    terms = env.engine.task.terms(*seen) if env.engine.task.reward_type == "dense" else {}
    return next((f"'s term {name!r}" for name, term in terms.items() if not np.isfinite(term).all()), "")
