"""Crafted files: nothing is read or written outside the folder, and nothing allocated by what they claim."""

import json
import os
import shutil
import sys

import jax
import numpy as np
import pytest
import tensorstore
from orbax.checkpoint import CheckpointManager

from rl_discovery.checkpoints import ObjectiveFileError, load_objective, read_objective, untrusted
from rl_discovery.checkpoints.atomic import replace_file
from rl_discovery.checkpoints.errors import RunCheckpointError
from rl_discovery.checkpoints.runs import RunCheckpoints, seal
from rl_discovery.checkpoints.untrusted import RefusedError

STATE = {"x": np.arange(5, dtype=np.float32), "y": np.ones((30, 3), np.float32)}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Checkpoints 1 and 2 of a run."""
    folder = tmp_path_factory.mktemp("two")
    checkpoints = RunCheckpoints(folder)
    for step in (1, 2):
        checkpoints.save(step, STATE, {})
    checkpoints.close()
    return folder


@pytest.fixture
def run(two, tmp_path):
    return shutil.copytree(two, tmp_path / "run")


def restore(folder):
    checkpoints = RunCheckpoints(folder)
    try:
        restored = checkpoints.restore(STATE)
    finally:
        checkpoints.close()
    jax.tree.map(np.testing.assert_array_equal, restored.state, STATE)
    return restored


def refused(folder):
    with pytest.raises(RunCheckpointError) as caught:
        restore(folder)
    assert str(caught.value).isprintable()
    return str(caught.value)


def rewrite(step, **changes):
    """The record of a step with other values and a seal that fits them."""
    path = step / "record" / "metadata"
    record = json.loads(path.read_text()) | changes
    del record["seal"]
    path.write_text(json.dumps(record | {"seal": seal(record)}))


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "NaN", "[Infinity]", "1e999", '{"a": 1, "a": 2}', "9" * 21, "-" + "9" * 5000, "[" * 10**5),
        *(
            "[" * 66 + "]" * 66,
            '{"a":' * 66 + "1" + "}" * 66,
            '"\\ud800"',
            '{"\\udfff": 1}',
            b"\xff",
            b'"\xed\xa0\x80"',
        ),
    ],
)
def test_json_that_python_would_take_or_choke_on_is_refused(text):
    with pytest.raises(RefusedError):
        untrusted.parse_json(text)


def test_json_is_read_as_it_is():
    document = {"a": [1, -2.5, True, None, "é\U0001f600", 2**64 - 1], "b": {"c": []}}
    assert untrusted.parse_json(json.dumps(document).encode()) == document


def test_a_file_larger_than_the_limit_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(2**40)  # a hole: reading it would exhaust the memory
    with pytest.raises(RefusedError, match="has 1099511627776 bytes, more than the 10"):
        untrusted.read_bytes(path, 10)
    with pytest.raises(ObjectiveFileError, match="1099511627776 bytes"):
        read_objective(path)


def test_a_pipe_or_device_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(ObjectiveFileError, match="is not a regular file"):
            read_objective(path)


def test_a_long_line_of_metrics_is_refused_before_it_is_read_whole(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"generation": 0}\n' + b" " * (untrusted.METRICS_LINE + 10))
    lines = untrusted.lines(path, untrusted.METRICS_LINE, untrusted.METRICS)
    assert next(lines) == b'{"generation": 0}\n'
    with pytest.raises(RefusedError, match="line of more than"):
        next(lines)


@pytest.mark.parametrize("version", ["x", None, True, 0, -1, 1.0, [1], {}])
def test_a_format_that_is_no_number_from_1_is_refused(version):
    with pytest.raises(RefusedError, match="its format is"):
        untrusted.check_version({"format": version}, 3)


def test_links_within_a_folder_are_fine_and_those_that_leave_it_are_not(tmp_path):
    folder = tmp_path / "folder"
    (folder / "below").mkdir(parents=True)
    (folder / "below" / "file").touch()
    (folder / "link").symlink_to("below/file")
    (folder / "absolute").symlink_to(folder / "below")
    (tmp_path / "alias").symlink_to(folder)
    untrusted.check_confined(folder)
    untrusted.check_confined(tmp_path / "alias")
    (folder / "below" / "out").symlink_to("../../secret")
    with pytest.raises(RefusedError, match="'below/out' that leads out"):
        untrusted.check_confined(folder)


def test_links_in_a_circle_are_refused(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(RefusedError, match="leads"):
        untrusted.check_within(tmp_path / "a", tmp_path / "folder")


def test_a_link_that_waits_for_the_temporary_file_is_not_followed(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("kept")
    (tmp_path / f".out.{os.getpid()}.tmp").symlink_to(secret)
    replace_file(tmp_path / "out", b"new")
    assert secret.read_text() == "kept"
    assert (tmp_path / "out").read_bytes() == b"new"


def test_an_objective_that_lies_outside_its_run_is_refused(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (tmp_path / "other").touch()
    (run / "objective.safetensors").symlink_to(tmp_path / "other")
    with pytest.raises(ObjectiveFileError, match="leads out of its folder"):
        load_objective(run)


@pytest.mark.parametrize("place", ["state/d", "state", "record/metadata", "state/_METADATA", "."])
def test_a_checkpoint_with_a_link_is_refused_and_moves_nothing(run, tmp_path, place):
    inside = (run / "2" / place) if place != "." else run / "2"
    outside = tmp_path / "outside"
    inside.rename(outside)
    inside.symlink_to(outside)
    before = sorted(tmp_path.rglob("*"))
    assert "link" in (message := refused(run)) or "neither file nor folder" in message
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_of_checkpoints_that_is_a_link_is_refused(run, tmp_path):
    (tmp_path / "checkpoints").symlink_to(run)
    with pytest.raises(RunCheckpointError, match="is a link"):
        RunCheckpoints(tmp_path / "checkpoints")


def test_a_pipe_in_a_checkpoint_is_refused_and_not_waited_for(run):
    os.mkfifo(run / "2" / "state" / "pipe")
    assert "'pipe', which is neither file nor folder" in refused(run)


def test_an_index_of_a_checkpoint_that_is_too_large_is_refused_before_it_is_read(run):
    with (run / "2" / "state" / "_METADATA").open("r+b") as file:
        file.truncate(2**40)
    assert "'_METADATA' of 1099511627776 bytes" in refused(run)


@pytest.mark.parametrize("name", ["..2", "٣", "007", "2 ", "-1", "1" * 200, "3.orbax-checkpoint-tmp", "x"])
def test_folders_that_only_look_like_steps_are_left_alone(run, name):
    (run / name).mkdir()
    try:
        assert restore(run).generation == 2
    except RunCheckpointError as error:
        assert str(error).isprintable()  # noqa: PT017 - either is fine, another error is not


@pytest.mark.parametrize(
    "changes",
    [
        *({"format": "x"}, {"format": None}, {"format": True}, {"format": 0}, {"format": [1]}),
        *({"layout": 5}, {"layout": [5]}, {"layout": [[]]}, {"layout": {}}, {"layout": None}),
        *({"facts": 3}, {"facts": None}, {"sha256": 7}),
    ],
)
def test_a_sealed_record_of_other_types_is_damage(run, changes):
    rewrite(run / "2", **changes)
    restored = restore(run)
    assert (restored.generation, restored.damaged) == (1, (2,))


def test_a_record_of_a_step_that_claims_a_huge_layout_allocates_nothing(run):
    rewrite(run / "2", layout=[["['x']", "float32", [2**40]], ["['y']", "float32", [30, 3]]])
    assert "holds another state" in refused(run)


def stored(step):
    """The key-value store in which Orbax keeps a step's arrays."""
    return tensorstore.KvStore.open({"driver": "ocdbt", "base": f"file://{step / 'state'}/"}).result()


@pytest.mark.parametrize(
    "change",
    [{"shape": [50_000_000]}, {"shape": [6]}, {"dtype": "<f8"}, {"chunks": [50_000_000]}, {"shape": [2**50]}],
)
def test_arrays_that_claim_another_shape_are_refused_before_they_are_read(run, monkeypatch, change):
    store = stored(run / "2")
    key = b"['x']/.zarray"
    store[key] = json.dumps(json.loads(store[key]) | change).encode()
    read, original = [], CheckpointManager.restore

    def spy(self, step, args):
        if "state" in args.keys():  # noqa: SIM118 - Composite is no mapping
            read.append(step)
        return original(self, step, args=args)

    monkeypatch.setattr(CheckpointManager, "restore", spy)
    restored = restore(run)
    assert (restored.generation, restored.damaged) == (1, (2,))
    assert read == [1]


def test_names_of_types_and_handlers_in_a_checkpoint_are_not_imported(run, tmp_path, monkeypatch):
    (tmp_path / "planted.py").write_text("raise SystemExit('executed')")
    monkeypatch.syspath_prepend(tmp_path)
    for file in ("2/_CHECKPOINT_METADATA", "2/state/_METADATA"):
        text = (run / file).read_text()
        for name in (
            *("np.ndarray", "orbax.checkpoint._src.handlers.json_checkpoint_handler.JsonCheckpointHandler"),
            "orbax.checkpoint._src.handlers.standard_checkpoint_handler.StandardCheckpointHandler",
        ):
            text = text.replace(name, "planted.Thing")
        assert "planted.Thing" in text
        (run / file).write_text(text)
    assert restore(run).generation in (1, 2)
    assert "planted" not in sys.modules


def test_a_checkpoint_whose_index_names_files_elsewhere_is_damage(run, tmp_path):
    manifest = run / "2" / "state" / "manifest.ocdbt"
    data = next((run / "2" / "state" / "d").iterdir())
    path = b"../../../evil/" + b"e" * 20
    assert len(path) == len(f"d/{data.name}")
    (tmp_path / "evil").mkdir()
    data.rename(tmp_path / "evil" / ("e" * 20))
    body = manifest.read_bytes()[:-4].replace(f"d/{data.name}".encode(), path)
    assert path in body
    manifest.write_bytes(body + crc32c(body).to_bytes(4, "little"))
    assert restore(run).damaged == (2,)


def crc32c(data):
    """The checksum with which OCDBT guards its files."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 * (value & 1))
    return value ^ 0xFFFFFFFF
