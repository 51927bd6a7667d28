import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments.environment import Environment
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.levels import LevelDistribution, log_uniform_int, sample_one

LARGEST_DRAW = np.float32(1 - 2**-23)


def distribution(low=3, high=9):
    return LevelDistribution(
        name="toy", description="", env=Environment(), sample_params=jax.random.uniform, horizon=(low, high)
    )


@settings(deadline=None)
@given(st.integers(1, 100_000), st.integers(0, 100_000), st.floats(0, float(LARGEST_DRAW), width=32))
def test_log_uniform_int_stays_within_its_bounds_and_reaches_both(low, extra, draw):
    high = low + extra
    with jax.disable_jit():
        values = [int(log_uniform_int(jnp.float32(d), low, high)) for d in (0.0, draw, LARGEST_DRAW)]
    assert values[0] == low
    assert low <= values[1] <= high
    # Beyond 2^20 values float32 is too coarse to hit the last one every time; here it is not.
    assert values[2] == high


@pytest.mark.parametrize(("low", "high"), [(10, 250), (20, 100), (1, 4)])
def test_log_uniform_int_has_the_stated_probabilities(low, high):
    draws = jax.random.uniform(jax.random.key(0), (100_000,))
    values = np.asarray(jax.jit(jax.vmap(lambda draw: log_uniform_int(draw, low, high)))(draws))
    counts = np.bincount(values, minlength=high + 1)[low:]
    k = np.arange(low, high + 1)
    expected = len(values) * np.log((k + 1) / k) / math.log((high + 1) / low)
    assert len(counts) == len(k)
    assert np.all(np.abs(counts - expected) < 5 * np.sqrt(expected))


@pytest.mark.parametrize(("low", "high"), [(0, 5), (6, 5), (-1, -1)])
def test_log_uniform_int_refuses_impossible_bounds_by_name(low, high):
    with pytest.raises(ValueError, match=f"{low} to {high}"):
        log_uniform_int(jnp.float32(0), low, high)
    with pytest.raises(ValueError, match=f"'toy'.*{low} to {high}"):
        distribution(low, high)


def test_horizons_cover_their_range_and_leave_the_levels_alone():
    keys = jax.random.split(jax.random.key(1), 1000)
    wide = jax.jit(jax.vmap(distribution().sample))(keys)
    fixed = jax.jit(jax.vmap(distribution().with_horizon(7, 7).sample))(keys)
    assert set(np.asarray(wide.horizon).tolist()) == set(range(3, 10))
    assert set(np.asarray(fixed.horizon).tolist()) == {7}
    assert jnp.array_equal(wide.params, fixed.params)
    # Horizon and parameters come from independent randomness.
    assert abs(np.corrcoef(wide.horizon, wide.params)[0, 1]) < 0.1


def test_sample_one_depends_on_the_seed_alone():
    toy = distribution()
    first, again, other = (sample_one(toy, seed) for seed in (0, 0, 1))
    assert first[0] is toy.env
    assert first[1] == again[1] != other[1]
