"""The learning benchmark: tiny pieces of each agent, an interruption, a failure, and a report worked by hand."""

import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest

from ami_agent.brain import BrainConfig
from ami_agent.errors import UsageError
from ami_agent.files import write_json
from ami_agent.learning.student import StudyConfig
from ami_agent.learning.train import TrainConfig
from ami_agent.memory.lock import HomeLock
from ami_agent.perception.encoder import EncoderConfig
from ami_agent.planning.cem import CEMConfig
from ami_agent.signals import Stop
from ami_agent.world_model.latent import ModelConfig

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import learning  # noqa: E402
import learning_figure  # noqa: E402
import learning_piece  # noqa: E402
from learning_report import Task, called, load, report  # noqa: E402

PENDULUM, NOWHERE = Task("Pendulum-v1", 2, -1200.0, 0.0, "made up"), Task("Nowhere-v0", 1)
SMALL = learning_piece.Ours(
    TrainConfig(
        worlds=1,
        warmup=1,
        plan=True,
        planner=CEMConfig(horizon=2, iterations=1, samples=16, elites=4),
        study=StudyConfig(batch=16),
    ),
    BrainConfig(EncoderConfig(latent=16, width=32), ModelConfig(width=32)),
)
SHORT = {"steps": 10**6, "cpu_seconds": 1e-3}  # for SAC, the slowest: its first point is its last
TIMES = ("cpu_seconds", "wall_seconds")


def plan(folder, steps=800, **more):
    limits = {"steps": steps, "cpu_seconds": None}
    return learning.Plan(
        folder / "results", folder / "scratch", limits, every=400, episodes=2, ours=SMALL, updates=0.025, **more
    )


def run(plan, *agents, task=PENDULUM, stop=None):
    learning.run(plan, learning.to_do(plan, list(agents), [task], [0]), 2, stop or Stop())
    return [learning_piece.read(plan.piece(agent, task, 0)) for agent in agents]


def here(plan, agent, task):
    """A piece that is run in this process."""
    [(path, facts)] = learning.to_do(plan, [agent], [task], [0]).items()
    facts = learning_piece.read(path) if path.exists() else facts
    write_json(path, {**facts, "status": "unfinished", "reason": None, "limits": plan.limits, "command": ["here"]})
    assert learning_piece.main(path, plan.scratch / path.stem) == 0
    return learning_piece.read(path)


def timeless(points):
    return [{name: value for name, value in point.items() if name not in TIMES} for point in points]


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """A piece of each agent, run to its end in this process, which is quicker."""
    made = plan(tmp_path_factory.mktemp("whole"))
    short = replace(made, limits=SHORT)
    return made, {agent: here(short if agent == "sac" else made, agent, PENDULUM) for agent in learning_piece.LEARN}


def test_each_agent_has_its_curve(pieces):
    _, by_agent = pieces
    for agent, piece in by_agent.items():
        assert piece["status"] == "done", piece["reason"]
        steps = {"random": [0], "sac": [0, 400]}.get(agent, [0, 400, 800])
        assert [point["steps"] for point in piece["points"]] == steps
        assert all(len(point["returns"]) == 2 and point["lengths"] == [100, 100] for point in piece["points"])
        assert piece["points"][-1]["decisions"] == piece["points"][-1]["steps"] / 2
        times = [point["cpu_seconds"] for point in piece["points"]]
        assert times[0] == 0 and times == sorted(times)
        assert piece["versions"]["torch"] and piece["hardware"]["cores"] and piece["settings"]["repeat"] == 2
        assert piece["evaluation_seeds"] == [1_000_000, 1_000_001] == piece["points"][-1]["seeds"]
        assert piece["learned"] == [piece["points"][-1][name] for name in TIMES]
        assert piece["command"] and piece["commits"]
    assert ["prior" in point for point in by_agent["ours"]["points"]] == [False, False, True]


def test_what_is_finished_is_not_run_again(pieces):
    made, _ = pieces
    assert not learning.to_do(made, ["ours", "ppo", "random"], [PENDULUM], [0])
    longer = replace(made, limits={"steps": 1200, "cpu_seconds": None})
    left = learning.to_do(longer, list(learning_piece.LEARN), [PENDULUM], [0])
    assert [facts["agent"] for facts in left.values()] == ["ours", "sac", "ppo"]
    with pytest.raises(UsageError, match="made with repeat 2, not 4"):
        learning.to_do(made, ["ours"], [replace(PENDULUM, repeat=4)], [0])


def test_an_interrupted_piece_ends_with_the_same_points(pieces, tmp_path):
    made, by_agent = plan(tmp_path), pieces[1]
    ours, ppo = (made.piece(agent, PENDULUM, 0) for agent in ("ours", "ppo"))

    class AfterLearning(Stop):
        """Asks to stop when there is a second point, as Ctrl-C would."""

        requested = property(
            lambda self: ours.exists() and len(learning_piece.read(ours)["points"]) > 1, lambda self, value: None
        )

    (half,) = run(made, "ours", stop=AfterLearning())
    assert half["status"] == "unfinished" and timeless(half["points"]) == timeless(by_agent["ours"]["points"][:2])
    write_json(ppo, {**by_agent["ppo"], "status": "unfinished", "points": by_agent["ppo"]["points"][:1]})
    again, (whole,) = here(made, "ppo", PENDULUM), run(made, "ours")
    assert whole["status"] == again["status"] == "done"
    assert whole["run"] == half["run"] and again["run"] != by_agent["ppo"]["run"]  # from its checkpoint; from zero
    assert timeless(whole["points"]) == timeless(by_agent["ours"]["points"])
    assert timeless(again["points"]) == timeless(by_agent["ppo"]["points"])


def test_ours_without_its_planner_is_judged_by_its_prior_alone(tmp_path):
    piece = here(plan(tmp_path, 400), "ours-no-planner", PENDULUM)
    assert piece["status"] == "done" and [point.get("prior") for point in piece["points"]] == [None, None]


def test_a_piece_does_not_go_on_with_other_versions(pieces, tmp_path, monkeypatch):
    made = pieces[0]
    longer, path = replace(made, limits={"steps": 1200, "cpu_seconds": None}), made.piece("ours", PENDULUM, 0)
    before, scratch = path.read_bytes(), made.scratch / path.stem
    monkeypatch.setattr(learning_piece, "_version", lambda package: "0.0")
    with pytest.raises(UsageError, match=r"torch \d.*, here 0\.0.*install those versions again, or move its file away"):
        learning.to_do(longer, ["ours"], [PENDULUM], [0])
    with pytest.raises(UsageError, match="ours on Pendulum-v1, seed 0, cannot go on"):
        learning_piece.Piece(path, scratch, Stop()).resume()
    assert path.read_bytes() == before
    assert learning.to_do(longer, ["ppo"], [PENDULUM], [0])  # which begins from zero anyway


def test_what_another_process_runs_is_left_alone(tmp_path, monkeypatch):
    made = plan(tmp_path)
    [(path, facts)] = learning.to_do(made, ["random"], [PENDULUM], [0]).items()
    write_json(path, {**facts, "status": "unfinished", "limits": made.limits})
    before, scratch = path.read_bytes(), made.scratch / path.stem
    with HomeLock(scratch):
        assert learning_piece.main(path, scratch) == 75
    assert path.read_bytes() == before
    late = tmp_path / "late"
    late.write_text("#!/bin/sh\nexit 75\n")
    late.chmod(0o755)
    monkeypatch.setattr(learning.sys, "executable", str(late))
    assert run(made, "random")[0]["status"] == "unfinished"


def test_a_failing_task_is_kept_as_failed(tmp_path):
    made = plan(tmp_path)
    bad = here(made, "random", NOWHERE)
    assert bad["status"] == "failed" and "no environment 'Nowhere-v0'" in bad["reason"]
    assert not learning.to_do(made, ["random"], [NOWHERE], [0])
    assert learning.to_do(replace(made, retry=True), ["random"], [NOWHERE], [0])


def test_a_process_that_dies_is_kept_as_failed_and_the_rest_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(learning.sys, "executable", "/bin/false")
    pieces = run(plan(tmp_path), "random", "sac", "ours")
    assert [(piece["status"], piece["reason"]) for piece in pieces] == [("failed", "its process ended with 1")] * 3


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


CUP, REACHER = Task("dm_control/cup-v0", 2, tdmpc2=981), Task("Reacher-v5", 2, -40.0, 0.0, "a book")


@pytest.fixture
def results(tmp_path):
    for seed, best in enumerate((600, 800)):
        points = [(0, 0, [0, 0]), (10, 5, [100, 300]), (20, 12, [best, best])]
        made_up(tmp_path, "ours", CUP.id, seed, points, last=prior(best - 100, best - 300))
        points = [(0, 0, [0, 0]), (10, 2, [400, 400]), (20, 8, [500, 500]), (30, 11, [9, 9])]
        made_up(tmp_path, "sac", CUP.id, seed, points)
        made_up(tmp_path, "random", CUP.id, seed, [(0, 0, [50, 50])])
        made_up(tmp_path, "ours", REACHER.id, seed, [(0, 0, [-40, -40]), (10, 7, [-20, -20]), (20, 15, [-10, -10])])
        made_up(tmp_path, "sac", REACHER.id, seed, [(0, 0, [-40, -40]), (10, 10, [-30, -30])])
        made_up(tmp_path, "random", REACHER.id, seed, [(0, 0, [-40, -44])])
    return tmp_path


def told(folder, agents, tasks):
    return report(load(folder, agents, tasks), tasks, agents, folder / "a.svg")


def rows(text):
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    return [{"": line[0].strip(), "cells": [cell.strip() for cell in line[1:]]} for line in lines]


def test_the_report_has_the_numbers_worked_by_hand(results):
    text = told(results, list(learning_piece.LEARN), [CUP, REACHER])
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
    made_up(results, "ours", CUP.id, 2, [(0, 0, [0, 0]), (10, 9, [8, 8])], "failed", reason="the roof fell in")
    made_up(results, "ours", CUP.id, 3, [(0, 0, [0, 0])], "unfinished")
    text = told(results, ["ours", "sac"], [CUP])
    assert rows(text)[1]["cells"][3].startswith("502.0 (")  # 8, 600, 600, 800: one of six is cut off either end
    assert "failed: ours on `dm_control/cup-v0`, seed 2: the roof fell in (counted with what it got to, 10 env" in text
    assert "unfinished, not counted: ours on `dm_control/cup-v0`, seed 3" in text


def test_pieces_of_different_settings_are_not_compared(results):
    where = "ours on `dm_control/cup-v0`, seed 0 and SB3 SAC on `dm_control/cup-v0`, seed 7 cannot be compared: "
    for package in ("mujoco", "torch", "dm-control"):
        versions = {"mujoco": "1", package: "2"}
        made_up(results, "sac", CUP.id, 7, [(0, 0, [0, 0])], versions=versions)
        with pytest.raises(UsageError, match=f"{where}{package} .* and 2; move"):
            load(results, ["ours", "sac"], [CUP])


def test_only_baselines_need_the_same_version_of_theirs(results):
    other = {"mujoco": "1", "stable-baselines3": "2"}
    made_up(results, "ours", CUP.id, 7, [(0, 0, [0, 0])], versions=other)
    assert load(results, ["ours", "sac"], [CUP])
    made_up(results, "sac", CUP.id, 7, [(0, 0, [0, 0])], versions=other)
    with pytest.raises(UsageError, match="stable-baselines3 None and 2"):
        load(results, ["ours", "sac"], [CUP])


def test_which_pieces_are_of_which_machine_and_commit_is_told(results):
    hardware = {"processor": "quill", "cores": 2}
    for seed in (7, 8):
        made_up(results, "sac", CUP.id, seed, [(0, 0, [0, 0])], hardware=hardware, commits=["c0ffee", "beef"])
    lines = told(results, ["ours", "sac"], [CUP]).splitlines()
    cup = "`dm_control/cup-v0`"
    old, new = f"ours on {cup}, seeds 0, 1; SB3 SAC on {cup}, seeds 0, 1  ", f"SB3 SAC on {cup}, seeds 7, 8  "
    assert f"abacus, 1 cores; one thread a piece: {old}" in lines
    assert f"quill, 2 cores; one thread a piece: {new}" in lines
    assert f"commit c0ffee: {old}" in lines and f"commit c0ffee, beef: {new}" in lines
    assert "mujoco 1  " in lines


def test_void_episodes_are_told_and_pairs_are_of_one_start(results):
    made_up(results, "ours", CUP.id, 1, [(0, 0, [0, 0]), (20, 12, [800])], last={"seeds": [1], **prior(0, 500)})
    text = told(results, ["ours"], [CUP])
    assert "left out: 1 of 6 episodes of ours on `dm_control/cup-v0`, seed 1" in text
    # pairs 600 - 500, 600 - 300, and 800 - 500 of the start that was void for the planner alone
    assert rows(text)[-1]["cells"][1:] == ["666.7 (600.0 to 800.0)", "433.3 (400.0 to 500.0)", "233.3 (200.0 to 300.0)"]


def test_the_figure_is_drawn(results):
    made_up(results, "ours", CUP.id, 2, [(0, 0, [0, 0])], "failed", reason="the roof fell in")
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


def test_names():
    assert [task.short for task in learning.chosen("cart,Pusher")] == ["cartpole-swingup-v0", "Pusher-v5"]
    assert learning.chosen("") == list(learning.TASKS)
    for wrong in ({"tasks": "chess"}, {"agents": "ours,dreamer"}, {"seeds": "-1"}, {"episodes": 0}):
        assert learning.main(**wrong) == 2


def flat(config, under=""):
    for name, value in config.items():
        yield from flat(value, f"{under}{name}.") if isinstance(value, dict) else [(f"{under}{name}", value)]


def test_ours_without_a_part_is_ours_but_for_that_part(tmp_path):
    whole = dict(flat(plan(tmp_path).settings("ours", PENDULUM)["config"]))
    changed = {"ours": {}}
    for agent in set(learning.PARTS) - {"ours"}:
        config = dict(flat(plan(tmp_path).settings(agent, PENDULUM)["config"]))
        assert config.keys() == whole.keys()
        changed[agent] = {name: value for name, value in config.items() if value != whole[name]}
    assert changed == {
        "ours": {},
        "ours-no-planner": {"train.plan": False},
        "ours-no-prediction": {"brain.model.consistency": 0.0},
        "ours-no-inverse": {"brain.model.inverse": 0.0},
        "ours-one-step": {"train.study.window": 1},
        "ours-half-updates": {"train.study.ratio": whole["train.study.ratio"] / 2},
    }
    assert called("ours-no-planner") == "ours, no planner" and called("sac") == "SB3 SAC"
