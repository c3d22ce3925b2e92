"""A suite on Ray: the same results as on processes of one's own, also when a worker is lost."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from pieces import stand_in
from test_bench import PENDULUM, SUITE, here, plan, timeless

from ami_agent import cli
from ami_agent.bench import cluster, runner
from ami_agent.bench.piece import read
from ami_agent.bench.suites import SUITES
from ami_agent.errors import MissingError
from ami_agent.memory.lock import HomeLock
from ami_agent.signals import Stop


def test_without_ray_it_is_said_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingError, match=r"pip install 'ami-agent\[ray\]'"):
        cluster.connect("auto")


@pytest.mark.parametrize(
    ("harm", "times", "reason"),
    [
        ("kill -9 $$", 1, None),
        ("kill -9 $$", 2, "its process was ended by SIGKILL"),
        ("sleep 600", 1, "it wrote nothing for 0.5 s, and was ended"),
    ],
)
def test_a_piece_that_is_killed_goes_on_once_and_one_that_hangs_does_not(tmp_path, monkeypatch, harm, times, reason):
    made, count = plan(tmp_path), tmp_path / "count"
    path, fresh = made.path("random", PENDULUM, 0), made.fresh("random", PENDULUM, 0)
    runner.prepare(path, fresh)
    script = f"""echo >> {count}
[ $(wc -l < {count}) -gt {times} ] || {harm}
exec {sys.executable} "$@"
"""
    stand_in(monkeypatch, tmp_path, script)
    facts = json.loads(cluster._work(path.name, path.read_text(), 0.5 if "sleep" in harm else 0))
    assert (facts["status"], facts["reason"]) == ("failed" if reason else "done", reason)


def test_what_another_process_has_is_left_to_it_and_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(SUITES, SUITE.name, SUITE)
    ray = SimpleNamespace(shutdown=lambda: None, remote=lambda **_: lambda work: None)
    monkeypatch.setattr(cluster, "connect", lambda address: ray)
    line = ["bench", "run", "--suite", SUITE.name, "--agents", "random", "--tasks", PENDULUM.name, "--seeds", "1"]
    with HomeLock(Path("runs/bench/tiny--random--Pendulum-v1--0")):
        assert cli.main([*line, "--ray", "auto"]) == 75
    told = capsys.readouterr()
    assert "left alone: tiny--random--Pendulum-v1--0; another process is at it" in told.out
    assert "is in use by process" in told.err


def workers():
    """Processes of Ray that are at work on a piece."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::_work"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.slow
def test_a_lost_worker_changes_nothing(tmp_path, capsys):
    pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")
    made, killed = plan(tmp_path / "ray"), []

    def kill():
        deadline = time.monotonic() + 120
        while not killed and time.monotonic() < deadline:
            for worker in workers()[:1]:
                time.sleep(2)  # in the midst of it
                os.kill(worker, signal.SIGKILL)
                killed.append(worker)
            time.sleep(0.1)

    killer = threading.Thread(target=kill)
    killer.start()
    left = runner.to_do(made, ["ppo", "random", "noop"], [PENDULUM], [0, 1]).left
    cluster.run(made, left, cluster.connect("auto"), Stop())
    killer.join()
    told = capsys.readouterr()
    assert killed and "raylet" not in told.out + told.err
    alone = plan(tmp_path / "alone")
    for agent in ("ppo", "random", "noop"):
        for seed in (0, 1):
            there, own = read(made.path(agent, PENDULUM, seed)), here(alone, agent, seed=seed)
            assert there["status"] == "done", there["reason"]
            assert timeless(there["points"]) == timeless(own["points"]) and there["checkpoint"] == own["checkpoint"]
    assert len(list(made.results.iterdir())) == 6 and not runner.to_do(made, ["ppo"], [PENDULUM], [0, 1]).left
    assert SUITE.protocol == there["protocol"]
