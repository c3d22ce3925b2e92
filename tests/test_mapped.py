"""One file, many writers: it is whole whoever comes last, and what was killed is cleared away."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ami_agent.memory import mapped


def write(path, seed=0):
    mapped.write(path, {"seed": seed}, {"numbers": (np.int64, (9999,), [np.full(9999, seed)])})


def test_many_that_write_at_once_leave_it_whole(tmp_path):
    path = tmp_path / "index"
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda seed: write(path, seed), range(40)))
    with mapped.opened(path) as kept:
        assert (kept.array("numbers", np.int64, -1).all() == kept.header["seed"]).all()
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_is_cleared_away_and_nobody_elses(tmp_path):
    path = tmp_path / "index"
    killed, going_on, of_another = (tmp_path / f"index{end}.new" for end in (".1-1", ".2-2", "0.3-3"))
    for aside, age in ((killed, 2 * mapped.STALE), (going_on, 1.0), (of_another, 2 * mapped.STALE)):
        aside.write_bytes(b"half")
        os.utime(aside, (time.time() - age,) * 2)
    write(path)
    assert set(tmp_path.iterdir()) == {path, going_on, of_another}
