"""`ami-agent COMMAND`: finds the command, imports its module, reads its flags, and says how it ended."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from ami_agent.console import json_only
from ami_agent.errors import AmiError, MissingError, ResourceError, UsageError, nearest
from ami_agent.files import FULL
from ami_agent.runs import Run


class Command(NamedTuple):
    """A module, imported only when it is called: flags fill its dataclass `config`, then `main(config) -> int` works.

    The commands of a group are one module with a dataclass for each, told apart by what `main` is given.
    """

    module: str
    help: str
    config: str = "Config"


COMMANDS = {
    "run": Command("ami_agent.commands.run", "let an agent live in an environment: plan, act, remember, report"),
    "train": Command("ami_agent.commands.train", "learn a world model from an environment, or go on learning"),
    "env list": Command("ami_agent.commands.env", "the environments there are", "List"),
    "env info": Command("ami_agent.commands.env", "an environment's senses, actions, goal and factors", "Info"),
    "env check": Command("ami_agent.commands.env", "prove that an environment keeps its promises", "Check"),
    "env preview": Command("ami_agent.commands.env_preview", "a moving picture of an episode"),
    "env gallery": Command("ami_agent.commands.env_gallery", "a picture of each of the worlds"),
    "env new": Command("ami_agent.commands.env_new", "a folder with a new world of your own, which works as it is"),
    "memory info": Command("ami_agent.commands.memory", "what an agent remembers", "Info"),
    "memory verify": Command("ami_agent.commands.memory", "find damage in an agent's memory", "Verify"),
    "memory export": Command("ami_agent.commands.memory", "write what an agent remembers for others to read", "Export"),
    "memory compact": Command("ami_agent.commands.memory", "let a memory take less room", "Compact"),
    "memory forget": Command("ami_agent.commands.memory", "let go of the least of what is remembered", "Forget"),
    "memory recall": Command("ami_agent.commands.memory", "the moments most like one that is remembered", "Recall"),
    "bench list": Command("ami_agent.commands.bench", "suites of tasks, and agents to compare", "List"),
    "bench run": Command("ami_agent.commands.bench", "run agents x tasks x seeds of a suite, or go on", "Run"),
    "bench compare": Command("ami_agent.commands.bench", "whether results are worse than others", "Compare"),
    "replay": Command("ami_agent.commands.replay", "live a run's episodes again, and compare"),
    "leaderboard build": Command("ami_agent.commands.leaderboard", "one page of all results of the benchmark", "Build"),
    "leaderboard check": Command("ami_agent.commands.leaderboard", "say what is wrong with files of results", "Check"),
    "leaderboard add": Command("ami_agent.commands.leaderboard", "check results and file them with the others", "Add"),
    "doctor": Command("ami_agent.commands.doctor", "what this machine can do, and what to install"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code: 0 done, 1 our bug, 130 interrupted, else see `errors`."""
    try:
        code = _dispatch(list(sys.argv[1:] if argv is None else argv))
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where a closed pipe or a full disk can still be answered
        return code
    except BrokenPipeError:
        _silence(sys.stdout)
        _close("stopped", "whoever read the output went away")
        return 0
    except KeyboardInterrupt:
        return _end("interrupted", 130, "stopped")
    except (Exception, SystemExit) as error:  # no code of ours exits, someone else's may
        return _explain(error)


def _dispatch(argv: list[str]) -> int:
    if argv[:1] == ["--version"]:
        print(f"ami-agent {metadata.version('ami-agent')}")
        return 0
    name, rest = _find(argv)
    if name not in COMMANDS:
        print(_overview(name), file=sys.stdout if rest else sys.stderr)
        return 0 if rest else UsageError.exit_code
    module = importlib.import_module(COMMANDS[name].module)
    try:
        config = _config(getattr(module, COMMANDS[name].config), name, rest)
    except SystemExit as error:  # tyro's way to end: 0 after --help, 2 after a wrong flag
        return error.code if isinstance(error.code, int) else UsageError.exit_code
    with json_only() if getattr(config, "json", False) else nullcontext():
        return module.main(config)


def _find(argv: list[str]) -> tuple[str, list[str]]:
    """The command, group or "" that `argv` starts with, and what follows; raises UsageError for another word."""
    for words in (2, 1):
        if (name := " ".join(argv[:words])) in COMMANDS:
            return name, argv[words:]
    group = argv[0] if argv and any(name.startswith(f"{argv[0]} ") for name in COMMANDS) else ""
    rest = argv[1:] if group else argv
    if rest and rest[0] not in ("-h", "--help"):
        names = [name.removeprefix(group).strip() for name in COMMANDS if name.startswith(group)]
        near = nearest(rest[0], names) or names
        raise UsageError(f"no command '{f'{group} {rest[0]}'.strip()}'; there is: {', '.join(near)}")
    return group, rest


def _overview(group: str) -> str:
    rows = [f"  {name:<20}{command.help}" for name, command in COMMANDS.items() if name.startswith(group)]
    usage = f"usage: ami-agent {group + ' ' if group else ''}COMMAND [options]"
    return "\n".join([usage, "", *rows, "", "`ami-agent COMMAND --help` shows a command's options."])


def _config(config: type, name: str, argv: list[str]) -> Any:
    import tyro  # needed only once a command is known

    return tyro.cli(config, prog=f"ami-agent {name}", description=COMMANDS[name].help, args=argv)


def _explain(error: Exception | SystemExit) -> int:
    """One line to the user; the traceback of what should not happen goes to a log."""
    if isinstance(error, AmiError):
        return _end(str(error), error.exit_code)
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith(("ami_agent.", "ami_envs.")):
        return _end(f"the package {error.name} is not installed; see `ami-agent doctor`", MissingError.exit_code)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return _end(f"out of memory: {error}", ResourceError.exit_code)
    if isinstance(error, OSError) and error.errno in FULL:
        _silence(sys.stdout)  # stdout itself may be what is full
        return _end(f"no room left on the disk: {error}", ResourceError.exit_code)
    text = "".join(traceback.format_exception(error))
    return _end(f"{type(error).__name__}: {error} (this is a bug; the traceback is in {_log(text)})", 1)


def _log(text: str) -> Path:
    """Keep `text` in the active run's log, or in a temporary file; returns where."""
    if Run.active is not None:
        with suppress(Exception):
            Run.active.log(text)
            return Run.active.folder / "log.txt"
    with tempfile.NamedTemporaryFile("w", prefix="ami-agent-", suffix=".log", delete=False) as file:
        file.write(text)
    return Path(file.name)


def _end(message: str, code: int, status: str = "failed") -> int:
    """Close the active run, say `message` on stderr in one line, and hand `code` on."""
    _close(status, message)
    with suppress(OSError):
        print(f"ami-agent: {' '.join(message.split())}", file=sys.stderr, flush=True)
    return code


def _close(status: str, message: str) -> None:
    if Run.active is not None:
        with suppress(Exception):  # the disk may be what failed
            Run.active.finish(status, error=message)


def _silence(stream: TextIO | None) -> None:
    """Send what is still buffered nowhere, or the interpreter complains about it when it ends."""
    with suppress(AttributeError, OSError, ValueError):  # no stream, no descriptor behind it, or closed
        number = stream.fileno()  # type: ignore[union-attr]
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, number)
        os.close(descriptor)
