"""The command line: light help, nearest names, exit codes, closed pipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from ami_agent import cli, console
from ami_agent.errors import LockedError, MissingError, NumericalError, UsageError, nearest
from ami_agent.runs import Run

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Config:
    """A command to try."""

    episodes: int = 3
    """How many."""
    video: bool = True
    """Film it."""
    json: bool = False
    """One JSON object."""

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise UsageError(f"--episodes is 1 or more, got {self.episodes}")


def try_command(monkeypatch: pytest.MonkeyPatch, work) -> None:
    """Let `ami-agent run` be `work(config)`."""
    monkeypatch.setitem(sys.modules, "trial_command", SimpleNamespace(Config=Config, main=work))  # type: ignore[misc]
    monkeypatch.setitem(cli.COMMANDS, "run", cli.Command("trial_command", "a trial"))


def shell(line: str) -> subprocess.CompletedProcess[str]:
    """`line` in a shell whose $AMI is the program."""
    environment = os.environ | {"AMI": f"{sys.executable} -m ami_agent"}
    return subprocess.run(["bash", "-c", line], env=environment, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("words", [["--help"], ["env", "--help"], ["--version"], ["env", "list"], ["doctor", "--help"]])
def test_light_commands_do_not_import_torch(words: list[str]) -> None:
    code = f"import sys; from ami_agent.cli import main; code = main({words}); print(code, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0 False", done.stderr


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in cli.COMMANDS)


def test_no_command_is_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == cli.main(["env"]) == 2
    assert "env list" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "near"),
    [(["rnu"], "run"), (["env", "lsit"], "list"), (["Docter"], "doctor"), (["memory", "verfy"], "verify")],
)
def test_unknown_command_names_the_nearest(words: list[str], near: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    printed = capsys.readouterr().err
    assert near in printed and printed.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "say"),
    [(["--episods", "4"], "--episodes"), (["--episodes", "x"], "--episodes"), (["--episodes", "0"], "1 or more")],
)
def test_wrong_flags(words: list[str], say: str, monkeypatch, capsys) -> None:
    try_command(monkeypatch, lambda config: 0)
    assert cli.main(["run", *words]) == 2
    assert say in capsys.readouterr().err


def test_flags_reach_the_command(monkeypatch) -> None:
    seen: list[Config] = []
    try_command(monkeypatch, lambda config: seen.append(config) or 0)
    assert cli.main(["run", "--episodes", "7", "--no-video"]) == 0
    assert seen == [Config(episodes=7, video=False)]


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (UsageError("one\ntwo"), 2, "failed"),
        (MissingError("no GPU"), 3, "failed"),
        (ModuleNotFoundError("no", name="ray"), 3, "failed"),
        (NumericalError("NaN"), 5, "failed"),
        (MemoryError(), 6, "failed"),
        (OSError(28, "No space left on device"), 6, "failed"),
        (LockedError("held by 7"), 75, "failed"),
        (ZeroDivisionError("ours"), 1, "failed"),
        (SystemExit("ZeroDivisionError: ours"), 1, "failed"),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
)
def test_errors_end_in_one_line_and_a_code(error, code, status, monkeypatch, capsys, tmp_path) -> None:
    def work(config: Config) -> int:
        Run.create(tmp_path, "run", "ami/Push-v0")
        raise error

    try_command(monkeypatch, work)
    assert cli.main(["run"]) == code
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and printed.err.startswith("ami-agent: ")
    (folder,) = tmp_path.iterdir()
    assert Run.active is None
    assert Run.open(folder).info["status"] == status
    if code == 1:
        assert str(folder / "log.txt") in printed.err
        assert "ZeroDivisionError: ours" in (folder / "log.txt").read_text()


def test_reader_gone_in_a_run_is_quiet(monkeypatch, capsys, tmp_path) -> None:
    def work(config: Config) -> int:
        Run.create(tmp_path)
        raise BrokenPipeError

    try_command(monkeypatch, work)
    assert cli.main(["run"]) == 0
    (folder,) = tmp_path.iterdir()
    assert Run.open(folder).info["status"] == "stopped"
    assert capsys.readouterr().err == ""


def test_bug_without_a_run_leaves_its_traceback(monkeypatch, capsys) -> None:
    try_command(monkeypatch, lambda config: 1 // 0)
    assert cli.main(["run"]) == 1
    log = Path(capsys.readouterr().err.split()[-1].rstrip(")"))
    assert "ZeroDivisionError" in log.read_text()
    log.unlink()


def test_json_keeps_stdout_for_one_object(monkeypatch, capsys) -> None:
    def work(config: Config) -> int:
        print("a library talks")
        with console.progress(2, "work") as advance:
            advance(2)
        console.emit({"score": float("nan"), "path": Path("a")})
        return 0

    try_command(monkeypatch, work)
    assert cli.main(["run", "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"score": None, "path": "a"}
    assert printed.err == "a library talks\n"


def test_progress_without_terminal_is_plain_lines(capsys) -> None:
    with console.progress(4, "work") as advance:
        for _ in range(4):
            advance()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("work: 4/4, ") and "\x1b" not in lines[0]


def test_time_left_follows_the_recent_rate(capsys, monkeypatch) -> None:
    now = 0.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    with console.progress(2000, "work", 500) as advance:
        for step in range(1000):  # 100 a second at first, then one in ten seconds
            now += 0.01 if step < 990 else 10.0
            advance()
    assert capsys.readouterr().err.splitlines()[-1] == "work: 1500/2000, 0.1/s, 5000 s left"


def test_closed_pipe_is_quiet() -> None:
    done = shell("set -o pipefail; $AMI --help | true")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_full_stdout_is_one_line() -> None:
    done = shell("$AMI --help > /dev/full")
    assert done.returncode == 6 and done.stderr.count("\n") == 1


def test_closed_stdout_is_quiet() -> None:
    done = shell("$AMI --help >&-")
    assert (done.returncode, done.stderr) == (0, "")


def test_nearest() -> None:
    names = ["ami/Push-v0", "ami/Reach-v0", "ami/Stack-v0"]
    assert nearest("AMI/PUSH-v0", names)[0] == "ami/Push-v0"
    assert nearest("reach", names)[0] == "ami/Reach-v0"
    assert nearest("", names) == []
