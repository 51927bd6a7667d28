"""The rule on made-up sequences; `test_held_out` has runs that it warns about, reduces and stops."""

import pytest

from rl_discovery.meta.config import HeldOutConfig
from rl_discovery.meta.runs.divergence import HeldOutEvaluation, Trend, trend_of

CONFIG = HeldOutConfig(every=1, drop=0.5, patience=2)


def told(*fitness, error=0.0, config=CONFIG):
    """After which evaluations something is done, and the trend at the end."""
    found, when = Trend(), []
    for number, value in enumerate(fitness):
        found = found.after(HeldOutEvaluation(number, value, error), config)
        if found.diverged(config):
            when.append(number)
    return when, found


def test_a_run_that_improves_or_loses_less_than_half_of_its_gain_is_left_alone():
    when, found = told(0.0, 4.0, 10.0, 5.0, 5.1, 9.0, 5.0, 12.0)
    assert when == []
    assert (found.first.fitness, found.best.fitness, found.best.generations) == (0.0, 12.0, 7)


def test_half_of_the_gain_lost_twice_in_a_row_is_told_and_told_again_after_as_many():
    assert told(0.0, 10.0, 4.9, 4.9, 4.9, 4.9)[0] == [3, 5]
    assert told(-8.0, 2.0, -3.1, -3.1)[0] == [3], "returns may be negative"


def test_a_recovery_begins_the_count_anew():
    assert told(0.0, 10.0, 4.9, 5.0, 4.9, 5.0, 4.9)[0] == []
    assert told(0.0, 10.0, 4.9, 11.0, 4.9, 4.9)[0] == [5]


def test_falls_within_two_standard_errors_of_the_best_are_chance():
    assert told(0.0, 1.0, -0.9, -0.9, error=1.0)[0] == []
    assert told(0.0, 1.0, -1.1, -1.1, error=1.0)[0] == [3]
    assert told(5.0, 4.9, 4.9)[0] == [2], "a run that never improved, on levels that are all alike"


@pytest.mark.parametrize("lost", [None, -1e30])
def test_fitness_that_is_not_finite_is_a_fall(lost):
    assert told(0.0, 10.0, lost, lost)[0] == [3]
    when, found = told(None, None, 3.0)
    assert when == [1]
    assert (found.first.fitness, found.best.fitness, found.falls) == (3.0, 3.0, 0)


def test_of_equal_evaluations_the_first_is_the_best():
    assert told(1.0, 3.0, 3.0)[1].best.generations == 1


def test_patience_and_drop_are_the_configured_ones():
    patient = HeldOutConfig(every=1, drop=0.5, patience=3)
    assert told(0.0, 10.0, 4.0, 4.0, 4.0, config=patient)[0] == [4]
    tolerant = HeldOutConfig(every=1, drop=1.0, patience=1)
    assert told(0.0, 10.0, 0.1, -0.1, config=tolerant)[0] == [3]


def test_the_trend_of_a_resumed_run_is_that_of_its_metrics():
    values = [0.0, 10.0, 4.0, None]
    rows = [
        {"generation": 5 * n + 4, "held_out_fitness": v, "held_out_error": v} for n, v in enumerate(values)
    ]
    between = [{"generation": n, "fitness_mean": 99.0} for n in range(4)]
    found = trend_of([*between, *rows], CONFIG)
    assert (found.best, found.falls) == (HeldOutEvaluation(10, 10.0, 10.0), 1)
    assert trend_of(between, CONFIG) == Trend()


def test_the_words_say_how_far_it_fell_and_from_where():
    _, found = told(0.0, 10.0, 4.0, 4.0)
    assert found.describe(HeldOutEvaluation(4, 4.0)) == (
        "held-out fitness is 4, and has fallen for 2 evaluation(s) in a row "
        "(the best was 10 after 1 generations)"
    )
    assert "is not finite" in told(None)[1].describe(HeldOutEvaluation(1, None))
