"""A2C's targets and gradient against numpy, and whether it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_discovery import discovery, envs
from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.discovery.objectives.a2c import A2C
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
from tests.discovery.naive_lpg import softmax
from tests.discovery.objectives.test_gae import naive_advantages

gradient_of = jax.jit(gradient_of_update, static_argnums=(0, 2))
targets_of = jax.jit(A2C.targets, static_argnums=0)


def test_targets_use_the_value_before_a_reset_and_normalise_the_advantage():
    rng = np.random.default_rng(0)
    experience = random_experience(rng, 12, 3, 4, 1)
    rule = A2C(discount=0.9, gae_lambda=0.8)
    found = targets_of(rule, {}, experience, progress(0, 1))
    values, next_values = (x[..., 0] for x in (experience.outputs.head, experience.next_head))
    expected = naive_advantages(experience.rollout, values, next_values, 0.9, 0.8)
    np.testing.assert_allclose(found.value_target, expected + values, rtol=1e-4, atol=1e-5)
    normal = (expected - expected.mean()) / expected.std()
    np.testing.assert_allclose(found.advantage, normal, rtol=1e-3, atol=1e-4)


def naive_loss(rule, outputs, action, advantage, value_target):
    terms = []
    for t, w in np.ndindex(action.shape):
        pi, value = softmax(outputs[0][t, w]), outputs[1][t, w, 0]
        policy_loss = -np.log(pi[action[t, w]]) * advantage[t, w]
        entropy = -np.sum(pi * np.log(pi))
        error = (value - value_target[t, w]) ** 2
        terms.append(policy_loss - rule.entropy_coef * entropy + rule.value_coef * error)
    return np.mean(terms)


@pytest.mark.parametrize("kind", ["tabular", "mlp"])
def test_agent_gradient_agrees_with_finite_differences(kind):
    rng = np.random.default_rng(1)
    agent, params, observe = some_agent(rng, kind, 1)
    rollout = random_rollout(rng, 6, 3, agent.policy.size, observe)
    rule = A2C(discount=0.9, entropy_coef=0.3)
    grads, _ = gradient_of(rule, {}, agent, params, rollout, progress(0, 1))

    start = float64(params)
    outputs, following = (
        naive_networks.apply(kind, start, x, 2) for x in (rollout.observation, rollout.next_observation)
    )
    values, next_values = outputs[1][..., 0], following[1][..., 0]
    advantage = naive_advantages(rollout, values, next_values, 0.9, rule.gae_lambda)
    normal = (advantage - advantage.mean()) / advantage.std()

    def loss(params):
        outputs = naive_networks.apply(kind, params, rollout.observation, 2)
        return naive_loss(rule, outputs, rollout.action, normal, advantage + values)

    assert_is_gradient(grads, loss, params, rng)


def test_the_entropy_bonus_pulls_towards_the_uniform_policy():
    rule = A2C(entropy_coef=1.0, value_coef=0.0)
    experience = random_experience(np.random.default_rng(0), 4, 2, 3, 1)
    targets = targets_of(rule, {}, experience, progress(0, 1))
    targets = targets._replace(advantage=np.zeros_like(targets.advantage))
    action = experience.rollout.action
    slope = jax.jit(jax.grad(lambda outputs: rule.loss({}, outputs, action, targets, progress(0, 1))[0]))
    logits = experience.outputs.parameters
    moved = logits - 0.5 * np.asarray(slope(experience.outputs).parameters)
    probabilities = [np.asarray(jax.nn.softmax(x)) for x in (logits, moved)]
    entropy = [-np.sum(p * np.log(p), -1) for p in probabilities]
    assert np.all(entropy[1] > entropy[0])
    _, metrics = rule.loss({}, experience.outputs.replace(parameters=moved), action, targets, progress(0, 1))
    assert metrics["entropy"] == pytest.approx(np.mean(entropy[1]), rel=1e-5)


def test_a2c_solves_a_two_armed_bandit():
    env, level = bandit()
    config = AgentConfig(workers=16, rollout_steps=10)
    trained, history = discovery.train("a2c", env, level, 60, config=config, evaluations=1)
    assert history["return"][-1] > 0.9  # the random policy has 0, by symmetry
    assert trained.policy(jnp.asarray(level.start + 9 * 3))[2] > 0.8  # left, both doors shut


@pytest.mark.slow
def test_a2c_learns_the_dense_gridworld():
    env, level = envs.make("gridworld/dense")
    level = level.replace(max_steps_in_episode=jnp.int32(100))
    _, history = discovery.train("a2c", env, level, 150, evaluations=50)
    # After three updates the policy is still close to random.
    assert np.mean(history["return"][-5:]) > history["return"][0] + 2.0
