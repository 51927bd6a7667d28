"""`rl-discovery export`: the file is what the run has, and a failure leaves no file."""

import json

import jax
import numpy as np
import pytest

from rl_discovery.checkpoints import load_objective, save_objective
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.objectives.registry import make_objective
from rl_discovery.scripts import cli


@pytest.fixture
def run(tmp_path):
    """A run directory with an objective."""
    rule = make_objective("ta-lpg", width=4)
    shapes = jax.eval_shape(rule.init, jax.eval_shape(lambda: jax.random.key(0)))
    params = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)
    card = {"preset": "quickstart", "generations": 1240, "seed": 3}
    (tmp_path / "run").mkdir()
    save_objective(tmp_path / "run" / "objective.safetensors", TrainedObjective(rule, params, card))
    return tmp_path / "run"


def test_exported_file_is_the_objective_of_the_run(run, tmp_path, capsys):
    file = tmp_path / "out.safetensors"
    assert cli.main(["export", str(run), str(file)]) == 0
    assert file.read_bytes() == (run / "objective.safetensors").read_bytes()
    assert f"{file}: ta-lpg after 1,240 generations" in capsys.readouterr().out
    assert load_objective(file).card["seed"] == 3


def test_json_is_one_document_with_the_card(run, tmp_path, capsys):
    file = tmp_path / "out.safetensors"
    assert cli.main(["export", str(run), str(file), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["file"] == str(file)
    assert document["card"]["generations"] == 1240
    assert document["card"]["objective"]["type"] == "ta-lpg"


@pytest.mark.parametrize("framework", ["torch", "numpy"])
def test_a_drift_is_exported_as_python(framework, tmp_path, capsys):
    file = tmp_path / "ta_lpo.py"
    assert cli.main(["export", "shipped:ta-lpo", str(file), "--to", framework]) == 0
    assert f"{file}: ta-lpo for {framework} after 600 generations" in capsys.readouterr().out
    assert f"import {framework}" in file.read_text()
    assert "def drift(" in file.read_text()


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (
            "shipped:ta-lpg",
            "drift.py",
            "ta-lpg cannot be written for PyTorch: its network reads whole rollouts",
        ),
        ("shipped:ta-lpo", "drift.safetensors", "does not end in .py"),
        ("shipped:ta-lpo", "ta-lpo.py", "call it ta_lpo.py"),
        ("shipped:ta-lpo", "2.py", "call it _2.py"),
        ("shipped:ta-lpo", "torch.py", "would hide Python's torch"),
        ("shipped:ta-lpo", "drift.py --evaluation results.json", "leave out --to"),
    ],
)
def test_impossible_python_file_is_one_line_and_leaves_nothing(tmp_path, capsys, source, target, message):
    file, *flags = target.split()
    assert cli.main(["export", source, str(tmp_path / file), *flags, "--to", "torch"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("source", "target", "status", "message"),
    [
        ("absent", "out.safetensors", 2, "no file or run directory"),
        (".", "out.safetensors", 2, "has no objective.safetensors"),
        ("run", "out.txt", 2, "does not end in .safetensors"),
        ("run", "out.py", 2, "say --to torch or --to numpy"),
        ("run", "absent/out.safetensors", 1, "no folder"),
        ("damaged.safetensors", "out.safetensors", 1, "is not an exported objective"),
        ("run", "folder.safetensors", 1, "Is a directory"),
    ],
)
def test_impossible_export_is_one_line_and_leaves_nothing(
    run, tmp_path, capsys, source, target, status, message
):
    (tmp_path / "damaged.safetensors").write_bytes(b"nothing")
    (tmp_path / "folder.safetensors").mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(["export", str(tmp_path / source), str(tmp_path / target)]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert sorted(tmp_path.rglob("*")) == before
