"""Drifts against the conditions of mirror learning, closed forms and a naive loss."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_discovery import discovery
from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.discovery.agents.policies import Categorical
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.objectives.lpo import LPO
from rl_discovery.discovery.objectives.mirror_learning import MirrorLearning, MirrorTargets
from rl_discovery.discovery.objectives.ppo import DPO, PPO, NoDrift
from rl_discovery.discovery.objectives.registry import make_objective
from rl_discovery.discovery.objectives.schedule import Scheduled
from rl_discovery.discovery.types import Outputs, Progress
from tests.discovery import naive_networks
from tests.discovery.experience import (
    assert_is_gradient,
    bandit,
    float64,
    gradient_of_update,
    progress,
    random_experience,
    random_rollout,
    some_agent,
)
from tests.discovery.objectives.drifts import ADVANTAGES, MIRRORS, RATIOS, meta_params
from tests.discovery.objectives.test_gae import naive_advantages

FORMS = [
    *(make_objective(name) for name in MIRRORS),
    LPO(form="plain"),
    LPO(form="plain", progress_inputs=True, horizon_inputs=True),
    LPO(progress_inputs=True, horizon_inputs=True),
]
EVERY = pytest.mark.parametrize("rule", FORMS, ids=lambda rule: f"{rule.name}-{getattr(rule, 'form', '')}")


@functools.cache
def drift_and_slope(rule):
    """f and df/dr, vectorised over r and A."""

    def of_ratio(ratio, theta, advantage, when):
        return rule.drift(theta, jnp.log(ratio)[None], advantage[None], when)[0]

    both = jax.value_and_grad(of_ratio)
    return jax.jit(jax.vmap(both, in_axes=(0, None, 0, None)))


@EVERY
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    scale=st.sampled_from([0.0, 0.03, 1.0, 30.0]),
    lifetime=st.integers(1, 3000).flatmap(lambda N: st.tuples(st.integers(0, N - 1), st.just(N))),
)
def test_a_drift_meets_the_conditions_of_mirror_learning(rule, seed, scale, lifetime):
    rng = np.random.default_rng(seed)
    ratio = np.exp(rng.uniform(-5, 5, 100)).astype(np.float32)
    advantage = (3 * rng.standard_normal(100)).astype(np.float32)
    theta, when = meta_params(rule, seed, scale), progress(*lifetime)
    drift, _ = drift_and_slope(rule)(ratio, theta, advantage, when)
    assert np.all(np.asarray(drift) >= 0)
    drift, slope = drift_and_slope(rule)(np.ones_like(ratio), theta, advantage, when)
    assert not np.any(drift)
    assert not np.any(slope)


@pytest.mark.parametrize("name", MIRRORS)
def test_only_the_drift_differs_between_relatives(name):
    shared = {field.name for field in dataclasses.fields(MirrorLearning)}
    shared -= {field.name for field in dataclasses.fields(Scheduled)}
    rule = make_objective(name)
    assert {field: getattr(rule, field) for field in shared} == {
        field: getattr(PPO(), field) for field in shared
    }
    for method in ("targets", "loss"):
        assert getattr(type(rule), method) is getattr(MirrorLearning, method)


def drift_of(rule, theta=None, when=None):
    theta = {} if theta is None else theta
    return np.asarray(rule.drift(theta, jnp.log(RATIOS), ADVANTAGES, when or progress(0, 1)))


def test_ppo_is_the_clipped_surrogate():
    clipped = np.minimum(RATIOS * ADVANTAGES, np.clip(RATIOS, 0.8, 1.2) * ADVANTAGES)
    np.testing.assert_allclose(RATIOS * ADVANTAGES - drift_of(PPO()), clipped, rtol=1e-5, atol=1e-5)


def test_dpo_has_its_closed_form():
    r, A = RATIOS.astype(np.float64), ADVANTAGES.astype(np.float64)
    above = np.maximum((r - 1) * A - 2.0 * np.tanh((r - 1) * A / 2.0), 0)
    below = np.maximum(np.log(r) * A - 0.6 * np.tanh(np.log(r) * A / 0.6), 0)
    np.testing.assert_allclose(drift_of(DPO()), np.where(A >= 0, above, below), rtol=1e-4, atol=1e-5)


def test_no_drift_is_none():
    assert not np.any(drift_of(NoDrift()))


@pytest.mark.parametrize("aware", [False, True])
def test_a_residual_drift_begins_as_ppo_to_within_the_offset(aware):
    rule = LPO(progress_inputs=aware)
    found = drift_of(rule, rule.init(jax.random.key(0)), progress(3, 7))
    ppo = drift_of(PPO())
    np.testing.assert_allclose(found, np.maximum(ppo - 1e-4, 0), rtol=1e-6, atol=1e-7)
    assert np.max(np.abs(found - ppo)) <= 1e-4 * 1.01


def test_a_plain_drift_begins_as_none():
    rule = LPO(form="plain")
    assert not np.any(drift_of(rule, rule.init(jax.random.key(0))))


def test_an_antithetic_pair_around_the_start_differs():
    rule = LPO()
    start = rule.init(jax.random.key(0))
    noise = meta_params(rule, 1, 0.03)
    plus, minus = (
        drift_of(rule, jax.tree.map(lambda mean, eps, sign=sign: mean + sign * eps, start, noise))
        for sign in (1, -1)
    )
    assert np.max(np.abs(plus - minus)) > 0.01


@pytest.mark.parametrize("aware", [False, True])
def test_a_learned_drift_has_its_closed_form(aware):
    rule = LPO(form="plain", progress_inputs=aware)
    theta = meta_params(rule, 1, 0.5)
    r, A = RATIOS.astype(np.float64), ADVANTAGES.astype(np.float64)
    of_ratio = [np.log(r), np.log(r) ** 2, r - 1, (r - 1) ** 2]
    x = np.stack([*of_ratio, *(f * A for f in of_ratio)], axis=-1)
    if aware:
        x = np.concatenate([x, 3 / 7 * x], axis=-1)
    hidden, out = (np.asarray(theta[layer]["kernel"], np.float64) for layer in ("hidden", "out"))
    expected = np.maximum((np.tanh(x @ hidden) @ out)[:, 0] - 1e-4, 0)
    np.testing.assert_allclose(drift_of(rule, theta, progress(3, 7)), expected, rtol=1e-3, atol=1e-3)
    assert np.any(expected > 0.1)


@pytest.mark.parametrize(
    ("settings_", "inputs"),
    [
        ({}, 8),
        ({"progress_inputs": True}, 16),
        ({"horizon_inputs": True}, 16),
        ({"progress_inputs": True, "horizon_inputs": True}, 24),
    ],
)
def test_the_network_has_the_papers_size(settings_, inputs):
    rule = LPO(**settings_)
    leaves = jax.tree.leaves(rule.init(jax.random.key(0)))
    assert sum(leaf.size for leaf in leaves) == inputs * 128 + 128
    assert len(rule.inputs) == inputs


def test_the_horizon_reaches_the_drift_as_a_factor():
    rule = LPO(form="plain", horizon_inputs=True, longest_horizon=1000)
    x = rule.features(jnp.array([0.3]), jnp.array([2.0]), progress(0, 10))[0]
    np.testing.assert_allclose(x[8:], x[:8] / 3, rtol=1e-6)


@pytest.mark.parametrize("rule", [PPO(), LPO(form="plain", progress_inputs=True)], ids=["ppo", "ta-lpo"])
def test_a_drift_can_be_used_in_anyones_own_ppo(rule):
    theta = meta_params(rule, 3, 0.5)
    found = TrainedObjective(rule, theta).drift(RATIOS, ADVANTAGES, 3 / 7)
    np.testing.assert_allclose(found, drift_of(rule, theta, progress(3, 7)), rtol=1e-4, atol=1e-5)


def test_every_ratio_may_have_a_progress_of_its_own():
    rule = LPO(form="plain", progress_inputs=True, horizon_inputs=True, longest_horizon=1000)
    theta, count = meta_params(rule, 3, 0.5), 8
    ratios, advantages = np.linspace(0.3, 2.0, count), np.linspace(-1.0, 2.0, count)
    done, horizon = np.arange(count), np.arange(10, 10 + count)
    objective = TrainedObjective(rule, theta)
    found = objective.drift(ratios, advantages, Progress(done=done, horizon=horizon))
    for i in range(count):
        alone = objective.drift(ratios[i], advantages[i], progress(done[i], horizon[i]))
        np.testing.assert_allclose(found[i], alone, rtol=1e-4, atol=1e-6)
    assert np.count_nonzero(found) > 1


def test_a_drift_that_sees_the_horizon_asks_for_it():
    rule = LPO(horizon_inputs=True)
    objective = TrainedObjective(rule, meta_params(rule, 3, 0.5))
    with pytest.raises(ValueError, match=r"also sees N: give Progress\(done=n, horizon=N\)"):
        objective.drift(RATIOS, ADVANTAGES, 0.5)
    found = objective.drift(RATIOS, ADVANTAGES, progress(5, 10))
    np.testing.assert_array_equal(found, drift_of(rule, objective.meta_params, progress(5, 10)))


def test_an_objective_without_a_drift_says_so():
    with pytest.raises(ValueError, match="a2c has no drift"):
        TrainedObjective(make_objective("a2c"), {}).drift(RATIOS, ADVANTAGES)


# ---- the loss


def naive_loss(rule, outputs, action, advantage, target, old, theta):
    """The mirror-learning loss of one minibatch in float64; `old` are log-probabilities and values."""
    logits, head = outputs
    log_policy = logits - np.log(np.sum(np.exp(logits), -1, keepdims=True))
    log_prob = np.take_along_axis(log_policy, action[..., None], -1)[..., 0]
    log_ratio = log_prob - old[0]
    ratio = np.exp(log_ratio)
    if isinstance(rule, PPO):
        drift = np.maximum((ratio - np.clip(ratio, 0.8, 1.2)) * advantage, 0)
    else:
        of_ratio = [log_ratio, log_ratio**2, ratio - 1, (ratio - 1) ** 2]
        x = np.stack([*of_ratio, *(f * advantage for f in of_ratio)], axis=-1)
        hidden, out = (np.asarray(theta[layer]["kernel"], np.float64) for layer in ("hidden", "out"))
        drift = np.maximum((np.tanh(x @ hidden) @ out)[..., 0] - 1e-4, 0)
    entropy = -np.mean(np.sum(np.exp(log_policy) * log_policy, -1))
    value = head[..., 0]
    near = old[1] + np.clip(value - old[1], -0.2, 0.2)
    value_loss = 0.5 * np.mean(np.maximum((value - target) ** 2, (near - target) ** 2))
    surrogate = np.mean(ratio * advantage - drift)
    return -surrogate - rule.entropy_coef * entropy + rule.value_coef * value_loss


@pytest.mark.parametrize("rule", [PPO(entropy_coef=0.3), LPO(form="plain", width=5)], ids=["ppo", "lpo"])
def test_the_gradient_of_a_minibatch_is_that_of_the_naive_loss(rule):
    rng = np.random.default_rng(3)
    agent, params, observe = some_agent(rng, "mlp", 1)
    B, actions = 40, agent.policy.size
    observation, action = observe(B), rng.integers(actions, size=B).astype(np.int32)
    theta = meta_params(rule, 2, 0.5)
    logits, head = naive_networks.apply("mlp", float64(params), observation, 1)
    log_policy = logits - np.log(np.sum(np.exp(logits), -1, keepdims=True))
    now = np.take_along_axis(log_policy, action[:, None], -1)[:, 0]
    # Ratios on both sides of the clip, values on both sides of theirs.
    old = now + 0.4 * rng.standard_normal(B), head[:, 0] + 0.3 * rng.standard_normal(B)
    advantage, target = rng.standard_normal(B), rng.standard_normal(B)
    normal = (advantage - advantage.mean()) / advantage.std()
    targets = MirrorTargets(*(x.astype(np.float32) for x in (advantage, target, *old)))

    def product(params):
        outputs = agent.apply(params, observation)
        return rule.loss(theta, outputs, action, targets, progress(0, 1))[0]

    def naive(params):
        outputs = naive_networks.apply("mlp", params, observation, 1)
        return naive_loss(rule, outputs, action, normal, target, old, theta)

    value, grads = jax.jit(jax.value_and_grad(product))(params)
    assert value == pytest.approx(naive(float64(params)), rel=1e-4)
    assert_is_gradient(grads, naive, params, rng)


def test_targets_are_what_was_known_when_the_rollout_was_collected():
    rng = np.random.default_rng(0)
    experience = random_experience(rng, 6, 3, 4, 1)
    rule = PPO(discount=0.9, gae_lambda=0.7)
    targets = rule.targets({}, experience, progress(0, 1))
    outputs, following = experience.outputs, experience.next_head
    values = outputs.head[..., 0]
    expected = naive_advantages(experience.rollout, values, following[..., 0], 0.9, 0.7)
    np.testing.assert_allclose(targets.advantage, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(targets.value_target, expected + values, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(targets.value, values)
    log_policy = outputs.parameters - np.log(np.sum(np.exp(outputs.parameters), -1, keepdims=True))
    chosen = np.take_along_axis(log_policy, experience.rollout.action[..., None], -1)[..., 0]
    np.testing.assert_allclose(targets.log_prob, chosen, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_before_any_update_all_drifts_have_the_same_gradient():
    rng = np.random.default_rng(0)
    agent, params, observe = some_agent(rng, "tabular", 1)
    rollout = random_rollout(rng, 6, 3, agent.policy.size, observe)
    found = [
        jax.jit(
            lambda params, rule=rule: gradient_of_update(
                rule, meta_params(rule, 0, 1.0), agent, params, rollout, progress(0, 1)
            )[0]
        )(params)
        for rule in FORMS
        if not rule.schedule  # which changes the entropy bonus, too
    ]
    for other in found[1:]:
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7), found[0], other)


def test_kl_and_drift_are_reported():
    rule = PPO()
    logits = np.log(np.array([[0.6, 0.4]], np.float32))
    outputs = Outputs(logits, np.zeros((1, 1), np.float32), Categorical(2))
    zero = np.zeros(1, np.float32)
    old = MirrorTargets(zero, zero, np.log(np.array([0.3], np.float32)), zero)
    _, metrics = rule.loss({}, outputs, np.array([0]), old, progress(0, 1))
    assert metrics["kl"] == pytest.approx(2 - 1 - np.log(2), rel=1e-5)
    assert metrics["drift"] == 0  # a single advantage is normalised to 0


@pytest.mark.parametrize("name", ["ppo", "dpo"])
def test_a_two_armed_bandit_is_solved(name):
    env, level = bandit()
    plan = {"epochs": 2, "minibatches": 4, "policy_learning_rate": 5.0, "head_learning_rate": 1.0}
    config = AgentConfig(workers=16, rollout_steps=10, **plan)
    trained, history = discovery.train(name, env, level, 40, config=config, evaluations=1)
    assert history["return"][-1] > 0.9  # the random policy has 0, by symmetry
    assert trained.policy(jnp.asarray(level.start + 9 * 3))[2] > 0.8  # left, both doors shut
