"""Forgetting: what goes and what stays, all or nothing, and only what the capacity asks for."""

import itertools
import json
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from episodes import assert_same, in_a_file, make
from test_agent import QUICK, SMALL, lived
from test_journal import plain, steps_of

from ami_agent import cli
from ami_agent.agent import AmiAgent
from ami_agent.brain import Brain
from ami_agent.brains import learned_path
from ami_agent.environment import Environment
from ami_agent.errors import ResourceError, UsageError
from ami_agent.memory import capacity
from ami_agent.memory.capacity import forget, let_go, select
from ami_agent.memory.duplicates import covers
from ami_agent.memory.episodic import EpisodicMemory
from ami_agent.memory.forgetting import ForgettingConfig, Trace, byte_count, choose
from ami_agent.memory.journal import Journal
from ami_agent.memory.lock import HomeLock
from ami_agent.memory.replay import Replay
from ami_agent.memory.store import EpisodeStore

ROOT = Path(__file__).parent.parent
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


# --- in a store --------------------------------------------------------------------------------------------------


def test_the_capacity_holds_over_many_episodes(store):
    config, passes = ForgettingConfig(steps=300), 0
    for seed in range(150):
        store.append(make(seed, environment="ami/Reach-v0" if seed < 20 else "ami/Push-v0"))
        passes += bool(forget(store, config))
        assert store.steps <= 300
    assert passes == 13, "a tenth is made free at once"
    kept = {name: facts["steps"] for name, facts in store.stats()["environments"].items()}
    assert kept["ami/Reach-v0"] == 100 and store.verify() == []
    assert store.append(make(0)) == 151, "ids are never used twice"
    assert forget(store, ForgettingConfig()) == []


def test_the_room_on_the_disk_holds(store):
    images = {"image": np.random.default_rng(0).integers(0, 256, (31, 32, 32, 3), np.uint8)}
    for seed in range(60):
        store.append(make(seed, steps=30, observation=images))
        forget(store, ForgettingConfig(bytes="3MB"))
        assert store.occupied <= 3_000_000 and (store.shared or store.path.stat().st_size <= 3_000_000)
    assert store.occupied > 2_000_000 and store.verify() == []
    forget(store, ForgettingConfig(bytes="1.5MB"))
    assert store.occupied <= 1_500_000 and len(store) > 5
    assert store.shared or store.stats()["bytes"] <= 1_500_000


@in_a_file
def test_the_room_is_used_by_small_episodes_too_and_passes_are_few(store):
    config, passes, used = ForgettingConfig(bytes="1MB"), 0, []
    for seed in range(520):
        store.append(make(seed, steps=20))
        passes += bool(forget(store, config))
        if passes:
            used.append(sum(capacity._sizes(store).values()))
    assert min(used) > 0.6e6 and passes <= 8 and store.path.stat().st_size <= 1_000_000 and store.verify() == []


@in_a_file
def test_a_file_that_holds_little_is_made_smaller(store):
    for seed in range(30):
        store.append(make(seed, latent=np.random.default_rng(seed).normal(size=(6, 9999)).astype(np.float32)))
    store.drop_latents([])
    assert forget(store, ForgettingConfig(bytes="1MB")) == [] and store.path.stat().st_size < 1_000_000
    assert len(store) == 30 and store.verify() == []


@in_a_file
@pytest.mark.parametrize("damaged", [6, 20])
def test_damage_takes_room_but_never_more_than_half(store, damaged):
    config, passes = ForgettingConfig(steps=100), 0
    for seed in range(80):
        store.append(make(seed))
        if seed < damaged:
            store._db.execute("UPDATE chunk SET data = zeroblob(9) WHERE episode = ?", (seed + 1,))
        elif damaged == 6:
            passes += bool(forget(store, config))
    if damaged == 6:
        assert passes <= 30 and store.steps <= 100
    else:
        forget(store, config)
        assert len(store) == 29, "half of the room is for what can be read"


def test_only_what_has_ended_is_forgotten(store):
    Journal(store).write(steps_of(plain(99)))
    for seed in range(10):
        store.append(make(seed))
    forget(store, ForgettingConfig(steps=20))
    assert store.steps <= 20 and Journal(store).recover() == 1 and len(store.read(11)) == 5


def test_what_is_forgotten_is_not_recalled_and_learning_goes_on(store):
    memory, replay = EpisodicMemory(store, "alpha"), Replay(1000)
    for seed in range(40):
        episode = make(seed)
        replay.add(store.append(episode), episode)
    gone = set(forget(store, ForgettingConfig(steps=100)))
    memory = EpisodicMemory(store, "alpha", "ami/Push-v0")
    recalled = memory.recall(np.zeros((1, 4)), 10_000)[1][0]
    assert len(gone) == 22 and set(recalled[:, 0]) == set(store.ids()) and not gone & set(recalled[:, 0])
    assert replay.read(replay.sample(64, np.random.default_rng(0)), 3).mask.sum() > 0
    assert Replay.load(store, "ami/Push-v0", 1000).state()["ids"] == store.ids()
    replay.add(store.append(make(1)), make(1))


def test_what_is_left_without_its_episode_goes_with_the_next(store):
    """Latents kept by one agent while another deleted their episode."""
    for seed in range(4):
        store.append(make(seed))
    store._db.execute("DELETE FROM episode WHERE id = 2")
    assert len(store.verify()) == 2
    let_go(store, (id for id in (3, 1)))
    assert store.ids() == [4] and store.verify() == [] and store.stats()["encoders"] == {"alpha": 1}


@pytest.mark.usefixtures("server")
def test_two_that_forget_the_same_in_opposite_orders_do_not_deadlock(url):
    with EpisodeStore(url) as one, EpisodeStore(url) as two, ThreadPoolExecutor() as pool:
        for _ in range(5):
            ids = [one.append(make(seed)) for seed in range(40)]
            for done in [pool.submit(let_go, one, ids), pool.submit(let_go, two, ids[::-1])]:
                done.result()
        assert one.ids() == [] and one.verify() == []


class Racing(EpisodeStore):
    """Another adds and deletes episodes between any two looks at them."""

    def rows(self, query, *values):
        found = super().rows(query, *values)
        if "sum(length(data)) FROM latent GROUP" in query:
            self.append(make(99))
        return found

    def read(self, episode_id, *arguments, **options):
        found = super().read(episode_id, *arguments, **options)
        with EpisodeStore(self.name) as other:
            let_go(other, [episode_id])
        return found


def test_what_others_add_and_delete_meanwhile_is_no_fault(place):
    latent = np.linspace(0, 1, 6)[:, None].astype(np.float32) * np.ones(4, np.float32)
    with Racing(place) as store:
        for _ in range(6):
            store.append(make(0, latent=latent))
        assert len(select(store, ForgettingConfig(steps=10)).ids) == 4 and store.ids() == [7]


@pytest.mark.usefixtures("server")
def test_one_forgets_at_a_time(url):
    with EpisodeStore(url) as one, EpisodeStore(url) as two:
        for seed in range(8):
            one.append(make(seed))
        with one.forgetting() as alone:
            assert alone and forget(two, ForgettingConfig(steps=20)) == [] and len(one) == 8
        assert forget(two, ForgettingConfig(steps=20)) and one.steps <= 20


@in_a_file
def test_damage_is_left_for_verify(store):
    for seed in range(20):
        store.append(make(seed))
    store._db.execute("UPDATE chunk SET data = zeroblob(9) WHERE episode = 3 AND part = 'steps'")
    store._db.execute("UPDATE episode SET seed = 77 WHERE id = 4")
    forget(store, ForgettingConfig(steps=30, margin=0))
    assert {3, 4} < set(store.ids()) and {fault.split(":")[0] for fault in store.verify()} <= {"episode 3", "episode 4"}


@in_a_file
def test_a_fault_in_the_midst_forgets_nothing(store):
    for seed in range(20):
        store.append(make(seed))
    store._db.execute(
        "CREATE TRIGGER fault BEFORE DELETE ON episode WHEN old.id = 7 BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    with pytest.raises(Exception, match="no"):
        let_go(store, list(range(1, 15)))
    assert len(store) == 20 and store.verify() == []


KILLED = """
import os, signal, sys
from ami_agent.memory.capacity import let_go
from ami_agent.memory.store import EpisodeStore
store, left = EpisodeStore(sys.argv[1]), int(sys.argv[2])
def count(statement):
    global left
    left -= statement.startswith("DELETE")
    if left < 0 or (left == 0 and statement == "COMMIT"):
        os.kill(os.getpid(), signal.SIGKILL)
store._db._db.set_trace_callback(count)
let_go(store, [int(id) for id in sys.argv[3:]])
"""


@in_a_file
@pytest.mark.parametrize("deletes", [5, 20, 30])
def test_kill_9_forgets_all_or_nothing(store, deletes):
    episodes = {store.append(make(seed, steps=60)): make(seed, steps=60) for seed in range(20)}
    store.close()
    gone = [str(id) for id in range(1, 11)]
    command = [sys.executable, "-c", KILLED, str(store.path), str(deletes), *gone]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    with EpisodeStore(store.path) as again:
        assert again.verify() == [] and again.ids() == list(range(1, 21))
        for id, episode in episodes.items():
            assert_same(episode, again.read(id))
        let_go(again, range(1, 11))
        assert again.ids() == list(range(11, 21)) and again.verify() == []


@in_a_file
def test_no_room_to_make_the_file_smaller_is_survived(store, monkeypatch, caplog):
    for seed in range(30):
        store.append(make(seed, observation={"state": np.random.default_rng(seed).random((6, 999))}))

    def full():
        raise ResourceError("the disk is full")

    monkeypatch.setattr(store, "compact", full)
    assert forget(store, ForgettingConfig(bytes="1MB")) and "not made smaller" in caplog.text


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
