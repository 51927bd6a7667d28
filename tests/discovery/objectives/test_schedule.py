"""Horizon inputs and schedules: their ranges, and that they are what the docstrings say."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.objectives.registry import make_objective
from rl_discovery.discovery.objectives.schedule import (
    FURTHEST,
    Scales,
    furthest_horizons,
    scaled_progress,
)
from rl_discovery.discovery.types import Progress

HORIZONS = st.integers(1, 100_000)
SCHEDULED = {
    "ta-a2c": ("step_size", "entropy"),
    "ta-ppo": ("step_size", "entropy", "clip_below", "clip_above"),
}


def progress(n, N):
    return Progress(done=jnp.int32(n), horizon=jnp.int32(N))


@settings(deadline=None)
@given(ends=st.tuples(HORIZONS, HORIZONS), N=HORIZONS, share=st.floats(0, 1, exclude_max=True))
def test_scaled_inputs_are_bounded_whatever_the_horizon(ends, N, share):
    low, high = min(ends), max(ends)
    u, v = scaled_progress(progress(int(share * N), N), low, high)
    assert -1 <= float(u) < 1
    assert abs(float(v)) <= FURTHEST
    if low <= N <= high and low < high:
        assert abs(float(v)) <= 1 + 1e-3


def test_the_ends_of_the_range_are_minus_one_and_one_and_the_middle_is_geometric():
    found = [float(scaled_progress(progress(0, N), 10, 1000)[1]) for N in (10, 100, 1000)]
    np.testing.assert_allclose(found, [-1, 0, 1], atol=1e-6)
    u = [float(scaled_progress(progress(n, 100), 10, 1000)[0]) for n in (0, 50, 99)]
    np.testing.assert_allclose(u, [-1, 0, 0.98], atol=1e-6)


def test_horizons_beyond_the_furthest_look_alike():
    low, high = furthest_horizons(10, 250)
    v = [float(scaled_progress(progress(0, N), 10, 250)[1]) for N in (round(2 * high), round(9 * high))]
    assert v == [FURTHEST, FURTHEST]
    assert float(scaled_progress(progress(0, max(1, int(low / 2))), 10, 250)[1]) == -FURTHEST


def test_one_horizon_alone_is_the_middle_and_factors_of_ten_its_range():
    found = [float(scaled_progress(progress(0, N), 100, 100)[1]) for N in (10, 100, 1000)]
    np.testing.assert_allclose(found, [-1, 0, 1], atol=1e-6)


@pytest.mark.parametrize("name", SCHEDULED)
def test_a_schedule_of_zeros_is_the_rule_itself(name):
    rule = make_objective(name)
    scales = rule.scales(rule.init(jax.random.key(0)), progress(3, 40))
    assert tuple(map(float, scales)) == tuple(map(float, Scales()))
    assert rule.scheduled == SCHEDULED[name]


@pytest.mark.parametrize("name", SCHEDULED)
@pytest.mark.parametrize("discount", [False, True])
@pytest.mark.parametrize("squared", [False, True])
def test_scales_are_the_exponential_of_a_linear_map_of_the_features(name, discount, squared):
    rule = make_objective(
        name,
        schedule_discount=discount,
        schedule_v_squared=squared,
        shortest_horizon=10,
        longest_horizon=250,
    )
    assert rule.init(jax.random.key(0))["schedule"].shape == (5 + squared, len(rule.scheduled))
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(5 + squared, len(rule.scheduled))).astype(np.float32)
    n, N = 17, 60
    u = 2 * n / N - 1
    v = (2 * math.log(N) - math.log(10) - math.log(250)) / (math.log(250) - math.log(10))
    expected = np.exp(np.array([1, u, v, u * u, u * v, v * v])[: 5 + squared] @ weights)
    scales = TrainedObjective(rule, {"schedule": jnp.asarray(weights)}).schedule(progress(n, N))
    found = [getattr(scales, part) for part in rule.scheduled]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert len(found) == len(SCHEDULED[name]) + discount


def test_the_scaled_discount_stays_a_discount():
    for factor in (0.0, 0.5, 1.5, 1e9):
        gamma = float(Scales(one_minus_gamma=jnp.float32(factor)).discount(0.99))
        assert 0 <= gamma <= 1
        assert gamma == pytest.approx(max(0.0, 1 - factor * 0.01), abs=1e-6)


def test_a_rule_without_a_schedule_has_none_to_give():
    rule = make_objective("ppo")
    with pytest.raises(ValueError, match="ppo has no schedule"):
        TrainedObjective(rule, {}).schedule(progress(0, 10))
