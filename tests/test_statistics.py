"""What runs allow one to claim, against cases worked by hand and against scipy."""

import numpy as np
import pytest
from scipy import stats

from ami_agent.evaluation.statistics import (
    alike,
    difference_of_means,
    interquartile_mean,
    performance_profile,
    permutation_test,
    probability_of_improvement,
    stratified_bootstrap,
)


@pytest.mark.parametrize(
    ("values", "mean"),
    [
        ([7], 7.0),
        ([1, 2, 6], 3.0),  # a quarter of three is none: the plain mean
        ([100, 2, 3, -50], 2.5),
        ([1, 2, 3, 4, 5, 6, 7, 80], 4.5),  # of 3, 4, 5, 6
        ([[9, 1], [2, 3], [-9, 5]], 2.75),  # of 1, 2, 3, 5: one cut off at either end of six
    ],
)
def test_interquartile_mean(values, mean):
    assert interquartile_mean(values) == mean


def drawn(tasks, least=1, most=12, seed=0):
    """Scores of a few runs a task, with ties among them."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=rng.integers(least, most)).round(1) for _ in range(tasks)]


@pytest.mark.parametrize("seed", range(5))
def test_they_agree_with_scipy(seed):
    ours, theirs = drawn(6, seed=seed), drawn(6, seed=seed + 100)
    every = np.concatenate(ours)
    assert interquartile_mean(every) == pytest.approx(stats.trim_mean(every, 0.25))
    thresholds = np.linspace(-2, 2, 9).round(1)
    share = np.mean([stats.ecdf(runs).sf.evaluate(thresholds) for runs in ours], axis=0)
    np.testing.assert_allclose(performance_profile(ours, thresholds)[0], share)
    pairs = [stats.mannwhitneyu(a, b).statistic / (len(a) * len(b)) for a, b in zip(ours, theirs, strict=True)]
    assert probability_of_improvement(ours, theirs)[0] == pytest.approx(np.mean(pairs))


def test_what_is_no_number_has_no_mean():
    for values, said in (([], "no values"), ([1.0, float("nan")], "NaN")):
        with pytest.raises(ValueError, match=said):
            interquartile_mean(values)


def test_the_interval_of_two_runs_is_from_one_to_the_other():
    # the mean is 0 in a quarter of the draws, 1/2 in a half, 1 in a quarter
    assert stratified_bootstrap([[[0], [1]]]) == (0.0, 1.0)
    assert stratified_bootstrap([[[0], [1]]], level=0.4) == (0.5, 0.5)


def test_runs_are_drawn_within_their_task_and_whole():
    assert stratified_bootstrap([[[0], [0]], [[8], [8]]]) == (4.0, 4.0)  # drawn from all four it would spread
    assert stratified_bootstrap([[[0, 10], [0, 10]]]) == (5.0, 5.0)  # so it would, value by value
    assert stratified_bootstrap([[[3, 4]], [[5]]]) == (4.0, 4.0)  # one run a task: nothing to draw
    assert stratified_bootstrap([[[0, 4, 8], [4]]], level=0.99) == (4.0, 4.0)  # runs may differ in length


def test_the_same_seed_gives_the_same_interval():
    runs = [[[1.0], [2.0], [4.0], [8.0], [16.0]]]
    assert stratified_bootstrap(runs) == stratified_bootstrap(runs)
    low, high = stratified_bootstrap(runs)
    assert 1 < low < interquartile_mean([1, 2, 4, 8, 16]) < high < 16


def test_the_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        low, high = stratified_bootstrap([[[x] for x in rng.normal(size=20)] for _ in range(4)], draws=300)
        held += low <= 0 <= high
    assert 0.89 <= held / 200 <= 0.99


def test_a_profile_worked_by_hand():
    # task one: 0.2 and 0.6, task two: 0.4 alone, which counts as much as the two together
    share, low, high = performance_profile([[0.2, 0.6], [0.4]], [0.0, 0.2, 0.3, 0.5, 0.6])
    assert share.tolist() == [1.0, 0.75, 0.75, 0.25, 0.0]  # 0.2 is not above 0.2
    assert low.tolist() == [1.0, 0.5, 0.5, 0.0, 0.0] and high.tolist() == [1.0, 1.0, 1.0, 0.5, 0.0]


def test_probability_of_improvement_worked_by_hand():
    # task one: 3 of 4 pairs and half of a tie; task two: never
    chance, low, high = probability_of_improvement([[1, 3], [0]], [[0, 1], [5]])
    assert chance == pytest.approx((3.5 / 4 + 0) / 2)
    assert low == pytest.approx(0.25) and high == pytest.approx(0.5)  # of one pair a task: 0.5 to 1, and 0
    assert probability_of_improvement([[1, 2]], [[1, 2]])[0] == 0.5
    with pytest.raises(ValueError):
        probability_of_improvement([[1]], [[1], [2]])


def test_a_difference_of_means():
    assert difference_of_means([[2, 2], [4, 4]], [[1, 1], [1, 1]]) == (2.0, 2.0, 2.0)
    gain, low, high = difference_of_means([[0, 1]], [[0, 1]])
    assert (gain, low, high) == (0.0, -1.0, 1.0)  # drawn apart from one another


def test_permutations_agree_with_scipy():
    assert permutation_test([[1.0] * 5], [[0.0] * 5]) == pytest.approx(1 / 252)
    assert permutation_test([[0.0, 1.0]], [[0.0, 1.0]]) == pytest.approx(5 / 6)  # one of six ways has the lower sum 0
    for seed in range(4):
        before, after = drawn(2, 4, 8, seed)
        theirs = stats.permutation_test((after, before), lambda a, b: a.mean() - b.mean(), alternative="less")
        assert permutation_test([before], [after]) == pytest.approx(theirs.pvalue)
    many = np.random.default_rng(0).normal(size=(2, 12))
    whole = stats.permutation_test(
        (many[1], many[0]), lambda a, b, axis: a.mean(axis) - b.mean(axis), vectorized=True, alternative="less"
    )
    assert permutation_test(many[:1], many[1:]) == pytest.approx(whole.pvalue, abs=0.02)  # drawn, not all ways


def test_permutations_within_tasks_worked_by_hand():
    # each task alone has its lowest sum in one of six ways: both have it in one of 36, however far apart the tasks lie
    before, after = [[2.0, 3.0], [102.0, 103.0]], [[0.0, 1.0], [100.0, 101.0]]
    assert permutation_test(before, after) == pytest.approx(1 / 36)
    assert permutation_test(before, after, draws=30) >= 1 / 30  # drawn: what was found is one of the ways
    with pytest.raises(ValueError):
        permutation_test([[1.0]], [[1.0], [2.0]])


def test_of_each_task_the_first_runs_count():
    assert [runs.tolist() for runs in alike([[1, 2, 3], [4, 5]])] == [[1, 2], [4, 5]]
    assert difference_of_means([[0, 0, 9], [0, 0]], [[1], [1]]) == (-1.0, -1.0, -1.0)
