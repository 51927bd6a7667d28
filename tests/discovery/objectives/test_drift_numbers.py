"""Drifts at the ends of the numbers there are: finite, in every type, with finite gradients."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rl_discovery.checkpoints import load_objective
from rl_discovery.discovery.agents.policies import Categorical
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.objectives.mirror_learning import MirrorTargets
from rl_discovery.discovery.objectives.registry import make_objective
from rl_discovery.discovery.types import Outputs
from tests.discovery.experience import (
    progress,
)
from tests.discovery.objectives.drifts import ADVANTAGES, MIRRORS, RATIOS, meta_params

SHIPPED = ("lpo", "ta-lpo")
DTYPES = ("float16", "bfloat16", "float32", "float64")
COUNT = 64
QUARTER = progress(10, 40)


@functools.cache
def exported(name):
    """As users have it: shipped where it is, else with meta-parameters that do something."""
    if name in SHIPPED:
        return load_objective(name)
    rule = make_objective(name)
    return TrainedObjective(rule, meta_params(rule, 0, 0.1))


@functools.cache
def surrogate_terms(name, dtype, argument):
    """f and its derivative by what is given, in one program."""
    del dtype  # of the program, which is compiled anew for each
    objective = exported(name)

    def drift(x, advantage):
        return objective.drift(**{argument: x}, advantage=advantage, progress=QUARTER)

    def both(x, advantage):
        value, pull_back = jax.vjp(lambda x: drift(x, advantage), x)
        return value, pull_back(jnp.ones_like(value))[0]

    return jax.jit(both)


def numbers_of(dtype, count, sign):
    """Numbers whose bits are random: all exponents, subnormal numbers, zeros and infinities alike."""
    size = jnp.dtype(dtype).itemsize
    bits = hnp.arrays(f"uint{8 * size}", count, elements=st.integers(0, 2 ** (8 * size) - 1))

    def view(bits):
        x = bits.view(jnp.dtype(dtype))
        x = np.where(np.isnan(x), np.zeros_like(x), x)
        return np.abs(x) if sign == "positive" else x

    return bits.map(view)


@pytest.mark.slow
@pytest.mark.parametrize("argument", ["ratio", "log_ratio"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MIRRORS)
def test_a_drift_and_its_gradient_are_finite_whatever_the_ratio(name, dtype, argument):
    signs = "positive" if argument == "ratio" else "any"
    ends = np.array([0, 1e-7, 1, 6e4, np.inf, -105], jnp.dtype(dtype))
    ends = np.abs(ends) if signs == "positive" else ends

    @settings(max_examples=20, deadline=None)
    @given(data=st.data())
    def check(data):
        x = np.concatenate([data.draw(numbers_of(dtype, COUNT, signs)), ends])
        advantage = data.draw(numbers_of(dtype, x.size, "any"))
        value, slope = surrogate_terms(name, dtype, argument)(x, advantage)
        assert value.dtype == slope.dtype == jnp.dtype(dtype)
        assert np.isfinite(np.asarray(value, np.float64)).all()
        assert (np.asarray(value) >= 0).all()
        assert np.isfinite(np.asarray(slope, np.float64)).all()

    with jax.enable_x64(dtype == "float64"):
        check()


@pytest.mark.parametrize("name", MIRRORS)
def test_where_a_ratio_underflows_the_policys_gradient_is_that_of_the_clipped_loss(name):
    objective = exported(name)

    def loss(now):
        ratio, advantage = jnp.exp(now - jnp.float32(5.0)), jnp.float32(1.3)
        return ratio * advantage - objective.drift(ratio, advantage, QUARTER)

    assert jax.grad(loss)(jnp.float32(-100.0)) == 0.0


@pytest.mark.parametrize("name", MIRRORS)
def test_a_ratio_and_its_logarithm_have_the_same_drift(name):
    found = exported(name).drift(log_ratio=jnp.log(RATIOS), advantage=ADVANTAGES, progress=QUARTER)
    np.testing.assert_array_equal(found, exported(name).drift(RATIOS, ADVANTAGES, QUARTER))


@pytest.mark.parametrize("log_ratio", [90.0, 1e4, -90.0, -1e9])
@pytest.mark.parametrize("name", MIRRORS)
def test_an_agents_gradient_is_finite_where_its_policy_ran_away(name, log_ratio):
    objective = exported(name)
    outputs = Outputs(jnp.zeros((2, 3)), jnp.zeros((2, 1)), Categorical(3))
    old = outputs.log_prob(jnp.zeros(2, jnp.int32)) - log_ratio
    targets = MirrorTargets(jnp.array([1.0, -1.0]), jnp.zeros(2), old, jnp.zeros(2))

    def loss(parameters):
        now = dataclasses.replace(outputs, parameters=parameters)
        return objective.rule.loss(
            objective.meta_params, now, jnp.zeros(2, jnp.int32), targets, progress(1, 4)
        )[0]

    value, slope = jax.value_and_grad(loss)(outputs.parameters)
    assert np.isfinite(value)
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("arguments", [{}, {"ratio": RATIOS}, {"advantage": ADVANTAGES}])
def test_a_drift_says_what_it_needs(arguments):
    with pytest.raises(TypeError, match="needs an advantage, and either a ratio or log_ratio="):
        exported("ppo").drift(**arguments)
    with pytest.raises(TypeError, match="either a ratio or log_ratio="):
        exported("ppo").drift(RATIOS, ADVANTAGES, log_ratio=np.log(RATIOS))
