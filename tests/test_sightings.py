"""Seeking what was seen: a walker in a room whose pads tell how near they are, and where is for memory to know."""

import numpy as np
import pytest

from ami_agent.memory.sightings import Sightings
from ami_agent.memory.wayfinder import WayConfig, Ways

STRIDE, SIGHT, THERE, HALF = 0.1, 0.8, 0.3, 2.5  # metres
PADS = np.array([(1.7, 1.5), (-1.6, 1.2), (-0.4, -1.9)])
ASKED = np.eye(len(PADS), dtype=np.float32)
NOWHERE = np.empty((0, 2))


def worth(achieved, asked):
    """How near the pad is seen that is asked for, from 0 (not at all) to 1."""
    return (achieved * asked).sum(-1)


def costs(senses, goals):
    """Of a driver who knows the outer walls, and nothing in between."""
    length = np.linalg.norm(goals - senses["achieved_goal"], axis=1)
    return np.maximum(7.0 * length * np.where((np.abs(goals) > HALF).any(1), 9.0, 1.0), 1e-3)


def seen(here):
    return np.maximum(1 - np.linalg.norm(PADS - here, axis=1) / SIGHT, 0).astype(np.float32)


def visit(ways, start, pad, steps=400):
    """Decisions until the walker is at a pad."""
    ways.reset(np.ones(1, bool))
    here = np.array(start)
    for t in range(steps):
        if np.linalg.norm(here - PADS[pad]) < THERE:
            return t
        moment = {"achieved_goal": here[None].astype(np.float32)}
        offset = ways.lead(moment, seen(here)[None], ASKED[pad][None])["desired_goal"][0] - here
        here = here + offset * min(1.0, STRIDE / max(np.linalg.norm(offset), 1e-9))
    return steps


def ways(stay=True, **config):
    made = Ways(costs, 2, STRIDE, WayConfig(**config), worth, len(PADS))
    if stay:
        made.stay()
    made.reset(np.ones(1, bool))
    return made


def sightings(places):
    known = Sightings(worth, 2, len(PADS), 0.4)
    known.take(np.float32(places), np.stack([seen(np.array(place)) for place in places]))
    return known


def test_what_was_never_seen_is_nowhere():
    assert Sightings(worth, 2, 3, 0.4).where(ASKED[0], NOWHERE) is None
    assert sightings([(0, 0), (0.5, 0)]).where(ASKED[0], NOWHERE) is None


def test_the_way_leads_to_where_it_was_seen_best_and_from_there_on_as_it_came_nearer():
    along = [(1.7, y) for y in (0.5, 0.8, 0.95, 1.1)]  # straight towards the pad at (1.7, 1.5)
    known = sightings(along)
    assert known.where(ASKED[0], NOWHERE) == pytest.approx([1.7, 1.1])
    assert known.where(ASKED[0], np.array([[1.7, 1.1]])) == pytest.approx([1.7, 1.5])
    assert known.where(ASKED[1], NOWHERE) is None, "another pad was not seen from there"


def test_each_moment_is_judged_once_and_what_is_not_finite_is_nowhere():
    judged = []

    def judge(achieved, asked):
        judged.append(len(achieved))
        return np.where(achieved[:, 0] > 0.9, np.nan, worth(achieved, asked))

    known = Sightings(judge, 2, 3, 0.4)
    for place in [(1.7, 0.8), (1.7, 1.1), (1.7, 1.5)]:
        known.take(np.float32([place]), seen(np.array(place))[None])
        known.where(ASKED[0], NOWHERE)
    assert judged == [1, 1, 1] and known.where(ASKED[0], NOWHERE) == pytest.approx([1.7, 1.1])


def test_where_all_around_was_tried_it_is_nowhere_else():
    best = np.array([1.7, 1.1])
    around = [best + 0.4 * np.array([np.cos(a), np.sin(a)]) for a in np.arange(8) * np.pi / 4]
    assert sightings([(1.7, 0.9), tuple(best)]).where(ASKED[0], np.array([best, *around])) is None


def test_a_pad_seen_in_passing_is_found_to_the_side():
    made = ways()
    for x in np.arange(0.6, 2.4, 0.1):  # half a metre below the pad
        made.relive({"achieved_goal": np.float32([[x, 1.0]])}, seen(np.array([x, 1.0]))[None])
    assert visit(made, (0.6, 0.6), 0) < 45


def test_each_visit_to_a_room_that_stays_makes_the_next_shorter():
    starts = [(0.0, 0.0), (-2.0, -2.0), (2.0, -1.0)]
    made = ways()
    first = [visit(made, start, pad) for pad, start in enumerate(starts)]
    again = [visit(made, start, pad) for pad, start in enumerate(starts)]
    least = [(np.linalg.norm(PADS[pad] - start) - THERE) / STRIDE for pad, start in enumerate(starts)]
    assert max(first) < 400, "it explores until it finds"
    assert sum(again) < 0.6 * sum(first) and sum(again) < 1.3 * sum(least)
    unseeing = ways(sightings=False)
    assert [visit(unseeing, start, pad) for pad, start in enumerate(starts)][0] == first[0]
    unsought = [visit(unseeing, start, pad) for pad, start in enumerate(starts)]
    assert sum(unsought) > 1.5 * sum(again), "knowing the ways alone, it must look for the pads anew"
    forgetful = ways(stay=False)
    assert [visit(forgetful, start, pad) for pad, start in enumerate(starts)][0] == first[0]
    assert visit(forgetful, starts[0], 0) == first[0], "without a place that stays, a visit teaches nothing"


def test_what_is_relived_leads_as_what_was_lived():
    lived, told = ways(), ways()
    moments = [np.array([x, 0.1]) for x in np.arange(-2, 2, 0.1)]
    moments += [np.array([1.7, y]) for y in np.arange(0.2, 1.4, 0.1)]
    for here in moments:
        lived.lead({"achieved_goal": np.float32(here[None])}, seen(here)[None], ASKED[1][None])
    told.relive({"achieved_goal": np.float32(moments)}, np.stack([seen(here) for here in moments]))
    assert visit(lived, (0.0, -1.0), 0) == pytest.approx(visit(told, (0.0, -1.0), 0), abs=10)


def test_the_older_half_is_forgotten_where_there_are_too_many_moments(monkeypatch):
    monkeypatch.setattr("ami_agent.memory.sightings.MOST", 10)
    known = sightings([PADS[0], *[(0.0, 0.0)] * 8, PADS[1]])
    assert [known.where(ASKED[pad], NOWHERE).tolist() for pad in (0, 1)] == np.float32(PADS[:2]).tolist()
    known.take(np.float32([PADS[2]]), seen(PADS[2])[None])
    assert len(known) == 5 and known.where(ASKED[0], NOWHERE) is None
    assert [known.where(ASKED[pad], NOWHERE).tolist() for pad in (1, 2)] == np.float32(PADS[1:]).tolist()
