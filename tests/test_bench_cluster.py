"""A suite on Ray: the same results as on processes of one's own, also when a worker is lost."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from test_bench import PENDULUM, SUITE, here, plan, timeless

from ami_agent.bench import runner
from ami_agent.bench.piece import read
from ami_agent.errors import MissingError
from ami_agent.signals import Stop


def test_without_ray_it_is_said_what_to_install(tmp_path, monkeypatch):
    from ami_agent.bench import cluster

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingError, match=r"pip install 'ami-agent\[ray\]'"):
        cluster.run(plan(tmp_path), {}, "auto", Stop())


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
def test_a_lost_worker_changes_nothing(tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")
    from ami_agent.bench import cluster

    made, killed = plan(tmp_path / "ray"), []

    def kill():
        deadline = time.monotonic() + 120
        while not killed and time.monotonic() < deadline:
            for process in workers()[:1]:
                time.sleep(2)  # in the midst of it
                os.kill(process, signal.SIGKILL)
                killed.append(process)
            time.sleep(0.1)

    killer = threading.Thread(target=kill)
    killer.start()
    left = runner.to_do(made, ["ppo", "random", "noop"], [PENDULUM], [0, 1]).left
    cluster.run(made, left, "auto", Stop())
    killer.join()
    assert killed
    alone = plan(tmp_path / "alone")
    for agent in ("ppo", "random", "noop"):
        for seed in (0, 1):
            there, own = read(made.path(agent, PENDULUM, seed)), here(alone, agent, seed=seed)
            assert there["status"] == "done", there["reason"]
            assert timeless(there["points"]) == timeless(own["points"]) and there["checkpoint"] == own["checkpoint"]
    assert len(list(made.results.iterdir())) == 6 and not runner.to_do(made, ["ppo"], [PENDULUM], [0, 1]).left
    assert SUITE.protocol == there["protocol"]
