"""Agent networks against numpy, their optimisers against closed forms, and what does not fit together."""

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rl_discovery.discovery.agents.agent import make_agent
from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.discovery.agents.optimisers import clip_by_global_norm
from rl_discovery.discovery.agents.policies import DiagonalGaussian
from tests.discovery import naive_networks
from tests.discovery.experience import (
    CARTPOLE,
    GRID,
    PLANES,
    assert_same,
    float64,
    random_agent,
    randomised,
    some_agent,
)

KINDS = {"tabular": GRID, "mlp": CARTPOLE, "cnn": PLANES}


def apply(agent, params, observation):
    return jax.jit(agent.apply)(params, observation)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(), (3,), (4, 2)], ids=str)
def test_networks_agree_with_numpy_for_any_leading_shape(kind, shape):
    rng = np.random.default_rng(0)
    agent, params, observe = some_agent(rng, kind, 6)
    observation = observe(*shape)
    found = apply(agent, params, observation)
    expected = naive_networks.apply(kind, float64(params), observation, len(shape))
    assert found.parameters.shape == (*shape, KINDS[kind].num_actions)
    assert found.head.shape == (*shape, 6)
    np.testing.assert_allclose(found.parameters, expected[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.head, expected[1], rtol=1e-4, atol=1e-5)


def test_an_mlp_sees_integer_observations_as_one_hot_vectors():
    rng = np.random.default_rng(0)
    agent, params = random_agent(rng, GRID, GRID.default_params, 2, network="mlp", hidden=(4,))
    states = rng.integers(0, 36, (5, 2)).astype(np.int32)
    found = apply(agent, params, states)
    inner = {part: params[part]["inner"] for part in ("policy", "head")}
    expected = naive_networks.apply("mlp", float64(inner), np.eye(36)[states], 2)
    np.testing.assert_allclose(found.parameters, expected[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.head, expected[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_agents_policy_is_exactly_uniform(kind):
    env, (_, _, observe) = KINDS[kind], some_agent(np.random.default_rng(0), kind, 3)
    agent = make_agent(AgentConfig(network=kind, hidden=(5,)), env, env.default_params, 3)
    states = [jax.jit(agent.init)(jax.random.key(seed)) for seed in (0, 0, 1)]
    found = apply(agent, states[0].params, observe(20))
    assert not np.any(found.parameters)
    assert_same(states[0], states[1])
    # A table's head starts at zero too; that of a network must tell observations apart.
    assert np.any(found.head) == (kind != "tabular")
    other = apply(agent, states[2].params, observe(20))
    assert np.array_equal(found.head, other.head) == (kind == "tabular")


@pytest.mark.parametrize(
    ("network", "env", "problem"),
    [
        ("tabular", CARTPOLE, "integer observations"),
        ("tabular", PLANES, "integer observations"),
        ("cnn", CARTPOLE, "height, width, planes"),
        ("cnn", GRID, "height, width, planes"),
    ],
)
def test_a_network_that_the_observations_do_not_fit_is_refused(network, env, problem):
    with pytest.raises(ValueError, match=problem) as caught:
        make_agent(AgentConfig(network=network), env, env.default_params, 1)
    assert "network='mlp'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_layers_can_be_shared_and_have_another_activation():
    rng = np.random.default_rng(0)
    level = CARTPOLE.default_params
    settings = {"network": "mlp", "hidden": (5, 4), "activation": "tanh", "shared": True}
    agent, params = random_agent(rng, CARTPOLE, level, 3, **settings)
    observation = rng.standard_normal((7, 4)).astype(np.float32)
    found, exact = apply(agent, params, observation), float64(params)
    x = np.asarray(observation, np.float64)
    for layer in ("Dense_0", "Dense_1"):
        x = np.tanh(x @ exact["body"][layer]["kernel"] + exact["body"][layer]["bias"])
    for part, outputs in (("policy", found.parameters), ("head", found.head)):
        expected = x @ exact[part]["kernel"] + exact[part]["bias"]
        np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


def test_a_table_has_no_layers_to_share():
    with pytest.raises(ValueError, match="shared=False"):
        make_agent(AgentConfig(shared=True), GRID, GRID.default_params, 1)


def test_numbered_states_have_no_scale():
    with pytest.raises(ValueError, match=r"agent\.scale_observations needs arrays"):
        make_agent(AgentConfig(network="mlp", scale_observations=True), GRID, GRID.default_params, 1)


def test_continuous_actions_get_a_gaussian_with_a_deviation_of_its_own():
    env, level = gymnax.make("Pendulum-v1")
    agent = make_agent(AgentConfig(network="mlp", hidden=(4,)), env, level, 1)
    state = jax.jit(agent.init)(jax.random.key(0))
    assert agent.policy == DiagonalGaussian((-2.0,), (2.0,))
    found = apply(agent, state.params, np.ones((5, 3), np.float32))
    np.testing.assert_array_equal(found.parameters, np.zeros((5, 2)))
    params = jax.tree.map(lambda x: x, state.params)
    params["policy"]["log_std"] = np.array([0.5], np.float32)
    found = apply(agent, params, np.ones((5, 3), np.float32))
    np.testing.assert_array_equal(found.parameters, np.tile(np.float32([0.0, 0.5]), (5, 1)))


# ---- optimisers


def norm(tree):
    return np.sqrt(sum(np.sum(np.square(leaf, dtype=np.float64)) for leaf in jax.tree.leaves(tree)))


def clipped(grads, limit=0.5):
    factor = min(1.0, limit / norm(grads))
    return jax.tree.map(lambda leaf: leaf * factor, float64(grads))


def agent_with_gradients(sizes, **settings):
    """An agent, and gradients whose policy and head have the given global norms."""
    rng = np.random.default_rng(0)
    agent, params = random_agent(rng, GRID, GRID.default_params, 3, **settings)
    state = jax.jit(agent.init)(jax.random.key(0)).replace(params=params)
    directions = [randomised(rng, params) for _ in sizes]
    gradients = [
        {
            part: jax.tree.map(
                lambda x, s=size[part], d=g[part]: (x * s / norm(d)).astype(np.float32), g[part]
            )
            for part in g
        }
        for g, size in zip(directions, sizes, strict=True)
    ]
    return agent, state, gradients


def test_default_sgd_clips_policy_and_head_apart_and_has_a_step_size_for_each():
    sizes = [{"policy": 3.0, "head": 0.2}, {"policy": 0.3, "head": 2.0}]
    agent, state, gradients = agent_with_gradients(sizes)
    expected = float64(state.params)
    for grads in gradients:
        state = jax.jit(agent.step)(state, grads)
        for part, learning_rate in (("policy", 40.0), ("head", 4.0)):
            step = clipped(grads[part])
            expected[part] = jax.tree.map(lambda x, g, lr=learning_rate: x - lr * g, expected[part], step)
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4), state.params, expected
        )


def test_adam_sees_clipped_gradients():
    sizes = [{"policy": 5.0, "head": 0.1}, {"policy": 0.4, "head": 7.0}, {"policy": 0.1, "head": 0.1}]
    rates = {"policy_learning_rate": 0.01, "head_learning_rate": 0.2}
    agent, state, gradients = agent_with_gradients(sizes, optimiser="adam", **rates)
    for part, learning_rate in (("policy", 0.01), ("head", 0.2)):
        current, x = state, np.asarray(state.params[part]["rows"], np.float64)
        mean = square = np.zeros_like(x)
        for t, grads in enumerate(gradients, start=1):
            current = jax.jit(agent.step)(current, grads)
            g = clipped(grads[part])["rows"]
            mean, square = 0.9 * mean + 0.1 * g, 0.999 * square + 0.001 * g**2
            x = x - learning_rate * (mean / (1 - 0.9**t)) / (np.sqrt(square / (1 - 0.999**t)) + 1e-8)
            np.testing.assert_allclose(current.params[part]["rows"], x, rtol=1e-4, atol=1e-5)


def test_a_gradient_of_zeros_changes_nothing_and_is_no_nan():
    agent, state, _ = agent_with_gradients([])
    zeros = jax.tree.map(np.zeros_like, state.params)
    assert_same(jax.jit(agent.step)(state, zeros).params, state.params)


@pytest.mark.parametrize("length", [0.0, 0.3, 2.0])
def test_the_clip_is_optaxs_and_can_be_differentiated_at_zero(length):
    gradient = {"a": jnp.array([0.6, 0.0]) * length, "b": jnp.array([[0.8]]) * length}
    ours, theirs = clip_by_global_norm(0.5), optax.clip_by_global_norm(0.5)
    clipped = ours.update(gradient, ours.init(gradient))[0]
    expected = theirs.update(gradient, theirs.init(gradient))[0]
    jax.tree.map(np.testing.assert_array_equal, clipped, expected)

    def size(gradient):
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(ours.update(gradient, ours.init(gradient))[0]))

    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.grad(size)(gradient)))
