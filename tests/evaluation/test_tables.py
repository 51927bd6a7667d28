import pytest

from rl_discovery.evaluation import Results, markdown_table
from tests.evaluation.test_results import cell


def results(seeds, score=0.5, environments=("e",), horizons=(10,)):
    found = [
        cell(seed=s, environment=e, horizon=n, updates=n, score=score, **{"return": 100.0 * s})
        for n in horizons
        for e in environments
        for s in range(seeds)
    ]
    return Results.of(found)


def test_a_suite_with_scores_is_a_row_per_objective_and_a_column_per_horizon():
    text = markdown_table(results(3, horizons=(1000, 10)), "s")
    assert text.splitlines() == [
        "| Objective | 10 updates | 1,000 updates |",
        "| --- | --- | --- |",
        "| a2c | 0.50 [0.50, 0.50] | 0.50 [0.50, 0.50] |",
    ]


def test_fewer_than_three_seeds_have_no_interval():
    assert "| a2c | 0.50 |" in markdown_table(results(2), "s")


def test_without_scores_or_on_request_returns_are_told_per_environment():
    environments = ("one", "two")
    asked = markdown_table(results(3, environments=environments), "s", per_environment=True)
    assert markdown_table(results(3, None, environments), "s") == asked
    lines = asked.splitlines()
    assert lines[0] == "| Environment | Objective | 10 updates |"
    assert [line[:18] for line in lines[2:]] == ["| one | a2c | 100.", "| two | a2c | 100."]


def test_a_failed_run_is_told_instead_of_a_mean_over_the_others():
    cells = [cell(seed=0), cell(**{"seed": 1, "return": None, "score": None})]
    assert "| a2c | 1 failed |" in markdown_table(Results.of(cells), "s")


def test_a_suite_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="'t'"):
        markdown_table(results(1), "t")
