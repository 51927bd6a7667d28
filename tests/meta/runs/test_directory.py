import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from rl_discovery.checkpoints import numerics, untrusted
from rl_discovery.checkpoints.errors import CheckpointError
from rl_discovery.checkpoints.run_directory import FORMAT, intact_metrics, read_metrics
from rl_discovery.meta.config import to_json
from rl_discovery.meta.errors import ConfigError, RunError
from rl_discovery.meta.runs.directory import RunDirectory, read_config
from rl_discovery.meta.runs.status import read_status
from tests.checkpoints.switches import switched
from tests.meta.processes import environment
from tests.meta.tiny import TINY, tiny

HOLD = """
import sys
from pathlib import Path
from rl_discovery.meta.runs.directory import RunDirectory
from tests.meta.tiny import TINY
directory = RunDirectory(Path(sys.argv[1]), TINY)
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs" / "tiny"


def refusal(path, config=TINY, kind=RunError):
    """The one line that refuses a directory, which is left as it was."""
    before = contents(path)
    with pytest.raises(kind) as caught:
        RunDirectory(path, config)
    assert contents(path) == before
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def contents(path):
    """Every file in a directory, the lock aside."""
    files = sorted(path.rglob("*")) if path.is_dir() else []
    return {file: file.read_bytes() for file in files if file.is_file() and file.name != ".lock"}


def row(generation):
    return {
        "generation": generation,
        "fitness_mean": generation / 3,
        "env_steps": generation * 10,
        "wall_s": generation / 2,
    }


def intact(path):
    """The metrics up to what is damaged."""
    return [line.row for line in intact_metrics(path)]


def with_metrics(path, *generations):
    """A closed run directory with metrics of these generations."""
    directory = RunDirectory(path, TINY)
    for generation in generations:
        directory.append_metrics(row(generation))
    directory.close()


def test_a_new_directory_holds_the_configuration_versions_and_seed(path):
    RunDirectory(path, TINY).close()
    document = json.loads((path / "config.json").read_text())
    assert document["format"] == FORMAT
    assert document["config"] == to_json(TINY)
    assert document["config"]["seed"] == 5
    assert document["versions"]["jax"] == jax.__version__
    assert read_config(path) == TINY


def test_the_files_are_as_readable_as_any_other_new_file(path):
    with_metrics(path, 0)
    directory = RunDirectory(path, TINY)
    directory.resume_metrics(1)
    directory.close()
    (path / "ordinary").touch()
    modes = {name: (path / name).stat().st_mode for name in ("ordinary", "config.json", "metrics.jsonl")}
    assert len(set(modes.values())) == 1, modes


@pytest.mark.slow
def test_a_directory_in_use_by_a_live_process_is_refused_until_that_dies(path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, path],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "open\n"
        assert "in use by a live process" in refusal(path)
    finally:
        process.kill()  # the lock must not outlive it
        process.wait()
        process.stdin.close()
        process.stdout.close()
    RunDirectory(path, TINY).close()


def test_a_second_run_of_the_same_process_is_refused_too(path):
    directory = RunDirectory(path, TINY)
    assert "in use" in refusal(path)
    directory.close()
    RunDirectory(path, TINY).close()


def test_another_configuration_is_refused_with_every_difference(path):
    RunDirectory(path, TINY).close()
    message = refusal(path, tiny(seed=6, es={"sigma": 0.25}), ConfigError)
    assert "seed was 5, now 6" in message
    assert "es.sigma was 0.5, now 0.25" in message
    assert "pairs" not in message
    RunDirectory(path, TINY).close()  # the refusal let go of the lock


def test_what_does_not_decide_results_may_change_and_is_recorded(path):
    RunDirectory(path, TINY).close()
    longer = tiny(generations=60, devices=2, checkpoint={"every": 3}, logging={"tensorboard": True})
    RunDirectory(path, longer).close()
    assert read_config(path) == longer


@pytest.mark.parametrize("name", [name for name in numerics.IDENTITY if name in jax.config.values])
def test_a_run_that_began_with_another_switch_of_jax_is_refused_and_named(path, name):
    RunDirectory(path, TINY).close()
    with switched(name):
        message = refusal(path, kind=ConfigError)
    assert f"{name} was " in message
    assert f"set {name.upper()} back" in message
    RunDirectory(path, TINY).close()


def history(path):
    return json.loads((path / "config.json").read_text())["history"]


def recorded(path, generation):
    """What a run is told that goes on from a generation."""
    directory = RunDirectory(path, TINY)
    changes = directory.record_history(generation)
    directory.close()
    return changes


def test_a_new_run_knows_what_computes_it_from_the_first_generation(path):
    assert recorded(path, 0) == []
    (entry,) = history(path)
    assert entry["generation"] == 0
    assert entry["versions"]["jax"] == jax.__version__
    assert entry["numerics"]["device"].startswith("cpu")
    assert recorded(path, 4) == []
    assert history(path) == [entry]


def with_version(monkeypatch, version):
    monkeypatch.setattr("rl_discovery.meta.runs.history.versions", lambda: {"jax": version, "numpy": "2"})


def test_the_versions_that_computed_a_part_of_a_run_are_kept_and_what_changed_is_told_once(path, monkeypatch):
    for version, generation, told in [
        ("1", 0, []),
        ("2", 4, ["jax was 1, now 2"]),
        ("2", 4, []),
        ("2", 6, []),
        ("1", 8, ["jax was 2, now 1"]),
        ("3", 8, ["jax was 2, now 3"]),  # killed before a checkpoint: nothing of version 1 is left
    ]:
        with_version(monkeypatch, version)
        assert recorded(path, generation) == told
    kept = [(entry["generation"], entry["versions"]["jax"]) for entry in history(path)]
    assert kept == [(0, "1"), (4, "2"), (8, "3")]


@pytest.mark.parametrize("name", [name for name in numerics.ROUNDING if name in jax.config.values])
def test_a_switch_that_makes_another_program_is_told_and_kept(path, name):
    recorded(path, 0)
    with switched(name):
        (line,) = recorded(path, 2)
    assert line.startswith(f"{name} was ")
    assert [entry["generation"] for entry in history(path)] == [0, 2]


def test_a_run_of_before_there_was_a_history_goes_on_and_keeps_its_versions(path, monkeypatch):
    with_version(monkeypatch, "2")
    path.mkdir(parents=True)
    document = {"format": 1, "config": to_json(TINY), "versions": {"jax": "1", "numpy": "2"}}
    (path / "config.json").write_text(json.dumps(document))
    assert recorded(path, 3) == ["jax was 1, now 2"]
    old, new = history(path)
    assert old == {"generation": 0, "versions": {"jax": "1", "numpy": "2"}}
    assert (new["generation"], new["versions"]["jax"]) == (3, "2")


@pytest.mark.parametrize(
    "changes", [{"history": 3}, {"history": [3]}, {"history": [{"generation": "x"}]}, {"jax": [1]}]
)
def test_a_history_that_is_none_is_refused_and_kept(path, changes):
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"format": 1, "config": to_json(TINY)} | changes))
    assert "not a configuration of rl-discovery (holds" in refusal(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a configuration of rl-discovery"),
        ("{", "not a configuration of rl-discovery"),
        ("[1, 2]", "not a configuration of rl-discovery"),
        ('{"name": "foreign"}', "not a configuration of rl-discovery"),
        ('{"format": "new", "config": {}}', "not a configuration of rl-discovery"),
        ('{"format": 1, "config": {"seed": -1}}', "not a configuration of rl-discovery"),
        ('{"format": 1, "config": null}', "not a configuration of rl-discovery"),
        ('{"format": 99, "config": {"field": "of the future"}}', "format 99, newer than 1"),
    ],
)
def test_a_foreign_damaged_or_newer_configuration_is_refused_and_kept(path, text, words):
    path.mkdir(parents=True)
    (path / "config.json").write_text(text)
    assert words in refusal(path)


def test_a_configuration_in_bytes_that_are_no_text_is_refused(path):
    path.mkdir(parents=True)
    (path / "config.json").write_bytes(b"\xff\xfe\x00{")
    assert "not a configuration" in refusal(path)


def test_metrics_of_another_program_are_not_cut_back_to_nothing(path):
    path.mkdir(parents=True)
    (path / "metrics.jsonl").write_text('{"step": 1}\n')
    assert "no config.json" in refusal(path)


@pytest.mark.parametrize("where", ["file", "file/below", "/proc/rl-discovery"])
def test_a_path_that_cannot_be_written_is_refused(tmp_path, where):
    (tmp_path / "file").write_text("precious")
    assert "cannot write to" in refusal(tmp_path / where)
    assert (tmp_path / "file").read_text() == "precious"


def test_metrics_are_whole_lines_on_disk_when_append_returns(path):
    directory = RunDirectory(path, TINY)
    for generation in range(3):
        directory.append_metrics(row(generation))
        assert read_metrics(path)[-1] == row(generation)
    directory.close()


@pytest.mark.parametrize(
    "rest", ["", "{", '{"generation": 3, "fitn', '{"generation": 3}', "\0\0\0\n", "[3]\n"]
)
def test_a_line_that_a_crash_cut_short_is_dropped_on_resume(path, rest):
    with_metrics(path, 0, 1, 2)
    with (path / "metrics.jsonl").open("a") as file:
        file.write(rest)
    assert intact(path) == [row(0), row(1), row(2)]
    directory = RunDirectory(path, TINY)
    assert directory.resume_metrics(2) == row(1)
    assert list(directory.rows()) == [row(0), row(1)]
    directory.append_metrics(row(2))
    directory.close()
    assert (path / "metrics.jsonl").read_text() == "".join(json.dumps(row(i)) + "\n" for i in range(3))


def test_garbage_that_is_no_text_ends_the_metrics(path):
    with_metrics(path, 0, 1)
    with (path / "metrics.jsonl").open("ab") as file:
        file.write(b"\xff\xfe\x80\n")
    assert intact(path) == [row(0), row(1)]


def test_resume_at_generation_0_begins_with_empty_metrics(path):
    with_metrics(path, 0, 1)
    directory = RunDirectory(path, TINY)
    assert directory.resume_metrics(0) is None
    directory.close()
    assert (path / "metrics.jsonl").read_text() == ""


@pytest.mark.parametrize("generations", [(), (0, 1), (0, 2, 3), (1, 2, 3), (0, 1, 1, 2)])
def test_metrics_that_lack_or_repeat_a_generation_before_the_checkpoint_are_refused(path, generations):
    with_metrics(path, *generations)
    directory = RunDirectory(path, TINY)
    before = contents(path)
    with pytest.raises(RunError, match="lacks generations before 4"):
        directory.resume_metrics(4)
    directory.close()
    assert contents(path) == before


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_configuration_that_cannot_be_replaced_leaves_the_old_one_and_nothing_else(path, monkeypatch, step):
    RunDirectory(path, TINY).close()
    before = contents(path)

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((os, "fsync") if step == "fsync" else (Path, "replace")), fail)
    with pytest.raises((RunError, CheckpointError), match="No space left on device") as caught:
        RunDirectory(path, tiny(generations=7))
    assert "\n" not in str(caught.value)
    assert contents(path) == before


def test_what_a_killed_process_was_writing_is_removed_at_the_next_start(path):
    RunDirectory(path, TINY).close()
    before = contents(path)
    for name in (".config.json.x1", ".metrics.jsonl.x2", ".objective.safetensors.3.tmp"):
        (path / name).write_text("half a fi")
    (path / "notes.txt").write_text("the user's")
    RunDirectory(path, TINY).close()
    assert contents(path) == before | {path / "notes.txt": b"the user's"}


@pytest.mark.parametrize("name", ["train.log", "metrics.jsonl", "tb", "checkpoints", "tb/events"])
def test_a_directory_through_whose_links_a_run_would_write_elsewhere_is_refused(path, tmp_path, name):
    RunDirectory(path, TINY).close()
    (path / name).parent.mkdir(exist_ok=True)
    (path / name).symlink_to(tmp_path / "elsewhere")
    assert f"has a link {name!r} that leads out of it" in refusal(path)
    assert not (tmp_path / "elsewhere").exists()


def test_links_of_weights_and_biases_to_its_cache_are_its_own_affair(path, tmp_path):
    RunDirectory(path, TINY).close()
    logs = path / "wandb" / "run-1" / "logs"
    logs.mkdir(parents=True)
    (logs / "debug-core.log").symlink_to(tmp_path / "cache")
    RunDirectory(path, TINY).close()
    (path / "tb").mkdir()
    (path / "tb" / "wandb").symlink_to(tmp_path / "cache")
    assert "has a link 'tb/wandb' that leads out of it" in refusal(path)
    (path / "tb" / "wandb").unlink()
    (path / "wandb").rename(tmp_path / "moved")
    (path / "wandb").symlink_to(tmp_path / "moved")
    assert "has a link 'wandb' that leads out of it" in refusal(path)


def test_metrics_of_a_run_of_weeks_are_resumed_from_though_nobody_would_keep_them_in_memory(
    path, monkeypatch
):
    monkeypatch.setattr(untrusted, "METRICS", 10)
    with_metrics(path, *range(4))
    directory = RunDirectory(path, TINY)
    assert directory.resume_metrics(3) == row(2)
    directory.close()
    with pytest.raises(RunError, match="more than the 10 that are read"):
        read_status(path)


def test_a_run_directory_may_itself_be_a_link(path, tmp_path):
    path.mkdir(parents=True)
    (tmp_path / "link").symlink_to(path)
    RunDirectory(tmp_path / "link", TINY).close()


@pytest.mark.parametrize("name", ["env_steps", "wall_s"])
@pytest.mark.parametrize("value", [None, "7", -1, True])
def test_totals_that_a_resumed_run_could_not_go_on_from_are_refused(path, name, value):
    directory = RunDirectory(path, TINY)
    directory.append_metrics(row(0) | {name: value})
    with pytest.raises(RunError, match=f"has no {name} in generation 0|lacks generations"):
        directory.resume_metrics(1)
    directory.close()


def test_metrics_that_cannot_be_written_are_one_clear_line(path, monkeypatch):
    directory = RunDirectory(path, TINY)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(RunError, match=r"cannot write .*metrics\.jsonl: No space left on device"):
        directory.append_metrics(row(0))
    directory.close()
