import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments.environment import Environment
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_discovery.envs.levels import HORIZON_EDITS, Level, LevelDistribution, log_uniform_int, sample_one

LARGEST_DRAW = np.float32(1 - 2**-23)


def distribution(low=3, high=9, **options):
    return LevelDistribution(
        name="toy",
        description="",
        env=Environment(),
        sample_params=jax.random.uniform,
        horizon=(low, high),
        **options,
    )


def edited(toy, count=2000):
    """Parameters and horizons of edited levels, whose parameters were 0 and whose horizon was 4."""
    level = Level(params=jnp.float32(0.0), horizon=jnp.int32(4))
    keys = jax.random.split(jax.random.key(0), count)
    levels = jax.jit(jax.vmap(toy.edited, in_axes=(0, None)))(keys, level)
    return np.asarray(levels.params), np.asarray(levels.horizon)


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


def test_an_edit_changes_the_parameters_or_now_and_then_the_horizon():
    toy = distribution(edit=lambda key, params: params + 1 + jax.random.uniform(key))
    params, horizons = edited(toy)
    # A redrawn horizon may be the old one: the edited parameters tell which levels it was.
    redrawn = params == 0
    assert abs(redrawn.mean() - HORIZON_EDITS) < 0.04
    assert np.all(horizons[~redrawn] == 4)
    counts = np.bincount(horizons[redrawn], minlength=10)[3:]
    k = np.arange(3, 10)
    expected = redrawn.sum() * np.log((k + 1) / k) / math.log(10 / 3)
    assert np.all(np.abs(counts - expected) < 5 * np.sqrt(expected))
    # Different keys, different edits.
    assert len(np.unique(params[~redrawn])) > 0.99 * np.sum(~redrawn)


def test_a_fixed_horizon_leaves_all_edits_to_the_parameters():
    params, horizons = edited(distribution(4, 4, edit=lambda key, params: params + 1))
    assert np.all(params == 1)
    assert np.all(horizons == 4)


def test_without_edits_of_parameters_only_the_horizon_changes():
    params, horizons = edited(distribution())
    assert np.all(params == 0)
    assert set(horizons.tolist()) == set(range(3, 10))


def test_a_distribution_without_anything_to_edit_says_so():
    with pytest.raises(ValueError, match=r"'toy' cannot be edited[^\n]*$"):
        distribution(4, 4).edited(jax.random.key(0), Level(params=0.0, horizon=4))


def test_other_horizons_keep_edits_and_statistics():
    toy = distribution(edit=lambda key, params: params, statistics=lambda params: {"size": params})
    fixed = toy.with_horizon(5, 5)
    assert (fixed.edit, fixed.statistics) == (toy.edit, toy.statistics)


def test_sample_one_depends_on_the_seed_alone():
    toy = distribution()
    first, again, other = (sample_one(toy, seed) for seed in (0, 0, 1))
    assert first[0] is toy.env
    assert first[1] == again[1] != other[1]
