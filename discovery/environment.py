"""How the inner loop talks to environments: any gymnax 1.0 environment, with its randomness in bulk.

Drawing random numbers for a whole rollout at once is several times cheaper than splitting keys at
every step. An environment that can be driven by uniform numbers says so by offering `step_from`
and `reset_from` (see `NoiseDriven`); every other gymnax environment is driven by keys that are
split in bulk. Both look the same from here on: `draw`, `reset`, `step`.
"""

import functools
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
from gymnax.environments.environment import Environment
from jaxtyping import Array, Bool, Float, Key

from discovery.types import EnvParams

Noise: TypeAlias = Array
"""Randomness of one step or reset: uniform numbers, or a key."""


@runtime_checkable
class NoiseDriven(Protocol):
    """An environment whose transitions are functions of uniform numbers in [0, 1)."""

    step_noise_size: int
    reset_noise_size: int

    def step_from(self, noise: Array, state: Any, action: Array, level: Any) -> tuple[Any, Any, Array, Array]:
        """Observation, state, reward and terminated; no reset at the end of an episode."""
        ...

    def reset_from(self, noise: Array, level: Any) -> tuple[Any, Any]:
        """First observation and state."""
        ...


class Transition(NamedTuple):
    """One step of one worker; `observation` and `state` are those after any reset."""

    observation: Array
    state: Any
    reward: Float[Array, ""]
    terminated: Bool[Array, ""]
    truncated: Bool[Array, ""]
    next_observation: Array


def draw(env: Environment, key: Key[Array, ""], steps: int, workers: int) -> Noise:
    """Randomness for `steps` steps of `workers` workers: leading axis steps, last axis workers."""
    if isinstance(env, NoiseDriven):
        return jax.random.uniform(key, (steps, env.step_noise_size + env.reset_noise_size, workers))
    return jax.random.split(key, (steps, workers))


def reset(env: Environment, key: Key[Array, ""], level: EnvParams, workers: int) -> tuple[Array, Any]:
    """First observations and states of `workers` workers, worker axis first."""
    keys = jax.random.split(key, workers)
    return jax.vmap(env.reset, in_axes=(0, None))(keys, level)


def step(env: Environment, noise: Noise, states: Any, actions: Array, level: EnvParams) -> Transition:
    """One step of every worker, with automatic reset where an episode ends.

    Args:
        env: the environment.
        noise: one step of what `draw` returned; its last axis is the worker.
        states: environment states, worker axis first.
        actions: one action per worker.
        level: the level, shared by the workers.

    Returns:
        The transition, worker axis first.
    """
    if isinstance(env, NoiseDriven):
        step_worker = functools.partial(_step_from_noise, env)
        return jax.vmap(step_worker, in_axes=(-1, 0, 0, None))(noise, states, actions, level)
    result = jax.vmap(env.step, in_axes=(0, 0, 0, None))(noise, states, actions, level)
    observation, states, reward, terminated, truncated, info = result
    return Transition(
        observation=observation,
        state=states,
        reward=jnp.asarray(reward, jnp.float32),
        terminated=terminated,
        truncated=truncated,
        next_observation=info["final_observation"],
    )


def _step_from_noise(env: Any, noise: Array, state: Any, action: Array, level: EnvParams) -> Transition:
    """gymnax's step with automatic reset, from uniform numbers in place of a key."""
    observation, new_state, reward, terminated = env.step_from(
        noise[: env.step_noise_size], state, action, level
    )
    truncated = env.is_truncated(new_state, level)
    first_observation, first_state = env.reset_from(noise[env.step_noise_size :], level)
    done = terminated | truncated
    return Transition(
        observation=jnp.where(done, first_observation, observation),
        state=jax.tree.map(lambda first, new: jnp.where(done, first, new), first_state, new_state),
        reward=reward,
        terminated=terminated,
        truncated=truncated,
        next_observation=observation,
    )
