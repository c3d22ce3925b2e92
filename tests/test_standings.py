"""From pieces to standings, on cases worked by hand; and the gate between two folders."""

from __future__ import annotations

import numpy as np
import pytest
from pieces import made_up, write

from ami_agent.bench.compare import Change, Comparison, agent_in, compare
from ami_agent.bench.names import called
from ami_agent.bench.results import load
from ami_agent.bench.standings import Estimate, standings
from ami_agent.bench.suites import SUITES
from ami_agent.errors import ArtefactError, UsageError
from ami_agent.evaluation.statistics import permutation_test

TASKS = [task.name for task in SUITES["core-v1"].tasks]
PENDULUM, REACH = TASKS[0], TASKS[-1]


def standing(folder, *pieces):
    loaded = load([write(folder, *pieces)])
    assert not loaded.faults
    [one] = standings(loaded.pieces)
    return one


def agents(group):
    return {row.agent: row for row in group.rows}


def test_scores_worked_by_hand(tmp_path):
    made = [made_up("ours", PENDULUM, seed, 0.0, score) for seed, score in enumerate((0.1, 0.5, 0.7, 0.9))]
    made += [made_up("ours", REACH, seed, 0.0, score) for seed, score in enumerate((0.2, 0.4, 0.6, 1.0))]
    made += [made_up("sac", task, seed, 0.0, 0.3) for task in (PENDULUM, REACH) for seed in range(4)]
    made += [made_up("random", REACH, 0, 0.05), made_up("oracle", REACH, 0, 1.0)]
    one = standing(tmp_path, *made)
    [group] = one.groups
    ours, sac = agents(group)["ours"], agents(group)["sac"]
    # of 0.1 0.2 0.4 0.5 0.6 0.7 0.9 1.0 the middle four; of a task's four the middle two
    assert ours.overall.mean == pytest.approx(0.55) and sac.overall.mean == pytest.approx(0.3)
    assert ours.abilities["control"].mean == pytest.approx(0.6) and ours.abilities["plan"].mean == pytest.approx(0.5)
    low, high = ours.overall.low, ours.overall.high
    assert low is not None and high is not None and 0.2 < low < 0.55 < high < 0.9
    entry = ours.entries[PENDULUM]
    assert entry.value.mean == pytest.approx(-1231 + 0.6 * 1231) and entry.spent("cpu_seconds") == 60.0
    assert ours.spent("steps") == 16_000 and ours.spent("wall_seconds") == pytest.approx(16_000 / 90)
    assert [(row.agent, row.rank) for row in group.rows] == [
        ("ours", 1),
        ("sac", 2),
        ("oracle", None),
        ("random", None),
    ]
    assert ours.few and ours.seeds == (4, 4) and not agents(group)["random"].few
    assert agents(group)["random"].overall == Estimate(0.05, None, None)  # one seed gives no interval


def test_an_agent_without_a_task_has_no_rank(tmp_path):
    made = [made_up(name, task, seed, 0.0, 0.5) for name in ("ours", "ppo") for task in TASKS for seed in range(2)]
    one = standing(tmp_path, *made, *(made_up("sac", REACH, seed, 0.0, 1.0) for seed in range(2)))
    assert [(row.agent, row.rank) for row in one.rows] == [("ours", 1), ("ppo", 1), ("sac", None)]
    assert "Not ranked: SB3 SAC has no result on Pendulum-v1, InvertedDoublePendulum-v5, Reacher-v5." in one.notes


def test_ranks_are_over_what_two_agents_share(tmp_path):
    made = [made_up("sac", task, 0, 0.0, score) for task, score in zip(TASKS[1:], (0.1, 0.1, 0.9), strict=True)]
    made += [made_up("ours", task, 0, 0.0, 0.4) for task in TASKS[:3]]
    one = standing(tmp_path, *made)
    ranks = [(row.agent, row.rank, round(row.overall.mean, 9)) for row in one.rows]
    assert ranks == [("ours", 1, 0.4), ("sac", 2, 0.1)]
    assert "Not on all: SB3 SAC has no result on Pendulum-v1." in one.notes
    assert one.gains[0].sentence.startswith("Ours leads, by one seed.")


def test_means_weigh_tasks_alike_wherever_they_stand(tmp_path):
    """Pendulum has seeds more: they count in none of the means over tasks."""
    made = [made_up("ours", TASKS[0], seed, 0.0, score) for seed, score in enumerate((0.2, 0.4, 1.0, 1.0, 1.0))]
    made += [made_up("ours", TASKS[1], seed, 0.0, 0.3) for seed in range(2)]
    made += [made_up("sac", task, seed, 0.0, 0.1) for task in TASKS[:2] for seed in range(2)]
    one = standing(tmp_path, *made)
    assert one.rows[0].overall.mean == pytest.approx(0.3) and one.gains[0].ours == pytest.approx(0.3)
    assert "In means over tasks the first 2 of the seeds of ours count on each." in one.notes


def test_seeds_that_an_agent_lacks_everywhere_are_said(tmp_path):
    made = [made_up("sac", task, seed, 0.0, 0.1) for task in TASKS for seed in range(4)]
    made += [made_up("ours", task, seed, 0.0, 0.1) for task in TASKS for seed in (0, 2)]
    assert standing(tmp_path, *made).notes == ("Missing: ours, seeds 1, 3.",)


def test_equal_scores_share_a_rank(tmp_path):
    one = standing(tmp_path, *(made_up(agent, REACH, 0, 0.0, s) for agent, s in (("a", 0.5), ("b", 0.5), ("c", 0.1))))
    assert [(row.agent, row.rank) for row in one.rows] == [("a", 1), ("b", 1), ("c", 3)]


def test_what_failed_counts_and_what_is_missing_is_said(tmp_path):
    whole = [made_up("ours", REACH, seed, 0.0, 0.25, 0.75) for seed in range(4)]
    failed = {"status": "failed", "reason": "NumericalError: NaN"}
    whole[1] |= failed | {"points": whole[1]["points"][:2]}
    whole[2] |= failed | {"points": []}
    whole[3] |= {"status": "unfinished"}
    early = made_up("ours", PENDULUM, 0, 0.0, 0.5)
    early["points"][1] |= {"steps": 3000, "decisions": 3000}
    void = made_up("ours", PENDULUM, 1, 0.0, 0.5)
    for name in ("seeds", "returns", "successes", "final_successes", "costs", "lengths"):
        void["points"][1][name] = void["points"][1][name][1:]
    one = standing(tmp_path, *whole, early, void)
    assert one.rows[0].entries[REACH].scores() == [0.75, 0.25, 0.0]
    for said in (
        "Failed: ours on Reach-v0, seed 1: NumericalError: NaN (counted with what it got to, 5,000 env steps).",
        "Failed: ours on Reach-v0, seed 2: NumericalError: NaN (counted as the floor).",
        "Unfinished, not counted: ours on Reach-v0, seed 3.",
        "Judged early: ours on Pendulum-v1, seed 0, after 3,000 of 6,000 env steps.",
        "Void: the physics failed in 1 of 20 episodes of ours on Pendulum-v1, seed 1; they count as the floor.",
        "Missing: ours on Pendulum-v1, seed 2.",
        "In means over tasks the first 2 of the seeds of ours count on each.",
    ):
        assert said in one.notes
    assert len(one.notes) == 7


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        ("ours-no-planner", "ours, no planner"),
        ("sac-her", "SB3 SAC + HER"),
        ("noop", "do nothing"),
        ("SB3-SAC", "SB3-SAC"),
    ],
)
def test_names_are_told_apart(agent, name):
    assert called(agent) == name


def test_seeds_of_different_settings_are_said(tmp_path):
    made = [made_up("ours", REACH, seed, 0.0, 0.5) for seed in range(2)]
    made[1]["settings"]["config"] = {"lr": 1}
    told = "Not one agent: the seeds of ours on Reach-v0 were made with different settings."
    assert standing(tmp_path, *made).notes == (told,)


def test_versions_of_mujoco_are_not_ranked_together(tmp_path):
    made = [made_up(agent, task, 0, 0.0, 0.5) for agent in ("ours", "sac") for task in TASKS]
    made += [made_up("ppo", task, 0, 0.0, 0.9, mujoco="3.10.0") for task in TASKS]
    one = standing(tmp_path, *made)
    assert [(group.label, [row.agent for row in group.rows]) for group in one.groups] == [
        ("4.0.0", ["ours", "sac"]), ("3.10.0", ["ppo"]),
    ]  # fmt: skip
    assert "Not ranked with the others, made with MuJoCo 3.10.0: SB3 PPO." in one.notes
    assert [gain.rival for gain in one.gains] == ["sac", "sac"]  # the better one was measured elsewise


def test_a_task_may_have_a_version_of_its_own(tmp_path):
    versions = dict(zip(TASKS, ("3.9.0", "4.0.0", "4.0.0", "4.0.0"), strict=True))
    made = [made_up(agent, task, 0, 0.0, 0.5, mujoco=versions[task]) for agent in ("ours", "sac") for task in TASKS]
    [group] = standing(tmp_path, *made).groups
    assert group.label == "3.9.0, 4.0.0" and {row.rank for row in group.rows} == {1}


def test_ours_against_the_best_of_sb3_at_equal_env_steps(tmp_path):
    made = [made_up("ours", task, seed, 0.0, 0.4, 0.8) for task in TASKS for seed in range(3)]
    made += [made_up("sac", task, seed, 0.0, 0.5, 0.6) for task in TASKS for seed in range(3)]
    made += [made_up("ppo", task, seed, 0.0, 0.1, 0.2) for task in TASKS for seed in range(3)]
    made += [made_up("others", task, seed, 0.0, 1.0) for task in TASKS for seed in range(3)]
    for piece in made[9:12]:
        piece["points"][-1] |= {
            "steps": 10_064,
            "decisions": 10_064,
        }  # ours on Reach ended its last stretch a little late
    control, plan = standing(tmp_path / "whole", *made).gains
    assert (control.rival, control.tasks, plan.tasks) == ("sac", 3, 1)
    assert plan.sentence.startswith("Ours leads. Ours scores 0.80, SB3 SAC 0.60, over 1 task; the difference is +0.20")
    for piece in made:  # SAC on Reach stopped half-way: so both are read there
        if (piece["agent"], piece["task"]) == ("sac", REACH):
            piece["points"] = piece["points"][:2]
    _, plan = standing(tmp_path / "half", *made).gains
    assert not plan.leads and plan.sentence.startswith("Ours does not lead. Ours scores 0.40, SB3 SAC 0.50")


def test_nothing_at_its_end_makes_no_groups(tmp_path):
    assert not standings([])
    one = standing(tmp_path, made_up("ours", REACH, 0, 0.5) | {"status": "unfinished"})
    assert not one.groups and one.notes == ("Unfinished, not counted: ours on Reach-v0, seed 0.",)


def sides(tmp_path, was, now, tasks=TASKS, **more):
    """Folders in which ours has these scores, a seed each, on all tasks."""
    for name, scores in (("a", was), ("b", now)):
        of = more if name == "b" else {}
        write(tmp_path / name, *(made_up("ours", t, k, 0.0, s, **of) for t in tasks for k, s in enumerate(scores)))
    return agent_in(str(tmp_path / "a")), agent_in(str(tmp_path / "b"))


def test_the_gate_sees_what_is_worse(tmp_path):
    before, after = sides(tmp_path, (0.8, 0.85, 0.9, 0.8, 0.85), (0.6, 0.65, 0.7, 0.65, 0.6))
    [found], _ = compare(before, after)
    assert found.worse and found.gain[2] < 0 and found.improvement[0] == 0
    assert "B is WORSE than A, beyond chance" in found.text
    [turned], _ = compare(after, before)
    assert not turned.worse and "B is better than A" in turned.text


def test_the_gate_lets_pass_what_is_within_chance(tmp_path):
    [found], left_out = compare(*sides(tmp_path, (0.8, 0.7, 0.9, 0.75, 0.85), (0.75, 0.85, 0.7, 0.8, 0.85)))
    assert not found.worse and "was not shown to be worse than A; a loss of 0.0" in found.text
    assert not left_out


def test_the_gate_sees_one_task_that_broke(tmp_path):
    scores = (0.8, 0.7, 0.9, 0.75, 0.85)
    sides(tmp_path, scores, scores)
    write(tmp_path / "b", *(made_up("ours", REACH, seed, 0.0, 0.1) for seed in range(5)))
    [found], _ = compare(agent_in(str(tmp_path / "a")), agent_in(str(tmp_path / "b")))
    assert [change.task.name for change in found.changes if change.worse] == [REACH]
    assert found.worse and "B is WORSE than A, beyond chance: on Reach-v0" in found.text


def test_two_seeds_against_many_may_tell(tmp_path):
    before, after = sides(tmp_path, (0.9,) * 10, (0.1, 0.1), [PENDULUM])
    [found], _ = compare(before, after)
    assert found.worse and found.changes[0].worse and "cannot tell" not in found.text


def test_the_gate_says_what_it_cannot_compare(tmp_path):
    before, after = sides(tmp_path / "mixed", (0.5, 0.6), (0.5, 0.6), mujoco="3.9.0")
    with pytest.raises(UsageError, match=r"Pendulum-v1 was measured with MuJoCo 3\.9\.0 and 4\.0\.0"):
        compare(before, after)
    before, after = sides(tmp_path / "few", (0.5, 0.6), (0.5,))
    with pytest.raises(UsageError, match="Pendulum-v1 of core-v1: B has one seed alone"):
        compare(before, after)
    before, after = sides(tmp_path / "two", (0.5, 0.6), (0.5, 0.6))
    with pytest.raises(UsageError, match="nothing to compare: Pendulum-v1 of core-v1: B has no result"):
        compare([piece for piece in before if piece.task.name == PENDULUM], [])
    some = [piece for piece in after if piece.task.name != REACH and (piece.task.name, piece.seed) != (PENDULUM, 1)]
    [found], left_out = compare(before, some)
    assert left_out == [
        "Pendulum-v1 of core-v1: B has one seed alone, which tells nothing of chance",
        "ami/Reach-v0 of core-v1: B has no result",
    ]
    assert "as few as 2 seeds" in found.text and "cannot tell that a single task is worse" in found.text


@pytest.mark.parametrize(("tasks", "seeds"), [(1, 2), (4, 2), (4, 3)])
def test_the_gate_is_seldom_wrong(tasks, seeds):
    """At most one time in twenty where nothing changed, though few runs are looked at in several ways."""
    rng, wrong = np.random.default_rng(0), 0
    task = SUITES["core-v1"].tasks[0]
    for _ in range(100):
        was, now = rng.normal(size=(2, tasks, seeds)).tolist()
        changes = tuple(Change(task, *two, tasks + (tasks > 1)) for two in zip(was, now, strict=True))
        p = permutation_test(was, now, draws=2_000)
        wrong += Comparison(SUITES["core-v1"], changes, (0.0, 0.0, 0.0), (0.5, 0.0, 1.0), p).worse
    assert wrong <= 8  # 5, but for chance


def test_who_is_compared_is_a_folder_and_an_agent(tmp_path):
    write(tmp_path / "a", made_up("sac", REACH, 0, 0.5))
    assert [piece.agent for piece in agent_in(f"{tmp_path}/a:sac")] == ["sac"]
    for where, said in ((f"{tmp_path}/a", "no results of ours; there is sac"), (f"{tmp_path}/b", "is not there")):
        with pytest.raises(UsageError, match=said):
            agent_in(where)
    write(tmp_path / "a", made_up("ours", REACH, 0, 0.5) | {"protocol": "f"})
    with pytest.raises(ArtefactError, match="protocol 'f'"):
        agent_in(f"{tmp_path}/a:sac")


def test_more_seeds_on_an_easy_task_buy_nothing(tmp_path):
    names = [task.name for task in SUITES["core-v1"].tasks]
    easy = [made_up("easy", names[0], seed, 0.0, 0.9) for seed in range(9)]
    easy += [made_up("easy", name, seed, 0.0, 0.2) for name in names[1:] for seed in range(2)]
    fair = [made_up("fair", name, seed, 0.0, 0.5) for name in names for seed in range(2)]
    group = standing(tmp_path, *easy, *fair).groups[0]
    assert [row.agent for row in group.rows if row.rank == 1] == ["fair"]


def test_who_failed_everywhere_takes_no_rank_from_others(tmp_path):
    names = [task.name for task in SUITES["core-v1"].tasks]
    broken = [made_up("broken", name, 0, status="failed", reason="the roof fell in") for name in names]
    fair = [made_up("fair", name, 0, 0.0, 0.5) for name in names[:3]]
    group = standing(tmp_path, *broken, *fair).groups[0]
    assert {row.agent: row.rank for row in group.rows}["fair"] == 1


def test_harm_is_counted(tmp_path):
    made = [made_up("ours", REACH, seed, 0.0, 0.5) for seed in range(3)]
    for piece, some in zip(made, (5, 5, 20), strict=True):
        piece["points"][-1]["costs"][:some] = [0.5] * some
    [row] = standing(tmp_path, *made).rows
    assert row.entries[REACH].harmful == pytest.approx(0.5)  # of 0.25, 0.25 and 1
