"""Running statistics against numpy over everything seen so far."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_discovery.discovery.agents.normalisation import CLIP, Scaling, no_moments
from tests.discovery.experience import random_rollout, random_vectors

merge = jax.jit(lambda moments, batch: moments.merge(batch))


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.sampled_from([1, 2, 7]), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_moments_are_those_of_all_batches_together(sizes, seed):
    rng = np.random.default_rng(seed)
    batches = [(5 + 3 * rng.standard_normal((size, 2))).astype(np.float32) for size in sizes]
    moments = no_moments((2,))
    for batch in batches:
        moments = merge(moments, batch)
    everything = np.concatenate(batches)
    assert moments.count == len(everything)
    np.testing.assert_allclose(moments.mean, everything.mean(0), rtol=1e-4)
    np.testing.assert_allclose(moments.variance, everything.var(0), rtol=1e-3, atol=1e-4)


def rollouts(count, W=3):
    rng = np.random.default_rng(1)
    return [random_rollout(rng, 8, W, 2, random_vectors(rng, 4), ends=0.2) for _ in range(count)]


def test_nothing_is_scaled_unless_it_is_asked_for():
    scaling, rollout = Scaling(), rollouts(1)[0]
    scaled, statistics = scaling.scale(scaling.init((4,), 3), rollout)
    assert not jax.tree.leaves(statistics)
    assert all(a is b for a, b in zip(jax.tree.leaves(scaled), jax.tree.leaves(rollout), strict=True))


def test_observations_are_seen_through_the_rollouts_before():
    scaling = Scaling(observations=True)
    first, second = rollouts(2)
    scaled, statistics = scaling.scale(scaling.init((4,), 3), first)
    np.testing.assert_allclose(scaled.observation, np.clip(first.observation, -CLIP, CLIP), rtol=1e-5)
    scaled, _ = scaling.scale(statistics, second)
    seen = first.observation.reshape(-1, 4)
    for name in ("observation", "next_observation", "last_observation"):
        expected = (getattr(second, name) - seen.mean(0)) / seen.std(0)
        np.testing.assert_allclose(getattr(scaled, name), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(scaled.reward, second.reward)


def test_rewards_are_divided_by_the_deviation_of_the_running_return():
    scaling = Scaling(rewards=True, discount=0.9)
    statistics, totals, running = scaling.init((4,), 3), [], np.zeros(3)
    for rollout in rollouts(3):
        scaled, statistics = scaling.scale(statistics, rollout)
        for t in range(8):
            running = 0.9 * running + rollout.reward[t]
            totals.append(running.copy())
            running = np.where(rollout.terminated[t] | rollout.truncated[t], 0.0, running)
        assert float(statistics.returns.variance) == pytest.approx(np.var(totals), rel=1e-4)
        np.testing.assert_allclose(scaled.reward, rollout.reward / np.std(totals), rtol=1e-4)
