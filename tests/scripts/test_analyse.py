"""The command, small, on one objective of each kind."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.image
import numpy as np
import pytest

from rl_discovery import checkpoints
from rl_discovery.checkpoints import save_objective
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.objectives.registry import make_objective
from rl_discovery.evaluation.analysis.lifetimes import TRACES
from rl_discovery.evaluation.analysis.record import Analysis
from rl_discovery.scripts import cli

TINY = ("--suite", "small", "--levels", "2", "--seeds", "3", "--lifetime", "4", "--terms", "3")
FORMULA = {"closed_form.png", "closed_form.svg", "closed_form.safetensors"}


@pytest.fixture
def untrained(monkeypatch):
    """Agents without lifetimes; what is left is the command."""

    def nothing(learner, mesh, block_size, meta_params, levels, keys, told):
        traces = {name: jnp.zeros((keys.shape[0], told.shape[0])) for name in TRACES}
        return traces | {"return": jnp.zeros(keys.shape[0])}

    monkeypatch.setattr("rl_discovery.evaluation.analysis.lifetimes.trace_lanes", nothing)


def pictures(*names):
    return {f"{name}.{kind}" for name in names for kind in ("png", "svg")}


def files(folder):
    return {path.name for path in folder.iterdir()}


def run_directory(tmp_path, name, **settings):
    folder = tmp_path / "run"
    folder.mkdir()
    rule = make_objective(name, **settings)
    config = {"agent": {"workers": 3}, "levels": {"distribution": "all_vrandlife", "horizon": None}}
    objective = TrainedObjective(rule, rule.init(jax.random.key(0)), {"config": config})
    save_objective(folder / "objective.safetensors", objective)
    return folder


@pytest.mark.slow
def test_a_learned_drift_has_figures_numbers_and_a_formula(tmp_path, monkeypatch, capsys):
    out = tmp_path / "new" / "folder"
    assert cli.main(["analyse", "ta-lpo", *TINY, "--out", str(out), "--json"]) == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert document == json.loads((out / "analysis.json").read_text())
    drawn = pictures("drift", "drift_map", "drift_range", "lifetimes")
    assert files(out) == drawn | FORMULA | {"analysis.json"}
    for name in drawn:
        if name.endswith("png"):
            assert matplotlib.image.imread(out / name).size > 0
    found = Analysis.model_validate(document)
    assert found.drift is not None
    # What ta-lpo was evolved with stands in its card: lifetimes of 10 to 100 updates, 16 workers.
    assert {surface.horizon for surface in found.drift.surfaces} == {None, 10, 32, 100}
    assert (found.lifetimes.workers, found.lifetimes.horizon, found.lifetimes.seeds) == (16, 4, 3)
    assert found.response is None
    assert {"clip", "half", "rollback", "zero_advantage", "horizon_blind", "shuffled"} <= set(
        found.definitions
    )
    assert "lifetimes, n/N shuffled" in printed.err
    assert f"wrote {out / 'drift.png'}" in printed.err
    assert found.closed_form is not None
    formula = checkpoints.load_objective(out / "closed_form.safetensors")
    assert [term.name for term in found.closed_form.terms] == list(formula.rule.terms)
    np.testing.assert_allclose(
        [term.coefficient for term in found.closed_form.terms], formula.meta_params["coefficients"], rtol=1e-5
    )

    # No lifetime is lived here; that agents learn with such a drift is tested with the registry.
    def train(learner, mesh, size, meta_params, levels, keys, ends):
        return jnp.zeros(keys.shape[0]), jnp.zeros((keys.shape[0], ends.shape[0] - 1))

    monkeypatch.setattr("rl_discovery.evaluation.lanes.train_lanes", train)
    tiny = ("--suite", "small", "--levels", "1", "--seeds", "1", "--horizons", "1", "--baselines", "random")
    assert cli.main(["evaluate", str(out / "closed_form.safetensors"), *tiny]) == 0
    assert "closed-form-drift" in capsys.readouterr().out


@pytest.mark.slow
def test_lpg_has_a_response_and_a_run_directory_keeps_it(untrained, tmp_path, capsys):
    folder = run_directory(tmp_path, "ta-lpg", width=4)
    assert cli.main(["analyse", str(folder), *TINY]) == 0
    printed = capsys.readouterr().out
    for text in ("pihat of ta-lpg at n/N = 0.5", "Distance from its horizon-blind self", "fixed at 0.5"):
        assert text in printed
    assert files(folder / "analysis") == pictures("response", "lifetimes") | {"analysis.json"}
    found = Analysis.model_validate_json((folder / "analysis" / "analysis.json").read_text())
    assert found.drift is None
    assert found.response is not None
    assert {curve.horizon for curve in found.response.sweeps[0].curves} == {10, 50, 250}
    assert found.lifetimes.workers == 3


@pytest.mark.slow
def test_with_too_few_points_for_a_formula_all_else_is_written(untrained, tmp_path, capsys):
    least = ("--levels", "1", "--seeds", "1", "--lifetime", "1", "--horizons", "10")
    assert cli.main(["analyse", "lpo", *least, "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert "no formula: agents met" in printed.err
    assert "give more --levels or a longer --lifetime" in printed.err
    assert files(tmp_path) == pictures("drift", "drift_map", "drift_range", "lifetimes") | {"analysis.json"}


@pytest.mark.slow
def test_a_hand_written_drift_has_no_formula(untrained, tmp_path, capsys):
    assert cli.main(["analyse", "ppo", *TINY, "--horizons", "10", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert "no formula" not in printed.err
    assert "0.80" in printed.out
    assert files(tmp_path) == pictures("drift", "drift_map", "drift_range", "lifetimes") | {"analysis.json"}


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ((), 2, "which objective?"),
        (("nothing-like-it", "--out", "out"), 2, "nothing-like-it"),
        (("a2c", "--out", "out"), 2, "there is nothing to analyse in a2c"),
        (("random", "--out", "out"), 2, "there is nothing to analyse in random"),
        (("ppo",), 2, "where to? give --out DIR"),
        (("ppo", "--out", "out", "--seeds", "0"), 2, "--seeds must be at least 1, not 0"),
        (("ppo", "--out", "out", "--horizons", "0"), 2, "--horizons must be at least 1, not 0"),
        (("ppo", "--out", "out", "--horizons", "5", "5"), 2, "--horizons must differ"),
        (("ppo", "--out", "out", "--suite", "nowhere"), 2, "unknown suite or environment 'nowhere'"),
        (("ppo", "--out", "file/out"), 1, "cannot write to file/out"),
    ],
)
def test_bad_usage_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, capsys, arguments, status, message):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    assert cli.main(["analyse", *arguments]) == status
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
