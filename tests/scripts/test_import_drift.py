"""`rl-discovery import-drift`: the file can be evaluated, and a mistake leaves none."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from rl_discovery.checkpoints import load_objective
from rl_discovery.evaluation import lanes
from tests.scripts.called import called


@pytest.fixture
def saved(tmp_path):
    """Weights as the published code saves them."""
    np.save(tmp_path / "curr_param_1024.npy", np.linspace(-1, 1, 9 * 128, dtype=np.float32))
    return tmp_path / "curr_param_1024.npy"


def untrained(learner, mesh, block_size, meta_params, levels, keys, ends):
    return jnp.zeros(keys.shape[0]), jnp.zeros((keys.shape[0], ends.shape[0] - 1))


def test_a_published_drift_can_be_evaluated(saved, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(lanes, "train_lanes", untrained)  # what agents do is tested in `test_evaluate`
    out = tmp_path / "theirs.safetensors"
    status, text, _ = called("import-drift", capsys, saved, out)
    assert status == 0
    assert f"{out}: lpo with 128 hidden units, from {saved}" in text
    assert f"rl-discovery evaluate {out} --baselines ppo" in text
    small = ("--suite", "small", "--levels", 1, "--seeds", 1, "--horizons", 2, "--json", "--no-cache")
    status, text, errors = called("evaluate", capsys, out, *small)
    assert status == 0, errors
    assert json.loads(text)["cells"][0]["objective"] == "lpo"


def test_json_is_one_document_with_the_card(saved, tmp_path, capsys):
    out = tmp_path / "theirs.safetensors"
    status, text, _ = called("import-drift", capsys, saved, out, "--json", "--inputs", "goldie2025")
    assert status == 0
    assert json.loads(text)["card"]["imported_from"] == "curr_param_1024.npy (goldie2025)"
    assert load_objective(out).rule.width == 128


@pytest.mark.parametrize(
    ("source", "target", "status", "message"),
    [
        ("absent.npy", "out.safetensors", 1, "there is no"),
        ("curr_param_1024.npy", "out.npz", 2, "does not end in .safetensors"),
        ("curr_param_1024.npy", "absent/out.safetensors", 1, "no folder"),
        ("curr_param_1024.npy", "out.safetensors --clip -1", 1, "clip: input should be greater than 0"),
        ("curr_param_1024.npy", "out.safetensors --inputs lu", 2, "lu2022"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(saved, tmp_path, capsys, source, target, status, message):
    before = sorted(tmp_path.iterdir())
    file, *flags = target.split()
    given, out, errors = called("import-drift", capsys, tmp_path / source, tmp_path / file, *flags)
    assert (given, out) == (status, "")
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert message in errors
    assert sorted(tmp_path.iterdir()) == before
