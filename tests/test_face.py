"""`rl_discovery.evaluate` and `rl_discovery.analyse` do what the commands of these names do."""

import jax.numpy as jnp
import pytest

import rl_discovery as rld
from rl_discovery import envs
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.objectives.registry import make_objective
from rl_discovery.evaluation import trained_workers
from rl_discovery.evaluation.analysis.charts import TRACES

EVOLVED = TrainedObjective(make_objective("ppo"), {}, {"config": {"agent": {"workers": 3}}})
PLAIN = TrainedObjective(make_objective("a2c"), {})


def test_the_workers_come_from_the_first_card_that_has_them():
    assert trained_workers([PLAIN, EVOLVED], envs.suite("small")) == 3
    assert trained_workers([PLAIN, EVOLVED], envs.suite("classic")) is None
    assert trained_workers([PLAIN], envs.suite("small")) is None


def test_evaluate_trains_agents_with_the_workers_that_the_objective_was_evolved_with(monkeypatch):
    def train(learner, mesh, size, meta_params, levels, keys, ends):
        return jnp.zeros(keys.shape[0]), jnp.zeros((keys.shape[0], ends.shape[0] - 1))

    monkeypatch.setattr("rl_discovery.evaluation.lanes.train_lanes", train)
    results = rld.evaluate({"mine": EVOLVED, "a2c": PLAIN}, "small", (2,), (0,))
    assert {cell.env_steps for cell in results.cells} == {2 * 3 * 20}
    results = rld.evaluate({"mine": EVOLVED}, "small", (2,), (0,), workers=5)
    assert {cell.env_steps for cell in results.cells} == {2 * 5 * 20}


@pytest.mark.slow
@pytest.mark.parametrize(("given", "expected"), [({}, 16), ({"workers": 5}, 5)])
def test_analyse_trains_agents_with_the_workers_that_the_objective_was_evolved_with(
    monkeypatch, given, expected
):
    def nothing(learner, mesh, block_size, meta_params, levels, keys, told):
        assert learner.workers == expected
        traces = {name: jnp.zeros((keys.shape[0], told.shape[0])) for name in TRACES}
        return traces | {"return": jnp.zeros(keys.shape[0])}

    monkeypatch.setattr("rl_discovery.evaluation.analysis.lifetimes.trace_lanes", nothing)
    monkeypatch.setattr("rl_discovery.evaluation.analysis.closed_form.can_fit", lambda objective: False)
    found = rld.analyse("ta-lpo", suite="small", levels=1, lifetime=2, seeds=1, horizons=(10,), **given)
    assert found.analysis.lifetimes.workers == expected
