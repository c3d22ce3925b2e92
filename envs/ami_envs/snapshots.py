"""Moments of a world: taken, put back, and lived again under other causes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import mujoco
import numpy as np

from ami_envs.readings import follow

if TYPE_CHECKING:
    from ami_envs.core import WorldEnv
    from ami_envs.task import Task

Told = tuple[dict[str, np.ndarray], float, bool, dict[str, np.ndarray]]


@dataclass(frozen=True, repr=False)
class Snapshot:
    """Everything one world is: restoring it continues the same episode bit for bit, in any engine of the same task."""

    task: str  # what it is a moment of: see `kind`
    physics: np.ndarray  # mjSTATE_INTEGRATION
    goal: np.ndarray
    hidden: dict[str, np.ndarray]
    counts: dict[str, np.ndarray]  # steps, session, visit, how long success has lasted, and whether it goes on
    readings: dict[str, np.ndarray]  # each sense's latest readings
    factors: dict[str, np.ndarray]  # values of the factors, where one was changed
    fields: dict[str, np.ndarray]  # of MuJoCo's model, where worlds differ
    noise_key: np.ndarray
    random: Mapping[str, Any]  # the world's random generator

    def __repr__(self) -> str:
        return f"<Snapshot of {self.task}, step {self.counts['steps']}>"


def take(env: WorldEnv, world: int) -> Snapshot:
    """All of one world, copied."""
    factors, fields = env.causes.snapshot(world)
    return Snapshot(
        task=kind(env.task),
        physics=env.batch.state[world].copy(),
        goal=env.goal[world].copy(),
        hidden={name: value[world].copy() for name, value in env.hidden.items()},
        counts={name: value[world].copy() for name, value in _counts(env).items()},
        readings={name: one.kept[world, : one.depth(env, world)].copy() for name, one in env.readings.items()},
        factors=factors,
        fields=fields,
        noise_key=env.noise_keys[world].copy(),
        random=copy.deepcopy(env.rngs[world].bit_generator.state),
    )


def put(env: WorldEnv, snapshot: Snapshot, ids: np.ndarray) -> None:
    """Make worlds `ids` copies of a snapshot; ValueError if it is of another task."""
    if not isinstance(snapshot, Snapshot):
        raise ValueError(f"a state is what get_state() gave, not {type(snapshot).__name__}")
    if snapshot.task != kind(env.task):
        raise ValueError(f"the snapshot is of {snapshot.task}, not of this {kind(env.task)}")
    env.batch.reset(ids, stage=int(mujoco.mjtStage.mjSTAGE_NONE))
    env.causes.restore(ids, snapshot.factors, snapshot.fields)
    env.batch.state[ids] = snapshot.physics
    env.batch.forward(ids)
    env.batch.state[ids] = snapshot.physics  # forward has moved the solver's warm start
    env.goal[ids] = snapshot.goal
    env.qvel_before[ids] = env.robot.qvel[ids]
    for name, value in snapshot.hidden.items():
        env.hidden[name][ids] = value
    for name, value in _counts(env).items():
        value[ids] = snapshot.counts[name]
    env.noise_keys[ids] = snapshot.noise_key
    for i in ids:
        env.rngs[i].bit_generator.state = copy.deepcopy(snapshot.random)
    follow(env)
    for name, one in env.readings.items():
        if name in snapshot.readings and one.fits(snapshot.readings[name]):
            one.restore(ids, snapshot.readings[name])
        else:
            one.fill(env, ids)


def counterfactual(
    env: WorldEnv, snapshot: Snapshot, values: Mapping[str, Any], actions: np.ndarray, world: int
) -> list[Told]:
    """See `WorldEnv.counterfactual`."""
    kept, mask = take(env, world), env.all == world
    told = []
    try:
        env.set_state(snapshot, [world])
        env.intervene(values, [world])
        for action in np.asarray(actions):
            observation, reward, over, info = env.step(np.tile(action, (env.n, 1)), mask)
            one, facts = ({k: v[world].copy() for k, v in each.items()} for each in (observation, info))
            told.append((one, float(reward[world]), bool(over[world]), facts))
            if not env.alive[world]:
                break
    finally:
        env.set_state(kept, [world])
    return told


def _counts(env: WorldEnv) -> dict[str, np.ndarray]:
    return {"steps": env.steps, "session": env.session, "visit": env.visit, "held": env.held, "alive": env.alive}


def kind(task: Task) -> str:
    """A task with those of its options that decide what its states mean; how it is rewarded does not."""
    plain = (str, int, float, bool, tuple, type(None))
    options = {name: v for name, v in vars(task).items() if isinstance(v, plain) and name[0] != "_"}
    chosen = [f"{name}={options[name]!r}" for name in sorted(options.keys() - {"reward_type"})]
    return f"{type(task).__name__}({', '.join([task.robot.__name__, *chosen])})"
