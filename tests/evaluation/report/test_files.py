"""What is read is what was written, and a damaged file is named in one line."""

import json

import jax
import pytest

from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.objectives.registry import make_objective
from rl_discovery.evaluation.analysis.schedule import analyse_schedule
from rl_discovery.evaluation.errors import ReportError
from rl_discovery.evaluation.report.files import read_run
from tests.evaluation.report import tiny_run


@pytest.fixture
def run(tmp_path):
    return tiny_run.make(tmp_path / "mine")


def test_everything_of_a_run_is_read(run):
    (run / "gallery.png").write_bytes(b"\x89PNG\r\n\x1a\nrest")
    found = read_run(run)
    assert found.name == "mine"
    assert found.config["objective"]["kind"] == "ta-lpo"
    assert found.versions == {"jax": "0.0.2"}
    assert [row["generation"] for row in found.rows] == list(range(tiny_run.GENERATIONS))
    assert found.results == tiny_run.results()
    assert found.analysis is not None
    assert found.gallery is not None
    assert len(found.objective_sha256) == 64


def test_what_was_never_made_is_none(tmp_path):
    run = tiny_run.make(tmp_path / "bare", evaluated=False, analysed=False)
    (run / "objective.safetensors").unlink()
    (run / "metrics.jsonl").unlink()
    found = read_run(run)
    assert (found.results, found.analysis, found.gallery, found.objective_sha256) == (None,) * 4
    assert found.rows == ()


def test_results_and_analysis_may_lie_elsewhere(run, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    tiny_run.results(scores=(0.1, 0.1, 0.1)).save(other / "results.json")
    found = read_run(run, results=other, analysis=run / "analysis" / "analysis.json")
    assert found.results.cells[0].score == 0.1
    with pytest.raises(ReportError, match="there is no"):
        read_run(run, results=tmp_path / "nowhere")


def test_the_analysis_of_a_schedule_alone_is_read(run):
    path = run / "analysis" / "analysis.json"
    rule = make_objective("ta-a2c")
    schedule = analyse_schedule(
        TrainedObjective(rule, rule.init(jax.random.key(0))), (10, 250), anneals=False
    )
    found = tiny_run.analysis().model_copy(update={"drift": None, "closed_form": None, "schedule": schedule})
    found.save(path)
    assert read_run(run).analysis == found


def test_a_line_that_is_being_written_is_left_out(run):
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"generation": 6, "fit')
    assert len(read_run(run).rows) == tiny_run.GENERATIONS


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("config.json", "{", "not a configuration of rl-discovery (is no JSON"),
        ("config.json", "[]", "has no field 'format'"),
        ("config.json", '{"format": 1, "config": []}', "holds no configuration"),
        ("config.json", '{"format": 9, "config": {}}', "has format 9, newer than 1"),
        ("config.json", '{"format": null, "config": {}}', "its format is null"),
        ("metrics.jsonl", '{"generation": 0}\n{"gen\n{"generation": 2}\n', "damaged in line 2"),
        ("metrics.jsonl", '{"fitness": 0}\n', "damaged in line 1"),
        ("results.json", "{", "results.json: no results document: it is no JSON"),
        ("results.json", '{"format": 1}', "damaged results: cells"),
        ("results.json", '{"format": 1, "cells": [], "aggregate": [], "versions": {}}', "holds no results"),
        ("analysis/analysis.json", "nonsense", "analysis.json is no JSON"),
        ("analysis/analysis.json", '{"a": 1}', "no field 'format'"),
        ("analysis/analysis.json", '{"format": 1}', "analysis.json is damaged: objective"),
        ("gallery.png", "no picture", "gallery.png is damaged"),
    ],
)
def test_a_damaged_file_is_named_in_one_line(run, name, text, message):
    (run / name).write_text(text)
    with pytest.raises(ReportError) as caught:
        read_run(run)
    assert message in str(caught.value)
    assert str(run / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_refused(run):
    for name in ("config.json", "results.json", "analysis/analysis.json"):
        before = (run / name).read_bytes()
        (run / name).write_bytes(b"\xff\xfe\x00")
        with pytest.raises(ReportError, match=name.rpartition("/")[2]):
            read_run(run)
        (run / name).write_bytes(before)


def test_an_analysis_of_nothing_is_refused(run):
    path = run / "analysis" / "analysis.json"
    document = json.loads(path.read_text()) | {"drift": None}
    path.write_text(json.dumps(document))
    with pytest.raises(ReportError, match="neither drift nor response"):
        read_run(run)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ReportError, match="not a run directory: it has no config"):
        read_run(tmp_path)


def without_a_moment(drift):
    del drift["surfaces"][3]


def without_an_advantage(drift):
    drift["advantage"][drift["advantage"].index(-1.0)] = -1.1


def with_a_short_row(drift):
    drift["surfaces"][0]["slope"][2].pop()


def without_a_limit(drift):
    drift["surfaces"][-1]["half"].pop()


def without_surfaces(drift):
    drift["surfaces"] = []


def of_another(drift):
    del drift["surfaces"][:-2]


def without_a_curve(response):
    del response["sweeps"][1]["curves"][0]


def without_a_common_curve(response):
    for sweep in response["sweeps"]:
        del sweep["curves"][0]


def with_a_short_curve(response):
    response["sweeps"][0]["curves"][2]["pihat"].pop()


def without_sweeps(response):
    response["sweeps"] = []


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        *(("lpo", damage) for damage in (without_a_moment, without_an_advantage, with_a_short_row)),
        *(("lpo", damage) for damage in (without_a_limit, without_surfaces, of_another)),
        *(("lpg", damage) for damage in (without_a_curve, without_a_common_curve)),
        *(("lpg", damage) for damage in (with_a_short_curve, without_sweeps)),
    ],
)
def test_an_analysis_with_parts_missing_is_refused_in_one_line(tmp_path, kind, damage):
    run = tiny_run.make(tmp_path / "mine", kind)
    path = run / "analysis" / "analysis.json"
    document = json.loads(path.read_text())
    damage(document["drift" if kind == "lpo" else "response"])
    path.write_text(json.dumps(document))
    with pytest.raises(ReportError) as caught:
        read_run(run)
    assert f"{path} is damaged" in str(caught.value)
    assert "`rl-discovery analyse` writes it anew" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_trace_without_all_its_deviations_is_refused(run):
    path = run / "analysis" / "analysis.json"
    document = json.loads(path.read_text())
    document["lifetimes"]["views"][0]["policy_entropy"]["deviation"].pop()
    path.write_text(json.dumps(document))
    with pytest.raises(ReportError, match="not one deviation to each mean"):
        read_run(run)
