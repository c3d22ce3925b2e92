"""Forgetting: what goes and what stays, by an agent and by its user."""

import itertools
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from episodes import make
from test_agent import QUICK, SMALL, lived

from ami_agent import cli
from ami_agent.agent import AmiAgent
from ami_agent.brain import Brain
from ami_agent.brains import learned_path
from ami_agent.environment import Environment
from ami_agent.errors import UsageError
from ami_agent.memory.capacity import select
from ami_agent.memory.duplicates import covers
from ami_agent.memory.forgetting import ForgettingConfig, Trace, byte_count, choose
from ami_agent.memory.lock import HomeLock
from ami_agent.memory.store import EpisodeStore

PLAIN = ForgettingConfig(surprise=1, success=1, recency=1)


def trace(id, environment="e", task="", steps=10, success=False, total=0.0, surprise=1.0, bytes=100.0):
    return Trace(id, environment, task, steps, bytes, success, total, surprise)


# --- which -------------------------------------------------------------------------------------------------------


def stay(traces, steps, config=PLAIN):
    gone = set(choose(traces, (steps, float("inf")), config).ids)
    return [one for one in traces if one.id not in gone]


@pytest.mark.parametrize(
    ("config", "better"),
    [
        (replace(PLAIN, surprise=16), lambda id: {"surprise": 5.0 if id % 2 else 1.0}),
        (replace(PLAIN, success=4), lambda id: {"success": bool(id % 2)}),
        (replace(PLAIN, success=4), lambda id: {"success": None, "total": 1.0 if id % 2 else -1.0}),
    ],
)
def test_what_surprised_or_went_well_stays_more_often(config, better):
    kept = stay([trace(id, **better(id)) for id in range(1, 401)], 2000, config)
    assert len(kept) == 200
    favoured = sum(one.id % 2 for one in kept)
    assert 135 <= favoured <= 165, "four to one, drawn without replacement; the dull are thinned out, not wiped out"
    plain = sum(one.id % 2 for one in stay([trace(id, **better(id)) for id in range(1, 401)], 2000))
    assert 90 <= plain <= 110


def test_what_is_recent_stays_more_often_and_the_choice_is_always_the_same():
    traces = [trace(id) for id in range(1, 401)]
    kept = stay(traces, 2000, replace(PLAIN, recency=16))
    assert sum(one.id > 200 for one in kept) > 130 and min(one.id for one in kept) < 50
    assert kept == stay(traces, 2000, replace(PLAIN, recency=16))


def test_nobody_is_emptied_while_others_have_more_than_their_share():
    tasks = [("a", "1", 40), ("a", "2", 3), ("b", "", 4), ("c", "", 1)]
    ids = itertools.count(1)
    traces = [trace(next(ids), environment, task) for environment, task, n in tasks for _ in range(n)]
    kept = Counter((one.environment, one.task) for one in stay(traces, 150))
    assert kept == {("a", "1"): 7, ("a", "2"): 3, ("b", ""): 4, ("c", ""): 1}
    few = Counter((one.environment, one.task) for one in stay(traces, 40))
    assert few == {("a", "1"): 1, ("a", "2"): 1, ("b", ""): 1, ("c", ""): 1}
    huge = [trace(1, "huge", steps=1500), *(trace(id, "small", steps=60) for id in range(2, 12))]
    assert len(stay(huge, 1700)) == len(stay(huge, 1000)) == 10, "more than its share, while others have but theirs"
    assert {one.environment for one in stay([trace(1, "huge", steps=450), *huge[1:]], 1000)} == {"huge", "small"}
    assert stay(traces, 0) == [] and stay(traces, 480) == traces


def test_both_limits_hold():
    traces = [trace(id, steps=id, bytes=1000.0 / id) for id in range(1, 51)]
    gone = set(choose(traces, (600, 2000), PLAIN).ids)
    kept = [one for one in traces if one.id not in gone]
    assert sum(one.steps for one in kept) <= 600 and sum(one.bytes for one in kept) <= 2000 and len(kept) > 10


def test_near_duplicates_go_first(store):
    """Of walks to and fro along one line, those of the same pace are one; another's end, or outcome, is another."""

    def walk(steps, end=1.0, noise=0.0, seed=0, **changes):
        line = np.linspace(0, end, steps + 1)[:, None] * np.ones((1, 4))
        latent = (line + noise * np.random.default_rng(seed).normal(size=line.shape)).astype(np.float32)
        return make(seed, steps, latent=latent, terminated=False, success=False, **changes)

    for one in [
        walk(20),  # 1: covered by 2, 3 or 5
        walk(20, noise=0.002, seed=1),
        walk(40),  # 3: half the stride
        walk(20, end=0.5),  # 4: ends elsewhere
        walk(20, noise=0.002, seed=2),
        replace(walk(20), success=True),  # 6: another outcome
        replace(walk(20), task="other"),
        replace(walk(20), latent=None, encoder=""),
        replace(walk(20), encoder="beta"),
    ]:
        store.append(one)
    choice = select(store, ForgettingConfig(steps=store.steps - 1))
    assert len(choice.duplicates) == 1 and choice.duplicates[0].id in {1, 2, 3, 5} and not choice.others
    fewer = select(store, ForgettingConfig(steps=100))
    assert {one.id for one in fewer.duplicates} < {1, 2, 3, 5} and 2 <= len(fewer.duplicates) <= 3 and fewer.others
    assert not select(store, ForgettingConfig(steps=100, near=0)).duplicates


def test_covering_is_in_order_and_from_end_to_end():
    there = np.arange(6.0)[:, None]
    assert covers(there, there + 0.3, 0.5) and covers(there, there[[0, 0, 3, 5]], 0.1)
    assert not covers(there, there[::-1], 0.5) and not covers(there, there[[0, 3, 2, 5]], 0.1)
    assert not covers(there, there[:-1], 0.5) and not covers(there, there[1:], 0.5)
    assert not covers(there[[0, 5]], there, 0.5), "what one did between is not in the other"


@pytest.mark.parametrize(
    ("text", "bytes"),
    [("0", 0), ("2GB", 2 * 10**9), ("1.5 mb", 1_500_000), ("1GiB", 2**30), ("10k", 10_000), ("7B", 7)],
)
def test_sizes(text, bytes):
    assert byte_count(text) == bytes


@pytest.mark.parametrize(
    "wrong",
    [
        {"bytes": "lots"},
        {"bytes": "-1"},
        {"bytes": "1iB"},
        {"bytes": "2"},
        {"bytes": "999KB"},
        {"steps": -1},
        {"margin": 1},
        {"surprise": 0.5},
        {"near": -1},
    ],
)
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(UsageError):
        ForgettingConfig(**wrong)


# --- by an agent, and by its user --------------------------------------------------------------------------------


def test_an_agent_forgets_as_it_lives(tmp_path):
    reach = Environment("ami/Reach-v0", 2)
    with EpisodeStore(tmp_path / "memory.sqlite") as store:
        config = replace(QUICK, forgetting=ForgettingConfig(steps=300))
        agent = AmiAgent(Brain(reach.spec, SMALL, seed=1), config, 0, store)
        episodes = lived(reach, agent, 2)
        for episode in episodes * 6:
            agent.remember(episode)
            assert store.steps <= 300
        assert agent.forgotten == 12 - len(store) > 0 and len(agent.memory) == store.steps + len(store)
        again = AmiAgent(agent.brain, config, 0, store).memory
        query = store.read(store.ids()[0], agent.brain.encoder_id()).latent[:3]
        for one, other in zip(agent.memory.recall(query, 9), again.recall(query, 9), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("learn", [False, True])
def test_a_run_keeps_to_the_capacity(capsys, tmp_path, monkeypatch, learn):
    monkeypatch.chdir(tmp_path)
    words = ["--env", "Pendulum-v1", "--episodes", "3", "--home", "home", "--forgetting.steps", "450", "--json"]
    if learn:
        words.append("--learn")
    else:
        spec = Environment("Pendulum-v1", 1).spec
        Brain(spec, SMALL).save(learned_path(tmp_path / "home" / "agents" / "default", spec.environment))
        words += ["--embed-first", "0", "--no-plan"]
    assert cli.main(["run", *words]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["memory"] == {"episodes": 2, "steps": 400} and facts["forgotten"] == 1
    assert facts["embedding"] == (None if learn else "before")
    assert "1 forgotten" in (tmp_path / facts["run"] / "report.html").read_text()
    if not learn:
        Brain(spec, SMALL, seed=2).save(learned_path(tmp_path / "home" / "agents" / "default", spec.environment))
        assert cli.main(["run", *words]) == 0
        assert json.loads(capsys.readouterr().out)["embedding"] == "meanwhile"


def test_a_run_tells_of_damaged_episodes(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec, folder = Environment("Pendulum-v1", 1).spec, tmp_path / "home" / "agents" / "default"
    words = ["run", "--env", "Pendulum-v1", "--episodes", "1", "--home", "home", "--no-plan"]
    for seed, flag in enumerate(["--json", "--json", "--no-json"]):
        Brain(spec, SMALL, seed).save(learned_path(folder, spec.environment))
        assert cli.main([*words, flag]) == 0
        told = capsys.readouterr().out
        if flag == "--json":
            assert json.loads(told)["skipped_episodes"] == seed
        with EpisodeStore(folder / "memory.sqlite") as store:
            store._db.execute("UPDATE chunk SET data = zeroblob(9) WHERE episode = 1")
    assert "damaged episodes left out: 1; see `ami-agent memory verify`" in told


def test_memory_forget(capsys, tmp_path):
    path = tmp_path / "agents" / "default" / "memory.sqlite"
    path.parent.mkdir(parents=True)
    with EpisodeStore(path) as store:
        for seed in range(40):
            store.append(make(seed, observation={"state": np.random.default_rng(seed).random((6, 999))}))

    def call(*words):
        code = cli.main(["memory", "forget", "--home", str(tmp_path), *words])
        return code, capsys.readouterr()

    before = path.read_bytes()
    code, told = call("--steps", "150", "--dry-run", "--json")
    would = json.loads(told.out)
    assert code == 0 and path.read_bytes() == before and would["forgotten"] == 10 and would["dry_run"]
    assert "would be forgotten" in call("--steps", "150", "--dry-run")[1].out
    code, told = call("--steps", "150", "--json")
    facts = json.loads(told.out)
    assert (facts["ids"], facts["steps"]) == (would["ids"], 50) and facts["environments"] == {"ami/Push-v0": 10}
    with EpisodeStore(path) as store:
        assert store.steps == 150 and not set(store.ids()) & set(facts["ids"]) and store.verify() == []
    small = json.loads(call("--bytes", "1MB", "--json")[1].out)
    assert small["bytes"] <= 1_000_000 < small["bytes_before"]
    assert call()[0] == 2 and call("--bytes", "2 elephants")[0] == 2 and call("--steps", "-1")[0] == 2
    with HomeLock(path.parent):
        assert call("--steps", "1")[0] == 75 and call("--steps", "1", "--dry-run")[0] == 0
