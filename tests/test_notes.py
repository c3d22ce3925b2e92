"""Notes: what is known of a task is kept beside its episodes, and harm to it harms nothing else."""

import threading

import numpy as np
from episodes import make

from ami_agent.memory.failures import KeptFailures
from ami_agent.memory.landmarks import Landmarks
from ami_agent.memory.notes import read_note, revise_note
from ami_agent.memory.store import EpisodeStore


def test_a_note_is_there_again_and_the_latest_counts(store):
    for value in (1.0, 2.0):
        revise_note(store, "e", "t", "failures", lambda kept, value=value: {"ways": np.full((2, 4), value)})
    revise_note(store, "e", "other", "failures", lambda kept: {"ways": np.zeros((0, 4))})
    store.close()
    with EpisodeStore(store.name, read_only=True) as again:
        assert (read_note(again, "e", "t", "failures")["ways"] == 2).all()
        assert read_note(again, "e", "other", "failures")["ways"].shape == (0, 4)
        assert read_note(again, "e", "t", "else") == read_note(again, "x", "t", "failures") == {}


def test_nothing_is_lost_of_what_two_keep_at_once(url):
    reads, writes = threading.Event(), threading.Event()

    def keep(number, before=lambda: None):
        def more(kept):
            before()
            return {"ways": np.append(kept.get("ways", []), number)}

        with EpisodeStore(url) as store:
            revise_note(store, "e", "t", "failures", more)

    def wait():
        reads.set()
        writes.wait(1.0)

    first = threading.Thread(target=keep, args=(1, wait))
    first.start()
    reads.wait(10.0)
    keep(2, writes.set)
    first.join()
    with EpisodeStore(url) as store:
        assert read_note(store, "e", "t", "failures")["ways"].tolist() == [1, 2]


def test_a_damaged_note_is_as_none(store, caplog):
    revise_note(store, "e", "t", "failures", lambda kept: {"ways": np.ones((2, 4))})
    store.append(make(0))
    store._db.execute("UPDATE note SET data = ?", (b"\0",))
    assert read_note(store, "e", "t", "failures") == {} and "is damaged" in caplog.text
    assert store.verify() == ["note ('e', 't', 'failures'): bad checksum"] and len(store.read(1)) == 5


def test_episodes_are_found_by_their_task(store):
    for seed, task in enumerate(("", '{"size": 8}', "")):
        store.append(make(seed, task=task))
    assert store.ids(task='{"size": 8}') == [2] and store.ids(task="") == [1, 3]
    assert store.read(2).task == '{"size": 8}' and store.verify() == []


def test_what_two_lives_in_one_place_found_out_is_kept_of_both(store):
    def lives():
        place = Landmarks(lambda senses, goals: np.ones(len(goals)), 2, 0.1, 0.3)
        return place, KeptFailures(store, "e", "t", "alpha", place)

    def rows(*starts):
        return np.array([[start, 0.0, 1.0, 1.0] for start in starts])

    first, kept = lives()
    first.failures = rows(1.0, 2.0)
    kept.keep()
    (one, kept), (other, beside) = lives(), lives()
    assert one.failures.tolist() == other.failures.tolist() == rows(1.0, 2.0).tolist()
    one.failures, other.failures = rows(1.0, 2.0, 3.0), rows(2.0, 4.0)  # one failed in 3; the other in 4, and went 1
    kept.keep()
    beside.keep()
    assert other.failures.tolist() == lives()[0].failures.tolist() == rows(2.0, 3.0, 4.0).tolist()
    kept.keep()  # nothing new of its own: it learns of the others' when it has
    assert one.failures.tolist() == rows(1.0, 2.0, 3.0).tolist()


def test_failures_are_kept_by_age_up_to_as_many_as_landmarks(store):
    def lives():
        place = Landmarks(lambda senses, goals: np.ones(len(goals)), 2, 0.1, 0.3, most=3)
        here = place.see({"achieved_goal": np.zeros(2, np.float32)})
        return place, here, KeptFailures(store, "e", "t", "x", place)

    (one, here, first), (other, there, second) = lives(), lives()
    for east in (9.0, 8.0, 7.0):
        one.failed(here, np.float64([east, 0]))
    first.keep()
    one.failed(here, np.float64([6.0, 0]))
    first.keep()
    other.failed(there, np.float64([5.0, 0]))
    second.keep()
    for place in (other, lives()[0]):
        assert place.failures[:, 2].tolist() == [7.0, 6.0, 5.0]
