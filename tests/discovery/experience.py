"""What the tests of discovery/ learn from: small levels, made-up rollouts, random parameters."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments.classic_control.cartpole import CartPole

from rl_discovery.discovery.agents.agent import AgentState, make_agent
from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.discovery.agents.normalisation import Statistics
from rl_discovery.discovery.agents.policies import Categorical
from rl_discovery.discovery.learning.update import update_agent
from rl_discovery.discovery.objectives.base import Experience
from rl_discovery.discovery.types import Outputs, Progress, Rollout
from rl_discovery.envs.gridworld.env import GridWorld
from tests.envs.gridworld.random_levels import hand_made_level

# One of each, because compiled functions know an environment by its identity.
GRID, PLANES, CARTPOLE = GridWorld(3, 2), GridWorld(3, 2, observation="planes"), CartPole()


def small_grid(**objects):
    """A 3x3 tabular gridworld with two objects that end some episodes; others end by their time limit."""
    settings = {
        "object_rewards": [1.0, -0.5],
        "end_probs": [0.3, 0.6],
        "respawn_probs": [0.5, 0.2],
        "max_steps_in_episode": 7,
    } | objects
    return GRID, as_arrays(hand_made_level(GRID, ["A.0", ".#.", "1.."], **settings))


def bandit():
    """Two doors beside the agent, +1 to the left and -1 to the right; going through one is the end."""
    ends = {"object_rewards": [1.0, -1.0], "end_probs": [1.0, 1.0], "max_steps_in_episode": 4}
    return GRID, as_arrays(hand_made_level(GRID, ["0A1"], **ends))


def as_arrays(tree):
    return jax.tree.map(jnp.asarray, tree)


def stack(*trees):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def lane(tree, i):
    return jax.tree.map(lambda leaf: leaf[i], tree)


def assert_same(one, other):
    """Bit for bit."""
    jax.tree.map(np.testing.assert_array_equal, one, other)


def is_same(one, other):
    return jax.tree.all(jax.tree.map(np.array_equal, one, other))


def randomised(rng, tree, scale=1.0):
    """Normal numbers in the shape of a pytree, so that no gradient is zero for want of weights."""
    return jax.tree.map(lambda leaf: (scale * rng.standard_normal(leaf.shape)).astype(leaf.dtype), tree)


def random_agent(rng, env, level, head_size, scale=1.0, **settings):
    agent = make_agent(AgentConfig(**settings), env, level, head_size)
    return agent, randomised(rng, jax.eval_shape(agent.init, jax.random.key(0)).params, scale)


def random_rollout(rng, T, W, actions, observe, ends=0.3):
    """A rollout in which each step terminates and is truncated with probability `ends` each."""
    return Rollout(
        observation=observe(T, W),
        action=rng.integers(actions, size=(T, W)).astype(np.int32),
        reward=rng.standard_normal((T, W)).astype(np.float32),
        terminated=rng.random((T, W)) < ends,
        truncated=rng.random((T, W)) < ends,
        next_observation=observe(T, W),
        last_observation=observe(W),
    )


def agent_of(params):
    """An agent of these parameters that will not be trained."""
    return AgentState(params=params, opt_state=(), statistics=Statistics())


def random_states(rng, states=5):
    """For `observe` of `random_rollout`: states of a table."""
    return lambda *shape: rng.integers(states, size=shape).astype(np.int32)


def random_vectors(rng, *size):
    """For `observe` of `random_rollout`: vectors, planes."""
    return lambda *shape: rng.standard_normal((*shape, *size)).astype(np.float32)


def random_experience(rng, T, W, actions, head_size, ends=0.3):
    """A rollout with made-up outputs of an agent that is not there."""

    def outputs(*shape):
        return Outputs(
            parameters=rng.standard_normal((*shape, actions)).astype(np.float32),
            head=rng.standard_normal((*shape, head_size)).astype(np.float32),
            policy=Categorical(actions),
        )

    rollout = random_rollout(rng, T, W, actions, random_states(rng), ends)
    return Experience(
        rollout=rollout, outputs=outputs(T, W), next_head=outputs(T, W).head, last_outputs=outputs(W)
    )


def experience_of(agent, params, rollout):
    """What an objective sees of a rollout, asked of the agent anew."""
    seen = (rollout.observation, rollout.next_observation, rollout.last_observation)
    outputs, following, last = (agent.apply(params, observation) for observation in seen)
    return Experience(rollout, outputs, following.head, last)


def gradient_of_update(rule, meta_params, agent, params, rollout, when):
    """The gradient that one update of an agent descends, and its metrics."""
    length = 1e3  # so long a step that rounding of the parameters does not matter
    rates = {"policy_learning_rate": length, "head_learning_rate": length, "max_grad_norm": 1e9}
    config = dataclasses.replace(agent.config, optimiser="sgd", epochs=1, minibatches=1, **rates)
    agent = dataclasses.replace(agent, config=config)
    state = agent.init(jax.random.key(0)).replace(params=as_arrays(params))
    after, metrics = update_agent(rule, meta_params, agent, state, rollout, when, jax.random.key(0))
    return jax.tree.map(lambda old, new: (old - new) / length, state.params, after.params), metrics


def naive_gradient(rule, meta_params, agent, params, rollout, when):
    """The gradient of a rule's loss on a whole rollout, straight from its definition."""
    targets = rule.targets(meta_params, experience_of(agent, params, rollout), when)

    def loss(params):
        outputs = agent.apply(params, rollout.observation)
        return rule.loss(meta_params, outputs, rollout.action, targets, when)[0]

    return jax.grad(loss)(params)


def progress(n, N):
    return Progress(done=np.int32(n), horizon=np.int32(N))


def float64(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def finite_differences(loss, params, rng, per_leaf, step=1e-6):
    """Central differences of a float64 loss at random entries of each leaf of `params`.

    Returns:
        For each leaf: the chosen entries of the flattened leaf, and the derivatives there.
    """
    leaves, structure = jax.tree.flatten(float64(params))
    found = []
    for i, leaf in enumerate(leaves):
        entries, slopes = rng.permutation(leaf.size)[:per_leaf], []
        for entry in entries:
            values = []
            for change in (step, -step):
                moved = leaf.copy()
                moved.flat[entry] += change
                values.append(loss(jax.tree.unflatten(structure, [*leaves[:i], moved, *leaves[i + 1 :]])))
            slopes.append((values[0] - values[1]) / (2 * step))
        found.append((entries, np.array(slopes)))
    return found


def assert_is_gradient(grads, loss, params, rng, per_leaf=20):
    """`grads` (float32) are the derivatives of a float64 loss, and no leaf's are all zero."""
    slopes = finite_differences(loss, params, rng, per_leaf)
    for grad, (entries, expected) in zip(jax.tree.leaves(grads), slopes, strict=True):
        np.testing.assert_allclose(np.ravel(grad)[entries], expected, rtol=1e-3, atol=1e-5)
        assert np.any(np.abs(expected) > 1e-4)


def some_agent(rng, kind, head_size):
    """An agent of the kind with random parameters, and what makes observations for it."""
    if kind == "tabular":
        return *random_agent(rng, *small_grid(), head_size), random_states(rng, 9 * 4)
    if kind == "mlp":
        env, settings, observe = CARTPOLE, {"hidden": (6, 5)}, random_vectors(rng, 4)
    else:
        env, settings = PLANES, {"hidden": (5,)}
        observe = random_vectors(rng, 3, 3, 4)
    return *random_agent(rng, env, env.default_params, head_size, 0.4, network=kind, **settings), observe
