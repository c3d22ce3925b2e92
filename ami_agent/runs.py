"""A run's folder, where everything about it can be found later; and the home, which outlives runs.

``runs/<UTC time>-<command>-<environment>-<k>/`` holds ``run.json`` (status, versions, seed, argv, hardware),
``config.json``, ``metrics.jsonl``, ``log.txt`` and whatever folders the command adds.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from ami_agent.errors import ArtefactError, UsageError, nearest
from ami_agent.files import plain, write_json, writing

PACKAGES = ("ami-agent", "mujoco", "torch", "numpy", "gymnasium")
STATUSES = ("running", "done", "stopped", "failed")


class Run:
    """One run and its folder. `Run.active` is the one this process is in the middle of, if any."""

    active: Run | None = None

    def __init__(self, folder: Path, info: dict[str, Any], config: dict[str, Any]) -> None:
        self.folder, self.info, self.config = folder, info, config
        self._start = _clocks()
        self._spent = {name: info.get(name) or 0.0 for name in ("seconds", "cpu_seconds")}  # by those that it goes on

    @classmethod
    def create(
        cls,
        root: str | Path = "runs",
        command: str = "run",
        environment: str = "",
        agent: str = "",
        seed: int = 0,
        config: Any = None,
    ) -> Run:
        """Make a folder of its own under `root`; `config` is a dataclass or mapping, saved resolved.

        Raises MissingError where the folder may not be written, ResourceError on a full disk.
        """
        info = {
            "command": command,
            "environment": environment,
            "agent": agent,
            "seed": seed,
            "status": "running",
            "start": _now(),
            "end": None,
            "seconds": None,
            "cpu_seconds": None,
            "argv": sys.argv,
            "python": platform.python_version(),
            "versions": versions(),
            "git": git_commit(),
            "hardware": hardware(),
        }
        run = cls(_new_folder(Path(root), command, environment), info, plain(config or {}))
        write_json(run.folder / "config.json", run.config)
        run._write()
        Run.active = run
        return run

    @classmethod
    def open(cls, path: str | Path, resume: bool = False) -> Run:
        """The run in folder `path`; with `resume` it is running again and active.

        Raises UsageError if there is no run, ArtefactError if its files are damaged.
        """
        folder = Path(path)
        if not (folder / "run.json").is_file():
            there = [child.name for child in folder.parent.glob("*/") if (child / "run.json").is_file()]
            near = nearest(folder.name, there)
            raise UsageError(f"no run in {folder}" + (f"; nearest: {', '.join(near)}" if near else ""))
        run = cls(folder, _read_object(folder / "run.json"), _read_object(folder / "config.json"))
        if resume:
            run.info |= {"status": "running", "end": None}
            run._write()
            Run.active = run
        return run

    def configure(self, config: Any) -> None:
        """Save another configuration, a dataclass or mapping, in place of the one it was begun with."""
        self.config = plain(config)
        write_json(self.folder / "config.json", self.config)

    def log(self, text: str) -> None:
        """Append `text` to log.txt, each entry with its time."""
        self._append("log.txt", f"{_now()} {text}\n")

    def metric(self, **values: Any) -> None:
        """Append one line to metrics.jsonl; NaN and infinity become null."""
        self._append("metrics.jsonl", json.dumps(plain(values), allow_nan=False) + "\n")

    def finish(self, status: str = "done", **facts: Any) -> None:
        """Write how it ended, 'done', 'stopped' or 'failed', and `facts` worth finding in run.json."""
        if status not in STATUSES:
            raise ValueError(f"status {status!r} is none of {', '.join(STATUSES)}")
        if Run.active is self:
            Run.active = None
        times = {name: round(self._spent[name] + now - self._start[name], 3) for name, now in _clocks().items()}
        self.info |= {"status": status, "end": _now(), **times, **facts}
        self._write()

    def _write(self) -> None:
        write_json(self.folder / "run.json", self.info)

    def _append(self, name: str, text: str) -> None:
        with writing(self.folder / name), (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(text)


def home_path(path: str | Path | None = None) -> Path:
    """Where what lives across runs is: `path`, else AMI_HOME, else ~/.ami-agent."""
    try:
        return Path(path or os.environ.get("AMI_HOME") or "~/.ami-agent").expanduser()
    except RuntimeError as error:  # no home of the user to expand ~ to
        raise UsageError("no home folder; give one by --home or AMI_HOME") from error


def home(path: str | Path | None = None) -> Path:
    """The home, made if it is not there. Raises MissingError where it may not be written, ResourceError if full."""
    folder = home_path(path)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    return folder


def agent_folder(name: str, path: str | Path | None = None, make: bool = True) -> Path:
    """``agents/NAME`` in the home: brain, memory, lock. With `make` it is made, if need be, and can be written."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", name):
        raise UsageError(f"agent name {name!r}: letters, digits, '_', '-' and '.', up to 64, not starting with '.'")
    folder = (home(path) if make else home_path(path)) / "agents" / name
    if make:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
    return folder


def versions() -> dict[str, str | None]:
    """Installed versions of what results depend on, read without importing it."""
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def hardware() -> dict[str, Any]:
    """Processor, cores this process may use, memory in GiB, and the GPU if torch is already in use."""
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    torch = sys.modules.get("torch")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    known = "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {})
    return {
        "platform": platform.platform(),
        "processor": model[1] if model else platform.processor(),
        "cores": cores,
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1) if known else None,
        "gpu": torch.cuda.get_device_name() if torch and torch.cuda.is_available() else None,
    }


def git_commit() -> str | None:
    """The commit of the source this runs from, "-dirty" if it was edited; None for an installed wheel."""
    source = Path(__file__).resolve().parents[1]
    if not (source / ".git").exists():
        return None
    command = ["git", "-C", str(source), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _new_folder(root: Path, command: str, environment: str) -> Path:
    slug = re.sub(r"[^a-z0-9.]+", "-", f"{command} {environment}".lower()).strip("-")
    stem = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{slug}"
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
        k = 1
        while True:
            folder = root / f"{stem}-{k}"
            try:
                folder.mkdir()
                return folder
            except FileExistsError:
                k += 1


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtefactError(f"{path} is damaged: {error}") from error
    if not isinstance(value, Mapping):
        raise ArtefactError(f"{path} is damaged: it holds no object")
    return dict(value)


def _clocks() -> dict[str, float]:
    return {"seconds": time.monotonic(), "cpu_seconds": time.process_time()}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
