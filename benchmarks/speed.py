"""How fast the parts are: `python benchmarks/speed.py [--json FILE]`.

Everything is CPU time (`time.process_time_ns`), so that other work on the machine hurts little; what is compared runs
in turns, round by round, so that what does hurt hurts both. A figure is the median over the rounds, with its range.
A new row is one more function in `ROWS`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import mujoco
import numpy as np
import torch
import tyro

from ami_agent.agent import AmiAgent
from ami_agent.brain import Brain
from ami_agent.brains import shipped_path
from ami_agent.environment import Environment
from ami_agent.files import write_json
from ami_agent.learning.learner import Learner
from ami_agent.protocols import Batch
from ami_agent.runs import hardware, versions
from ami_envs.core import Snapshot, WorldEnv
from ami_envs.registry import TASKS, load

ROUNDS = 9
STEPS = 60  # env steps of a recorded sequence
FRAMES = 10  # pictures a round
FAR = 10.0  # metres: a goal there keeps an episode from ending, and costs the same


@dataclass(frozen=True)
class Row:
    """One figure: median, least and greatest over the rounds."""

    name: str
    median: float
    low: float
    high: float
    unit: str
    target: str = ""


@dataclass(frozen=True)
class Recording:
    """Episodes of n worlds, to be lived again: where they start, and T actions and controls."""

    start: list[Snapshot]
    actions: np.ndarray  # (T, n, A)
    controls: np.ndarray  # (T, n, nu)
    end: np.ndarray  # (n, state)


def row(name: str, values: list[float], unit: str, target: str = "") -> Row:
    return Row(name, statistics.median(values), min(values), max(values), unit, target)


def cpu(work: Callable[[], object]) -> float:
    """CPU-seconds that `work` takes."""
    start = time.process_time_ns()
    work()
    return (time.process_time_ns() - start) / 1e9


def record(env: WorldEnv, seed: int) -> Recording:
    """Let the oracle, with some noise, live in all worlds; goals are then moved away."""
    rng = np.random.default_rng(seed)
    env.reset(seeds=[seed * env.n + i for i in range(env.n)])
    start = [env.get_state(i) for i in range(env.n)]
    actions, controls = [], []
    for _ in range(STEPS):
        noise = 0.3 * rng.standard_normal((env.n, env.robot.action_size))
        actions.append(np.clip(env.task.oracle(env) + noise, -1, 1))
        env.step(actions[-1])
        env.alive[:] = True
        controls.append(env.robot.ctrl.copy())
    return Recording(start, np.array(actions), np.array(controls), env.batch.state.copy())


def relive(env: WorldEnv, recording: Recording) -> float:
    """CPU-seconds of the engine's steps through a recording."""
    for i, snapshot in enumerate(recording.start):
        env.set_state(snapshot, [i])
    env.goal[:] = FAR
    actions = list(recording.actions)

    def work() -> None:
        for action in actions:
            env.step(action)

    return cpu(work)


def relive_bare(env: WorldEnv, data: list[mujoco.MjData], recording: Recording) -> float:
    """CPU-seconds of a plain loop of `mj_step` through the same; raises RuntimeError if it ends elsewhere."""
    kind = int(mujoco.mjtState.mjSTATE_INTEGRATION)
    for one, snapshot in zip(data, recording.start, strict=True):
        mujoco.mj_setState(env.model, one, snapshot.physics, kind)
    controls, substeps, model = list(recording.controls), env.robot.substeps, env.model

    def work() -> None:
        for control in controls:
            for one, target in zip(data, control, strict=True):
                one.ctrl[:] = target
                for _ in range(substeps):
                    mujoco.mj_step(model, one)

    seconds = cpu(work)
    state = np.empty(env.batch.nstate)
    for one, end in zip(data, recording.end, strict=True):
        mujoco.mj_getState(model, one, state, kind)
        if not np.array_equal(state, end):
            raise RuntimeError("the engine and the plain loop of mj_step came to different states")
    return seconds


def engine_rows() -> Iterator[Row]:
    """The engine's whole env step against the physics alone, in the same states under the same actions."""
    for n, episodes, target in ((1, 8, "<= 1.30"), (64, 1, "<= 1.15")):
        env = WorldEnv(load("ami/Push-v0")(), n, senses=())
        recordings = [record(env, seed) for seed in range(episodes)]
        data = [mujoco.MjData(env.model) for _ in range(n)]
        ours, bare = [], []
        for _ in range(ROUNDS):
            ours.append(sum(relive(env, recording) for recording in recordings))
            bare.append(sum(relive_bare(env, data, recording) for recording in recordings))
        each = 1e6 / (episodes * STEPS * n)
        worlds = "1 world" if n == 1 else f"{n} worlds"
        yield row(f"Push, {worlds}: engine step", [seconds * each for seconds in ours], "us")
        yield row(f"Push, {worlds}: ten mj_step", [seconds * each for seconds in bare], "us")
        ratios = [a / b for a, b in zip(ours, bare, strict=True)]
        yield row(f"Push, {worlds}: ratio", ratios, "x", target)


def world_rows() -> Iterator[Row]:
    """Env steps a CPU-second, with joints only and with the world's own senses."""
    for id in TASKS:
        for n in (1, 64):
            for senses, told in (((), "joints only"), (None, "own senses")):
                env = WorldEnv(load(id)(), n, senses)
                recording = record(env, 0)
                seconds = [relive(env, recording) for _ in range(ROUNDS)]
                rates = [STEPS * n / one for one in seconds]
                yield row(f"{id} x {n}, {told}", rates, "steps/CPU-s")


def camera_rows() -> Iterator[Row]:
    """A picture of 64 x 64, colour and depth and segmentation, by rays."""
    for id in ("ami/Push-v0", "ami/MazeNav-v0"):
        env = WorldEnv(load(id)(), 1, senses=())
        recording = record(env, 0)
        eye = env.eye("view", 64)
        values = []
        for _ in range(ROUNDS):
            env.set_state(recording.start[0])
            env.goal[:] = FAR
            seconds = 0.0
            for action in recording.actions[:FRAMES]:
                env.step(action)
                seconds += cpu(lambda: eye.look(env, 0))  # noqa: B023 - called at once
            values.append(seconds / FRAMES * 1e3)
        yield row(f"ray camera 64x64, {id}", values, "CPU-ms", "<= 2.5")


def planner_rows() -> Iterator[Row]:
    """A decision of the shipped agent: perceive, propose, plan; for one world and for eight at once."""
    brain = Brain.load(shipped_path("ami/Push-v0"))
    for n in (1, 8):
        environment, agent = Environment("ami/Push-v0", n), AmiAgent(brain)
        observation = environment.reset(seeds=list(range(n)))
        agent.reset(np.ones(n, bool))
        values = [cpu(lambda: [agent.act(observation) for _ in range(FRAMES)]) for _ in range(ROUNDS)]  # noqa: B023
        yield row(f"decision in Push, {n} at once", [1e3 * value / (FRAMES * n) for value in values], "CPU-ms each")


def update_rows() -> Iterator[Row]:
    """An update of the shipped brain from 256 windows of 3 steps."""
    brain = Brain.load(shipped_path("ami/Push-v0"))
    senses, actions = brain.spec.senses, brain.spec.action_size
    observation = {name: torch.rand(256, 4, *shape) for name, shape in senses.items()}
    batch = Batch(observation, torch.rand(256, 3, actions), torch.rand(256, 3), torch.zeros(256, 3), torch.ones(256, 3))
    learner, generator = Learner(brain), torch.Generator().manual_seed(0)
    values = [cpu(lambda: [learner.update(batch, generator) for _ in range(FRAMES)]) for _ in range(ROUNDS)]
    yield row("update, 256 windows of 3 steps", [1e3 * value / FRAMES for value in values], "CPU-ms")


ROWS: list[Callable[[], Iterator[Row]]] = [engine_rows, world_rows, camera_rows, planner_rows, update_rows]


def main(json: Path | None = None) -> None:
    """Print the table.

    Args:
        json: write the figures, the machine and the versions to this file, too.
    """
    torch.set_num_threads(1)
    machine = hardware()
    print(f"{machine['processor']}, {machine['cores']} cores; medians of {ROUNDS} rounds of CPU time, one thread")
    print(", ".join(f"{name} {version}" for name, version in versions().items()))
    print(f"{'':<40}{'median':>10}{'least':>10}{'most':>10}  unit")
    rows = []
    for make in ROWS:
        for one in make():
            rows.append(one)
            figures = "".join(f"{value:>10.{0 if value >= 1000 else 2}f}" for value in (one.median, one.low, one.high))
            print(f"{one.name:<40}{figures}  {one.unit:<12}{one.target}", flush=True)
    if json:
        write_json(json, {"machine": machine, "versions": versions(), "rows": [asdict(one) for one in rows]})


if __name__ == "__main__":
    tyro.cli(main)
