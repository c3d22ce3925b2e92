"""What learning curves say, worked by hand: at equal env steps and CPU seconds, planners beside priors, the figure."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from pieces import judged, made_up, write

from ami_agent.bench.curves import learned
from ami_agent.bench.results import load
from ami_agent.bench.schema import EPISODES
from ami_agent.bench.suites import SUITES

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import learning  # noqa: E402

SUITE = SUITES["external-v1"]  # 10 episodes, 50,000 env steps
CUP, REACHER = "dm_control/ball_in_cup-catch-v0", "Reacher-v5"  # of 0 to 1000, and of -42.7 to -3.281
FAILED = {"status": "failed", "reason": "the roof fell in"}


def piece(agent, task, seed, *points, **more):
    """Its points are env steps, CPU seconds, score."""
    facts = made_up(agent, task, seed, *(score for _, _, score in points), suite=SUITE.name, **more)
    for point, (steps, seconds, _) in zip(facts["points"], points, strict=True):
        decisions = steps // facts["settings"]["repeat"]
        point |= {"steps": steps, "decisions": decisions, "cpu_seconds": seconds, "wall_seconds": seconds}
    return facts


def with_prior(facts, score):
    """Its policy prior was judged at the last point."""
    facts["points"][-1]["prior"] = judged(SUITE, SUITE.task(facts["task"]), facts["seed"], score)
    return facts


def make_void(one, k):
    for name in EPISODES:
        del one[name][k]


def ours_and_sac():
    """Of two seeds each; in Reacher SAC got to 30,000 env steps."""
    pieces = []
    for seed, best, reflex in ((0, 0.6, 0.5), (1, 0.8, 0.5)):
        cup = (0, 0, 0), (10_000, 100, 0.2), (50_000, 400, best)
        pieces += [
            with_prior(piece("ours", CUP, seed, *cup), reflex),
            piece("ours", REACHER, seed, (0, 0, 0), (30_000, 150, 0.5), (50_000, 300, 0.75)),
            piece("sac", CUP, seed, (0, 0, 0), (10_000, 40, 0.4), (50_000, 200 + 10 * seed, 0.5)),
            piece("sac", REACHER, seed, (0, 0, 0), (10_000, 60, 0.2), (30_000, 180, 0.25)),
            piece("random", CUP, seed, (0, 0, 0.05)),
            piece("random", REACHER, seed, (0, 0, 0)),
        ]
    return pieces


@pytest.fixture
def tell(tmp_path, capsys):
    """What is printed of pieces, and the rows of its tables, each known by a word in its head."""

    def told(*pieces, agents="ours,sac,random", **options):
        folder, picture = write(tmp_path / "results", *pieces), tmp_path / "curves.svg"
        assert learning.main(results=folder, agents=agents, figure=picture, **options) == 0
        text, tables = capsys.readouterr().out, {}
        for part in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
            head, _, *rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in part.splitlines()]
            name = next((word for word in ("repeat", "CPU s", "planner") if word in head), "score")
            tables[name] = rows
        return text, tables

    return told


def test_equal_env_steps_worked_by_hand(tell):
    text, tables = tell(*ours_and_sac())
    cup, reacher = tables["repeat"]
    assert cup == [
        f"`{CUP}`", "4", "50,000", "2", "700 (600 to 800)", "500 (500 to 500)", "50 (50 to 50)", "400 / 205", "981",
    ]  # fmt: skip
    # SAC got to 30,000, so that is where they are compared, and what it took until there
    assert reacher[2:4] == ["30,000", "2"] and reacher[7:] == ["150 / 180", "-"]
    assert reacher[4:7] == ["-22.99 (-22.99 to -22.99)", "-32.85 (-32.85 to -32.85)", "-42.70 (-42.70 to -42.70)"]
    # ours 0.6 0.8 0.5 0.5, SAC 0.5 0.5 0.25 0.25, random 0.05 0.05 0 0: of each the middle two
    assert [(row[0], row[1][:6]) for row in tables["score"]] == [
        ("ours", "0.550 "), ("SB3 SAC", "0.375 "), ("random", "0.025 "),
    ]  # fmt: skip
    assert "Judged early: SB3 SAC on Reacher-v5, seed 0, after 30,000 of 50,000 env steps." in text
    assert "**Warning: as few as 2 seeds an agent and task; a claim needs at least 5.**" in text


def test_equal_cpu_seconds_are_those_that_all_reached_on_the_task(tell):
    text, tables = tell(*ours_and_sac())
    cup, reacher = tables["CPU s"]
    # 200, which the quickest seed of SAC took: its other one is read between 40 and 210, ours between 100 and 400
    assert cup[1:] == ["200", "367 (333 to 400)", "497 (494 to 500)"]
    assert reacher[1] == "180" and reacher[2].startswith("-21.02 ") and reacher[3].startswith("-32.85 ")
    # ours 0.333 0.4 0.55 0.55, SAC 0.5 0.494 0.25 0.25
    assert [row[2][:6] for row in tables["score"]] == ["0.475 ", "0.372 ", "-"]
    assert "different machines" not in text


def test_by_cpu_seconds_curves_are_read_beyond_the_suite(tell):
    longer = piece("sac", CUP, 0, (0, 0, 0), (50_000, 200, 0.5), (100_000, 400, 0.9))
    _, tables = tell(piece("ours", CUP, 0, (0, 0, 0), (50_000, 400, 0.6)), longer, agents="ours,sac")
    assert tables["repeat"][0][2:7] == ["50,000", "1", "600", "500", "400 / 200"]
    assert tables["CPU s"][0][1:] == ["400", "600", "900"]


def test_a_planner_is_paired_with_its_prior(tell):
    _, tables = tell(*ours_and_sac())
    [row] = tables["planner"]  # 600 - 500, 800 - 500
    assert row == ["ours", f"`{CUP}`", "2", "700 (600 to 800)", "500 (500 to 500)", "+200 (+100 to +300)"]


def test_void_episodes_count_as_the_floor_and_in_no_pair(tell):
    facts = with_prior(piece("ours", CUP, 0, (0, 0, 0), (50_000, 9, 0.5)), 0.5)
    point = facts["points"][-1]
    point["returns"] = [1000.0, *range(10, 100, 10)]
    point["prior"]["returns"] = [0.0, 1000.0, *[5.0] * 8]
    make_void(point, 0)
    make_void(point["prior"], 1)
    text, tables = tell(facts, agents="ours")
    assert tables["repeat"][0][4] == "45"  # 10, ..., 90 of ten
    assert tables["planner"][0][3:] == ["55", "5", "+50"]  # of 20, ..., 90 and 5, ..., 5
    assert "Void: the physics failed in 1 of 10 episodes of ours on ball_in_cup-catch-v0, seed 0" in text


def test_priors_of_all_tasks_are_told_together(tell):
    pieces = [with_prior(piece("ours", CUP, seed, (0, 0, 0), (50_000, 9, 0.5)), 0.4) for seed in (0, 1)]
    pieces += [with_prior(piece("ours", REACHER, seed, (0, 0, 0), (50_000, 9, 0.5)), 0.2) for seed in (0, 1)]
    assert tell(*pieces)[1]["planner"][-1][1:] == ["all, normalised score", "", "", "", "+0.200 (+0.200 to +0.200)"]


def test_what_failed_counts_and_what_is_unfinished_does_not(tell):
    pieces = [piece("ours", CUP, seed, (0, 0, 0), (50_000, 400, 0.6)) for seed in (0, 1)]
    pieces.append(piece("ours", CUP, 2, (0, 0, 0), (10_000, 90, 0.1), **FAILED))
    pieces.append(piece("ours", CUP, 3, **FAILED))
    pieces.append(piece("ours", CUP, 4, (0, 0, 0.9), status="unfinished"))
    text, tables = tell(*pieces)
    # 600 600 100 0: what failed does not say how far all got, and what it had is read
    assert tables["repeat"][0][2:5] == ["50,000", "4", "350 (0 to 600)"]
    for note in (
        "- Failed: ours on ball_in_cup-catch-v0, seed 2: the roof fell in (counted with what it got to, 10,000 env",
        "- Failed: ours on ball_in_cup-catch-v0, seed 3: the roof fell in (counted as the floor).",
        "- Unfinished, not counted: ours on ball_in_cup-catch-v0, seed 4.",
        "- Not shown: SB3 SAC has no result that may stand beside these.",
    ):
        assert note in text


def test_one_seed_gives_no_interval(tell):
    text, tables = tell(*(facts for facts in ours_and_sac() if facts["seed"] == 0))
    assert tables["repeat"][0][4:7] == ["600", "500", "50"] and tables["planner"][0][3:] == ["600", "500", "+100"]
    assert [row[1] for row in tables["score"]] == ["0.550", "0.375", "0.025"]
    assert "as few as 1 seed an agent" in text


def test_what_an_agent_lacks_is_left_out_of_scores_alone(tell):
    some = [facts for facts in ours_and_sac() if (facts["agent"], facts["task"]) != ("sac", CUP)]
    text, tables = tell(*some)
    assert tables["repeat"][0][5] == "-" and tables["repeat"][0][7] == "400 / -"
    assert len(tables["CPU s"]) == 1 and [row[1][:5] for row in tables["score"]] == ["0.500", "0.250", "0.000"]
    assert "at the env steps above, 1 task |" in text
    assert "- Not on all: SB3 SAC has no result on ball_in_cup-catch-v0." in text


def test_other_versions_of_mujoco_are_not_compared(tell):
    pieces = ours_and_sac()
    for facts in pieces:
        if facts["agent"] == "sac":
            facts["versions"]["mujoco"] = "3.9.0"
    text, tables = tell(*pieces)
    assert "- Not ranked with the others, made with MuJoCo 3.9.0: SB3 SAC." in text
    assert [row[0] for row in tables["score"]] == ["ours", "random"] and "CPU s" not in tables
    assert tables["repeat"][1][2] == "50,000"  # SAC has no say in how far they got


def test_what_was_made_with_what_is_told(tell):
    pieces = ours_and_sac()
    alike, _ = tell(*pieces)
    assert alike.startswith("- abacus, 2 cores\n- python 3.11.2, ami-agent 0.1.0, mujoco 4.0.0,")
    for facts in pieces:
        if facts["seed"] == 1 and facts["agent"] != "random":
            facts["hardware"]["processor"], facts["commits"] = "quill", ["c0ffee", "beef" * 10]
    del pieces[1]["points"][1:], pieces[1]["hardware"]["gpu"]
    pieces[1] |= FAILED
    pieces[1]["hardware"]["processor"] = "quill"
    lines = tell(*pieces)[0].splitlines()
    first = "ours on ball_in_cup-catch-v0, seed 0; SB3 SAC, seed 0; random, seeds 0, 1"
    second = "ours on ball_in_cup-catch-v0, seed 1; ours on Reacher-v5, seeds 0, 1; SB3 SAC, seed 1"
    assert lines[:2] == [f"- abacus, 2 cores: {first}", f"- quill, 2 cores: {second}"]
    assert lines[3:5] == [
        "- commit c0ffee: ours, seed 0; SB3 SAC, seed 0; random, seeds 0, 1",
        "- commit c0ffee, beefbeef: ours, seed 1; SB3 SAC, seed 1",
    ]
    assert any("of different machines: abacus, 2 cores; quill, 2 cores." in line for line in lines)


def test_other_suites_are_read_and_damaged_files_told(tell, tmp_path):
    made = [made_up("ours", "ami/Reach-v0", seed, 0.0, 0.95) for seed in (0, 1)]
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "odd.json").write_text("{}")
    text, tables = tell(*made, suite="core-v1", agents="ours")
    assert tables["repeat"][0][4] == "95 % (95 % to 95 %)"
    assert text.count("Share of episodes that succeed, mean of 20 episodes") == 1
    assert "- Left out: odd.json: missing: format, suite" in text
    assert "- Normalised score of `ami/Reach-v0`: 0 at 0, 1 at 1" in text


def test_the_figure_has_every_agent_on_both_axes(tell, tmp_path):
    tell(*ours_and_sac())
    root = ElementTree.parse(tmp_path / "curves.svg").getroot()
    space = "{http://www.w3.org/2000/svg}"
    paths = [path.get("d") for path in root.iter(f"{space}path")]
    assert len(paths) == 2 * 2 * 3 * 2  # axes x tasks x agents x (band and line)
    assert not re.search("nan|inf", "".join(paths))
    assert {"ball_in_cup-catch-v0", "Reacher-v5", "SB3 SAC"} <= {text.text for text in root.iter(f"{space}text")}
    assert {"c0", "c1", "random"} == {group.get("class") for group in root.iter(f"{space}g")}


def test_a_curve_is_of_seeds_that_got_there(tmp_path):
    pieces = [piece("ours", CUP, 0, (0, 0, 0), (10_000, 40, 0.2)), piece("ours", CUP, 1, (0, 0, 0), (12_000, 60, 0.6))]
    pieces.append(piece("ours", CUP, 2, (0, 0, 0.1), **FAILED))
    found = load([write(tmp_path, *pieces)]).pieces
    assert learned(found, "steps").tolist() == [[0, pytest.approx(100 / 3), 0, 100], [11_000, 300, 100, 600]]
    assert learned(found, "cpu_seconds")[:, 0].tolist() == [0, 50]
    longer = load([write(tmp_path / "longer", piece("sac", CUP, 0, (0, 0, 0), (50_000, 9, 0), (90_000, 20, 0)))]).pieces
    assert [learned(longer, axis)[-1, 0] for axis in ("steps", "cpu_seconds")] == [50_000, 20]


def test_nothing_at_its_end_is_said(tell, tmp_path):
    text, tables = tell(piece("ours", CUP, 0, (0, 0, 0), status="unfinished"))
    assert text.startswith("No piece is at its end yet.") and "Unfinished, not counted: ours" in text
    assert not tables and not (tmp_path / "curves.svg").exists()


def test_wrong_names_are_refused(tmp_path, capsys):
    folder = write(tmp_path / "results", piece("ours", CUP, 0, (0, 0, 0)))
    for wrong, said in (
        ({"suite": "core-v9"}, "no suite 'core-v9'"),
        ({"suite": "core-v1"}, "has no results of ours,sac,ppo,random in core-v1"),
        ({"results": tmp_path / "no"}, "is not there"),
    ):
        assert learning.main(**{"results": folder, "figure": tmp_path / "no.svg", **wrong}) == 2
        assert said in capsys.readouterr().err
