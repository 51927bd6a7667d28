"""Does it learn? Every objective on five tiny environments, of which everything is known."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_discovery.checkpoints import load_objective, shipped
from rl_discovery.discovery.learning.build import make_learner
from rl_discovery.discovery.learning.lifetime import evaluate_block, train_block
from rl_discovery.discovery.learning.settings import default_config
from rl_discovery.discovery.objectives.registry import RULES, make_objective
from tests.discovery import probes

UPDATES = 250
WITHOUT_PARAMETERS = ("lpg", "closed-form-drift")
"""Learned rules that are nothing before somebody learns them."""

STEP_SIZES = {"policy_learning_rate": 2.0, "head_learning_rate": 1.0}
"""A gradient is a mean over all samples, and here half of them are of one state, not one in a hundred."""

LEARN = sorted(set(RULES) - {*WITHOUT_PARAMETERS, "random"})


@functools.cache
def trained(name):
    """Agents at the end of a lifetime on each of the five, and the returns that they reach."""
    if name in shipped():
        loaded = load_objective(f"shipped:{name}")
        rule, meta_params = loaded.rule, loaded.meta_params
    else:
        rule = make_objective(name)
        meta_params = rule.init(jax.random.key(0))
    env = probes.Probes()
    config = dataclasses.replace(default_config(env, env.default_params, rule), **STEP_SIZES)
    learner = make_learner(env, env.default_params, config, rule)

    @jax.jit
    def run():
        keys = jax.random.split(jax.random.key(1), 5)
        same = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (5, *jnp.shape(leaf))), meta_params)
        states = train_block(learner, same, probes.LEVELS, jnp.full(5, UPDATES), keys)
        outputs = jax.vmap(learner.agent.outputs_of, in_axes=(0, None))(states.agent, jnp.arange(2))
        return evaluate_block(learner, states, probes.LEVELS, keys), outputs

    returns, outputs = jax.device_get(run())
    return rule, returns, jax.nn.softmax(outputs.parameters), outputs.head


def cases(names):
    """The drifts, which take longest, are left to `make test-slow`; others use the same loop."""
    drifts = {"lpo", "ta-lpo", "dpo"}
    return [pytest.param(name, marks=pytest.mark.slow if name in drifts else ()) for name in names]


@pytest.mark.parametrize("name", cases(LEARN))
def test_an_agent_does_what_is_rewarded(name):
    _, returns, policies, _ = trained(name)
    assert returns[probes.CONSTANT] == returns[probes.DELAYED] == 1
    assert returns[probes.ACTION] > 0.8
    assert returns[probes.BOTH] > 0.8
    assert policies[probes.ACTION, 0, 1] > 0.9
    np.testing.assert_array_less(0.9, policies[probes.BOTH, (0, 1), (0, 1)])


def test_the_random_rule_learns_nothing():
    _, returns, policies, _ = trained("random")
    np.testing.assert_allclose(returns, probes.BY_CHANCE, atol=0.4)
    np.testing.assert_allclose(policies, 0.5, atol=1e-6)


@pytest.mark.parametrize("name", cases(name for name in LEARN if make_objective(name).head_size == 1))
def test_a_value_head_knows_what_is_to_come(name):
    rule, _, _, values = trained(name)
    values = values[..., 0]
    assert values[probes.CONSTANT, 0] == pytest.approx(1, abs=0.1)
    np.testing.assert_allclose(values[probes.OBSERVED], [-1, 1], atol=0.1)
    discount = rule.discount if hasattr(rule, "discount") else 0.99
    np.testing.assert_allclose(values[probes.DELAYED], [discount, 1], atol=0.1)
