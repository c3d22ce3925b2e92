"""Perception measured: against cases worked by hand and scipy; twins that are the same until the impossible happens."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from ami_agent.agent import AmiAgent
from ami_agent.brain import Brain
from ami_agent.brains import shipped_path
from ami_agent.environment import Environment
from ami_agent.errors import UsageError
from ami_agent.evaluation import perception
from ami_agent.evaluation.perception import auroc, fit_probe, normalised, r2
from ami_agent.evaluation.twins import (
    HANDLED,
    VIOLATIONS,
    Lives,
    Twins,
    compared,
    drawn_onset,
    expert_lives,
    handled,
    let_go,
    relived,
)
from ami_agent.protocols import Episode

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import perceiving  # noqa: E402

SEEDS = range(77, 83)


# -- numbers ----------------------------------------------------------------------------------------------------------


def test_a_probe_finds_a_line_and_passes_over_what_never_changes():
    x = np.array([[0.0, 5.0], [1.0, 5.0], [2.0, 5.0], [4.0, 5.0]])
    probe = fit_probe(x, 2 * x[:, :1] + 1, np.arange(4))
    np.testing.assert_allclose(probe(np.array([[10.0, -99.0]])), [[21.0]], rtol=1e-4)
    with pytest.raises(ValueError, match="two episodes"):
        fit_probe(x, x, np.zeros(4))


def test_a_probe_is_ridge_regression(monkeypatch):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 4)) * [1, 10, 0.1, 3] + 7, rng.normal(size=(60, 2))
    monkeypatch.setattr(perception, "PENALTIES", (0.3,))
    probe = fit_probe(x, y, np.arange(60) // 6)
    spread = (x - x.mean(0)) / x.std(0)  # least squares with a row of sqrt(m * penalty) for each weight
    rows = np.concatenate([spread, np.sqrt(60 * 0.3) * np.eye(4)])
    weights = np.linalg.lstsq(rows, np.concatenate([y - y.mean(0), np.zeros((4, 2))]))[0]
    np.testing.assert_allclose(probe(x), spread @ weights + y.mean(0))


def test_a_probe_of_noise_does_not_believe_it():
    rng = np.random.default_rng(1)
    x, y, episodes = rng.normal(size=(400, 80)), rng.normal(size=(400, 1)), np.arange(400) // 10
    held = episodes >= 20
    probe = fit_probe(x[~held], y[~held], episodes[~held])
    assert -0.1 < r2(y[held], probe(x[held]), episodes[held])[0] < 0.1
    plain = np.linalg.lstsq(x[~held], y[~held])[0]
    assert r2(y[held], x[held] @ plain, episodes[held])[0] < -0.3


def test_r2_worked_by_hand():
    truth, each = np.array([[0.0], [2.0], [4.0]]), np.arange(3)
    assert r2(truth, truth, each)[0] == 1 and r2(truth, np.full((3, 1), 2.0), each)[0] == 0
    assert r2(truth, np.array([[1.0], [2.0], [3.0]]), each)[0] == pytest.approx(0.75)  # 1 - 2 / 8
    both = np.concatenate([truth, 10 * truth], 1)  # metres and metres: the larger spread counts more
    assert r2(both, both * [0, 1], each)[0] == pytest.approx(1 - (0 + 4 + 16) / 808)
    for still in (truth[:0], truth[:1], np.ones((3, 1))):
        with pytest.raises(ValueError, match="never varies"):
            r2(still, still, each[: len(still)])


def test_the_interval_of_r2_draws_whole_episodes():
    # the first alone is guessed right (1), the second alone upside down (1 - 32 / 8), the two together 1 - 32 / 11
    truth, guess = np.array([[0.0], [2.0], [0.0], [4.0]]), np.array([[0.0], [2.0], [4.0], [0.0]])
    assert r2(truth, guess, np.array([5, 5, 9, 9])) == pytest.approx((1 - 32 / 11, -3, 1))


def test_auroc_worked_by_hand():
    assert auroc(np.array([3.0, 1.0]), np.array([2.0, 1.0]))[0] == 0.625  # 3 > 2, 3 > 1, 1 < 2, and 1 = 1 for half
    assert auroc(np.array([1.0, 11.0]), np.array([0.0, 10.0])) == (0.75, 0.75, 1.0)  # 1 < 10 only if both are drawn
    for wrong in (np.zeros(0), np.zeros(3)):
        with pytest.raises(ValueError, match="pairs"):
            auroc(wrong, np.zeros(len(wrong) and 2))


def test_auroc_agrees_with_scipy():
    rng = np.random.default_rng(2)
    impossible, possible = rng.normal(0.4, size=50).round(1), rng.normal(size=50).round(1)
    area, low, high = auroc(impossible, possible)
    assert area == pytest.approx(stats.mannwhitneyu(impossible, possible).statistic / 2500) and low < area < high


def test_surprise_is_counted_from_what_came_before():
    told = normalised(np.array([[2.0, 0.0], [2.0, 0.0]]), 0.0, 1.0, rate=0.5)
    np.testing.assert_allclose(told, [[2, 0], [1 / np.sqrt(1.5), 0]])  # then the mean is 1, the variance (1 + 2) / 2
    errors = np.random.default_rng(3).exponential(size=(40, 3))
    np.testing.assert_allclose(normalised(errors, 1.0, 1.0), normalised(10 * errors, 10.0, 100.0))
    later = errors.copy()
    later[20:] += 5
    np.testing.assert_array_equal(normalised(later, 1.0, 1.0)[:20], normalised(errors, 1.0, 1.0)[:20])


# -- twins ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=HANDLED)
def lived(request):
    """The id of a world, lives of an expert in it, and a moment of each."""
    lives = expert_lives(Environment(request.param, len(SEEDS)), SEEDS)
    return request.param, lives, drawn_onset(handled(request.param, lives), 0)


def again(lived, event=None, action=None):
    id, lives, onset = lived
    return relived(Environment(id, len(SEEDS)), SEEDS, lives.action if action is None else action, onset, event)


def places(lives, onset, steps=0):
    """Of the cubes, so many steps after the onset, (n, 3)."""
    return lives.truth["cube place"][onset + steps, np.arange(len(onset))]


def test_without_an_event_a_twin_is_the_same_to_the_bit(lived):
    same, (_, lives, onset) = again(lived), lived
    assert (onset >= 0).all() and np.array_equal(same.lived, lives.lived)
    for name, sense in lives.senses.items():
        assert sense.shape[:2] == (len(lives.action) + 1, len(SEEDS))
        np.testing.assert_array_equal(same.senses[name], sense)


@pytest.mark.parametrize("name", VIOLATIONS)
def test_twins_part_at_their_moment(lived, name):
    impossible, (_, lives, onset) = again(lived, VIOLATIONS[name]), lived
    parted = 0
    for i, t in enumerate(onset):
        for sense, values in lives.senses.items():
            np.testing.assert_array_equal(impossible.senses[sense][: t + 1, i], values[: t + 1, i])
        told = [one.truth["cube place"][t + 1 : t + 4, i] for one in (impossible, lives)]
        parted += not np.array_equal(*told)
    assert parted >= len(SEEDS) / 2  # a cube that is not touched again cannot be passed through


def test_what_happens_is_what_its_name_says(lived):
    id, lives, onset = lived
    was, usual = places(lives, onset), places(lives, onset, 1)
    happened = {name: again(lived, event) for name, event in VIOLATIONS.items()}
    jump = np.linalg.norm(places(happened["teleport"], onset, 1)[:, :2] - usual[:, :2], axis=1)
    assert (abs(jump - 0.1) < 0.03).all()
    assert (places(happened["vanish"], onset, 1)[:, 0] > 1.5).all()
    for steps in (1, 3):
        np.testing.assert_allclose(places(happened["frozen"], onset, steps), was, atol=1e-4)
    if id == "ami/Stack-v0":
        fallen = happened["pass through"].truth["cube place"][-1, :, 2]
        np.testing.assert_allclose(fallen, 0.02, atol=0.005)  # out of the hand, and not through the table


def test_without_gravity_what_is_let_go_stays_in_the_air():
    id, n = "ami/Stack-v0", len(SEEDS)
    lives = expert_lives(Environment(id, n), SEEDS)
    onset = drawn_onset(handled(id, lives), 0)
    action = let_go(lives.action, onset)
    floats, falls = (relived(Environment(id, n), SEEDS, action, onset, e) for e in (VIOLATIONS["gravity off"], None))
    assert (places(falls, onset, 8)[:, 2] < 0.03).all()
    assert (places(floats, onset, 8)[:, 2] > places(falls, onset, 8)[:, 2] + 0.005).all()  # fingers may give it a push


def test_truth_is_what_the_senses_tell(lived):
    _, lives, _ = lived
    truth, seen = lives.truth, lives.senses["observation"]
    told = {"fingertip place": seen[..., :3], "fingertip velocity": seen[..., 6:9], "cube velocity": seen[..., 17:]}
    for name, sensed in told.items():
        np.testing.assert_array_equal(truth[name], sensed)
    np.testing.assert_allclose(truth["cube place"], seen[..., :3] + seen[..., 12:15], atol=1e-12)
    assert (truth["cube mass"] == 1).all()


def test_the_mass_is_drawn_for_each_episode():
    mass = expert_lives(Environment("ami/Push-v0", 6, {"factors": "training"}), SEEDS).truth["cube mass"]
    assert (mass == mass[0]).all() and len(np.unique(mass)) == 6 and mass.min() >= 0.5 and mass.max() <= 2


def test_only_twins_that_come_apart_are_pairs():
    def lives(places, lived):
        place = np.zeros((5, 4, 3))
        place[:, :, 0] = np.transpose(places)
        action, reward = np.zeros((4, 4, 5)), np.zeros((4, 4))
        return Lives({}, action, reward, np.transpose(lived).astype(bool), {"cube place": place})

    still, whole = [0] * 5, [1] * 4
    possible = lives([still] * 4, [whole, whole, [1, 1, 0, 0], whole])
    # apart at once; too late for two steps; only after its twin has ended; apart, but with no onset
    impossible = lives([[0, 0, 1, 1, 1], [0, 0, 0, 0, 1], [0, 0, 0, 1, 1], [1] * 5], [whole] * 4)
    length, pair = compared(impossible, possible, np.array([1, 1, 1, -1]), most=2, least=0.1)
    assert length[:3].tolist() == [2, 2, 1] and pair.tolist() == [True, False, False, False]


def test_moments_are_drawn_from_those_that_may_be():
    may = np.array([[0, 1, 0], [1, 1, 0], [0, 1, 0]], bool)
    drawn = np.array([drawn_onset(may, seed) for seed in range(30)])
    assert set(drawn[:, 0]) == {1} and set(drawn[:, 1]) == {0, 1, 2} and set(drawn[:, 2]) == {-1}


def test_a_hand_lets_go_from_its_moment_on():
    opened = let_go(np.ones((3, 2, 5)), np.array([1, -1]))
    assert opened[:, 0, 4].tolist() == [1, -1, -1] and opened[:, 1].min() == 1 and opened[..., :4].min() == 1


def test_worlds_of_others_tell_no_truth():
    with pytest.raises(UsageError, match="Pendulum-v1 tells no truth"):
        expert_lives(Environment("Pendulum-v1", 2), range(2))


# -- the benchmark ----------------------------------------------------------------------------------------------------


def test_what_surprises_the_agent_is_what_it_remembers(lived):
    id, lives, _ = lived
    brain, end = Brain.load(shipped_path(id)), int(lives.lived[:, 0].sum())
    senses = {name: value[: end + 1, 0].astype(np.float32) for name, value in lives.senses.items()}
    episode = Episode(id, senses, lives.action[:end, 0], np.zeros(end, np.float32), False, True, None)
    remembered = AmiAgent(brain).look_back(episode).surprise
    felt = AmiAgent(brain).surprise(lives.senses, lives.action, lives.reward)
    assert felt.shape == lives.lived.shape
    np.testing.assert_allclose(felt[:end, 0], remembered, rtol=1e-3, atol=1e-5)


def test_the_untrained_differs_in_what_is_learned_alone():
    brain = Brain.load(shipped_path("ami/Reach-v0"))
    ours, fresh = (one.model.encoder.state_dict() for one in (brain, perceiving.untrained(brain)))
    scales = {name for name in ours if name.startswith("normalise.")}
    assert scales and all(ours[name].equal(fresh[name]) for name in scales)
    assert not any(ours[name].equal(fresh[name]) for name in ours if name.startswith("first."))


def test_the_past_is_the_latest_moments_and_the_actions_between():
    values, action = np.arange(8.0).reshape(4, 2, 1), 100 + np.arange(6.0).reshape(3, 2, 1)
    told = perceiving.past(values, action, np.array([2, 3]), np.array([0, 1]), 3)
    assert told.tolist() == [[4, 2, 0, 102, 100], [7, 5, 3, 105, 103]]


def test_surprise_is_the_most_within_its_steps():
    errors, usual = np.array([[9.0, 1.0], [3.0, 1.0], [2.0, 5.0], [8.0, 1.0]]), np.array([0.0, 2.0])
    empty = Lives({}, np.zeros(0), np.zeros(0), np.zeros(0), {})
    pair = Twins("made up", empty, empty, np.array([1, 2]), np.array([2, 1]), np.ones(2, bool))
    assert pair.most(errors).tolist() == [3, 5]
    by_time = normalised(errors, 1.0, 1.0)
    assert perceiving.surprise(errors, usual, pair).tolist() == [by_time[1, 0], by_time[2, 1]]


def test_the_tables_of_a_small_run(capsys, tmp_path):
    perceiving.main(worlds=("ami/Push-v0",), episodes=16, pairs=8, json=tmp_path / "raw.json")
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split(" | ")[1]: line for line in lines if line.startswith("| `ami/Push-v0` | ")}
    assert {"fingertip place", "cube velocity", "cube mass", *VIOLATIONS} <= set(rows)
    assert rows["cube place"].endswith("| 1.00 (1.00 to 1.00) |")  # the senses tell it outright
    assert "| 8 | 1.00 (1.00 to 1.00)" in rows["vanish"]
    assert (tmp_path / "raw.json").exists()
