import jax.numpy as jnp
import numpy as np
import pytest

from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.objectives.registry import make_objective
from rl_discovery.evaluation.analysis.schedule import analyse_schedule

HORIZONS = (10, 50, 250)


@pytest.mark.parametrize("anneals", [False, True])
def test_the_constants_are_those_of_the_formula(anneals):
    rule = make_objective("ta-ppo")
    weights = np.random.default_rng(0).normal(0, 0.3, (5, len(rule.scheduled)))
    found = analyse_schedule(
        TrainedObjective(rule, {"schedule": jnp.asarray(weights, jnp.float32)}), HORIZONS, anneals
    )
    share = np.asarray(found.progress)
    falls = 1 - share if anneals else 1.0
    plain = {
        "step size": falls,
        "entropy bonus": rule.entropy_coef,
        "clip of the ratio, below": 1 - rule.clip,
        "clip of the ratio, above": 1 + rule.clip,
    }
    assert set(found.plain) == set(plain)
    for name, value in plain.items():
        np.testing.assert_allclose(found.plain[name], np.broadcast_to(value, share.shape), rtol=1e-6)
    assert len(found.curves) == len(HORIZONS) * len(plain)
    low, high = np.log(rule.shortest_horizon), np.log(rule.longest_horizon)
    for curve in found.curves:
        u, v = 2 * share - 1, 2 * (np.log(curve.horizon) - low) / (high - low) - 1
        features = np.stack([np.ones_like(u), u, np.full_like(u, v), u * u, u * v], axis=-1)
        factor = dict(zip(plain, np.exp(features @ weights).T, strict=True))[curve.constant]
        expected = {
            "step size": falls * factor,
            "entropy bonus": rule.entropy_coef * factor,
            "clip of the ratio, below": 1 - rule.clip * factor,
            "clip of the ratio, above": 1 + rule.clip * factor,
        }[curve.constant]
        np.testing.assert_allclose(curve.values, expected, rtol=2e-4, atol=1e-6)


def test_rules_without_a_schedule_have_no_record():
    assert analyse_schedule(TrainedObjective(make_objective("ppo"), {}), HORIZONS, anneals=True) is None
