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
from packages import install
from test_bench import PENDULUM, SMALL, SUITE, plan, timeless

from ami_agent import cli
from ami_agent.bench import ours, runner, suites
from ami_agent.bench.piece import read
from ami_agent.files import write_json

AGENTS, SEEDS, KILLS = ("ours", "sac", "random"), 2, 6
LINE = ["bench", "run", "--suite", SUITE.name, "--tasks", PENDULUM.name, "--seeds", str(SEEDS), "--jobs", "2"]
OF_THIS_LIFE = {"start", "learned", "run", "commits"}  # when it was, how long it took, what it is called


HANGS = """
import time


class Agent:
    \"\"\"never learns, nor ends\"\"\"

    def __init__(self, spec, seed):
        self.actions = [[0.0] * spec.action_size]

    def reset(self, done):
        pass

    def act(self, observation):
        return self.actions * len(observation["observation"])

    def train(self, environment, steps, judge):
        while True:
            time.sleep(60)
"""


@pytest.mark.parametrize("agent", ["ours", "sac"])
def test_what_was_done_is_kept_beside_where_there_is_nothing_to_go_on_from(tmp_path, monkeypatch, agent):
    """As where the runs were deleted, or another machine made it."""
    monkeypatch.setattr(ours, "ours", lambda task: SMALL)
    short, longer = plan(tmp_path), plan(tmp_path, steps=1200)
    path, point = longer.path(agent, PENDULUM, 0), {"steps": 800, "cpu_seconds": 1.0, "returns": [1.0], "successes": []}
    done = short.fresh(agent, PENDULUM, 0) | {"status": "done", "points": [point], "run": "gone", "versions": {}}
    for name in (f"{path.name}.before", f"{path.name}.before-2"):
        write_json(path, done)
        assert runner.prepare(path, longer.fresh(agent, PENDULUM, 0), longer.scratch_of(path))
        assert read(path)["status"] == "unfinished" and read(path.with_name(name)) == done


def start(folder, *agents, env=None):
    """The runner, in a folder of its own."""
    folder.mkdir(exist_ok=True)
    line = [sys.executable, __file__, *LINE, "--agents", ",".join(agents or AGENTS)]
    with (folder / "log.txt").open("a") as log:
        return subprocess.Popen(line, cwd=folder, stdout=log, stderr=log, env=env)


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
@pytest.mark.parametrize("draw", [0, 1])
def test_however_often_it_is_killed_each_piece_is_done_once_and_the_same(undisturbed, draw, tmp_path):
    wanted, seconds = undisturbed
    moments = np.random.default_rng(draw).uniform(0, seconds / 3, KILLS).tolist()
    print("killed after", ", ".join(f"{moment:.2f} s" for moment in moments))
    done, killed = {}, 0
    try:
        for moment in moments:
            runner = start(tmp_path)
            try:
                assert runner.wait(moment) == 0  # it may come to its end before
            except subprocess.TimeoutExpired:
                runner.kill()
                runner.wait()
                killed += 1
            _wait(lambda: not at_work(tmp_path), 10)
            now = finished(tmp_path)
            assert done.items() <= now.items(), "what was at its end has been written again"
            done = now
        assert killed and start(tmp_path).wait() == 0
        assert told(tmp_path) == wanted and len(wanted) == len(AGENTS) * SEEDS
        done = finished(tmp_path)
        assert start(tmp_path).wait() == 0 and finished(tmp_path) == done
        assert not at_work(tmp_path)
    finally:
        kill(tmp_path)
    for scratch in (tmp_path / "runs" / "bench").iterdir():
        ends = [json.loads(path.read_text())["status"] for path in scratch.glob("*/run.json")]
        assert ends.count("done") <= 1, f"{scratch.name} came to its end more than once"  # none: killed as it did


@pytest.mark.parametrize("signals", [(signal.SIGINT, signal.SIGINT), (signal.SIGKILL,)], ids=["twice", "killed"])
def test_pieces_that_hang_do_not_outlive_who_launched_them(signals, tmp_path):
    (tmp_path / "hangs.py").write_text(HANGS)
    points = {"ami_agent.agents": {"hangs": "hangs:Agent"}}
    env = install(tmp_path / "installed", {"name": "hangs", "version": "1.0", "entry-points": points}, tmp_path)
    runner = start(tmp_path / "here", "hangs", env=env)
    results = tmp_path / "here" / "results"
    try:
        _wait(lambda: [len(read(path)["points"]) for path in results.glob("*.json")] == [1] * SEEDS)
        assert len(at_work(tmp_path)) == SEEDS
        for number in signals:
            assert runner.poll() is None
            runner.send_signal(number)
            time.sleep(1)
        assert runner.wait(10) == -signals[0]
        _wait(lambda: not at_work(tmp_path), 5)
        assert {read(path)["status"] for path in results.iterdir()} == {"unfinished"}
    finally:
        runner.kill()
        kill(tmp_path)


def _wait(come, seconds=120):
    """Until something has come about."""
    deadline = time.monotonic() + seconds
    while not come():
        assert time.monotonic() < deadline
        time.sleep(0.1)


if __name__ == "__main__":
    suites.SUITES[SUITE.name] = SUITE
    ours.ours = lambda task: SMALL
    sys.exit(cli.main(sys.argv[1:]))
