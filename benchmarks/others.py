"""Env steps of a Gymnasium environment under random actions, here or in a child process with another Python.

`python others.py ID` is the child: a first line of JSON with its versions, then for each line with a number of
CPU-seconds one line with the rate it came to. It needs Gymnasium and what the environment needs, nothing of ours.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from importlib import metadata

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv

PACKAGES = ("mujoco", "gymnasium", "numpy", "ogbench", "dm-control")
LEAST = 5  # calls of step() in a turn, however slow they are


class Walk:
    """An environment, or a batch of them without autoreset, under uniformly random actions."""

    def __init__(self, env: gymnasium.Env | VectorEnv) -> None:
        self.env = env
        self.worlds = env.num_envs if isinstance(env, VectorEnv) else 1
        env.action_space.seed(0)
        env.reset(seed=0)
        self._rate = self._walk(2 * LEAST)

    def rate(self, budget: float) -> float:
        """Env steps a CPU-second, from a turn of about `budget` CPU-seconds; resets are not counted."""
        self._rate = self._walk(max(LEAST, round(budget * self._rate / self.worlds)))
        return self._rate

    def _walk(self, calls: int) -> float:
        actions = [self.env.action_space.sample() for _ in range(calls)]
        spent, start = 0, time.process_time_ns()
        for action in actions:
            _, _, terminated, truncated, _ = self.env.step(action)
            over = terminated | truncated
            if np.count_nonzero(over):
                spent += time.process_time_ns() - start
                self.env.reset(options={"reset_mask": over} if self.worlds > 1 else None)
                start = time.process_time_ns()
        spent += time.process_time_ns() - start
        return calls * self.worlds / (spent / 1e9)


class Child:
    """A `Walk` in a process of its own, kept alive, so that its turns lie between those of others.

    Raises RuntimeError, with what the process complained of, where it cannot be started or ends early.
    """

    def __init__(self, id: str, python: str) -> None:
        self._name = f"{id} with {python}"
        self._complaints = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [python, __file__, id],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        self.versions: dict[str, str] = self._read()

    def rate(self, budget: float) -> float:
        """As `Walk.rate`."""
        if self._process.stdin is None:
            raise RuntimeError("the process has no standard input")
        self._process.stdin.write(f"{budget}\n")
        self._process.stdin.flush()
        return float(self._read()["rate"])

    def close(self) -> None:
        """End the process by the end of its input."""
        self._process.communicate()
        self._complaints.close()

    def _read(self) -> dict:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            code = self._process.wait()
            self._complaints.seek(0)
            raise RuntimeError(f"{self._name} ended {code}: ...{self._complaints.read()[-800:]}")
        return json.loads(line)


def versions() -> dict[str, str]:
    """What of `PACKAGES` this Python has."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def serve(id: str) -> None:
    """The child: answer turns until the input ends. Whatever else is printed goes to stderr."""
    answers, sys.stdout = sys.stdout, sys.stderr
    walk = Walk(gymnasium.make(id))
    print(json.dumps(versions()), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps({"rate": walk.rate(float(line))}), file=answers, flush=True)


if __name__ == "__main__":
    serve(sys.argv[1])
