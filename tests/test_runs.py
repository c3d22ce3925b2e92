"""Run folders, the home, atomic JSON, and stopping by a signal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from ami_agent import files
from ami_agent.errors import ArtefactError, MissingError, ResourceError, UsageError
from ami_agent.runs import Run, agent_folder, home
from ami_agent.signals import graceful


def test_a_run_from_start_to_end(tmp_path: Path) -> None:
    run = Run.create(tmp_path, "run", "ami/Push-v0", agent="jepa", seed=3, config={"steps": 5})
    assert Run.active is run and run.folder.parent == tmp_path
    assert run.folder.name.endswith("-run-ami-push-v0-1")
    run.log("hello")
    run.metric(step=1, loss=float("nan"))
    run.metric(step=2, loss=0.5)
    assert Run.open(run.folder).info["status"] == "running"
    run.finish("done", success=0.9)
    again = Run.open(run.folder)
    assert again.config == {"steps": 5} and again.info["seed"] == 3 and again.info["success"] == 0.9
    assert again.info["status"] == "done" and again.info["end"] >= again.info["start"] and again.info["seconds"] >= 0
    assert again.info["versions"].keys() >= {"ami-agent", "mujoco", "torch", "numpy", "gymnasium"}
    assert again.info["python"] and again.info["hardware"]["cores"] >= 1
    assert Run.active is None
    lines = (run.folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"step": 1, "loss": None}, {"step": 2, "loss": 0.5}]
    assert (run.folder / "log.txt").read_text().endswith(" hello\n")


def test_runs_in_one_second_have_folders_of_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _: Run.create(tmp_path, "run", "ami/Push-v0"), range(16)))
    runs[0].finish()
    Run.active = None
    assert len({run.folder for run in runs}) == 16


def test_resume_makes_it_run_again(tmp_path: Path) -> None:
    run = Run.create(tmp_path)
    run.finish("stopped")
    again = Run.open(run.folder, resume=True)
    assert Run.active is again and Run.open(run.folder).info["status"] == "running"
    before, began = again.info["cpu_seconds"], time.process_time()
    while time.process_time() < began + 0.1:
        pass
    again.finish()
    spent = Run.open(run.folder).info["cpu_seconds"]
    assert spent == pytest.approx(before + 0.1, abs=0.05), "by both, and not what this process did before"


def test_open_faults(tmp_path: Path) -> None:
    run = Run.create(tmp_path)
    run.finish()
    with pytest.raises(UsageError, match=f"nearest: {run.folder.name}"):
        Run.open(str(run.folder)[:-1])
    with pytest.raises(ValueError, match="status 'over'"):
        run.finish("over")
    for text in ("", "[1]", "{"):
        (run.folder / "run.json").write_text(text)
        with pytest.raises(ArtefactError, match="damaged"):
            Run.open(run.folder)


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for make in (lambda path: Run.create(path), home):
        with pytest.raises(MissingError, match="cannot write"):
            make(tmp_path / "file" / "inside")


def test_full_disk_keeps_the_old_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.write_json(tmp_path / "a.json", {"old": 1})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(ResourceError, match="no room"):
        files.write_json(tmp_path / "a.json", {"new": 1})
    assert json.loads((tmp_path / "a.json").read_text()) == {"old": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMI_HOME", str(tmp_path / "there"))
    assert home() == tmp_path / "there" and home(tmp_path / "here") == tmp_path / "here"
    monkeypatch.delenv("AMI_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home() == tmp_path / ".ami-agent"
    assert agent_folder("my-agent.2") == tmp_path / ".ami-agent" / "agents" / "my-agent.2"
    for name in ("", "..", "a/b", ".hidden", "x" * 65):
        with pytest.raises(UsageError, match="agent name"):
            agent_folder(name)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_first_signal_asks(number: signal.Signals, code: int) -> None:
    before = signal.getsignal(number)
    with graceful() as stop:
        assert stop.exit_code == 0
        os.kill(os.getpid(), number)
        assert stop.requested == number and stop.exit_code == code
    assert signal.getsignal(number) is before


LOOP = """
import time
from ami_agent.signals import graceful
with graceful() as stop:
    print("ready", flush=True)
    while not stop.requested or {stubborn}:
        time.sleep(0.01)
        if stop.requested:
            print("asked", flush=True)
raise SystemExit(stop.exit_code)
"""


def start(stubborn: bool, ignored: bool = False, full: bool = False) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", LOOP.format(stubborn=stubborn)]
    errors = None
    if full:
        reading, errors = os.pipe()
        os.set_blocking(errors, False)
        with suppress(BlockingIOError):
            while True:
                os.write(errors, bytes(4096))
        os.set_blocking(errors, True)
    if ignored:
        command = ["bash", "-c", "trap '' INT; exec \"$@\"", "-", *command]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    if process.stdout is None or process.stdout.readline() != "ready\n":
        pytest.fail("the loop did not start")
    return process


@pytest.mark.parametrize("ignored", [False, True])
def test_sigint_ends_the_loop_also_when_inherited_as_ignored(ignored: bool) -> None:
    process = start(stubborn=False, ignored=ignored)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130


def test_a_terminal_that_takes_nothing_does_not_keep_the_second_signal_off() -> None:
    process = start(stubborn=True, full=True)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=20)
    assert process.returncode == -signal.SIGINT


def test_second_signal_stops_at_once() -> None:
    process = start(stubborn=True)
    process.send_signal(signal.SIGINT)
    if process.stdout is None or process.stdout.readline() != "asked\n":
        pytest.fail("the first signal was not seen")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == -signal.SIGTERM
