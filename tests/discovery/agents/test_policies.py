"""Policies against scipy's distributions; discrete sampling is tested with rollouts."""

import jax
import numpy as np
import pytest
from gymnax.environments import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rl_discovery.discovery.agents.policies import Categorical, DiagonalGaussian, policy_for

GAUSSIAN = DiagonalGaussian((-1.0, 0.0, -3.0), (1.0, 0.5, 2.0))
numbers = st.floats(-3, 3, width=32)


@settings(max_examples=50, deadline=None)
@given(
    mean=st.lists(numbers, min_size=3, max_size=3),
    log_std=st.lists(st.floats(-2, 1, width=32), min_size=3, max_size=3),
    action=st.lists(numbers, min_size=3, max_size=3),
)
def test_the_gaussian_is_scipys(mean, log_std, action):
    parameters = np.float32([*mean, *log_std])
    expected = stats.norm(mean, np.exp(log_std))
    log_prob = GAUSSIAN.log_prob(parameters, np.float32(action))
    assert log_prob == pytest.approx(np.sum(expected.logpdf(action)), rel=1e-4, abs=1e-4)
    assert GAUSSIAN.entropy(parameters) == pytest.approx(np.sum(expected.entropy()), rel=1e-4, abs=1e-4)


def test_samples_have_the_mean_and_the_deviation():
    parameters = np.tile(np.float32([1.0, -2.0, 0.0, -1.0, 0.0, 0.5]), (40_000, 1))
    draws = GAUSSIAN.draw(jax.random.key(0), (40_000,))
    actions = np.asarray(GAUSSIAN.sample(parameters, draws))
    for i, (mean, log_std) in enumerate([(1.0, -1.0), (-2.0, 0.0), (0.0, 0.5)]):
        assert stats.kstest(actions[:, i], stats.norm(mean, np.exp(log_std)).cdf).pvalue > 1e-3


def test_actions_stay_in_the_box():
    actions = np.float32([[-9.0, 9.0, 0.0], [0.5, 0.25, -3.0]])
    np.testing.assert_array_equal(GAUSSIAN.to_environment(actions), [[-1.0, 0.5, 0.0], [0.5, 0.25, -3.0]])
    squashed = np.asarray(DiagonalGaussian(GAUSSIAN.low, GAUSSIAN.high, "tanh").to_environment(actions))
    np.testing.assert_allclose(squashed[0], [-1.0, 0.5, -0.5], atol=1e-6)
    np.testing.assert_allclose(squashed[1, 0], np.tanh(0.5), rtol=1e-6)


def test_the_softmax_is_scipys():
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((6, 4)).astype(np.float32)
    chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    policy, action = Categorical(4), np.arange(6) % 4
    np.testing.assert_allclose(policy.log_prob(logits, action), np.log(chances[range(6), action]), rtol=1e-5)
    np.testing.assert_allclose(policy.entropy(logits), [stats.entropy(row) for row in chances], rtol=1e-5)


def test_the_action_space_decides():
    assert policy_for(spaces.Discrete(3)) == Categorical(3)
    assert policy_for(spaces.Box(-1.0, 2.0, (2,)), "tanh") == DiagonalGaussian((-1, -1), (2, 2), "tanh")
    for space, words in (
        (spaces.Box(-np.inf, 1.0, (2,)), "without bounds"),
        (spaces.Box(0.0, 1.0, (2, 2)), "only discrete ones and vectors"),
    ):
        with pytest.raises(ValueError, match=words):
            policy_for(space)
