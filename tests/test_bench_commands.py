"""`ami-agent bench`: other people's agents, suites, names, bad input, comparisons."""

import importlib.metadata
import json
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from packages import install
from pieces import made_up, stand_in, write
from test_bench import SUITE, here, plan

from ami_agent import cli
from ami_agent.bench import contenders, others, process, results
from ami_agent.bench.contenders import CONTENDERS
from ami_agent.bench.suites import SUITES
from ami_agent.commands.bench import chosen, numbers
from ami_agent.errors import UsageError


class Lazy:
    """An agent of someone else's that learns nothing, in as many steps as it may."""

    def __init__(self, spec, seed):
        self.size = spec.action_size

    def reset(self, done):
        pass

    def act(self, observation):
        return np.zeros((len(next(iter(observation.values()))), self.size), np.float32)

    def train(self, environment, steps, judge):
        lived = 0
        while judge(lived):
            lived += environment.spec.action_repeat


class Flat(Lazy):
    def act(self, observation):
        return super().act(observation)[:, 0]


class Lost(Lazy):
    def act(self, observation):
        return np.full_like(super().act(observation), np.nan)


class Dumb:
    """Cannot act."""


class Halfway(Lazy):
    def train(self, environment, steps, judge):
        judge(0)


@pytest.fixture
def plugins(monkeypatch):
    points = [
        importlib.metadata.EntryPoint(name, value, others.GROUP)
        for name, value in (
            ("lazy", f"{__name__}:Lazy"),
            ("halfway", f"{__name__}:Halfway"),
            ("flat", f"{__name__}:Flat"),
            ("lost", f"{__name__}:Lost"),
            ("broken", "no_such_module:Agent"),
            ("dumb", f"{__name__}:Dumb"),
            ("<b>", f"{__name__}:Lazy"),
        )
    ]
    monkeypatch.setattr(others.metadata, "entry_points", lambda group: points if group == others.GROUP else [])
    others.load_agents.cache_clear()
    yield
    others.load_agents.cache_clear()


def test_agents_of_other_packages_compete(plugins, tmp_path, capsys):
    facts = here(plan(tmp_path), "lazy")
    assert facts["status"] == "done", facts["reason"]
    assert [point["steps"] for point in facts["points"]] == [0, 400, 800]
    assert facts["settings"]["config"]["class"].endswith(":Lazy")
    early = here(plan(tmp_path), "halfway")
    assert early["status"] == "failed" and "ended its training before 800 steps" in early["reason"]
    for name, reason in (("broken", "ModuleNotFound"), ("dumb", "has no reset and no act"), ("<b>", "letters, digits")):
        with pytest.raises(UsageError, match=f"{name}' is broken: .*{reason}"):
            contenders.contender(name)
    assert cli.main(["bench", "list", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(CONTENDERS) < set(told["agents"]) and told["agents"]["broken"].startswith("broken: ")
    assert set(told["suites"]) == set(SUITES)


def test_an_agent_in_a_package_of_its_own_competes(tmp_path):
    code = Path(__file__).with_name("example_agent")
    project = tomllib.loads((code / "pyproject.toml").read_text())["project"]
    env = install(tmp_path / "installed", project, code)

    line = [sys.executable, "-m", "ami_agent", "bench", "run", "--agents", "example", "--tasks", "ami/Reach"]
    line += ["--seeds", "1", "--cpu-seconds", "0.001"]
    done = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stdout.startswith("1 piece was run"), done.stderr
    [path] = (tmp_path / "results").iterdir()
    piece = results.read(path)  # as a leaderboard would
    assert (piece.agent, piece.status, piece.learns) == ("example", "done", True)
    told = {"class": "example_agent:Climber", "package": "example-agent", "version": "0.1.0"}
    assert piece.settings["config"] == told


def test_what_is_no_action_is_named_and_not_taken_for_a_fault_of_the_world(plugins, tmp_path):
    for agent, reason in (("flat", " has shape (2,), expected (2, 1)"), ("lost", "[0] of world 0 is nan, not finite")):
        facts = here(plan(tmp_path), agent)
        assert (facts["status"], facts["reason"]) == ("failed", f"ValueError: action{reason}")


def test_a_protocol_is_known_by_what_it_asks():
    core = SUITES["core-v1"]
    assert replace(core, about="told otherwise").protocol == core.protocol
    changed = [replace(core, episodes=21), replace(core, tasks=core.tasks[1:]), replace(core, name="core-v2")]
    changed += [replace(core, tasks=(replace(core.tasks[0], floor=0.5), *core.tasks[1:]))]
    assert len({suite.protocol for suite in (core, *changed)}) == 5
    for suite in SUITES.values():
        assert len({task.name for task in suite.tasks}) == len(suite.tasks)
        assert all(task.steps % task.every == 0 and task.ability for task in suite.tasks)


def test_names_and_numbers():
    external = SUITES["external-v1"]
    assert [task.short for task in chosen(external, "cart,Pusher")] == ["cartpole-swingup-v0", "Pusher-v5"]
    assert chosen(external, "") == chosen(external, ",") == list(external.tasks)
    assert [task.name for task in chosen(SUITES["ami-bench-v1"], "ami/Reach-v0")] == ["ami/Reach-v0"]
    assert numbers("3") == [0, 1, 2] and numbers("3,") == [3] and numbers("4,1,4") == [4, 1]
    for wrong in ("", "-1", "0", "x", "1,1000", str(10**18)):
        with pytest.raises(UsageError, match="--seeds must be"):
            numbers(wrong)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--suite", "core"], "there are core-v1, ami-bench-v1, external-v1"),
        (["--agents", "our"], "there is ours"),
        (["--agents", ""], "names nobody"),
        (["--tasks", "Chess"], "core-v1 has no task 'Chess'"),
        (["--steps", "7"], "--steps must be a multiple of"),
        (["--jobs", "0"], "--jobs must lie from 1"),
        (["--cpu-seconds", "-1"], "--cpu-seconds must lie from"),
        (["--patience", "nan"], "--patience must lie from"),
    ],
)
def test_bad_input_is_named(flags, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["bench", "run", *flags]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_command_runs_a_suite_and_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    line = ["bench", "run", "--agents", "random,noop", "--tasks", "ami/Reach", "--seeds", "1", "--jobs", "2", "--json"]
    assert cli.main(line) == 0
    told = {"failed": {}, "damaged": {}, "left_out": {}, "unfinished": [], "locked": []}
    assert json.loads(capsys.readouterr().out) == {"results": "results", "pieces": 2, "done_before": 0, **told}
    before = {path.name: path.read_bytes() for path in (tmp_path / "results").glob("*.json")}
    assert len(before) == 2
    assert cli.main(line) == 0
    assert json.loads(capsys.readouterr().out) == {"results": "results", "pieces": 0, "done_before": 2, **told}
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "results").glob("*.json")}


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """The command with the tiny suite, in a folder of its own; a piece's process fails at once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(SUITES, SUITE.name, SUITE)
    monkeypatch.setattr(process.sys, "executable", "/bin/false")

    def command(agents, tasks, *more):
        return cli.main(
            ["bench", "run", "--suite", SUITE.name, "--seeds", "1", "--agents", agents, "--tasks", tasks, *more]
        )

    return command


def test_what_failed_is_damaged_or_cannot_be_run_is_told_and_not_taken_for_done(tiny, capsys):
    assert tiny("random,noop", "Pendulum-v1,Nowhere-v0", "--jobs", "2") == 4
    said = capsys.readouterr().out
    assert "2 pieces were run, 2 of them failed; results are in results\n" in said
    assert "failed: tiny--noop--Pendulum-v1--0: its process ended with 1\n" in said
    assert "left out: Nowhere-v0: no environment 'Nowhere-v0'" in said
    assert tiny("random,noop", "Pendulum-v1", "--json") == 4  # none is run, none is there
    told = json.loads(capsys.readouterr().out)
    assert told["pieces"] == told["done_before"] == 0 and len(told["failed"]) == 2
    Path("results/tiny--random--Pendulum-v1--0.json").write_text("{}")
    assert tiny("random", "Pendulum-v1") == 4
    assert "0 pieces were run; results are in results\ndamaged: tiny--random--" in capsys.readouterr().out
    assert tiny("random", "Nowhere-v0", "--json") == 3
    assert "no environment" in json.loads(capsys.readouterr().out)["left_out"]["Nowhere-v0"]
    assert tiny("sac-her", "Pendulum-v1") == 2
    assert "left out: sac-her on Pendulum-v1: it has no goals" in capsys.readouterr().out


def test_a_piece_whose_file_is_spoiled_meanwhile_does_not_end_the_others(tiny, tmp_path, monkeypatch, capsys):
    spoils = 'case "$3" in *random*) echo "{" > "$3"; exec sleep 600;; esac\nsleep 2; exit 1\n'
    stand_in(monkeypatch, tmp_path, spoils)
    assert tiny("random,noop", "Pendulum-v1", "--jobs", "2") == 4
    said = capsys.readouterr().out
    assert "1 piece was run, 1 of them failed" in said and "failed: tiny--noop--Pendulum-v1--0" in said
    assert "damaged: tiny--random--Pendulum-v1--0" in said


def test_patience_is_as_long_as_is_said(tiny, tmp_path, monkeypatch, capsys):
    stand_in(monkeypatch, tmp_path, "sleep 600\n")
    assert tiny("random", "Pendulum-v1", "--patience", "0.5") == 4
    assert "failed: tiny--random--Pendulum-v1--0: it wrote nothing for 0.5 s, and was ended" in capsys.readouterr().out


def test_a_world_that_is_missing_does_not_fail_what_is_done(tiny, capsys):
    made = plan(Path.cwd())
    here(made, "random")
    assert tiny("random", "Pendulum-v1,Nowhere-v0") == 0
    assert capsys.readouterr().out.startswith("0 pieces were run; results are in results\nleft out: Nowhere-v0")


def test_compare_says_whether_b_is_worse(tmp_path, capsys):
    names = [task.name for task in SUITES["core-v1"].tasks]
    for folder, scores in (("a", (0.8, 0.7, 0.9)), ("b", (0.2, 0.3, 0.25))):
        pieces = [made_up("ours", name, seed, 0.0, score) for name in names for seed, score in enumerate(scores)]
        write(tmp_path / folder, *pieces)
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    assert cli.main(["bench", "compare", a, b]) == 4
    assert "B is WORSE than A" in capsys.readouterr().out
    assert cli.main(["bench", "compare", b, a, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert not told["worse"] and told["suites"][0]["gain"][0] > 0 and set(told["suites"][0]["tasks"]) == set(names)
    assert cli.main(["bench", "compare", a, f"{b}:sac"]) == 2
    assert "has no results of sac; there is ours" in capsys.readouterr().err
