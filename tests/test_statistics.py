"""The interquartile mean and its bootstrap, against cases worked by hand."""

import pytest

from ami_agent.evaluation.statistics import interquartile_mean, stratified_bootstrap


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


def test_no_values_have_no_mean():
    with pytest.raises(ValueError, match="no values"):
        interquartile_mean([])


def test_the_interval_of_two_runs_is_from_one_to_the_other():
    # the mean is 0 in a quarter of the draws, 1/2 in a half, 1 in a quarter
    assert stratified_bootstrap([[[0], [1]]]) == (0.0, 1.0)
    assert stratified_bootstrap([[[0], [1]]], level=0.4) == (0.5, 0.5)


def test_runs_are_drawn_within_their_task_and_whole():
    assert stratified_bootstrap([[[0], [0]], [[8], [8]]]) == (4.0, 4.0)  # drawn from all four it would spread
    assert stratified_bootstrap([[[0, 10], [0, 10]]]) == (5.0, 5.0)  # so it would, value by value
    assert stratified_bootstrap([[[3, 4]], [[5]]]) == (4.0, 4.0)  # one run a task: nothing to draw


def test_the_same_seed_gives_the_same_interval():
    runs = [[[1.0], [2.0], [4.0], [8.0], [16.0]]]
    assert stratified_bootstrap(runs) == stratified_bootstrap(runs)
    low, high = stratified_bootstrap(runs)
    assert 1 < low < interquartile_mean([1, 2, 4, 8, 16]) < high < 16
