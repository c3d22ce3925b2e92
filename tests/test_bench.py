"""Running suites: tiny pieces of each agent, interruptions, failures, agents of others, a cluster."""

import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from pieces import stand_in

from ami_agent import checkpoints
from ami_agent.bench import names, ours, piece, process, runner, work
from ami_agent.bench.ours import Ours
from ami_agent.bench.piece import read
from ami_agent.bench.suites import Suite, Task
from ami_agent.brain import BrainConfig
from ami_agent.errors import ArtefactError, UsageError
from ami_agent.files import write_json
from ami_agent.learning.student import StudyConfig
from ami_agent.learning.train import TrainConfig
from ami_agent.memory.lock import HomeLock
from ami_agent.perception.encoder import EncoderConfig
from ami_agent.planning.cem import CEMConfig
from ami_agent.signals import Stop
from ami_agent.world_model.latent import ModelConfig

PENDULUM = Task("Pendulum-v1", "control", 800, 400, 2, "return", -1200.0, 0.0, "made up")
REACH = Task("ami/Reach-v0", "plan", 200, 100, options='{"factors": "training"}', judged='{"factors": "held_out"}')
NOWHERE = Task("Nowhere-v0", "plan", 100, 50)
SUITE = Suite("tiny", "for tests", (PENDULUM, REACH, NOWHERE), episodes=2)
SMALL = Ours(
    TrainConfig(
        worlds=1,
        warmup=1,
        plan=True,
        planner=CEMConfig(horizon=2, iterations=1, samples=16, elites=4),
        study=StudyConfig(batch=16, ratio=0.05),
    ),
    BrainConfig(EncoderConfig(latent=16, width=32), ModelConfig(width=32)),
)
TIMES = ("cpu_seconds", "wall_seconds")
LISTS = ("seeds", "returns", "successes", "final_successes", "costs", "lengths")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(ours, "ours", lambda task: SMALL)


def plan(folder, **more):
    return runner.Plan(SUITE, folder / "results", folder / "scratch", **more)


def run(plan, *agents, task=PENDULUM, stop=None, seeds=(0,)):
    runner.run(plan, runner.to_do(plan, agents, [task], seeds), 2, stop or Stop())
    return [read(plan.path(agent, task, 0)) for agent in agents]


def here(plan, agent, task=PENDULUM, seed=0):
    """A piece that is run in this process."""
    path = plan.path(agent, task, seed)
    assert runner.prepare(path, plan.fresh(agent, task, seed))
    assert work.main(path, plan.scratch_of(path)) == 0
    return read(path)


def timeless(points):
    return [{name: value for name, value in point.items() if name not in TIMES} for point in points]


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """A piece of some agents, run to its end in this process, which is quicker."""
    patch = pytest.MonkeyPatch()
    patch.setattr(ours, "ours", lambda task: SMALL)
    made = plan(tmp_path_factory.mktemp("whole"))
    short = replace(made, cpu_seconds=1e-3)  # for what is slow: its first point is its last
    yield made, {agent: here(short if agent in ("sac", "td3") else made, agent) for agent in ("ours", "sac", "ppo")}
    patch.undo()


def test_each_agent_has_its_curve(pieces):
    _, by_agent = pieces
    for agent, facts in by_agent.items():
        assert facts["status"] == "done", facts["reason"]
        assert [point["steps"] for point in facts["points"]] == ([0, 400] if agent == "sac" else [0, 400, 800])
        assert all(len(point[name]) == 2 for point in facts["points"] for name in LISTS)
        assert all(point["lengths"] == [100, 100] for point in facts["points"])  # of decisions
        assert facts["points"][-1]["decisions"] == facts["points"][-1]["steps"] / 2
        times = [point["cpu_seconds"] for point in facts["points"]]
        assert times[0] == 0 and times == sorted(times)
        assert facts["versions"]["torch"] and facts["hardware"]["cores"] and facts["settings"]["repeat"] == 2
        assert facts["evaluation_seeds"] == [1_000_000, 1_000_001] == facts["points"][-1]["seeds"]
        assert facts["learned"] == [facts["points"][-1][name] for name in TIMES]
        assert facts["commits"] and len(facts["checkpoint"]) == 64
        assert (facts["suite"], facts["protocol"]) == ("tiny", SUITE.protocol)
    assert ["prior" in point for point in by_agent["ours"]["points"]] == [False, False, True]


def test_floors_and_ceilings_say_all_in_one_point_and_show_it(tmp_path):
    made = plan(tmp_path)
    for agent in ("random", "oracle", "oracle-planner"):
        facts = here(made, agent, REACH)
        [point] = facts["points"]
        assert facts["status"] == "done" and point["steps"] == 0 and facts["checkpoint"] is None
        assert point["successes"] == point["final_successes"] == [agent != "random"] * 2
        assert set(facts["films"]) == {"best", "median", "worst"}
        assert all(len(film["gif"]) < 400_000 for film in facts["films"].values())
    assert not runner.to_do(made, ["random", "oracle"], [REACH], [0]).left


def test_hindsight_is_for_goals_and_experts_are_of_our_worlds(tmp_path, capsys):
    left = runner.to_do(plan(tmp_path), ["sac-her", "oracle", "random"], [PENDULUM, NOWHERE], [0]).left
    assert [facts["agent"] for facts in left.values()] == ["random"]
    said = capsys.readouterr().err
    assert "sac-her is left out of Pendulum-v1: it has no goals" in said
    assert "oracle is left out of Pendulum-v1: it has no oracle" in said
    assert "Nowhere-v0 is left out: no environment 'Nowhere-v0'" in said
    facts = here(plan(tmp_path, cpu_seconds=1e-3), "sac-her", REACH)
    assert facts["status"] == "done", facts["reason"]
    assert [point["steps"] for point in facts["points"]] == [0, 100]
    assert facts["resolved"]["learning_starts"] == 100 and facts["resolved"]["n_sampled_goal"] == 4


def test_what_is_finished_is_not_run_again(pieces):
    made, _ = pieces
    assert not runner.to_do(made, ["ours", "ppo"], [PENDULUM], [0]).left
    left = runner.to_do(replace(made, steps=1200), ["ours", "sac", "ppo"], [PENDULUM], [0]).left
    assert [facts["agent"] for facts in left.values()] == ["ours", "sac", "ppo"]
    other = replace(made, suite=replace(SUITE, episodes=3))
    with pytest.raises(UsageError, match="what differs cannot be compared"):
        runner.to_do(other, ["ours"], [PENDULUM], [0])


def test_an_interrupted_piece_ends_with_the_same_points(pieces, tmp_path):
    made, by_agent = plan(tmp_path), pieces[1]
    path = made.path("ours", PENDULUM, 0)

    class AfterLearning(Stop):
        """Asks to stop when there is a second point, as Ctrl-C would."""

        requested = property(lambda self: path.exists() and len(read(path)["points"]) > 1, lambda self, value: None)

    (half,) = run(made, "ours", stop=AfterLearning())
    assert half["status"] == "unfinished" and timeless(half["points"]) == timeless(by_agent["ours"]["points"][:2])
    (whole,) = run(made, "ours")
    assert whole["status"] == "done" and whole["run"] == half["run"]  # from its checkpoint
    assert timeless(whole["points"]) == timeless(by_agent["ours"]["points"])
    assert whole["checkpoint"] == by_agent["ours"]["checkpoint"]
    ppo = made.path("ppo", PENDULUM, 0)
    write_json(ppo, {**by_agent["ppo"], "status": "unfinished", "points": by_agent["ppo"]["points"][:1]})
    again = here(made, "ppo")  # from zero
    assert again["run"] != by_agent["ppo"]["run"] and again["checkpoint"] == by_agent["ppo"]["checkpoint"]
    assert timeless(again["points"]) == timeless(by_agent["ppo"]["points"])


@pytest.mark.parametrize(
    ("agent", "where"), [("ours", (piece.OpenPiece, "finish")), ("sac", (checkpoints, "save_file"))]
)
def test_a_piece_that_is_killed_after_its_last_point_is_not_done_yet(pieces, tmp_path, monkeypatch, agent, where):
    short, whole = plan(tmp_path, cpu_seconds=1e-3 if agent == "sac" else None), pieces[1][agent]

    def killed(*_):
        raise SystemExit

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(*where, killed)
        here(short, agent)
    half = read(short.path(agent, PENDULUM, 0))
    assert half["status"] == "unfinished" and timeless(half["points"]) == timeless(whole["points"])
    again = here(short, agent)
    assert again["status"] == "done" and (again["run"] == half["run"]) == (agent == "ours")  # others begin from zero
    assert timeless(again["points"]) == timeless(whole["points"]) and again["checkpoint"] == whole["checkpoint"]


def test_a_piece_does_not_go_on_with_other_versions(pieces, monkeypatch):
    made = pieces[0]
    longer, path = replace(made, steps=1200), made.path("ours", PENDULUM, 0)
    before = path.read_bytes()
    monkeypatch.setattr(piece, "_version", lambda package: "0.0")
    with pytest.raises(UsageError, match=r"torch \d.*, here 0\.0.*install those versions again, or move its file away"):
        runner.to_do(longer, ["ours"], [PENDULUM], [0])
    assert path.read_bytes() == before
    assert runner.to_do(longer, ["ppo"], [PENDULUM], [0]).left  # which begins from zero anyway


def test_what_another_process_runs_is_left_alone(tmp_path, monkeypatch):
    made = plan(tmp_path)
    path = made.path("random", PENDULUM, 0)
    runner.prepare(path, made.fresh("random", PENDULUM, 0))
    before, scratch = path.read_bytes(), made.scratch_of(path)
    with HomeLock(scratch):
        assert work.main(path, scratch) == 75
    assert path.read_bytes() == before
    here(made, "random")
    whole = path.read_bytes()
    assert work.main(path, scratch) == 0 and path.read_bytes() == whole  # it came to its end while this one began
    path.write_bytes(before)
    # the first time, another process comes first, and is killed in the midst of it
    stand_in(monkeypatch, tmp_path, f'mkdir {tmp_path}/once && exit 75\nexec {sys.executable} "$@"\n')
    assert run(made, "random")[0]["status"] == "done" and (tmp_path / "once").exists()


def test_what_a_killed_writer_left_beside_a_piece_is_removed(tmp_path, monkeypatch):
    made = plan(tmp_path)
    path, fresh = made.path("random", PENDULUM, 0), made.fresh("random", PENDULUM, 0)
    runner.prepare(path, fresh)

    def killed(*_):
        raise SystemExit

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(Path, "replace", killed)
        patch.setattr(Path, "unlink", lambda *_, **__: None)  # who is killed does not tidy up
        write_json(path, fresh | {"status": "done"})
    assert len(list(made.results.iterdir())) == 2
    assert runner.prepare(path, fresh) and list(made.results.iterdir()) == [path]
    assert read(path)["status"] == "unfinished"


def test_a_process_that_dies_is_kept_as_failed_and_the_rest_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(process.sys, "executable", "/bin/false")
    made = plan(tmp_path)
    facts = run(made, "random", "sac", "ours")
    assert [(one["status"], one["reason"]) for one in facts] == [("failed", "its process ended with 1")] * 3
    assert not runner.to_do(made, ["random"], [PENDULUM], [0]).left
    assert runner.to_do(replace(made, retry=True), ["random"], [PENDULUM], [0]).left


def test_a_piece_that_a_signal_stopped_goes_on_and_one_that_failed_keeps_why(tmp_path):
    made = plan(tmp_path)
    path, fresh = made.path("random", PENDULUM, 0), made.fresh("random", PENDULUM, 0)
    child, _ = runner.launch(made, path, fresh)
    child.child.terminate()
    child.child.wait()
    assert "goes on" in runner.ended(child) and read(path)["status"] == "unfinished"
    piece.fail(path, "the roof fell in")
    assert runner.prepare(path, fresh) and read(path)["failures"] == ["the roof fell in"]


@pytest.fixture
def deaf(tmp_path, monkeypatch):
    """Pieces run a program that writes nothing and hears no signal."""
    stand_in(monkeypatch, tmp_path, "trap '' INT TERM\nsleep 600\n")


def test_a_piece_that_does_not_get_on_is_ended_and_kept_as_failed(deaf, tmp_path):
    facts = run(plan(tmp_path, patience=1.0), "random", "noop")
    assert [(one["status"], one["reason"]) for one in facts] == [
        ("failed", "it wrote nothing for 1 s, and was ended")
    ] * 2


def test_a_piece_that_writes_is_not_ended_and_one_that_does_not_stop_is_killed(deaf, tmp_path, monkeypatch, capsys):
    made, stop = plan(tmp_path, patience=1.0), Stop()
    path, asked = made.path("random", PENDULUM, 0), runner.to_do(made, ["random"], [PENDULUM], [0])
    monkeypatch.setattr(process, "GRACE", 0.5)
    running = threading.Thread(target=runner.run, args=(made, asked, 1, stop))
    running.start()
    for k in range(10):
        time.sleep(0.2)
        (made.scratch_of(path) / f"ckpt-{k}").touch()
    assert running.is_alive() and read(path)["status"] == "unfinished"
    stop.requested = 15
    running.join(30)
    assert not running.is_alive() and read(path)["status"] == "unfinished"
    assert "killed, it did not stop within 0.5 s; the same command goes on" in capsys.readouterr().err


def test_one_that_another_process_has_is_waited_for(tmp_path):
    made = plan(tmp_path)
    asked = runner.to_do(made, ["random"], [PENDULUM], [0])
    [path] = asked.left
    lock, stop = HomeLock(made.scratch_of(path)), Stop()
    running = threading.Thread(target=runner.run, args=(made, asked, 1, stop))
    running.start()
    time.sleep(0.5)
    assert running.is_alive() and not path.exists()
    lock.release()
    running.join(60)
    assert read(path)["status"] == "done"


def test_a_file_is_read_for_new_points_only_where_it_has_changed(pieces, tmp_path, monkeypatch, capsys):
    path, facts, reads = tmp_path / "piece.json", pieces[1]["ours"], []
    monkeypatch.setattr(runner, "read", lambda path: reads.append(path) or read(path))
    told = runner.Told(1)
    for points in (1, 3, 2):  # one that begins from zero has fewer
        write_json(path, {**facts, "points": facts["points"][:points]})
        for _ in range(3):
            runner.tell(path, told)
        assert told.points == points
    assert len(reads) == 3
    assert [line.split(",")[0] for line in capsys.readouterr().err.splitlines()] == [
        "piece: 400 env steps",
        "piece: 800 env steps",
    ]
    path.unlink()
    with pytest.raises(ArtefactError, match="is gone"):
        runner.tell(path, told)


def test_a_damaged_piece_is_left_out_and_named(tmp_path, capsys):
    made = plan(tmp_path)
    path = made.path("random", PENDULUM, 0)
    unset = made.fresh("random", PENDULUM, 0) | {"status": "unfinished", "settings": None}
    for facts in ({"agent": "random", "points": [{}]}, unset):
        write_json(path, facts)
        asked = runner.to_do(made, ["random", "noop"], [PENDULUM], [0])
        assert [facts["agent"] for facts in asked.left.values()] == ["noop"]
        assert f"{path} is damaged" in capsys.readouterr().err


def test_ours_without_a_part_is_ours_but_for_that_part(monkeypatch):
    monkeypatch.undo()

    def flat(config, under=""):
        for name, value in config.items():
            yield from flat(value, f"{under}{name}.") if isinstance(value, dict) else [(f"{under}{name}", value)]

    def config(agent):
        return dict(flat(plan(pytest.importorskip("pathlib").Path()).fresh(agent, PENDULUM, 0)["settings"]["config"]))

    whole = config("ours")
    changed = {
        agent: {name: value for name, value in config(agent).items() if value != whole[name]} for agent in ours.PARTS
    }
    assert {f"ours-{part}" for part in names.PARTS} | {"ours"} == set(ours.PARTS)
    assert changed == {
        "ours": {},
        "ours-no-planner": {"train.plan": False},
        "ours-no-ways": {"mind.ways.use": False, "train.places": False},
        "ours-no-prediction": {"brain.model.consistency": 0.0},
        "ours-no-inverse": {"brain.model.inverse": 0.0},
        "ours-no-curiosity": {"train.curious": False},
        "ours-no-bound": {"train.study.window": 1},
        "ours-no-angles": {"brain.encoder.angles": False},
        "ours-three-steps": {"brain.model.unroll": 3},
        "ours-saturated": {"brain.model.saturation": 0.0},
        "ours-slow-targets": {"brain.model.target_rate": 0.01},
        "ours-no-expansion": {"brain.model.expansion": 0},
        "ours-half-updates": {"train.study.ratio": whole["train.study.ratio"] / 2},
    }
