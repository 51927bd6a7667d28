"""Advantages against their definition as a double loop, and on a chain whose values are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_discovery.discovery.objectives.gae import advantages, normalise
from rl_discovery.discovery.types import Rollout
from tests.discovery.experience import random_rollout, random_states

advantages_of = jax.jit(advantages)


def naive_advantages(rollout, values, next_values, discount, gae_lambda):
    """Equation 16 of the paper: for each step, the sum over what follows in its episode."""
    result = np.zeros(values.shape)
    for t, w in np.ndindex(values.shape):
        weight = 1.0
        for later in range(t, values.shape[0]):
            bootstrap = 0.0 if rollout.terminated[later, w] else next_values[later, w]
            error = rollout.reward[later, w] + discount * bootstrap - values[later, w]
            result[t, w] += weight * error
            if rollout.terminated[later, w] or rollout.truncated[later, w]:
                break
            weight *= discount * gae_lambda
    return result


@settings(max_examples=30, deadline=None)
@given(
    shape=st.sampled_from([(1, 1), (7, 3), (20, 2)]),
    seed=st.integers(0, 2**32 - 1),
    ends=st.sampled_from([0.0, 0.1, 0.6, 1.0]),
    discount=st.sampled_from([0.0, 0.9, 1.0]),
    gae_lambda=st.sampled_from([0.0, 0.95, 1.0]),
)
def test_advantages_agree_with_the_definition(shape, seed, ends, discount, gae_lambda):
    rng = np.random.default_rng(seed)
    rollout = random_rollout(rng, *shape, 2, random_states(rng), ends)
    values, next_values = rng.standard_normal((2, *shape)).astype(np.float32)
    found = advantages_of(rollout, values, next_values, discount, gae_lambda)
    expected = naive_advantages(rollout, values, next_values, discount, gae_lambda)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def chain(**ends):
    """Two states, reward 1 in each: 0 leads to 1, and there the episode ends."""
    column = {"terminated": [False, False], "truncated": [False, False]} | ends
    return Rollout(
        observation=np.array([[0], [1]]),
        action=np.zeros((2, 1), np.int32),
        reward=np.ones((2, 1), np.float32),
        terminated=np.array(column["terminated"])[:, None],
        truncated=np.array(column["truncated"])[:, None],
        next_observation=np.array([[1], [2]]),
        last_observation=np.array([0]),
    )


@pytest.mark.parametrize("gae_lambda", [0.0, 0.5, 1.0])
def test_true_values_leave_no_advantage_in_a_chain_that_terminates(gae_lambda):
    values = np.array([[1.0 + 0.9], [1.0]], np.float32)
    # What the value function says beyond the end (7) must not matter.
    next_values = np.array([[1.0], [7.0]], np.float32)
    found = advantages_of(chain(terminated=[False, True]), values, next_values, 0.9, gae_lambda)
    np.testing.assert_allclose(found, 0.0, atol=1e-6)


@pytest.mark.parametrize("gae_lambda", [0.0, 0.5, 1.0])
def test_true_values_leave_no_advantage_where_a_time_limit_cuts_an_endless_chain(gae_lambda):
    # Reward 1 forever is worth 1 / (1 - 0.9).
    values = np.full((2, 1), 10.0, np.float32)
    found = advantages_of(chain(truncated=[False, True]), values, values, 0.9, gae_lambda)
    np.testing.assert_allclose(found, 0.0, atol=1e-5)
    ended = advantages_of(chain(terminated=[False, True]), values, values, 0.9, gae_lambda)
    assert ended[1, 0] == pytest.approx(-9.0)


def test_a_step_that_is_both_terminated_and_truncated_is_not_bootstrapped():
    values = np.zeros((2, 1), np.float32)
    both = chain(terminated=[False, True], truncated=[False, True])
    assert advantages_of(both, values, values + 5.0, 0.9, 1.0)[1, 0] == 1.0


def test_normalised_numbers_have_mean_zero_and_standard_deviation_one():
    x = np.random.default_rng(0).uniform(3, 9, (20, 4)).astype(np.float32)
    found = normalise(x)
    assert float(jnp.mean(found)) == pytest.approx(0.0, abs=1e-5)
    assert float(jnp.std(found)) == pytest.approx(1.0, rel=1e-5)
    assert np.array_equal(np.argsort(found, axis=None), np.argsort(x, axis=None))


def test_normalising_equal_numbers_gives_zeros_and_no_nan():
    assert np.array_equal(jax.device_get(normalise(np.ones((4, 2), np.float32))), np.zeros((4, 2)))
