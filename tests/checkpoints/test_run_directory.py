"""The one reader of metrics.jsonl: what is torn is left out, what is damaged is named in one line."""

import json
import os

import pytest

from rl_discovery.checkpoints.errors import DamagedMetricsError, RunError
from rl_discovery.checkpoints.run_directory import (
    METRICS,
    append_metrics,
    intact_metrics,
    newest_checkpoint,
    read_document,
    read_metrics,
    truncate_metrics,
)


def row(generation, **more):
    return {"generation": generation, "env_steps": 10 * generation, "wall_s": 0.5 * generation} | more


def test_what_was_appended_is_read_null_included(tmp_path):
    rows = [row(0, fitness_mean=None), row(1, fitness_mean=-0.25)]
    assert read_metrics(tmp_path) == []
    for one in rows:
        append_metrics(tmp_path, one)
    assert read_metrics(tmp_path) == rows
    assert [line.end for line in intact_metrics(tmp_path)][-1] == (tmp_path / METRICS).stat().st_size


@pytest.mark.parametrize("torn", ["", "{", '{"generation": 1, "fit', '{"generation": 1}', "\0\0"])
def test_a_torn_last_line_is_left_out(tmp_path, torn):
    append_metrics(tmp_path, row(0))
    with (tmp_path / METRICS).open("a") as file:
        file.write(torn)
    assert read_metrics(tmp_path) == [row(0)]


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (b"nonsense\n", "is no JSON"),
        (b"\xff\xfe\x80\n", "no text in UTF-8"),
        (b"\0\0\0\n", "is no JSON"),
        (b"[3]\n", "is no generation"),
        (b'{"step": 1}\n', "is no generation"),
        (b'{"generation": 1, "fitness_mean": NaN}\n', "NaN is not finite"),
        (b'{"generation": 1, "fitness_mean": "high"}\n', "has a fitness_mean that is not a number"),
        (b" " * 70_000 + b"\n", "has a line of more than"),
    ],
)
def test_a_damaged_line_is_named_and_ends_what_is_intact(tmp_path, damage, why):
    append_metrics(tmp_path, row(0))
    with (tmp_path / METRICS).open("ab") as file:
        file.write(damage)
    append_metrics(tmp_path, row(2))
    with pytest.raises(DamagedMetricsError, match=why) as error:
        read_metrics(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / METRICS} is damaged in line 2: ")
    assert "\n" not in str(error.value)
    assert [line.row for line in intact_metrics(tmp_path)] == [row(0)]
    assert truncate_metrics(tmp_path, 1) == row(0)
    assert read_metrics(tmp_path) == [row(0)]


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / METRICS)
    with pytest.raises(RunError, match="is not a regular file"):
        list(intact_metrics(tmp_path))


def test_a_directory_without_a_configuration_is_no_run(tmp_path):
    with pytest.raises(RunError, match="not a run directory: it has no config"):
        read_document(tmp_path)
    with pytest.raises(RunError, match="no such directory"):
        read_document(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text(json.dumps({"format": 1, "config": {}}))
    assert read_document(tmp_path)["config"] == {}


def test_the_newest_checkpoint_is_a_whole_one(tmp_path):
    assert newest_checkpoint(tmp_path) is None
    for name in ("9", "20", "30.orbax-checkpoint-tmp-1", "damaged-40"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert newest_checkpoint(tmp_path) == 20
