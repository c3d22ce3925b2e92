"""How fast the worlds and the parts are, as Markdown tables: `python benchmarks/speed.py [--json FILE]`.

Everything is CPU time (`time.process_time_ns`), so that other work on the machine hurts little. Every world and what it
is compared with have one turn in each round, so that what does hurt hurts all. A figure is the median over the rounds,
with its range; a ratio is taken within each round. A new part is one more function in `PARTS`, here or in
`speed_agent.py`.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
import speed_agent
import torch
import tyro
from cells import machine
from gymnasium.vector import AutoresetMode
from mujoco.batch import MODEL_FIELDS
from others import Child, Walk
from rows import Row, cpu, row

from ami_agent.console import progress
from ami_agent.files import write_json
from ami_agent.runs import hardware, versions
from ami_envs.core import Snapshot, WorldEnv
from ami_envs.registry import TASKS, load, options

BATCHES = (1, 64)  # worlds at once
STEPS = 40  # env steps of a recorded sequence, at most
EPISODES = 8  # sequences of a single world
BUDGET = 0.15  # CPU-seconds of a turn, about
FRAMES = 10  # pictures a turn
ONE_OBJECT: dict[str, dict[str, Any]] = {"ami/Push-v0": {}, "ami/Stack-v0": {"n": 1}}  # a gantry and one thing to move
REACHER, CUBE = "Gymnasium Reacher-v5", "OGBench cube-single-v0"
NO_CUBE = (
    "not measured: `python -m venv /tmp/ogbench-env`, `/tmp/ogbench-env/bin/pip install ogbench==1.2.2 mujoco==4.0.0`, "
    "then `--ogbench-python /tmp/ogbench-env/bin/python`"
)
WORLDS_HEAD = f"""
| world | worlds | env steps/CPU-s, own senses | engine step, us | bare `mj_step`, us | engine / bare | / {CUBE} |
|---|---|---|---|---|---|---|"""
MARKS = {
    " *": "the world changes things between env steps: the loop of `mj_step` is given the state at each",
    " ~": "the loop of `mj_step` came to other states all the same: its time is of like physics, not the same",
}
INTEGRATION = int(mujoco.mjtState.mjSTATE_INTEGRATION)


@dataclass(frozen=True)
class Recording:
    """An episode of n worlds, to be lived again: where it starts, and T actions with what the physics got of them."""

    start: list[Snapshot]
    models: list[mujoco.MjModel]
    actions: list[np.ndarray]  # (n, A) each
    before: list[np.ndarray]  # (n, state) each, as the physics of that step set out
    controls: list[np.ndarray]  # (n, nu) each
    end: np.ndarray  # (n, state)


def record(task: str, own: dict[str, Any], n: int, seed: int, budget: float = BUDGET) -> Recording:
    """n worlds under random actions, for `STEPS` or about `budget` CPU-seconds; an end of the task ends nothing."""
    env = WorldEnv(load(task)(**own), n, senses=())
    rng = np.random.default_rng(seed)
    env.reset(seeds=[seed * n + i for i in range(n)])
    start = [env.get_state(i) for i in range(n)]
    actions: list[np.ndarray] = []
    before: list[np.ndarray] = []
    controls: list[np.ndarray] = []
    spent, physics = 0.0, env.batch.step

    def watched(*args: Any, **kwargs: Any) -> None:
        before.append(env.batch.state.copy())
        controls.append(env.robot.ctrl.copy())
        physics(*args, **kwargs)

    env.batch.step = watched  # type: ignore[method-assign]
    while len(actions) < 5 or (len(actions) < STEPS and spent < budget):
        actions.append(rng.uniform(-1, 1, (n, env.robot.action_size)))
        spent += cpu(lambda: env.step(actions[-1]))
        env.alive[:] = True
    shared = all(env.batch.expanded(name) is None for name in MODEL_FIELDS)
    models = [env.model if shared else env.batch.get_model(i) for i in range(n)]
    return Recording(start, models, actions, before, controls, env.batch.state.copy())


def relive(env: WorldEnv, recording: Recording) -> float:
    """CPU-seconds of the engine's steps through a recording."""
    for i, snapshot in enumerate(recording.start):
        env.set_state(snapshot, [i])

    def work() -> None:
        for action in recording.actions:
            env.alive[:] = True
            env.step(action)

    return cpu(work)


class Bare:
    """A plain loop of `mj_step` through what the engine lived, in the same states under the same controls.

    Where a world changes things between env steps, the loop is given the state at each, `restated`. `exact` tells
    whether it ends every recording in the very state that the engine ended in.
    """

    def __init__(self, recordings: Sequence[Recording], substeps: int) -> None:
        self._substeps, self.restated = substeps, False
        self._data = [mujoco.MjData(model) for model in recordings[0].models]
        self.restated = not all(self._agrees(each) for each in recordings)
        self.exact = not self.restated or all(self._agrees(each) for each in recordings)

    def relive(self, recording: Recording) -> float:
        """CPU-seconds of the loop through a recording."""
        worlds = list(zip(recording.models, self._data, strict=True))
        for (model, data), snapshot in zip(worlds, recording.start, strict=True):
            mujoco.mj_setState(model, data, snapshot.physics, INTEGRATION)
        inputs = [list(each) for each in (recording.before if self.restated else recording.controls)]
        substeps, restated = self._substeps, self.restated

        def work() -> None:
            for values in inputs:
                for (model, data), value in zip(worlds, values, strict=True):
                    if restated:
                        mujoco.mj_setState(model, data, value, INTEGRATION)
                    else:
                        data.ctrl[:] = value
                    for _ in range(substeps):
                        mujoco.mj_step(model, data)

        return cpu(work)

    def _agrees(self, recording: Recording) -> bool:
        self.relive(recording)
        state = np.empty(recording.end.shape[1])
        for model, data, end in zip(recording.models, self._data, recording.end, strict=True):
            mujoco.mj_getState(model, data, state, INTEGRATION)
            if not np.array_equal(state, end):
                return False
        return True


class World:
    """One of our worlds at one size of batch: a turn for Gymnasium's face, the engine and the physics."""

    def __init__(self, id: str, n: int) -> None:
        own = {name: value for name, value in ONE_OBJECT.get(id, {}).items() if name in options(id)}
        self.name = " ".join([id, *(f"{name}={value}" for name, value in own.items())])
        self.n, self.one_object = n, id in ONE_OBJECT
        count = EPISODES if n == 1 else 1
        self._recordings = [record(id, own, n, seed, BUDGET / count) for seed in range(count)]
        self._env = WorldEnv(load(id)(**own), n, senses=())
        self._bare = Bare(self._recordings, self._env.robot.substeps)
        made = gymnasium.make_vec(id, n, autoreset_mode=AutoresetMode.DISABLED, **own) if n > 1 else None
        self._walk = Walk(made or gymnasium.make(id, **own))
        self.mark = "" if not self._bare.restated else " *" if self._bare.exact else " ~"
        self.rates: list[float] = []  # env steps a CPU-second through Gymnasium, with the world's own senses
        self.engine: list[float] = []  # CPU-seconds of the engine's step, joints only
        self.physics: list[float] = []  # of the plain loop, for the same

    def turn(self) -> None:
        steps = sum(len(recording.actions) * self.n for recording in self._recordings)
        self.rates.append(self._walk.rate(BUDGET))
        self.engine.append(sum(relive(self._env, recording) for recording in self._recordings) / steps)
        self.physics.append(sum(self._bare.relive(recording) for recording in self._recordings) / steps)

    def rows(self, cube: Sequence[float]) -> list[Row]:
        """Steps a CPU-second, microseconds of engine and physics, their ratio, and the ratio to the cube's steps."""
        name, times = f"{self.name} x {self.n}", [a / b for a, b in zip(self.rates, cube, strict=False)]
        ratios = [a / b for a, b in zip(self.engine, self.physics, strict=True)]
        rows = [
            row(f"{name}: own senses", self.rates, "steps/CPU-s"),
            row(f"{name}: engine step", [1e6 * value for value in self.engine], "us"),
            row(f"{name}: bare mj_step", [1e6 * value for value in self.physics], "us"),
            row(
                f"{name}: engine / bare", ratios, "x", "<= 1.15" if self.n > 1 else "<= 1.30" if self.one_object else ""
            ),
        ]
        target = ">= 10" if self.one_object else ""
        return rows + ([row(f"{name}: / {CUBE}", times, "x", target)] if times else [])

    def line(self, rows: list[Row]) -> str:
        """The world's line of the table."""
        times = rows[4].judged() if len(rows) > 4 else ""
        cells = [f"`{self.name}`", str(self.n), *map(str, rows[:3]), rows[3].judged() + self.mark, times]
        return f"| {' | '.join(cells)} |"


def world_table(ids: Sequence[str], python: str | None, rounds: int) -> tuple[list[Row], dict[str, str]]:
    """Measure and print the worlds beside the other suites; the figures, and the versions that OGBench runs with."""
    with progress(len(ids) * len(BATCHES) * (rounds + 1), "worlds") as advance:
        worlds = []
        for id in ids:
            for n in BATCHES:
                worlds.append(World(id, n))
                advance(1, f"{id} x {n}")
        peers = {REACHER: Child("Reacher-v5", sys.executable)}
        if python:
            peers[CUBE] = Child("ogbench:cube-single-v0", python)
        rates: dict[str, list[float]] = {name: [] for name in peers}
        for _ in range(rounds):
            for name, peer in peers.items():
                rates[name].append(peer.rate(BUDGET))
            for world in worlds:
                world.turn()
                advance(1, world.name)
        for peer in peers.values():
            peer.close()
    print(WORLDS_HEAD)
    rows = []
    for world in worlds:
        rows += (own := world.rows(rates.get(CUBE, [])))
        print(world.line(own))
    for name in (REACHER, CUBE):
        rate = row(name, rates[name], "steps/CPU-s") if name in rates else None
        rows += [rate] if rate else []
        print(f"| {name} | 1 | {rate or NO_CUBE} | | | | |")
    for mark, meaning in MARKS.items():
        if any(world.mark == mark for world in worlds):
            print(f"\n{mark.strip()} {meaning}")
    return rows, peers[CUBE].versions if python else {}


def camera_rows(rounds: int) -> Iterator[Row]:
    """A picture of 64 x 64, colour and depth and segmentation, by rays."""
    for id in ("ami/Push-v0", "ami/MazeNav-v0"):
        recording = record(id, {}, 1, 0)
        env = WorldEnv(load(id)(), 1, senses=())
        eye = env.eye("view", 64, 64)
        values = []
        for _ in range(rounds):
            env.set_state(recording.start[0])
            seconds = 0.0
            for action in recording.actions[:FRAMES]:
                env.alive[:] = True
                env.step(action)
                seconds += cpu(lambda: eye.look(env, 0))  # noqa: B023 - called at once
            values.append(seconds / FRAMES * 1e3)
        yield row(f"ray camera 64x64, {id}", values, "CPU-ms", "<= 2.5")


PARTS: list[Callable[[int], Iterator[Row]]] = [camera_rows, *speed_agent.PARTS]


def main(
    json: Path | None = None, rounds: int = 9, worlds: tuple[str, ...] = (), ogbench_python: str | None = None
) -> None:
    """Print the tables.

    Args:
        json: write the figures, the machine and the versions to this file, too.
        rounds: turns of everything.
        worlds: ids of our own worlds to measure; all of them by default.
        ogbench_python: a Python that has OGBench; by default this one, if it has.
    """
    if unknown := [id for id in worlds if id not in TASKS]:
        sys.exit(f"no world {unknown[0]!r}; there are {', '.join(TASKS)}")
    torch.set_num_threads(1)
    python = ogbench_python or (sys.executable if importlib.util.find_spec("ogbench") else None)
    print(machine(f"; medians of {rounds} rounds of CPU time, one thread"), flush=True)
    rows, peer_versions = world_table(worlds or tuple(TASKS), python, rounds)
    if peer_versions:
        print("\nOGBench ran with " + ", ".join(f"{name} {version}" for name, version in peer_versions.items()))
    print("\n| part | figure | unit |\n|---|---|---|", flush=True)
    for make in PARTS:
        for one in make(rounds):
            rows.append(one)
            print(f"| {one.name} | {one.judged()} | {one.unit} |", flush=True)
    if json:
        figures = [asdict(one) for one in rows]
        write_json(json, {"machine": hardware(), "versions": versions(), "ogbench": peer_versions, "rows": figures})


if __name__ == "__main__":
    tyro.cli(main)
