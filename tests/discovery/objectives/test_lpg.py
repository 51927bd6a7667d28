"""LPG and TA-LPG against a naive implementation, and what their answers may and may not depend on."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_discovery.discovery.objectives import lpg
from rl_discovery.discovery.objectives.lpg import LPG, BackwardGRU
from tests.discovery import naive_lpg, naive_networks
from tests.discovery.experience import (
    assert_is_gradient,
    float64,
    gradient_of_update,
    progress,
    random_agent,
    random_experience,
    random_rollout,
    random_states,
    randomised,
    small_grid,
    some_agent,
)

# T, W, A, M, G: one step and one worker, as many steps as the scan unrolls, fewer, more.
SHAPES = [(1, 1, 2, 2, 1), (10, 2, 5, 8, 7), (7, 3, 3, 4, 16), (23, 1, 9, 30, 5)]
INPUTS = pytest.mark.parametrize("horizon_inputs", [False, True], ids=["lpg", "ta-lpg"])

gradient_of = jax.jit(gradient_of_update, static_argnums=(0, 2))


def in_numpy(function):
    return lambda *inputs: jax.device_get(function(*inputs))


targets_of = in_numpy(jax.jit(LPG.targets, static_argnums=0))


init = jax.jit(LPG.init, static_argnums=0)


@functools.cache
def shapes_of(rule):
    return jax.eval_shape(rule.init, jax.random.key(0))


def random_objective(rng, **fields):
    rule = LPG(**fields)
    return rule, randomised(rng, shapes_of(rule), 0.5)


def naive_targets(rule, meta_params, rollout, outputs, last_head, n, N):
    return naive_lpg.targets(
        meta_params,
        float64(list(outputs)),
        float64(last_head),
        rollout.action,
        rollout.reward,
        rollout.terminated,
        rollout.truncated,
        (n, N) if rule.horizon_inputs else None,
    )


@INPUTS
@settings(max_examples=25, deadline=None)
@given(
    shape=st.sampled_from(SHAPES),
    seed=st.integers(0, 2**32 - 1),
    ends=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    N=st.integers(1, 2500),
    data=st.data(),
)
def test_targets_agree_with_the_naive_implementation(horizon_inputs, shape, seed, ends, N, data):
    T, W, A, M, G = shape
    rng = np.random.default_rng(seed)
    rule, meta_params = random_objective(rng, bins=M, width=G, horizon_inputs=horizon_inputs)
    experience = random_experience(rng, T, W, A, M, ends)
    n = data.draw(st.integers(0, N - 1))
    found = targets_of(rule, meta_params, experience, progress(n, N))
    rollout, outputs, _, last = experience
    pihat, yhat = naive_targets(
        rule, meta_params, rollout, [outputs.parameters, outputs.head], last.head, n, N
    )
    np.testing.assert_allclose(found.pihat, pihat, rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(np.exp(found.log_yhat), yhat, rtol=2e-4, atol=2e-5)


def test_heads_before_a_reset_are_not_looked_at():
    rng = np.random.default_rng(0)
    rule, meta_params = random_objective(rng, bins=4, width=8)
    experience = random_experience(rng, 6, 2, 3, 4)
    other = experience._replace(next_head=random_experience(rng, 6, 2, 3, 4).next_head)
    one, two = (targets_of(rule, meta_params, e, progress(1, 2)) for e in (experience, other))
    assert np.array_equal(one.pihat, two.pihat)


# ---- the recurrent core


def flax_gru(params, inputs, resets):
    """The same weights in flax's own cell, run by hand."""
    G = params["candidate_bias"].shape[0]
    gates = {}
    for i, gate in enumerate("rzn"):
        part = slice(i * G, (i + 1) * G)
        gates[f"i{gate}"] = {"kernel": params["kernel"][:, part], "bias": params["bias"][part]}
        gates[f"h{gate}"] = {"kernel": params["recurrent_kernel"][:, part]}
    gates["hn"]["bias"] = params["candidate_bias"]
    state, states = jnp.zeros((inputs.shape[1], G)), []
    for x, reset in zip(inputs[::-1], resets[::-1], strict=True):
        state, _ = nn.GRUCell(G).apply({"params": gates}, jnp.where(reset[:, None], 0.0, state), x)
        states.append(state)
    return jnp.stack(states[::-1])


def test_gru_agrees_with_flax():
    rng = np.random.default_rng(0)
    gru = BackwardGRU(6)
    inputs = rng.standard_normal((12, 3, 4)).astype(np.float32)
    resets = rng.random((12, 3)) < 0.3
    params = randomised(rng, jax.eval_shape(gru.init, jax.random.key(0), inputs, resets)["params"])
    found = jax.jit(gru.apply)({"params": params}, inputs, resets)
    np.testing.assert_allclose(found, jax.jit(flax_gru)(params, inputs, resets), rtol=1e-5, atol=1e-6)


def test_gru_starts_with_three_orthogonal_recurrent_matrices():
    params = init(LPG(width=16), jax.random.key(0))["gru"]
    matrices = np.split(np.asarray(params["recurrent_kernel"]), 3, axis=1)
    for matrix in matrices:
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(16), atol=1e-5)
    assert not np.allclose(matrices[0], matrices[1])


def test_bfloat16_is_close_to_float32_but_not_the_same():
    # Operands are rounded to 8 bits (a relative error of at most 2^-9 each); with orthogonal weights
    # and states within [-1, 1], ten steps add up to less than a hundredth.
    experience = random_experience(np.random.default_rng(0), 10, 8, 5, 8, ends=0.02)
    exact, rounded = LPG(width=64), LPG(width=64, precision="bfloat16")
    meta_params = init(exact, jax.random.key(0))
    one, two = (targets_of(rule, meta_params, experience, progress(3, 100)) for rule in (exact, rounded))
    assert two.pihat.dtype == two.log_yhat.dtype == jnp.float32
    error = np.max(np.abs(one.pihat - two.pihat)), np.max(np.abs(one.log_yhat - two.log_yhat))
    assert min(error) > 0
    assert max(error) < 0.02
    assert max(error) < 0.05 * np.std(one.pihat)


# ---- resets: an episode must not hear of the one after it


def changed(array, index, amount):
    array = array.copy()
    array[index] += amount
    return array


class WithoutResets(BackwardGRU):
    def __call__(self, inputs, resets):
        return super().__call__(inputs, jnp.zeros_like(resets))


def changed_steps(rule, meta_params, experience, step, targets_of=targets_of):
    """The steps whose targets change with the reward at `step`."""
    rollout = experience.rollout
    louder = rollout.replace(reward=changed(rollout.reward, step, 10.0))
    before, after = (
        targets_of(rule, meta_params, e, progress(0, 9))
        for e in (experience, experience._replace(rollout=louder))
    )
    pihat = before.pihat != after.pihat
    yhat = np.any(before.log_yhat != after.log_yhat, axis=-1)
    return np.flatnonzero(pihat[:, 0] | yhat[:, 0]).tolist()


def episode_that_ends_at_3(kind):
    rng = np.random.default_rng(0)
    rule, meta_params = random_objective(rng, bins=3, width=32)
    experience = random_experience(rng, 8, 1, 3, 3, ends=0.0)
    ends = np.arange(8)[:, None] == 3
    return rule, meta_params, experience._replace(rollout=experience.rollout.replace(**{kind: ends}))


@pytest.mark.parametrize("kind", ["terminated", "truncated"])
def test_rewards_reach_back_to_the_start_of_their_episode_and_no_further(kind):
    case = episode_that_ends_at_3(kind)
    assert changed_steps(*case, 5) == [4, 5]
    assert changed_steps(*case, 4) == [4]
    assert changed_steps(*case, 3) == [0, 1, 2, 3]
    assert changed_steps(*case, 1) == [0, 1]


def test_without_resets_rewards_would_reach_earlier_episodes(monkeypatch):
    monkeypatch.setattr(lpg, "BackwardGRU", WithoutResets)
    traced_anew = in_numpy(jax.jit(lambda rule, *inputs: rule.targets(*inputs), static_argnums=0))
    case = episode_that_ends_at_3("terminated")
    assert changed_steps(*case, 5, traced_anew) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("kind", ["terminated", "truncated"])
def test_predictions_after_the_end_of_an_episode_do_not_reach_it(kind):
    rule, meta_params, experience = episode_that_ends_at_3(kind)
    outputs = experience.outputs
    later = experience._replace(outputs=outputs.replace(head=changed(outputs.head, (4, 0, 0), 3.0)))
    before, after = (targets_of(rule, meta_params, e, progress(0, 9)) for e in (experience, later))
    assert np.flatnonzero(before.pihat != after.pihat).tolist() == [4]


# ---- horizon inputs: n/N and log N, where the official code feeds n and N


def pihat_at(rule, meta_params, n, N):
    experience = random_experience(np.random.default_rng(0), 5, 2, 3, 4)
    return targets_of(rule, meta_params, experience, progress(n, N)).pihat


def without_inputs(meta_params, *rows):
    kernel = meta_params["gru"]["kernel"].copy()
    kernel[list(rows)] = 0.0
    return meta_params | {"gru": meta_params["gru"] | {"kernel": kernel}}


def test_ta_lpg_sees_the_fraction_of_the_lifetime_and_the_logarithm_of_the_horizon():
    rule, meta_params = random_objective(np.random.default_rng(0), bins=4, width=8)
    assert meta_params["gru"]["kernel"].shape == (7, 24)
    fraction_only, horizon_only = without_inputs(meta_params, 6), without_inputs(meta_params, 5)
    assert np.array_equal(pihat_at(rule, fraction_only, 3, 6), pihat_at(rule, fraction_only, 500, 1000))
    assert not np.array_equal(pihat_at(rule, fraction_only, 3, 6), pihat_at(rule, fraction_only, 3, 7))
    assert np.array_equal(pihat_at(rule, horizon_only, 0, 50), pihat_at(rule, horizon_only, 49, 50))
    assert not np.array_equal(pihat_at(rule, horizon_only, 0, 50), pihat_at(rule, horizon_only, 0, 51))


def test_ta_lpg_inputs_are_the_fraction_and_the_logarithm_and_not_the_raw_numbers():
    # LPG's network has no horizon inputs: their contribution moves into its bias.
    rng = np.random.default_rng(0)
    rule, meta_params = random_objective(rng, bins=4, width=8)
    kernel, bias = meta_params["gru"]["kernel"], meta_params["gru"]["bias"]
    for n, N in [(0, 1), (7, 10), (2499, 2500)]:
        folded = bias + kernel[5] * (n / N) + kernel[6] * np.log(N)
        blind = meta_params | {"gru": meta_params["gru"] | {"kernel": kernel[:5], "bias": folded}}
        found = pihat_at(rule, meta_params, n, N)
        expected = pihat_at(LPG(bins=4, width=8, horizon_inputs=False), blind, n, N)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_lpg_does_not_see_the_lifetime():
    rule, meta_params = random_objective(np.random.default_rng(0), bins=4, width=8, horizon_inputs=False)
    assert meta_params["gru"]["kernel"].shape == (5, 24)
    assert np.array_equal(pihat_at(rule, meta_params, 0, 10), pihat_at(rule, meta_params, 900, 1000))


@INPUTS
def test_name_and_use_of_progress_follow_the_inputs(horizon_inputs):
    rule = LPG(horizon_inputs=horizon_inputs)
    assert (rule.name, rule.uses_progress) == (("ta-lpg", True) if horizon_inputs else ("lpg", False))


# ---- the agent's gradient: equation 3, with the targets held fixed


@pytest.mark.parametrize("kind", ["tabular", "mlp", "cnn"])
def test_agent_gradient_agrees_with_finite_differences(kind):
    rng = np.random.default_rng(1)
    agent, params, observe = some_agent(rng, kind, 4)
    actions = agent.policy.size
    rollout = random_rollout(rng, 6, 3, actions, observe)
    rule, meta_params = random_objective(rng, bins=4, width=8)
    grads, metrics = gradient_of(rule, meta_params, agent, params, rollout, progress(3, 40))

    # The naive network and objective: nothing of the product in the loss.
    _, last_head = naive_networks.apply(kind, float64(params), rollout.last_observation, 1)
    outputs = naive_networks.apply(kind, float64(params), rollout.observation, 2)
    pihat, yhat = naive_targets(rule, meta_params, rollout, outputs, last_head, 3, 40)

    def loss(params):
        outputs = naive_networks.apply(kind, params, rollout.observation, 2)
        return naive_lpg.loss(outputs, rollout.action, pihat, yhat, rule.prediction_coef)

    assert_is_gradient(grads, loss, params, rng)
    value = metrics["policy_loss"] + rule.prediction_coef * metrics["prediction_loss"]
    assert value == pytest.approx(loss(float64(params)), rel=1e-4)


def test_gradient_of_tables_has_its_closed_form():
    rng = np.random.default_rng(0)
    env, level = small_grid()
    agent, params = random_agent(rng, env, level, 4)
    rollout = random_rollout(rng, 20, 3, 5, random_states(rng, 6))
    rule, meta_params = random_objective(rng, bins=4, width=8, prediction_coef=0.7)
    outputs = naive_networks.apply("tabular", float64(params), rollout.observation, 2)
    _, last_head = naive_networks.apply("tabular", float64(params), rollout.last_observation, 1)
    pihat, yhat = naive_targets(rule, meta_params, rollout, outputs, last_head, 0, 5)
    policy, head = np.zeros((36, 5)), np.zeros((36, 4))
    for t, w in np.ndindex(20, 3):
        state, action = int(rollout.observation[t, w]), int(rollout.action[t, w])
        pi = naive_lpg.softmax(np.asarray(params["policy"]["rows"][state], np.float64))
        y = naive_lpg.softmax(np.asarray(params["head"]["rows"][state], np.float64))
        policy[state] += pihat[t, w] * (np.eye(5)[action] - pi) / (20 * 3)
        log_ratio = np.log(y / yhat[t, w])
        head[state] += 0.7 * y * (log_ratio - np.sum(y * log_ratio)) / (20 * 3)
    grads, _ = gradient_of(rule, meta_params, agent, params, rollout, progress(0, 5))
    np.testing.assert_allclose(grads["policy"]["rows"], policy, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(grads["head"]["rows"], head, rtol=1e-4, atol=1e-6)
