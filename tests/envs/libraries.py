"""What the tests of other libraries' environments share."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_discovery import discovery
from rl_discovery.discovery.agents.config import AgentConfig


class Played(NamedTuple):
    """One worker's steps, axis first; `first` is before them."""

    first: np.ndarray
    action: np.ndarray
    observation: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    last: np.ndarray


def needs(extra):
    return pytest.mark.needs(extra.module)


# Without optimisation, which would take most of the time.
@functools.partial(jax.jit, static_argnums=(0, 3), compiler_options={"xla_backend_optimization_level": 0})
def _play(env, level, key, steps):
    reset_key, key = jax.random.split(key)
    first, state = env.reset(reset_key, level)

    def step(state, key):
        action_key, step_key = jax.random.split(key)
        action = env.action_space(level).sample(action_key)
        observation, state, reward, terminated, truncated, info = env.step(step_key, state, action, level)
        return state, (action, observation, reward, terminated, truncated, info["final_observation"])

    return first, *jax.lax.scan(step, state, jax.random.split(key, steps))[1]


def play(env, level, steps, seed=0):
    """A uniformly random agent under gymnax's interface."""
    level = jax.tree.map(jnp.asarray, level)
    return Played(*map(np.asarray, _play(env, level, jax.random.key(seed), steps)))


def ends_are_right(env, level):
    """Time limits truncate, and what is shown after any end is a beginning."""
    played = play(env, level.replace(max_steps_in_episode=3), 9)
    ends = np.flatnonzero(played.terminated | played.truncated)
    lengths = np.diff([-1, *ends])
    assert np.all(lengths <= 3)
    np.testing.assert_array_equal(played.truncated[ends], lengths == 3)
    assert played.truncated.any()
    going = ~(played.terminated | played.truncated)
    np.testing.assert_array_equal(played.observation[going], played.last[going])


def trains(env, level, objective="ppo", **settings):
    """A few updates change an agent, and everything stays finite."""
    plan = {"network": "mlp", "hidden": (8,), "optimiser": "adam", "policy_learning_rate": 1e-2}
    config = AgentConfig(**plan, **settings, workers=2, rollout_steps=4, epochs=1, minibatches=1)
    level = level.replace(max_steps_in_episode=6)
    trained, history = discovery.train(objective, env, level, 3, config=config, evaluations=1)
    assert np.all(np.isfinite(history["policy_loss"]))
    assert np.isfinite(history["return"][-1])
    first = jnp.asarray(env.reset(jax.random.key(0), level)[0])
    assert trained.act(jax.random.key(0), first).shape == env.action_space(level).shape
