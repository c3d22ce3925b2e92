"""Files of the benchmark's results: what is refused, by name, and what `leaderboard check` and `add` do."""

from __future__ import annotations

import copy
import json
import os

import pytest
from pieces import GIF, judged, made_up, write

from ami_agent import cli
from ami_agent.bench.results import file_name, load, read
from ami_agent.bench.schema import LARGEST_FILE, RefusedResult
from ami_agent.bench.suites import SUITES
from ami_agent.errors import ResourceError
from ami_agent.files import write_bytes

REACH, PENDULUM = "ami/Reach-v0", "Pendulum-v1"


def changed(path, value, task=REACH):
    """A piece in which one place, such as "points.1.returns.0", holds `value`; Ellipsis takes the place away."""
    facts = copy.deepcopy(made_up("ours", task, 3, 0.0, 0.5))
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    where = facts
    for part in way:
        where = where[part]
    if value is ...:
        del where[last]
    else:
        where[last] = value
    return facts


def refused(tmp_path, facts):
    path = tmp_path / "piece.json"
    path.write_text(facts if isinstance(facts, str) else json.dumps(facts))
    with pytest.raises(RefusedResult) as caught:
        read(path)
    assert caught.value.exit_code == 4
    return "\n".join(caught.value.faults)


def test_a_piece_is_read(tmp_path):
    facts = made_up("ours", REACH, 3, 0.0, 0.5, films={"best": {"seed": 1_003_000, "gif": GIF}})
    write(tmp_path, facts)
    [path] = tmp_path.iterdir()
    assert path.name == "core-v1--ours--ami-Reach-v0--3.json"
    piece = read(path)
    assert (piece.agent, piece.task.name, piece.seed, piece.mujoco) == ("ours", REACH, 3, "4.0.0")
    assert piece.score() == piece.value() == 0.5 and [point.steps for point in piece.points] == [0, 10_000]
    assert piece.films == {"best": (1_003_000, GIF)} and piece.versions["python"] == "3.11.2"
    assert piece.machine == "abacus, 2 cores" and piece.at().prior is None


def test_a_policy_prior_is_kept_beside_its_planner(tmp_path):
    facts = made_up("ours", REACH, 3, 0.0, 0.5)
    facts["points"][1]["prior"] = judged(SUITES["core-v1"], SUITES["core-v1"].task(REACH), 3, 0.25)
    [piece] = load([write(tmp_path, facts)]).pieces
    assert piece.at().prior.value(piece.task, 20) == 0.25 and piece.score() == 0.5


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("format", 2, "this version reads 1"),
        ("suite", "core-v9", "no suite 'core-v9'; there are core-v1"),
        ("protocol", "0123456789abcdef", "protocol '0123456789abcdef', core-v1 has"),
        ("task", "ami/Rech-v0", "has no task 'ami/Rech-v0'; there is ami/Reach-v0"),
        ("seed", -1, "seed must be a whole number"),
        ("seed", True, "seed must be a whole number"),
        ("status", "finished", "unfinished, done or failed"),
        ("status", [], "unfinished, done or failed"),
        ("status", "failed", "tells no reason"),
        ("points", [], "it is done, and has no points"),
        ("points", {}, "points must be a list"),
        ("agent", "<script>alert(1)</script>", "agent '<script>alert(1)</script>': letters, digits"),
        ("agent", '" onmouseover=', "letters, digits"),
        ("agent", "../../etc/passwd", "letters, digits"),
        ("agent", "ours--core", "letters, digits"),
        ("agent", "a" * 49, "letters, digits"),
        ("agent", "\u202eours", "letters, digits"),
        ("agent", None, "letters, digits"),
        ("agent", "SB3.SAC", "agent 'SB3.SAC': it looks like 'sac'"),
        ("agent", "Ours", "it looks like 'ours'"),
        ("reason", 7, "reason must be a text"),
        ("command", "bench run", "command must be a list of texts"),
        ("settings.options", '{"goal": "near"}', "settings.options is '{\"goal\": \"near\"}', core-v1 has '{}'"),
        ("settings.config", {"x": 10**400}, "settings must be an object"),
        ("settings.repeat", 4, "settings.repeat is 4, core-v1 has 1"),
        ("settings.episodes", 5, "settings.episodes is 5, core-v1 has 20"),
        ("evaluation_seeds", [0, 19], "evaluation_seeds must be [1003000, 1003019] for seed 3 and 20 episodes"),
        ("versions.mujoco", None, "versions has no mujoco"),
        ("versions.numpy", ..., "versions has no numpy"),
        ("versions", ..., "missing: versions"),
        ("start", "yesterday", "start must be a time"),
        ("checkpoint", "abc", "checkpoint must be a SHA-256"),
        ("score", 0.99, "unknown field 'score'"),
        ("points.1.score", 0.99, "points[1]: unknown field 'score'"),
        ("points.1.costs", ..., "points[1] lacks costs"),
        ("points.1", 7, "points[1] must be an object"),
        ("points.0.wall_seconds", 1e6, "points[1]: steps and seconds must grow from point to point"),
        ("points.1.cpu_seconds", -1.0, "points[1].cpu_seconds must be a number from 0 on"),
        ("points.1.decisions", 3, "points[1]: 3 decisions, 1 env steps each, are not its steps"),
        ("points.1.returns", [1.0] * 19, "points[1].returns has 19 entries, seeds has 20"),
        ("points.1.returns", "1" * 20, "points[1].returns must be a list"),
        ("points.1.returns.4", None, "points[1].returns[4] must be a finite number"),
        ("points.1.returns.4", "9", "points[1].returns[4] must be a finite number"),
        ("points.1.returns.4", 1e300, "points[1].returns[4] must be a finite number within 1e+09, not 1e+300"),
        ("points.1.lengths.0", 0, "points[1].lengths[0] must be a whole number from 1 on"),
        ("points.1.seeds.0", 7, "points[1].seeds must be some of 1003000 to 1003019"),
        ("points.1.seeds.1", 1_003_000, "points[1].seeds must be some of"),
        ("points.1.successes.0", None, "successes must be told: ami/Reach-v0 is judged by success"),
        ("points.1.successes.0", 1, "points[1].successes[0] must be true, false or null"),
        ("points.1.final_successes.19", True, "a success at the last step is a success at any time"),
        ("points.1.prior", {"returns": []}, "points[1].prior must have seeds, returns"),
        ("films", {"best": {"seed": 1_003_000, "gif": "PHN2Zz4="}}, "films must be"),  # <svg>
        ("films", {"best": {"seed": 1_003_000, "gif": '"><script>'}}, "films must be"),
        ("films", {"finest": {"seed": 1_003_000, "gif": GIF}}, "films must be"),
        ("films", {"best": {"seed": 1, "gif": GIF}}, "films.best is of seed 1"),
        ("resolved", [1], "resolved must be an object"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, path, value, said):
    assert said in refused(tmp_path, changed(path, value))


def test_returns_that_cannot_be_are_refused(tmp_path):
    facts = made_up("ours", "Pendulum-v1", 3, 0.5)
    facts["points"][0]["returns"][2] = 1e5
    assert "points[0].returns has 100000: no episode of Pendulum-v1 can have more than 0" in refused(tmp_path, facts)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cannot be read as JSON"),
        ("[]", "holds no JSON object"),
        ("[" * 100_000, "cannot be read as JSON"),
        (b"\xff\xfe{}".decode("latin-1"), "cannot be read as JSON"),
        ('{"format": 1, "format": 1}', "a name stands twice"),
        ('{"returns": [NaN]}', "NaN is no finite number"),
        ('{"returns": [-Infinity]}', "-Infinity is no finite number"),
        ("{}", "missing: format, suite"),
        (json.dumps(changed("points.1.returns.0", -615.5)).replace("-615.5", "1e999"), "not infinity"),
        (json.dumps(changed("settings.config", 7.5)).replace("7.5", "[" * 99 + "]" * 99), "at most 20 levels"),
    ],
    ids=range(10),
)
def test_what_is_no_result_is_refused(tmp_path, text, said):
    assert said in refused(tmp_path, text)


def test_all_that_is_wrong_is_said_at_once(tmp_path):
    facts = changed("points.1.returns.0", None) | {"evaluation_seeds": [1, 2]}
    assert len(refused(tmp_path, facts).splitlines()) == 2


def test_large_and_odd_files_are_not_opened(tmp_path):
    large, pipe = tmp_path / "large.json", tmp_path / "pipe.json"
    with large.open("wb") as file:
        file.truncate(LARGEST_FILE + 1)
    os.mkfifo(pipe)
    assert set(load([tmp_path]).faults) == {large, pipe}


def test_a_piece_that_fails_before_its_first_point_needs_no_more(tmp_path):
    facts = made_up("ours", REACH, 0, status="failed", reason="RuntimeError: no")
    short = {name: facts[name] for name in ("format", "suite", "protocol", "agent", "task", "seed", "settings")}
    short |= {"status": "failed", "reason": "RuntimeError: no", "points": []}
    [piece] = load([write(tmp_path, short)]).pieces
    assert piece.score() == 0 and piece.counts and not piece.learns


def test_what_would_steer_a_terminal_is_made_visible(tmp_path):
    facts = made_up("ours", REACH, 0, 0.5, status="failed", reason="a\x1b[2J\nb\u202ec\ud800")
    facts["hardware"]["processor"], facts["command"] = "\x07", ["bench", "\u200b"]
    facts["versions"]["\ud800\u202egnp"] = "1"
    [piece] = load([write(tmp_path, facts)]).pieces
    assert piece.reason == "a\ufffd[2J b\ufffdc\ufffd" and piece.command == ("bench", "\ufffd")
    assert piece.hardware["processor"] == "\ufffd" and piece.versions["\ufffd\ufffdgnp"] == "1"


def test_void_episodes_count_as_the_floor(tmp_path):
    facts = made_up("ours", PENDULUM, 0, 0.0, 1.0)
    for name in ("seeds", "returns", "successes", "final_successes", "costs", "lengths"):
        facts["points"][1][name] = facts["points"][1][name][:15]
    [piece] = load([write(tmp_path, facts)]).pieces
    assert piece.score() == pytest.approx(0.75)


def test_points_beyond_the_task_do_not_count(tmp_path):
    facts = made_up("ours", REACH, 0, 0.0, 0.5, 1.0)
    for k, steps in enumerate((0, 10_100, 20_000)):
        facts["points"][k] |= {"steps": steps, "decisions": steps}
    [piece] = load([write(tmp_path, facts)]).pieces
    assert piece.score() == 0.5 and piece.score(5_000) == 0.0
    assert piece.score(axis="cpu_seconds") == 1.0 and piece.score(99.0, "cpu_seconds") == pytest.approx(0.99)


def ami(capsys, *words):
    code = cli.main(["leaderboard", *map(str, words)])
    return code, capsys.readouterr()


def test_check_says_what_is_well_and_what_is_not(tmp_path, capsys):
    folder = write(tmp_path / "in", made_up("ours", REACH, 0, 0.5), made_up("sac", REACH, 0, 0.5))
    assert ami(capsys, "check", folder)[1].out == "2 of 2 files are well\n"
    (folder / "again.json").write_bytes((folder / file_name("core-v1", "ours", REACH, 0)).read_bytes())
    write(folder, changed("protocol", "f" * 16))
    code, printed = ami(capsys, "check", folder)
    assert code == 4 and "2 of 4 files are well" in printed.out
    assert "FAULT" in printed.out and "the same suite, agent, task and seed as" in printed.out
    code, printed = ami(capsys, "check", "--json", folder)
    told = json.loads(printed.out)
    assert code == 4 and told["ok"] is False and len(told["faults"]) == 2


def test_check_of_nothing_is_a_usage_error(tmp_path, capsys):
    assert ami(capsys, "check", tmp_path)[0] == ami(capsys, "check", tmp_path / "no")[0] == 2
    assert ami(capsys, "add")[0] == 2


def test_add_files_whole_files_and_overwrites_none(tmp_path, capsys):
    given, kept = tmp_path / "given", tmp_path / "results"
    write(given, made_up("ours", REACH, 0, 0.5))
    odd = given / "some name.json"
    odd.write_text(json.dumps(made_up("sac", REACH, 1, 0.25)))
    code, printed = ami(capsys, "add", given, "--results", kept)
    assert code == 0 and "2 added" in printed.out
    assert {path.name for path in kept.iterdir()} == {
        "core-v1--ours--ami-Reach-v0--0.json", "core-v1--sac--ami-Reach-v0--1.json",
    }  # fmt: skip
    assert (kept / "core-v1--sac--ami-Reach-v0--1.json").read_bytes() == odd.read_bytes()
    assert "0 added, 2 were there before" in ami(capsys, "add", given, "--results", kept)[1].out
    before = {path.name: path.read_bytes() for path in kept.iterdir()}
    write(given, made_up("ours", REACH, 0, 0.75), made_up("ours", REACH, 1, 0.75))
    code, printed = ami(capsys, "add", given, "--results", kept)
    assert code == 2 and "another result is in" in printed.err
    write(given, made_up("ours", REACH, 0, 0.5), changed("protocol", "f" * 16))
    code, printed = ami(capsys, "add", given, "--results", kept)
    assert code == 4 and "nothing was added" in printed.err and "protocol" in printed.err
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before
    mine = kept / "mine.json"
    (kept / "core-v1--ours--ami-Reach-v0--0.json").rename(mine)
    write(given, made_up("ours", REACH, 1, 0.5))
    (given / "core-v1--ours--ami-Reach-v0--1.json").write_text(json.dumps(made_up("ours", REACH, 0, 0.6)))
    code, printed = ami(capsys, "add", given / "core-v1--ours--ami-Reach-v0--1.json", "--results", kept)
    assert code == 2 and "mine.json; move it away" in printed.err


def test_add_files_all_or_none(tmp_path, capsys, monkeypatch):
    given, kept, written = tmp_path / "given", tmp_path / "results", []
    write(given, *(made_up("ours", REACH, seed, 0.5) for seed in range(3)))

    def full(path, data):
        if len(written) == 2:
            raise ResourceError("no room left")
        written.append(path)
        write_bytes(path, data)

    monkeypatch.setattr("ami_agent.commands.leaderboard.write_bytes", full)
    assert ami(capsys, "add", given, "--results", kept)[0] == 6
    assert len(written) == 2 and list(kept.iterdir()) == []
