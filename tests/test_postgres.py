"""A memory on a server that many share: who writes what, what outlives a crash, what a user is told."""

import json
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from episodes import assert_same, make
from test_journal import acknowledged_until_a_kill, plain, steps_of
from test_memory import APPENDS, child

from ami_agent import cli
from ami_agent.agent import AgentConfig, AmiAgent
from ami_agent.brain import Brain, BrainConfig
from ami_agent.environment import Spec
from ami_agent.errors import ArtefactError, LockedError, MissingError, ResourceError, UsageError
from ami_agent.memory.database import DamagedMemory
from ami_agent.memory.journal import SYNC_EVERY, Journal
from ami_agent.memory.store import EpisodeStore
from ami_agent.perception.encoder import EncoderConfig

pytestmark = pytest.mark.usefixtures("server")


# --- many who write ----------------------------------------------------------------------------------------------


def test_two_that_begin_and_write_at_once_and_are_killed_lose_nothing(url):
    writers = [child(APPENDS, url, base) for base in (0, 1000)]
    firsts = [printed.readline() for _, printed in writers]
    time.sleep(random.Random().uniform(0.0, 0.5))
    acknowledged: dict[int, int] = {}
    for (process, printed), first in zip(writers, firsts, strict=True):
        process.kill()
        told = dict(map(int, line.split()) for line in [first, *printed.read().splitlines()])
        assert told and not told.keys() & acknowledged.keys(), "an id was given twice"
        acknowledged |= told
        process.wait()
    with EpisodeStore(url) as store:
        assert store.verify() == [] and set(acknowledged) <= set(store.ids())
        assert all(store.read(episode_id).seed == seed for episode_id, seed in acknowledged.items())


def test_an_episode_that_another_still_lives_is_left_to_it(url):
    """Even where both call theirs by the same name."""
    ours, theirs = plain(0), plain(0, steps=7)
    with EpisodeStore(url) as store, EpisodeStore(url) as other:
        Journal(store).write(steps_of(ours)[:3])
        Journal(other).write(steps_of(theirs)[:5])
        assert Journal(store).recover() == 1 and len(store.read(1)) == 2
        assert Journal(store).recover() == 0
        Journal(other).write(steps_of(theirs)[5:])
        store.append(plain(0))  # of the same name once more
        other._db._db.close()  # as if it was killed
        while store._db.others():
            pass
        assert Journal(store).recover() == 1 and store.rows("SELECT count(*) FROM tail") == [(0,)]
        assert_same(ours, store.read(2))
        assert len(store.read(3)) == 7 and store.verify() == []


def test_two_that_recover_at_once_recover_once(url):
    with EpisodeStore(url) as store:
        Journal(store).write(steps_of(plain(0)))
    with EpisodeStore(url) as one, EpisodeStore(url) as two:
        tails = one.tails()
        next(tails), next(tails)  # it has taken the tail that was left
        assert Journal(two).recover() == 0
        tails.close()
        assert Journal(two).recover() == 1 and Journal(one).recover() == 0 and len(one) == 1


def test_a_fault_while_one_recovers_leaves_it_writing_as_itself(url, monkeypatch):
    with EpisodeStore(url) as gone:
        Journal(gone).write(steps_of(plain(0)))
    with EpisodeStore(url) as store:
        journal = Journal(store)
        monkeypatch.setattr(store, "append", lambda episode: 1 / 0)
        try:
            journal.recover()
        except ZeroDivisionError as error:
            caught = error  # keeps what was going on alive
        assert caught is not None and store.rows("SELECT current_setting('ami_agent.writer')") == [("2",)]
        monkeypatch.undo()
        assert journal.recover() == 1


@pytest.mark.slow
def test_many_that_are_killed_and_begin_again_lose_no_acknowledged_step(url):
    """Each that begins recovers what is left of others, never what goes on."""

    def robot(number: int) -> set[tuple[int, int]]:
        bases = range(number * 10_000_000, number * 10_000_000 + 1_000_000, 100_000)
        return set().union(*(acknowledged_until_a_kill(url, base, most=200) for base in bases))

    with ThreadPoolExecutor() as pool:
        told = set().union(*pool.map(robot, range(4)))
    with EpisodeStore(url) as store:
        while store._db.others():
            time.sleep(0.01)
        Journal(store).recover()
        assert store.verify() == [] and store.rows("SELECT count(*) FROM tail") == [(0,)]
        lengths = [(episode.seed, len(episode)) for _, episode in store.episodes(senses=False)]
    kept = dict(lengths)
    assert len(kept) == len(lengths), "an episode is there twice"
    assert len(told) > 1000 and not [(seed, t) for seed, t in told if t > 0 and kept.get(seed, 0) < t]


def test_the_room_is_not_taken_from_under_those_who_write(url):
    with EpisodeStore(url) as store, EpisodeStore(url, read_only=True) as reading:
        store.append(make(0))
        with EpisodeStore(url) as other:
            with pytest.raises(LockedError, match="in use by 1"):
                store.compact()
            other.append(make(1))
        store.compact()
        assert reading.ids() == [1, 2] and store.verify() == []


def test_agents_share_what_they_lived_and_keep_each_others_keys(url):
    spec = Spec("ami/Push-v0", {"state": (3,), "image": (48,)}, 2, False, 50)
    brains = [Brain(spec, BrainConfig(EncoderConfig(latent=8, width=16)), seed) for seed in (1, 2)]
    flat = {"state": make(0).observation["state"], "image": np.zeros((6, 48), np.float32)}
    config = AgentConfig(plan=False)
    with EpisodeStore(url) as one, EpisodeStore(url) as two:
        first = AmiAgent(brains[0], config, 0, one)
        first.remember(make(0, observation=flat, latent=None, encoder=""))
        second = AmiAgent(brains[1], config, 0, two)
        assert len(second.memory) == 6, "what the other lived is there at the opening"
        second.remember(make(1, observation=flat, latent=None, encoder=""))
        assert len(first.memory) == 6, "but not what it lives from then on"
        assert len(AmiAgent(brains[0], config, 0, one).memory) == 12
        assert one.encoders(1) == sorted(brain.encoder_id() for brain in brains)


# --- a server that fails -----------------------------------------------------------------------------------------


def test_what_was_acknowledged_outlives_a_crash_of_the_server(server, url):
    server.stop()
    server.start(fsync=True)
    store, lived = EpisodeStore(url), plain(9, steps=SYNC_EVERY + 3)
    episodes = [make(seed) for seed in range(5)]
    for episode in episodes:
        store.append(episode)
    journal = Journal(store)
    for step in steps_of(lived):
        journal.write([step])
    server.stop("immediate")
    for lost in (lambda: store.append(make(5)), lambda: store.read(1), lambda: journal.write(steps_of(lived)[-1:])):
        with pytest.raises(ResourceError, match="What was acknowledged is kept") as caught:
            lost()
        assert caught.value.exit_code == 6
    store.close()
    with pytest.raises(MissingError, match="Is the server there"):
        EpisodeStore(url)
    server.start()
    with EpisodeStore(url) as again:
        assert again.verify() == [] and Journal(again).recover() == 1
        *ids, last = again.ids()
        assert ids == [1, 2, 3, 4, 5] and SYNC_EVERY - 1 <= len(again.read(last)) <= len(lived)
        for episode_id, episode in enumerate(episodes, start=1):
            assert_same(episode, again.read(episode_id))


@pytest.mark.parametrize(
    ("state", "kind"),
    [("53100", ResourceError), ("58030", ResourceError), ("42501", MissingError), ("40P01", LockedError)]
    + [("57014", ResourceError), ("XX001", DamagedMemory), ("42P01", DamagedMemory)],
)
def test_what_the_server_refuses_leaves_what_was_there(url, state, kind):
    with EpisodeStore(url) as store:
        store.append(make(0))
        refuse = f"BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END"
        store._db.execute(f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $${refuse}$$")
        store._db.execute("CREATE TRIGGER refuse BEFORE INSERT ON latent EXECUTE FUNCTION refuse()")
        with pytest.raises(kind):
            store.append(make(1))
        store._db.execute("DROP TRIGGER refuse ON latent")
        assert store.ids() == [1] and store.append(make(1)) == 3 and store.verify() == []


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [("UPDATE about SET version = 7", "newer schema 7"), ("DROP TABLE chunk", "lacks chunk")]
    + [("ALTER TABLE episode DROP COLUMN task", "task"), ("DELETE FROM about", "unknown schema None")],
)
def test_another_schema_is_refused(url, spoil, reason, read_only):
    with EpisodeStore(url) as store:
        store.append(make(0))
        store._db.execute(spoil)
    with pytest.raises(DamagedMemory, match=reason), EpisodeStore(url, read_only) as store:
        store.read(1)


def test_read_only_never_creates_or_writes(url):
    with pytest.raises(MissingError, match="no memory"):
        EpisodeStore(url, read_only=True)
    with pytest.raises(ArtefactError, match="is gone"):
        EpisodeStore(url, create=False)
    EpisodeStore(url).close()
    with EpisodeStore(url, read_only=True) as reading, pytest.raises(MissingError, match="read-only"):
        reading.append(make(0))


# --- who may open it ---------------------------------------------------------------------------------------------


def test_a_server_that_does_not_open_is_named_with_the_cure_but_no_password(server, url, monkeypatch):
    with EpisodeStore(url) as store:
        store._db.execute("DROP ROLE IF EXISTS guest")
        store._db.execute("CREATE ROLE guest LOGIN PASSWORD 'right'")
    urls = [server.url("guest"), server.url("guest"), server.url("nobody-known"), server.url(database="none")]
    urls += [f"{url}-elsewhere", "postgresql://robot@127.0.0.1:1/memory"]
    for place, password in zip(urls, ["wrong-secret", "right", *[""] * 4], strict=True):
        monkeypatch.setenv("PGPASSWORD", password)
        with pytest.raises(MissingError) as caught:
            EpisodeStore(place)
        told = str(caught.value)
        assert caught.value.exit_code == 3 and place in told and "secret" not in told
        assert ("permission denied" if password == "right" else "createdb") in told


@pytest.mark.parametrize(
    "place",
    ["postgresql://me:hunter2@h/d", "postgres://me:hun?ter2@h/d", "postgresql://me@h/d?p%61ssword=hunter2"]
    + ["postgresql://me@h/d?hunter2", "mysql://me:hunter2@h/d"],
)
def test_a_password_in_a_url_is_refused_and_never_repeated(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        EpisodeStore(place)
    assert "hun" not in str(caught.value)
    for words in (["run", "--env", "ami/Reach-v0"], ["memory", "info"], ["memory", "compact"]):
        assert cli.main([*words, "--url", place]) == 2 and "hun" not in "".join(capsys.readouterr())
    assert list(tmp_path.iterdir()) == []


def test_without_psycopg_one_is_told_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    assert cli.main(["memory", "info", "--url", "postgresql://me@h/d"]) == 3
    assert "pip install 'ami-agent[postgres]'" in capsys.readouterr().err


# --- commands ----------------------------------------------------------------------------------------------------


def told(capsys, *words):
    assert cli.main([str(word) for word in (*words, "--json")]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def test_runs_share_a_memory_and_its_commands_read_it(url, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PGPASSWORD", "hunter2")
    run = ["run", "--env", "ami/Reach-v0", "--no-plan", "--url", url, "--home"]
    remembered = [told(capsys, *run, tmp_path / home, "--episodes", 2)["memory"]["episodes"] for home in ("a", "b")]
    assert remembered == [2, 4] and not list(tmp_path.glob("?/**/memory.sqlite"))
    told(capsys, *run, tmp_path / "b", "--episodes", 1, "--memory", "read-only")
    facts = told(capsys, "memory", "info", "--url", url)
    assert facts["path"] == url and facts["episodes"] == 4 and len(facts["encoders"]) == 1
    assert told(capsys, "memory", "verify", "--url", url)["ok"]
    assert told(capsys, "memory", "compact", "--url", url)["bytes"] > 0
    assert len(told(capsys, "memory", "recall", "--url", url, "--episode", 1, "--k", 3)["moments"]) == 3
    pytest.importorskip("minari")
    assert list(told(capsys, "memory", "export", "--url", url, "--out", "out")["datasets"].values()) == [4]
    kept = [path.read_bytes() for path in Path("runs").rglob("*") if path.is_file()]
    assert kept and not any(b"hunter2" in one for one in kept)


@pytest.mark.parametrize("words", [["compact"], ["forget", "--steps", "5"], ["forget", "--steps", "5", "--dry-run"]])
def test_what_makes_a_memory_smaller_makes_none(capsys, url, words):
    assert cli.main(["memory", *words, "--url", url]) == 4
    assert f"there is no memory at {url}" in capsys.readouterr().err
    with pytest.raises(MissingError):
        EpisodeStore(url, read_only=True)


def test_a_url_where_nothing_is_remembered_is_refused(capsys, url):
    for words in (["--memory", "off"], ["--agent", "random"]):
        assert cli.main(["run", "--env", "ami/Reach-v0", "--url", url, *words]) == 2
        assert "--url needs" in capsys.readouterr().err


def test_a_run_whose_server_goes_away_ends_with_6_and_what_it_lived_is_there(
    server, url, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)

    def crash() -> None:
        with EpisodeStore(url) as store:
            while len(store) < 2:
                time.sleep(0.02)
        server.stop("immediate")

    with ThreadPoolExecutor() as pool:
        crashed = pool.submit(crash)
        code = cli.main(f"run --env ami/Push-v0 --no-plan --episodes 500 --home home --url {url} --json".split())
        crashed.result()
    server.start()
    told = capsys.readouterr()
    assert code == 6 and told.out == "" and "the connection to memory postgresql://" in told.err
    assert json.loads(next(Path("runs").glob("*/run.json")).read_text())["status"] == "failed"
    with EpisodeStore(url) as store:
        assert len(store) >= 2 and Journal(store).recover() <= 1 and store.verify() == []
