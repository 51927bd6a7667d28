import csv
import io
import json
import math

import pytest

from rl_discovery.evaluation.errors import ResultsError
from rl_discovery.evaluation.results import Cell, Results, improvements, summarise


def cell(**changes):
    fields = {
        "objective": "a2c", "suite": "s", "environment": "e", "horizon": 10, "seed": 0, "return": 1.5,
        "score": 0.5, "updates": 10, "env_steps": 3200, "levels": 4, "unscored_levels": 0,
    }  # fmt: skip
    return Cell.model_validate(fields | changes)


def cells(scores, **changes):
    return [cell(seed=seed, score=score, **changes) for seed, score in enumerate(scores)]


def test_the_document_has_the_fields_of_the_contract():
    document = json.loads(Results.of(cells([0.1, 0.2, 0.3])).to_json())
    assert {"format", "cells", "aggregate", "versions"} <= set(document)
    assert document["format"] == 1
    contract = {"objective", "suite", "environment", "horizon", "seed", "return", "score"}
    assert contract | {"updates", "env_steps"} <= set(document["cells"][0])
    contract = {"objective", "suite", "horizon", "iqm", "ci_low", "ci_high", "seeds"}
    assert contract <= set(document["aggregate"][0])
    assert {"python", "jax", "numpy"} <= set(document["versions"])


def test_a_saved_document_is_read_back_the_same(tmp_path):
    results = Results.of([*cells([0.1, None]), cell(**{"seed": 2, "return": math.nan})])
    results.save(tmp_path / "results.json")
    assert Results.load(tmp_path / "results.json") == results


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_null(value):
    text = Results.of([cell(**{"return": value, "score": value})]).to_json()
    document = json.loads(text, parse_constant=lambda name: pytest.fail(f"bare {name}"))
    assert document["cells"][0]["return"] is None
    assert document["cells"][0]["score"] is None
    assert document["aggregate"][0]["iqm"] is None


def test_aggregates_are_over_seeds_and_environments():
    both = cells([0.0, 1.0, 2.0], environment="e") + cells([3.0, 4.0, 5.0], environment="f")
    (aggregate,) = summarise(both)
    assert aggregate.iqm == 2.5
    assert aggregate.seeds == 3
    assert aggregate.ci_low < 2.5 < aggregate.ci_high


def test_aggregates_keep_the_order_of_objectives_and_horizons():
    found = summarise([cell(objective=o, horizon=n) for o in ("z", "a") for n in (100, 25)])
    assert [(a.objective, a.horizon) for a in found] == [("z", 100), ("z", 25), ("a", 100), ("a", 25)]


def test_fewer_than_three_seeds_have_no_interval():
    (aggregate,) = summarise(cells([0.1, 0.2]))
    assert aggregate.iqm == pytest.approx(0.15)
    assert aggregate.ci_low is aggregate.ci_high is None


def test_an_interval_that_ends_at_zero_is_not_lost():
    (aggregate,) = summarise(cells([0.0, 0.0, 0.0]))
    assert (aggregate.ci_low, aggregate.ci_high) == (0.0, 0.0)


def test_environments_without_a_scale_are_left_out_of_the_aggregate():
    (aggregate,) = summarise(cells([0.2, 0.4], environment="e") + cells([None, None], environment="f"))
    assert aggregate.iqm == pytest.approx(0.3)


def test_a_run_that_failed_leaves_no_aggregate_rather_than_a_flattering_one():
    (aggregate,) = summarise([*cells([0.9, 0.9]), cell(**{"seed": 2, "return": math.nan, "score": math.nan})])
    assert aggregate.iqm is None
    assert aggregate.seeds == 3


def test_a_suite_without_a_common_scale_is_told_per_environment():
    of_e = [
        cell(**{"seed": seed, "return": value, "score": None}) for seed, value in enumerate((1.0, 2.0, 6.0))
    ]
    of_f = [cell(**{"environment": "f", "seed": seed, "return": None, "score": None}) for seed in range(3)]
    results = Results.of(of_e + of_f)
    assert not results.scored("s")
    assert results.environments("s") == ["e", "f"]
    assert results.environment_return(results.aggregate[0], "e") == (3.0, 1.0, 6.0)
    assert results.environment_return(results.aggregate[0], "f") is None
    assert Results.of(of_e[:2]).environment_return(results.aggregate[0], "e") == (1.5, None, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no JSON"),
        ('{"format": 1, "cells": [', "is no JSON"),
        ("[]", "no field 'format'"),
        ('{"cells": []}', "no field 'format'"),
        ('{"format": 2}', "format 2"),
        ('{"format": 1, "aggregate": [], "versions": {}}', "cells"),
        ('{"format": 1, "cells": [{}], "aggregate": [], "versions": {}}', r"cells\.0\.return"),
        ('{"format": 1, "cells": 7, "aggregate": [], "versions": {}}', "cells"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line_that_names_it(tmp_path, text, message):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(ResultsError, match=message) as error:
        Results.load(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def without_a_cell(document):
    del document["cells"][0]


def with_a_short_curve(document):
    document["cells"][0]["curve"].pop()


def with_an_aggregate_of_nothing(document):
    document["aggregate"][0]["suite"] = "nowhere"


@pytest.mark.parametrize("environments", [("e",), ("e", "f")])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_a_cell, "a2c on s at horizon 10 has (other seeds|cells of other seeds)"),
        (with_a_short_curve, "a2c on s at horizon 10 has learning curves of several lengths"),
        (with_an_aggregate_of_nothing, "a2c on nowhere at horizon 10 has an aggregate but no cells"),
    ],
)
def test_a_document_with_parts_missing_is_refused(environments, damage, message):
    curve = [{"env_steps": 1, "return": 0.0}, {"env_steps": 2, "return": 1.0}]
    every = [c for name in environments for c in cells([0.1, 0.2, 0.3], environment=name, curve=curve)]
    document = json.loads(Results.of(every).to_json())
    damage(document)
    with pytest.raises(ResultsError, match=f"^damaged results: Value error, {message}") as error:
        Results.from_json(json.dumps(document))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"), [(None, "cannot read"), (b"\xff\xfe\x00", "is no text in UTF-8")]
)
def test_an_unreadable_file_is_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "results.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ResultsError, match=message):
        Results.load(path)


def test_an_objective_is_compared_with_every_baseline_where_both_have_scores():
    ours = cells([0.5, 0.6, 0.7], objective="mine")
    theirs = [*cells([0.1, 0.2, 0.65]), *cells([None, None, None], objective="random")]
    (found,) = Results.of([*ours, *theirs], ["a2c", "random"]).improvement
    assert (found.objective, found.over, found.horizon) == ("mine", "a2c", 10)
    assert found.probability == pytest.approx(7 / 9)
    assert found.ci_low < found.probability < found.ci_high


def test_a_difference_is_paired_by_seed_whatever_their_order():
    ours = [*cells([0.5, 0.6, 0.7], objective="mine"), *cells([0.5, 0.9, 0.7], objective="mine", horizon=20)]
    theirs = [*cells([0.4, 0.5, 0.6])[::-1], *cells([0.2, 0.6, 0.4], horizon=20)]
    results = Results.of([*ours, *theirs], ["a2c"])
    first, second = results.improvement
    assert first.difference == pytest.approx(0.1)
    assert first.standard_error == pytest.approx(0.0, abs=1e-12)
    assert second.difference == pytest.approx(0.3)
    assert results.mean_difference("mine", "a2c", "s").mean == pytest.approx(0.2)


def test_what_is_not_of_the_same_seeds_has_no_paired_difference():
    theirs = [cell(seed=seed, score=0.5) for seed in (0, 1, 3)]
    results = Results.of([*cells([0.5, 0.6, 0.7], objective="mine"), *theirs], ["a2c"])
    assert results.improvement[0].probability == pytest.approx(5 / 6)
    assert results.improvement[0].difference is None
    assert results.mean_difference("mine", "a2c", "s") is None
    assert results.mean_difference("mine", "nobody", "s") is None


def test_failures_are_counted_and_leave_no_mean():
    failed = cell(**{"seed": 3, "return": math.nan, "score": math.nan})
    (aggregate,) = summarise([*cells([0.5, 0.6, 0.7]), failed])
    assert (aggregate.failures, aggregate.iqm, aggregate.optimality_gap) == (1, None, None)
    (aggregate,) = summarise(cells([0.5, 0.6, 0.7], efficiency=0.25))
    assert (aggregate.failures, aggregate.scored, aggregate.efficiency) == (0, 1, 0.25)
    assert aggregate.optimality_gap == pytest.approx(0.4)
    assert aggregate.gap_low <= 0.4 <= aggregate.gap_high


def test_the_table_of_cells_has_a_row_each():
    text = Results.of([*cells([0.1, 0.2]), cell(**{"return": math.nan})]).to_csv()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["score"] for row in rows] == ["0.1", "0.2", "0.5"]
    assert rows[2]["return"] == ""
    assert rows[0]["env_steps"] == "3200"


def pair_of(*changes):
    """Cells of two environments with two seeds each, and changes to some."""
    every = [*cells([0.1, 0.2], environment="e"), *cells([0.3, 0.4], environment="f")]
    return [*every, *(cell(**change) for change in changes)]


@pytest.mark.parametrize(
    ("ragged", "message"),
    [
        (pair_of({"seed": 2}), "a2c on s at horizon 10 has other seeds on one environment"),
        (pair_of()[1:], "a2c on s at horizon 10 has other seeds on one environment"),
        (pair_of()[:3], "a2c on s at horizon 10 has other seeds on one environment"),
        (
            [cell(curve=[{"env_steps": 1, "return": 0.0}]), cell(seed=1)],
            "a2c on s at horizon 10 has learning curves of several lengths",
        ),
    ],
)
@pytest.mark.parametrize("made", [Results.of, summarise, lambda cells: improvements(cells, ["random"])])
def test_runs_with_parts_missing_are_refused_in_the_line_that_documents_get(made, ragged, message):
    with pytest.raises(ResultsError, match=f"^{message}"):
        made(ragged)


@pytest.mark.parametrize("environments", [("e", "g"), ("e",)])
def test_objectives_on_different_environments_are_not_compared(environments):
    others = [c for name in environments for c in cells([0.3, 0.4], objective="random", environment=name)]
    with pytest.raises(ResultsError, match=r"^a2c on s at horizon 10 and random there have scores on"):
        Results.of([*pair_of(), *others], ["random"])
