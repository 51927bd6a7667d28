"""The chart's numbers are those of metrics.jsonl."""

import dataclasses

import numpy as np
import pytest

from rl_discovery.evaluation.report import curves as module
from rl_discovery.evaluation.report.curves import columns, curves, last_mean
from rl_discovery.evaluation.report.files import read_run
from tests.evaluation.report import tiny_run


@pytest.fixture
def run(tmp_path):
    return read_run(tiny_run.make(tmp_path / "mine", evaluated=False, analysed=False))


def test_the_columns_are_the_rows(run):
    found = curves([run])
    (shown,) = found.runs
    assert shown["name"] == "mine"
    assert shown["raw"]["fitness_mean"] == [0, 1, 2, 3, 4, 5]
    assert shown["raw"]["pair_agreement"] == [None, 0.5, 0.5, 0.5, 0.5, 0.5]
    assert shown["axes"]["env_steps"] == [1000 * (i + 1) for i in range(6)]
    np.testing.assert_allclose(shown["axes"]["wall_s"], [(i + 1) / 60 for i in range(6)], rtol=1e-4)
    assert found.metrics == ("fitness_mean", "fitness_best", "pair_agreement")
    assert [name for name, _ in found.axes] == ["generation", "env_steps", "wall_s"]


def test_many_generations_are_averaged_in_groups(run, monkeypatch):
    monkeypatch.setattr(module, "POINTS", 4)
    found = curves([run])
    (shown,) = found.runs
    assert shown["raw"]["fitness_mean"] == [0.5, 2.5, 4.5]
    assert shown["axes"]["generation"] == [1, 3, 5]
    assert "means over up to 2 generations" in found.note


def test_texts_and_metrics_without_numbers_are_left_out():
    table = columns([{"generation": 0, "note": "x", "empty": None, "fitness_mean": 1.0}])
    assert set(table) == {"generation", "fitness_mean"}


def test_the_last_mean_is_over_the_last_generations():
    rows = tiny_run.rows(40)
    assert last_mean(rows, "fitness_mean") == (38.5, 2)
    assert last_mean(rows, "unheard of") is None
    assert last_mean([], "fitness_mean") is None


def test_before_the_first_generation_there_is_nothing(run):
    assert curves([dataclasses.replace(run, rows=())]) is None
