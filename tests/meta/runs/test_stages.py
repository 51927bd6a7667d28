"""Runs with a first stage, with an average of the means, and with a schedule that ends with the run."""

import dataclasses
import io
import types
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console

from rl_discovery.checkpoints import read_objective, save_objective
from rl_discovery.checkpoints.objective_card import read_card
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.meta.presets import Preset
from rl_discovery.meta.runs import meta_train as module
from rl_discovery.meta.runs.directory import RunDirectory
from rl_discovery.meta.runs.meta_train import meta_train
from tests.meta.tiny import tiny


def run(path, config):
    """A run's objective."""
    assert meta_train(config, path, Console(file=io.StringIO())).signal is None
    return read_objective(path / "objective.safetensors").meta_params


def assert_close(one, other, tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=tolerance), one, other)


@pytest.mark.slow
def test_a_preset_is_run_first_and_evolution_starts_where_it_ended(tmp_path, monkeypatch):
    first = tiny(trainer="meta_gradient", meta_gradient={"lanes": 2}, generations=2)
    asked = []
    presets = types.SimpleNamespace(find=lambda name: asked.append(name) or Preset(first, "for a test"))
    monkeypatch.setattr(module, "PRESETS", presets)
    config = tiny(
        start_from="preset:first", generations=1, es={"learning_rate": 1e-6, "learning_rate_min": 1e-6}
    )
    found = run(tmp_path / "run", config)
    first = read_objective(tmp_path / "run" / "start" / "objective.safetensors")
    start = first.meta_params
    assert asked == ["first"]
    assert_close(found, start, 1e-4)
    card = read_card(tmp_path / "run" / "objective.safetensors")
    assert card["earlier_env_steps"] == first.card["env_steps"] > 0
    assert "earlier_env_steps" not in first.card
    untrained = make_start(config)
    assert any(np.max(np.abs(a - b)) > 1e-3 for a, b in zip(leaves(start), leaves(untrained), strict=True))


@pytest.mark.slow
def test_the_card_still_counts_the_runs_before_where_their_objective_is_gone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rule = tiny().build_objective()
    card = {"env_steps": 300, "earlier_env_steps": 40}
    params = rule.init(jax.random.key(0))
    save_objective("first.safetensors", TrainedObjective(rule, jax.device_get(params), card))
    config = tiny(start_from="./first.safetensors", generations=1)
    run(tmp_path / "run", config)
    Path("first.safetensors").unlink()
    run(tmp_path / "run", dataclasses.replace(config, generations=2))
    card = read_card(tmp_path / "run" / "objective.safetensors")
    assert (card["generations"], card["earlier_env_steps"]) == (2, 340)


def make_start(config):
    return config.build_objective().init(jax.random.key(0))


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


@pytest.mark.slow
def test_where_an_average_is_saved_the_last_mean_is_beside_it(tmp_path):
    plain = tiny(generations=4, checkpoint={"every": 4})
    averaged = dataclasses.replace(plain, es=dataclasses.replace(plain.es, average_decay=0.9))
    mean, average = run(tmp_path / "plain", plain), run(tmp_path / "averaged", averaged)
    assert not (tmp_path / "plain" / "objective_last.safetensors").exists()
    last = read_objective(tmp_path / "averaged" / "objective_last.safetensors").meta_params
    assert_close(last, mean, 1e-5)
    assert any(np.max(np.abs(a - b)) > 1e-3 for a, b in zip(leaves(average), leaves(last), strict=True))


@pytest.mark.parametrize(("schedule", "told"), [("cosine", True), ("linear", True), ("exponential", False)])
def test_who_raises_the_generations_is_told_what_becomes_of_the_learning_rate(tmp_path, schedule, told):
    es = {"learning_rate_schedule": schedule}
    RunDirectory(tmp_path / "run", tiny(es=es)).close()
    directory = RunDirectory(tmp_path / "run", tiny(es=es, generations=60))
    directory.close()
    said = [note for note in directory.notes if f"follows a {schedule} schedule over all of them" in note]
    assert len(said) == told
