import numpy as np
import pytest
from scipy import stats

from evaluation.statistics import Interval, bootstrap_interval, interquartile_mean


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
    monkeypatch.setattr("evaluation.statistics.CHUNK", 100)
    assert bootstrap_interval(values, resamples=1000) == whole


def test_without_trimming_it_is_the_interval_of_the_mean():
    values = scores(8, 1)
    interval = bootstrap_interval(values, trim=0.0, resamples=20_000)
    found = stats.bootstrap((values[:, 0],), np.mean, method="percentile", n_resamples=20_000, rng=0)
    np.testing.assert_allclose(interval, found.confidence_interval, atol=0.01)
