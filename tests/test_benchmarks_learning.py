"""The report of the learning benchmark, worked by hand."""

import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from ami_agent.bench.suites import Task
from ami_agent.errors import UsageError

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import learning  # noqa: E402
import learning_figure  # noqa: E402
from learning_report import called, load, report  # noqa: E402

EVERY = ["ours", "sac", "ppo", "random"]


def made_up(folder, agent, task, seed, points, status="done", **more):
    """A file of a piece; points are (steps, cpu seconds, returns)."""
    names = ("steps", "cpu_seconds", "returns")
    facts = {
        "agent": agent, "task": task, "seed": seed, "status": status, "reason": None, "commits": ["c0ffee"],
        "settings": {"repeat": 2, "every": 10, "episodes": 2, "config": {}},
        "points": [dict(zip(names, point, strict=True), seeds=[*range(len(point[2]))]) for point in points],
        "versions": {"mujoco": "1"}, "hardware": {"processor": "abacus", "cores": 1}, **more,
    }  # fmt: skip
    facts["points"][-1].update(more.get("last", {}))
    (folder / f"{agent}--{task.replace('/', '-')}--{seed}.json").write_text(json.dumps(facts))


def prior(*returns):
    return {"prior": {"seeds": [*range(len(returns))], "returns": returns}}


CUP = Task("dm_control/cup-v0", "control", 50, 10, 2, "return", 0.0, 1000.0, "its most", published=981)
REACHER = Task("Reacher-v5", "control", 50, 10, 2, "return", -40.0, 0.0, "a book")


@pytest.fixture
def results(tmp_path):
    for seed, best in enumerate((600, 800)):
        points = [(0, 0, [0, 0]), (10, 5, [100, 300]), (20, 12, [best, best])]
        made_up(tmp_path, "ours", CUP.name, seed, points, last=prior(best - 100, best - 300))
        points = [(0, 0, [0, 0]), (10, 2, [400, 400]), (20, 8, [500, 500]), (30, 11, [9, 9])]
        made_up(tmp_path, "sac", CUP.name, seed, points)
        made_up(tmp_path, "random", CUP.name, seed, [(0, 0, [50, 50])])
        made_up(tmp_path, "ours", REACHER.name, seed, [(0, 0, [-40, -40]), (10, 7, [-20, -20]), (20, 15, [-10, -10])])
        made_up(tmp_path, "sac", REACHER.name, seed, [(0, 0, [-40, -40]), (10, 10, [-30, -30])])
        made_up(tmp_path, "random", REACHER.name, seed, [(0, 0, [-40, -44])])
    return tmp_path


def told(folder, agents, tasks):
    return report(load(folder, agents, tasks), tasks, agents, folder / "a.svg")


def rows(text):
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    return [{"": line[0].strip(), "cells": [cell.strip() for cell in line[1:]]} for line in lines]


def test_the_report_has_the_numbers_worked_by_hand(results):
    text = told(results, EVERY, [CUP, REACHER])
    table = [row for row in rows(text) if row[""].startswith("`")]
    # 20 env steps are what all reached: of 600, 600, 800, 800 the middle half has the mean 700
    assert table[0]["cells"] == ["2", "20", "2", "700.0 (600.0 to 800.0)", "500.0 (500.0 to 500.0)",
                                 "50.0 (50.0 to 50.0)", "12 / 8", "981"]  # fmt: skip
    # SAC got to 10 only, so that is where they are compared
    assert table[1]["cells"][1] == "10" and table[1]["cells"][3:] == [
        "-20.0 (-20.0 to -20.0)", "-30.0 (-30.0 to -30.0)", "-42.0 (-42.0 to -42.0)", "7 / 10", "-",
    ]  # fmt: skip
    assert table[2]["cells"] == ["20", "700.0 (600.0 to 800.0)", "500.0 (400.0 to 600.0)", "200.0 (200.0 to 200.0)"]
    scores = {row[""]: row["cells"] for row in rows(text)}
    # cup 0.6, 0.8, reacher (-20 + 40) / 40 twice: of 0.5, 0.5, 0.6, 0.8 the middle two
    assert scores["ours"][0].startswith("0.550 (")
    # all reached 10 CPU seconds: ours 200 / 1000 and 0.5; SAC 0.5 and 0.25
    assert "reached 10.0 CPU seconds of learning; each is read at its last point at or before them" in text
    assert [scores[name][1] for name in ("ours", "SB3 SAC", "random")] == [
        "0.350 (0.350 to 0.350)", "0.375 (0.375 to 0.375)", "0.000 (0.000 to 0.000)",
    ]  # fmt: skip
    assert "**Warning: as few as 2 seeds" in text and "abacus" in text and "c0ffee" in text and "a book" in text


def test_what_failed_counts_and_what_is_unfinished_does_not(results):
    made_up(results, "ours", CUP.name, 2, [(0, 0, [0, 0]), (10, 9, [8, 8])], "failed", reason="the roof fell in")
    made_up(results, "ours", CUP.name, 3, [(0, 0, [0, 0])], "unfinished")
    text = told(results, ["ours", "sac"], [CUP])
    assert rows(text)[1]["cells"][3].startswith("502.0 (")  # 8, 600, 600, 800: one of six is cut off either end
    assert "failed: ours on `dm_control/cup-v0`, seed 2: the roof fell in (counted with what it got to, 10 env" in text
    assert "unfinished, not counted: ours on `dm_control/cup-v0`, seed 3" in text


def test_pieces_of_different_settings_are_not_compared(results):
    where = "ours on `dm_control/cup-v0`, seed 0 and SB3 SAC on `dm_control/cup-v0`, seed 7 cannot be compared: "
    for package in ("mujoco", "torch", "dm-control"):
        versions = {"mujoco": "1", package: "2"}
        made_up(results, "sac", CUP.name, 7, [(0, 0, [0, 0])], versions=versions)
        with pytest.raises(UsageError, match=f"{where}{package} .* and 2; move"):
            load(results, ["ours", "sac"], [CUP])


def test_only_baselines_need_the_same_version_of_theirs(results):
    other = {"mujoco": "1", "stable-baselines3": "2"}
    made_up(results, "ours", CUP.name, 7, [(0, 0, [0, 0])], versions=other)
    assert load(results, ["ours", "sac"], [CUP])
    made_up(results, "sac", CUP.name, 7, [(0, 0, [0, 0])], versions=other)
    with pytest.raises(UsageError, match="stable-baselines3 None and 2"):
        load(results, ["ours", "sac"], [CUP])


def test_which_pieces_are_of_which_machine_and_commit_is_told(results):
    hardware = {"processor": "quill", "cores": 2}
    for seed in (7, 8):
        made_up(results, "sac", CUP.name, seed, [(0, 0, [0, 0])], hardware=hardware, commits=["c0ffee", "beef"])
    lines = told(results, ["ours", "sac"], [CUP]).splitlines()
    cup = "`dm_control/cup-v0`"
    old, new = f"ours on {cup}, seeds 0, 1; SB3 SAC on {cup}, seeds 0, 1  ", f"SB3 SAC on {cup}, seeds 7, 8  "
    assert f"abacus, 1 cores; one thread a piece: {old}" in lines
    assert f"quill, 2 cores; one thread a piece: {new}" in lines
    assert f"commit c0ffee: {old}" in lines and f"commit c0ffee, beef: {new}" in lines
    assert "mujoco 1  " in lines


def test_void_episodes_are_told_and_pairs_are_of_one_start(results):
    made_up(results, "ours", CUP.name, 1, [(0, 0, [0, 0]), (20, 12, [800])], last={"seeds": [1], **prior(0, 500)})
    text = told(results, ["ours"], [CUP])
    assert "left out: 1 of 6 episodes of ours on `dm_control/cup-v0`, seed 1" in text
    # pairs 600 - 500, 600 - 300, and 800 - 500 of the start that was void for the planner alone
    assert rows(text)[-1]["cells"][1:] == ["666.7 (600.0 to 800.0)", "433.3 (400.0 to 500.0)", "233.3 (200.0 to 300.0)"]


def test_the_figure_is_drawn(results):
    made_up(results, "ours", CUP.name, 2, [(0, 0, [0, 0])], "failed", reason="the roof fell in")
    told(results, ["ours", "sac", "random"], [CUP, REACHER])
    root = ElementTree.parse(results / "a.svg").getroot()
    space = "{http://www.w3.org/2000/svg}"
    paths = [path.get("d") for path in root.iter(f"{space}path")]
    assert len(paths) == 2 * 2 * 3 * 2  # axes x tasks x agents x (band and line)
    assert not re.search("nan|inf", "".join(paths))
    assert paths[1].count(",") == 3  # ours at the cup: one that failed does not cut the others short
    assert {"cup-v0", "Reacher-v5", "SB3 SAC"} <= {text.text for text in root.iter(f"{space}text")}


def test_a_curve_is_of_pieces_that_got_there_and_its_band_of_their_interquartile_means():
    def piece(status, *points):
        return {"status": status, "points": [{"steps": steps, "returns": returns} for steps, returns in points]}

    done = piece("done", (0, [0] * 4), (10, [0, 10, 20, 990])), piece("done", (0, [0] * 4), (12, [30, 30, 30, 30]))
    failed = piece("failed", (0, [0] * 4))
    (first, last) = learning_figure._curve([*done, failed], "steps", 100).tolist()
    assert first == [0, 0, 0, 0]
    assert last == [11, 15, 0, 30]  # of 0 five times, 10, 20, 30 four times, 990: the middle six, 0 0 10 20 30 30
    longer = piece("failed", *[(k, [k]) for k in range(3)])
    assert learning_figure._curve([failed, longer], "steps", 9)[:, 0].tolist() == [0, 1, 2]


def test_nothing_there_is_said(tmp_path):
    assert told(tmp_path, ["ours"], [CUP]) == "no pieces are there yet"


def test_wrong_names_and_numbers_are_refused():
    for wrong in ({"tasks": "chess"}, {"agents": "ours,dreamer"}, {"seeds": "-1"}, {"episodes": 0}, {"steps": 15_000}):
        assert learning.main(**wrong) == 2
    assert called("ours-no-planner") == "ours, no planner" and called("sac") == "SB3 SAC"
