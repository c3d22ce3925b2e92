"""Running a suite on a Ray cluster (extra `ray`): the same pieces, the same files. One task a piece; a piece whose
worker is lost is run again, from zero."""

from __future__ import annotations

import json
import resource
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ami_agent.bench.piece import Facts, fail, read
from ami_agent.bench.process import Process
from ami_agent.bench.runner import Plan, prepare
from ami_agent.bench.schema import FAILED, UNFINISHED
from ami_agent.console import progress, say
from ami_agent.errors import LockedError, MissingError
from ami_agent.files import write_json
from ami_agent.memory.lock import HomeLock
from ami_agent.signals import Stop

RETRIES = 3  # of a piece whose worker was lost


def connect(address: str) -> Any:
    """Ray, on the cluster at `address`, or on this machine's ("auto" begins one if there is none). It catches SIGTERM
    itself: what is to catch it instead comes after.

    Raises MissingError without Ray.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingError("--ray needs Ray: pip install 'ami-agent[ray]'") from error
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        ray.init(address=address, **quiet)
    except ConnectionError as error:
        if address != "auto":
            raise MissingError(f"--ray {address}: no cluster there; begin one with `ray start --head`") from error
        say("no Ray cluster is running here: one is begun on this machine, for as long as this takes")
        ray.init(include_dashboard=False, **quiet)
    ray._private.worker._worker_logs_enabled = False  # what its raylets say, in colours, is not stopped otherwise
    return ray


def run(plan: Plan, left: dict[Path, Facts], ray: Any, stop: Stop) -> list[Path]:
    """Run pieces on the cluster that `connect` gave, and leave it; those that another process has are left to it, and
    returned."""
    elsewhere = []
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each piece has a lock, all are asked at once
    with ExitStack() as locks:
        locks.callback(ray.shutdown)
        work = ray.remote(num_cpus=1, max_retries=RETRIES)(_work)
        running = {}
        for path, fresh in left.items():
            try:
                locks.enter_context(HomeLock(plan.scratch_of(path)))
            except LockedError as error:
                say(f"{path.stem}: left alone, {error}")
                elsewhere.append(path)
                continue
            if prepare(path, fresh):
                running[work.remote(path.name, path.read_text(), plan.patience)] = path
        with progress(len(running), f"{plan.suite.name} on Ray") as advance:
            while running and not stop.requested:
                ready, _ = ray.wait(list(running), num_returns=1, timeout=0.5)
                for one in ready:
                    path = running.pop(one)
                    advance(1, f"{path.stem}: {_take(ray, one, path)}")
        for one in running:
            ray.cancel(one, force=True)
    return elsewhere


def _work(name: str, text: str, patience: float) -> str:
    """On a worker: a piece in a process of its own; its file as it ended. One that is killed goes on, once."""
    with tempfile.TemporaryDirectory() as folder:
        path, scratch = Path(folder) / name, Path(folder) / "scratch"
        path.write_text(text)
        scratch.mkdir()
        child = _ended(Process(path, scratch, patience))
        if child.killed:
            child = _ended(Process(path, scratch, patience))
        if read(path)["status"] == UNFINISHED:
            fail(path, child.last_words())
        return path.read_text()


def _ended(child: Process) -> Process:
    while child.poll() is None:
        time.sleep(0.2)
    return child


def _take(ray: Any, one: Any, path: Path) -> str:
    """Keep what a worker gave; how it ended."""
    try:
        facts = json.loads(ray.get(one))
    except Exception as error:  # Ray's own errors, and whatever it carries
        fail(path, f"its worker was lost {RETRIES + 1} times: {type(error).__name__}")
        return FAILED
    write_json(path, facts)
    return facts["status"]
