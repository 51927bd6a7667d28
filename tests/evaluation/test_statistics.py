import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from rl_discovery.evaluation.statistics import (
    Interval,
    bootstrap_interval,
    gap_interval,
    improvement_interval,
    interquartile_mean,
    optimality_gap,
    paired_difference,
    performance_profile,
    probability_of_improvement,
    profile_band,
)
from tests.evaluation import rliable_reference


def scores(runs, tasks, seed=0):
    return np.random.default_rng(seed).normal(size=(runs, tasks))


def test_the_interquartile_mean_drops_the_lowest_and_the_highest_quarter():
    assert interquartile_mean(np.array([[100.0, 1.0], [3.0, -100.0]])) == 2.0
    # Of five scores a quarter is one whole score.
    assert interquartile_mean(np.array([0.0, 1.0, 2.0, 6.0, 1000.0])) == 3.0


def test_the_interquartile_mean_of_fewer_than_four_scores_is_the_mean():
    assert interquartile_mean(np.array([1.0, 2.0, 6.0])) == 3.0


@pytest.mark.parametrize("shape", [(3, 1), (5, 4), (10, 7)])
def test_the_interquartile_mean_takes_runs_and_tasks_together_as_scipy_does(shape):
    values = scores(*shape)
    assert interquartile_mean(values) == pytest.approx(stats.trim_mean(values.ravel(), 0.25), abs=1e-12)


@pytest.mark.parametrize("bad", [[], [[np.nan, 1.0]], [[np.inf, 1.0]]])
def test_scores_that_are_missing_or_not_finite_are_refused(bad):
    with pytest.raises(ValueError, match="finite"):
        interquartile_mean(np.array(bad))
    with pytest.raises(ValueError, match="finite"):
        bootstrap_interval(np.array(bad))


def test_fewer_than_three_runs_have_no_interval():
    assert bootstrap_interval(scores(2, 10)) is None
    assert bootstrap_interval(scores(3, 10)) is not None


def test_the_interval_is_the_same_every_time():
    assert bootstrap_interval(scores(5, 3)) == bootstrap_interval(scores(5, 3))


def test_runs_are_resampled_within_their_task():
    # No spread within a task, much between them: an unstratified bootstrap would give a wide interval.
    assert bootstrap_interval(np.array([[0.0, 1.0, 5.0, 9.0]] * 5)) == Interval(3.0, 3.0)


def test_of_three_scores_the_interval_ends_are_the_resamples_that_hold_one_score_only():
    # Each of the 27 resamples is as likely, three scores are not trimmed, and 1/27 > 2.5 %.
    assert bootstrap_interval(np.array([[0.0], [1.0], [5.0]])) == Interval(0.0, 5.0)


def test_the_interval_agrees_with_scipy_on_one_task():
    values = scores(20, 1)
    iqm = lambda x, axis: stats.trim_mean(x, 0.25, axis=axis)  # noqa: E731 - short and used once
    theirs = stats.bootstrap(
        (values[:, 0],), iqm, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    ours = bootstrap_interval(values, resamples=20_000)
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.02)


def test_the_interval_covers_the_true_value_about_as_often_as_it_says():
    intervals = [bootstrap_interval(scores(10, 4, seed), resamples=500) for seed in range(200)]
    covered = np.mean([interval.low < 0 < interval.high for interval in intervals])
    assert 0.85 < covered < 0.99


def test_results_do_not_depend_on_how_many_resamples_fit_in_memory(monkeypatch):
    values = scores(5, 3)
    whole = bootstrap_interval(values, resamples=1000)
    monkeypatch.setattr("rl_discovery.evaluation.statistics.CHUNK", 100)
    assert bootstrap_interval(values, resamples=1000) == whole


def test_without_trimming_it_is_the_interval_of_the_mean():
    values = scores(8, 1)
    interval = bootstrap_interval(values, trim=0.0, resamples=20_000)
    found = stats.bootstrap((values[:, 0],), np.mean, method="percentile", n_resamples=20_000, rng=0)
    np.testing.assert_allclose(interval, found.confidence_interval, atol=0.01)


def test_the_optimality_gap_counts_what_is_missing_and_forgives_nothing_for_what_is_too_much():
    assert optimality_gap(np.array([[0.5, 1.0], [3.0, 0.0]])) == pytest.approx((0.5 + 0 + 0 + 1) / 4)
    assert optimality_gap(np.array([[0.5, 2.0]]), target=2.0) == 0.75
    assert gap_interval(np.full((3, 2), 0.25)) == Interval(0.75, 0.75)
    assert gap_interval(scores(2, 2)) is None


def test_a_performance_profile_is_the_share_of_runs_above_each_threshold():
    values, thresholds = scores(5, 3), np.linspace(-1, 1, 7)
    expected = [sum(value > t for value in values.ravel()) / values.size for t in thresholds]
    np.testing.assert_allclose(performance_profile(values, thresholds), expected)
    low, high = profile_band(values, thresholds)
    assert np.all(low <= expected)
    assert np.all(high >= expected)
    assert np.all(high - low > 0)
    assert profile_band(scores(2, 3), thresholds) is None


def test_the_probability_of_improvement_is_mann_and_whitneys_statistic_averaged_over_tasks():
    ours, theirs = scores(6, 3).round(1), scores(4, 3, seed=1).round(1)  # rounded, so that there are ties
    expected = [stats.mannwhitneyu(x, y).statistic / 24 for x, y in zip(ours.T, theirs.T, strict=True)]
    assert probability_of_improvement(ours, theirs) == pytest.approx(np.mean(expected))
    reverse = probability_of_improvement(theirs, ours)
    assert probability_of_improvement(ours, theirs) + reverse == pytest.approx(1)


def test_the_interval_of_an_improvement_holds_it_and_is_sure_where_all_runs_are_better():
    ours = scores(6, 3)
    low, high = improvement_interval(ours, scores(4, 3, seed=1))
    assert 0 <= low < probability_of_improvement(ours, scores(4, 3, seed=1)) < high <= 1
    assert improvement_interval(ours + 100, ours) == Interval(1.0, 1.0)
    assert improvement_interval(ours, scores(2, 3)) is None


def test_an_improvement_needs_the_same_tasks():
    with pytest.raises(ValueError, match="scores are of 3 tasks and of 2"):
        probability_of_improvement(scores(4, 3), scores(4, 2))


def test_a_paired_difference_is_that_of_the_runs_means():
    ours, theirs = scores(6, 3), scores(6, 3, seed=1)
    by_run = [np.mean(a) - np.mean(b) for a, b in zip(ours, theirs, strict=True)]
    found = paired_difference(ours, theirs)
    assert found.mean == pytest.approx(np.mean(by_run))
    test = stats.ttest_rel(ours.mean(axis=1), theirs.mean(axis=1))
    assert found.mean / found.standard_error == pytest.approx(test.statistic)
    assert paired_difference(ours[:2], theirs[:2]).standard_error is None
    # What both have in common does not count, however noisy.
    noise = 100 * scores(6, 1, seed=2)
    assert paired_difference(ours + noise, theirs + noise).standard_error == pytest.approx(
        found.standard_error
    )


@pytest.mark.parametrize("shape", [(4, 2), (3, 3)])
def test_a_paired_difference_needs_the_same_runs_and_tasks(shape):
    with pytest.raises(ValueError, match="runs x tasks"):
        paired_difference(scores(4, 3), scores(*shape))


def test_rliable_says_the_same():
    document = json.loads((Path(__file__).parent / "rliable.json").read_text())
    ours, theirs = rliable_reference.scores(0), rliable_reference.scores(1)
    found = {
        "iqm": (interquartile_mean(ours), *bootstrap_interval(ours)),
        "optimality_gap": (optimality_gap(ours), *gap_interval(ours)),
        "probability_of_improvement": (
            probability_of_improvement(ours, theirs),
            *improvement_interval(ours, theirs),
        ),
    }
    for name, (value, *ends) in found.items():
        expected, *expected_ends = document[name]
        assert value == pytest.approx(expected, rel=1e-12), name
        assert ends == pytest.approx(expected_ends, abs=0.01), name  # both are resampled
    profile = performance_profile(ours, np.array(rliable_reference.THRESHOLDS))
    np.testing.assert_allclose(profile, document["profile"])
