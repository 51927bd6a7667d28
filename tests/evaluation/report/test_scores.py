"""Tables and figures of the evaluation hold the numbers of results.json."""

import dataclasses

import pytest

from rl_discovery.evaluation.plots import profiles_figure
from rl_discovery.evaluation.report.files import read_run
from rl_discovery.evaluation.report.scores import evaluation_part, merged
from rl_discovery.evaluation.results import Results
from tests.evaluation.report import tiny_run


@pytest.fixture
def run(tmp_path):
    return read_run(tiny_run.make(tmp_path / "mine", analysed=False))


def other(run, name, results):
    return dataclasses.replace(run, name=name, results=results)


def test_the_table_has_the_aggregates_with_their_intervals(run):
    found = evaluation_part([run])
    table = found.tables[0]
    assert table.head == ("Objective", "2 updates", "8 updates")
    aggregate = run.results.aggregate[0]
    expected = f"{aggregate.iqm:.2f} [{aggregate.ci_low:.2f}, {aggregate.ci_high:.2f}]"
    assert table.rows[0][:2] == ("ta-lpo", expected)
    assert [row[0] for row in table.rows] == ["ta-lpo", "ppo"]
    improvement = run.results.improvement[0]
    # Each seed is better by 0.1.
    assert found.tables[1].rows[0][:2] == ("ta-lpo minus ppo", "+0.100 ± 0.000")
    assert found.tables[2].rows[0][0] == "ta-lpo over ppo"
    assert found.tables[2].rows[0][1].startswith(f"{improvement.probability:.2f} [")
    gap = found.more[0].rows[0][1]
    assert gap.startswith(f"{aggregate.optimality_gap:.2f} [")


def test_the_figures_draw_these_numbers(run):
    figures = {figure.name: figure for figure in evaluation_part([run]).figures}
    assert set(figures) == {
        "scores-unseen",
        "gap-unseen",
        "curves-unseen-gridworld-all",
        "ahead-unseen",
    }
    first = figures["scores-unseen"].spec["data"][0]
    mine = [a for a in run.results.aggregate if a.objective == "ta-lpo"]
    assert list(first["y"]) == [a.iqm for a in mine]
    assert list(first["error_y"]["array"]) == [a.ci_high - a.iqm for a in mine]
    mean = [
        trace for trace in figures["curves-unseen-gridworld-all"].spec["data"] if trace["line"]["width"] == 2
    ]
    assert mean[0]["y"][-1] == pytest.approx(7.0)
    assert all(figure.alt and "ta-lpo" in figure.alt for figure in figures.values())


def test_a_failed_run_is_told_and_not_averaged(run):
    cells = [
        c if c.seed else c.model_copy(update={"return_": None, "score": None}) for c in run.results.cells
    ]
    found = evaluation_part([other(run, "x", Results.of(cells, ["ppo"]))])
    assert found.tables[0].rows[0][1] == "1 failed"


def test_a_suite_without_a_scale_has_returns_per_environment(run):
    cells = [c.model_copy(update={"score": None}) for c in run.results.cells]
    found = evaluation_part([other(run, "x", Results.of(cells))])
    assert found.tables[0].head[:2] == ("Environment", "Objective")
    assert found.tables[0].rows[0][2].startswith("6.00 [")
    assert found.figures[0].name == "returns-gridworld-all-unseen"


def test_fewer_than_three_seeds_have_no_interval(run):
    found = evaluation_part([other(run, "x", Results.of(tiny_run.cells("a", (0.1, 0.2))))])
    assert found.tables[0].rows[0][1] == "0.15"
    assert "fewer than 3 seeds" in found.note


def test_one_of_two_runs_with_fewer_than_three_seeds_is_noted(run):
    two = other(run, "two", Results.of(tiny_run.cells("lpo", (0.1, 0.2))))
    assert "fewer than 3 seeds" in evaluation_part([run, two]).note
    assert "fewer than 3 seeds" not in evaluation_part([run, run]).note


def test_without_results_there_is_no_evaluation(run):
    assert evaluation_part([other(run, "x", None)]) is None


def test_two_runs_stand_side_by_side_with_equal_baselines_once(run):
    second = other(run, "better", tiny_run.results(scores=(0.8, 0.9, 1.0)))
    both = merged([run, second])
    names = dict.fromkeys(cell.objective for cell in both.cells)
    assert list(names) == ["ta-lpo (mine)", "ppo", "ta-lpo (better)"]
    first = both.improvement[0]
    assert (first.objective, first.over, first.probability) == ("ta-lpo (better)", "ta-lpo (mine)", 1.0)
    iqm = {(a.objective, a.horizon): a.iqm for a in both.aggregate}
    assert iqm["ta-lpo (mine)", 2] == pytest.approx(0.6)
    assert iqm["ta-lpo (better)", 2] == pytest.approx(0.9)
    assert {row[0] for row in evaluation_part([run, second]).tables[0].rows} == set(names)


def test_runs_that_were_evaluated_otherwise_are_shown_but_not_paired(run):
    cells = [*tiny_run.cells("lpg", (0.1, 0.2, 0.3), horizon=4), *tiny_run.cells("ppo", (0.0, 0.0, 0.0))]
    found = evaluation_part([run, other(run, "elsewhere", Results.of(cells, ["ppo"]))])
    rows = {row[0]: row[1:] for row in found.tables[0].rows}
    assert rows["lpg"] == ("–", "0.20 [0.10, 0.30]", "–")
    assert {"ppo (mine)", "ppo (elsewhere)"} <= set(rows)
    assert not [row for row in found.tables[1].rows if row[0] == "lpg over ta-lpo"]


def test_the_same_objective_with_the_same_numbers_is_one(run):
    both = merged([run, other(run, "copy", run.results)])
    assert both.cells == run.results.cells


@pytest.mark.parametrize(("seeds", "drawn"), [(9, False), (10, True)])
def test_a_profile_is_drawn_of_enough_runs_only(run, seeds, drawn):
    scores = [0.1 * seed for seed in range(seeds)]
    results = Results.of([*tiny_run.cells("ta-lpo", scores), *tiny_run.cells("ppo", scores)], ["ppo"])
    figures = {figure.name for figure in evaluation_part([other(run, "x", results)]).figures}
    assert ("profile-unseen" in figures) == drawn
    assert (profiles_figure(results) is not None) == drawn
