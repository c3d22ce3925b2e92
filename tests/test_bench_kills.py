"""A whole run of a suite that is killed at any moment, again and again, and one that was left in peace. Called as a
program, this is `ami-agent` with a tiny suite."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from test_bench import PENDULUM, SMALL, SUITE, timeless

from ami_agent import cli
from ami_agent.bench import ours, suites
from ami_agent.bench.piece import read

AGENTS, SEEDS, KILLS = ("ours", "sac", "random"), 2, 6
LINE = ["bench", "run", "--suite", SUITE.name, "--agents", ",".join(AGENTS), "--tasks", PENDULUM.name]
LINE += ["--seeds", str(SEEDS), "--jobs", "2"]
OF_THIS_LIFE = {"start", "learned", "run", "commits"}  # when it was, how long it took, what it is called


def start(folder):
    """The runner, in a folder of its own."""
    folder.mkdir(exist_ok=True)
    with (folder / "log.txt").open("a") as log:
        return subprocess.Popen([sys.executable, __file__, *LINE], cwd=folder, stdout=log, stderr=log)


def at_work(folder):
    """Processes that are at work on a piece in `folder`, whoever started them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has just ended
            line = path.read_bytes()
            if b"ami_agent.bench.work" in line and f"{folder}/".encode() in line:
                found.append(int(path.parent.name))
    return found


def kill(folder):
    for process in at_work(folder):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def finished(folder):
    """The bytes of the pieces that are at their end."""
    return {path: path.read_bytes() for path in folder.glob("results/*.json") if read(path)["status"] == "done"}


def told(folder):
    """All that the pieces' files say, but for time."""
    found = {}
    for path in (folder / "results").iterdir():
        facts = read(path)
        found[path.name] = {name: value for name, value in facts.items() if name not in OF_THIS_LIFE}
        found[path.name]["points"] = timeless(facts["points"])
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What comes of it, and after how many seconds."""
    folder, begun = tmp_path_factory.mktemp("undisturbed"), time.monotonic()
    assert start(folder).wait() == 0
    return told(folder), time.monotonic() - begun


@pytest.mark.slow
@pytest.mark.parametrize("pieces_too", [False, True], ids=["runner", "runner-and-pieces"])
def test_however_often_it_is_killed_each_piece_is_done_once_and_the_same(undisturbed, pieces_too, tmp_path):
    wanted, seconds = undisturbed
    moments = np.random.default_rng(int(pieces_too)).uniform(0, seconds / 3, KILLS).tolist()
    print("killed after", ", ".join(f"{moment:.2f} s" for moment in moments))
    done, killed = {}, 0
    try:
        for moment in moments:
            runner = start(tmp_path)
            try:
                assert runner.wait(moment) == 0  # it may come to its end before
            except subprocess.TimeoutExpired:
                runner.kill()
                runner.wait()  # before its pieces are killed, which it would keep as failed
                killed += 1
            if pieces_too:
                kill(tmp_path)
            now = finished(tmp_path)
            assert done.items() <= now.items(), "what was at its end has been written again"
            done = now
        assert killed and start(tmp_path).wait() == 0
        assert told(tmp_path) == wanted and len(wanted) == len(AGENTS) * SEEDS
        done = finished(tmp_path)
        assert start(tmp_path).wait() == 0 and finished(tmp_path) == done
        deadline = time.monotonic() + 30  # of a process that comes late, and finds nothing to do
        while at_work(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert not at_work(tmp_path)
    finally:
        kill(tmp_path)
    for scratch in (tmp_path / "runs" / "bench").iterdir():
        ends = [json.loads(path.read_text())["status"] for path in scratch.glob("*/run.json")]
        assert ends.count("done") <= 1, f"{scratch.name} came to its end more than once"  # none: killed as it did


if __name__ == "__main__":
    suites.SUITES[SUITE.name] = SUITE
    ours.ours = lambda task: SMALL
    sys.exit(cli.main(sys.argv[1:]))
