"""Exported objectives: a file of ours comes back as it was, any other file is one clear line."""

import json
import os
import resource

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rl_discovery.checkpoints import (
    CheckpointError,
    ObjectiveFileError,
    read_card,
    read_objective,
    save_objective,
)
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.objectives.registry import RULES, make_objective

CARD = {
    "preset": "quickstart",
    "config": {"es": {"sigma": 0.1}, "layers": [1, 2], "note": None},
    "generations": 240,
    "env_steps": 2**40,
    "seed": 0,
    "versions": {"jax": "0.10.2"},
    "evaluation": [{"suite": "unseen", "iqm": 0.9}],
    "something_new": "kept",
}
FAST = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def trained(rule=None, card=CARD):
    """A rule (a small TA-LPG) with meta-parameters of the right shapes; compiling `init` takes seconds."""
    rule = rule or make_objective("ta-lpg", width=4)
    shapes = jax.eval_shape(rule.init, jax.eval_shape(lambda: jax.random.key(0)))
    generator = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: generator.standard_normal(leaf.shape).astype(leaf.dtype), shapes)
    return TrainedObjective(rule, params, card)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "objective.safetensors"


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    path = tmp_path_factory.mktemp("template") / "objective.safetensors"
    save_objective(path, trained())
    return path


@pytest.fixture
def parts(template):
    """Tensors and card of an intact file, to be changed by a test."""
    with safetensors.safe_open(template, "numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["card"])  # noqa: SIM118 - not a dict


def write(path, tensors, card):
    text = card if isinstance(card, str) else json.dumps(card)
    path.write_bytes(safetensors.numpy.save(tensors, {"card": text}))


def complaint(path):
    """The message with which a file is refused; empty if it is read."""
    try:
        read_objective(path)
    except ObjectiveFileError as error:
        return str(error)
    return ""


def refusal(path):
    """The message with which a file must be refused, without its path."""
    message = complaint(path)
    assert str(path) in message
    assert message.isprintable(), "more than one line"
    return message.removeprefix(str(path))


@pytest.mark.parametrize("name", sorted(RULES))
def test_every_registered_objective_comes_back_as_it_was_saved(path, name):
    saved = trained(make_objective(name))
    save_objective(path, saved)
    loaded = read_objective(path)
    assert loaded.rule == saved.rule
    assert jax.tree.structure(loaded.meta_params) == jax.tree.structure(saved.meta_params)
    jax.tree.map(np.testing.assert_array_equal, loaded.meta_params, saved.meta_params)
    assert {key: loaded.card[key] for key in CARD} == CARD


def test_card_says_format_type_settings_and_inputs(template):
    card = read_card(template)
    assert card["format"] == 1
    assert card["objective"]["type"] == "ta-lpg"
    assert card["objective"]["settings"]["width"] == 4
    assert card["inputs"]


def test_saving_what_was_loaded_gives_the_same_file(template, path):
    save_objective(path, read_objective(template))
    assert path.read_bytes() == template.read_bytes()


def test_tensors_are_named_by_their_path(parts):
    assert parts[0]["gru/recurrent_kernel"].shape == (4, 12)


def test_loaded_parameters_are_jax_arrays(template):
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(read_objective(template).meta_params))


@pytest.mark.parametrize("name", ["absent.safetensors", "."])
def test_file_that_cannot_be_read_says_why(tmp_path, name):
    assert refusal(tmp_path / name).startswith("cannot read ")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x02",
        b"PK\x03\x04 a zip",
        b"\x80\x04\x95 a pickle, maybe",
        b"\xff" * 64,
        (2**40).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (20).to_bytes(8, "little") + b'{"__metadata__": 3} ',
        (26).to_bytes(8, "little") + b'{"__metadata__":{"card":1}}',
    ],
)
def test_foreign_file_is_refused(path, data):
    path.write_bytes(data)
    assert "is not an exported objective" in refusal(path)


def test_every_truncation_is_refused(template, path):
    data = template.read_bytes()
    for length in range(0, len(data), len(data) // 50):
        path.write_bytes(data[:length])
        assert "is not an exported objective" in refusal(path)


@FAST
@given(position=st.integers(0), flip=st.integers(1, 255))
def test_changed_byte_is_refused_or_gives_an_objective(template, tmp_path_factory, position, flip):
    data = bytearray(template.read_bytes())
    data[position % (len(data) - 600)] ^= flip  # mostly the header: weights have no checksum
    path = tmp_path_factory.getbasetemp() / "changed.safetensors"
    path.write_bytes(data)
    assert complaint(path).isprintable(), "more than one line"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.just(10**30)
    | st.just(-1),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = ["format", "objective", "inputs", *CARD, "objective.type", "objective.settings"]
SETTINGS = ["bins", "width", "embedding_width", "horizon_inputs", "prediction_coef", "precision", "bogus"]


@FAST
@given(field=st.sampled_from(FIELDS + [f"objective.settings.{name}" for name in SETTINGS]), value=JSON)
@example("objective.settings.width", 0)
@example("objective.settings.width", 10**30)
@example("objective.settings.width", 10**6)
@example("objective.settings.precision", "float8")
def test_any_card_is_refused_or_gives_an_objective(template, tmp_path_factory, field, value):
    with safetensors.safe_open(template, "numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        card = json.loads(file.metadata()["card"])
    *parents, last = field.split(".")
    inner = card
    for parent in parents:
        inner = inner[parent]
    inner[last] = value
    path = tmp_path_factory.getbasetemp() / "card.safetensors"
    write(path, tensors, card)
    assert complaint(path).isprintable(), "more than one line"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, " has format 2, newer than 1: install a newer rl-discovery"),
        ({"format": 2, "objective": "another shape by then"}, " has format 2, newer than 1"),
        ({"format": 0}, "format 0 never existed"),
        ({"format": "1"}, "is damaged: format: input should be a valid integer"),
        ({"objective": {"type": "disco", "settings": {}}}, "unknown type 'disco' (known here: a2c, "),
        ({"objective": {"type": "ta-lpg", "settings": {"depth": 3}}}, "unexpected keyword argument 'depth'"),
        (
            {"objective": {"type": "ta-lpg", "settings": {"width": 4.5}}},
            "width: input should be a valid integer",
        ),
        ({"objective": {"type": "ta-lpg", "settings": {"horizon_inputs": False}}}, "settings of 'lpg'"),
        ({"objective": {"type": "ta-lpg"}}, "is damaged: objective.settings: field required"),
        ({"generations": -1}, "is damaged: generations: "),
        ({"versions": {"jax": 3}}, "is damaged: versions.jax: "),
    ],
)
def test_wrong_card_says_what_is_wrong(parts, path, change, message):
    tensors, card = parts
    write(path, tensors, card | change)
    assert message in refusal(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"seed": NaN}', '{"seed": 1e999}', "[" * 100_000])
def test_card_that_is_no_json_object_is_refused(parts, path, text):
    write(path, parts[0], text)
    assert "card" in refusal(path)


def test_file_without_a_card_is_refused(parts, path):
    path.write_bytes(safetensors.numpy.save(parts[0]))
    assert refusal(path) == " is not an exported objective: it has no card"


def without(tensors):
    del tensors["heads/bias"]


def extra(tensors):
    tensors["evil"] = np.zeros(3, np.float32)


def reshaped(tensors):
    tensors["heads/bias"] = np.zeros((3, 3), np.float32)


def other_dtype(tensors):
    tensors["heads/bias"] = np.zeros(9, np.float64)


def exotic_dtype(tensors):
    tensors["heads/bias"] = np.zeros(9, ml_dtypes.bfloat16)


def infinite(tensors):
    tensors["heads/bias"][3] = np.inf


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without, " lacks the tensor 'heads/bias'"),
        (extra, " has a tensor 'evil' that its card's objective does not know"),
        (reshaped, "is float32[3, 3]; its card's objective needs float32[9]"),
        (other_dtype, "is float64[9]; its card's objective needs float32[9]"),
        (exotic_dtype, "is bfloat16[9]; its card's objective needs float32[9]"),
        (infinite, "has values that are not finite"),
    ],
)
def test_tensor_that_is_not_this_rules_is_named(parts, path, damage, message):
    tensors, card = parts
    damage(tensors)
    write(path, tensors, card)
    assert message in refusal(path)


def test_shapes_are_refused_before_anything_is_allocated(parts, path):
    tensors, card = parts
    card["objective"]["settings"]["width"] = 10**6  # a recurrent kernel of 12 TB
    write(path, tensors, card)
    assert "its card's objective needs float32[3000000]" in refusal(path)


def test_objective_that_could_not_be_read_back_is_not_written(path):
    good = trained()
    not_finite = jax.tree.map(lambda leaf: leaf * np.float32("nan"), good.meta_params)
    for bad in (
        TrainedObjective(good.rule, not_finite, CARD),
        TrainedObjective(good.rule, {}, CARD),
        trained(card={"seed": float("inf")}),
        trained(card={"config": {"path": object()}}),
        trained(card={"generations": "many"}),
    ):
        with pytest.raises(ObjectiveFileError):
            save_objective(path, bad)
    assert not path.exists()


def test_failed_write_leaves_the_old_file_and_nothing_else(path):
    save_objective(path, trained())
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, hard))
    try:
        with pytest.raises(CheckpointError, match=r"cannot write .*: File too large"):
            save_objective(path, trained(make_objective("ta-lpg", width=64)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_missing_folder_is_one_clear_line(tmp_path):
    with pytest.raises(CheckpointError, match=r"cannot write .*: No such file or directory"):
        save_objective(tmp_path / "absent" / "objective.safetensors", trained())


def test_written_file_can_be_read_by_others(path):
    mask = os.umask(0o022)
    try:
        save_objective(path, trained())
    finally:
        os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o644
