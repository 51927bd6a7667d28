"""Vectorised environments: any gymnax 1.0 environment, with the randomness of a whole rollout drawn in bulk.

This is several times cheaper than splitting keys at every step. Environments that can be driven by uniform
numbers offer `step_from` and `reset_from` (see `NoiseDriven`). All others are driven by keys, split in bulk,
and their episodes start from states drawn in bulk. The interface is the same for both: `draw`, `reset`,
`step`.

Both ways replace methods of the environment, but only where these methods are not overridden: a subclass or
a wrapper that changes a reward is played as it says.
"""

import functools
from collections.abc import Collection
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeGuard

import jax
import jax.numpy as jnp
from gymnax.environments.environment import Environment
from jaxtyping import Array, Bool, Float, Key

from rl_discovery.discovery.types import EnvParams

Noise: TypeAlias = Any
"""Randomness of steps: uniform numbers, `Beginnings` or keys."""


class NoiseDriven(Protocol):
    """An environment whose transitions are functions of uniform numbers in [0, 1).

    Its `step_env` and `reset_env` do the same with numbers drawn from their keys; its `step` is gymnax's.
    """

    step_noise_size: int
    reset_noise_size: int

    def step_from(self, noise: Array, state: Any, action: Array, level: Any) -> tuple[Any, Any, Array, Array]:
        """Observation, state, reward and terminated; no reset at the end of an episode."""
        ...

    def reset_from(self, noise: Array, level: Any) -> tuple[Any, Any]:
        """First observation and state."""
        ...


class Beginnings(NamedTuple):
    """The randomness of gymnax's own step: the key of the transition, and the start of a next episode.

    `first` is None if all episodes start in the same state, which the compiler then treats as a constant.
    """

    key: Key[Array, "..."]
    first: tuple[Array, Any] | None


class Transition(NamedTuple):
    """One step of one worker; `observation` and `state` are those after any reset."""

    observation: Array
    state: Any
    reward: Float[Array, ""]
    terminated: Bool[Array, ""]
    truncated: Bool[Array, ""]
    next_observation: Array


def is_noise_driven(env: Any) -> TypeGuard[NoiseDriven]:
    """Whether uniform numbers can drive this environment without changing what it does.

    The class that defines `step_env` must also define `step_from`, and likewise for `reset_env`: a subclass
    that overrides only one of them changes the behaviour.
    """
    pairs = (("step_env", "step_from"), ("reset_env", "reset_from"))
    return _steps_as_gymnax(env) and all(fast in _names(_definer(env, own)) for own, fast in pairs)


def _steps_as_gymnax(env: Any) -> bool:
    return _definer(env, "step") is Environment


def _definer(env: Any, name: str) -> Any:
    # The instance or class that defines an attribute. A wrapper's `__getattr__` defines nothing.
    return next((place for place in (env, *type(env).__mro__) if name in _names(place)), None)


def _names(place: Any) -> Collection[str]:
    return getattr(place, "__dict__", {})


def draw(env: Environment, key: Key[Array, ""], level: EnvParams, steps: int, workers: int) -> Noise:
    """Randomness for `steps` steps of `workers` workers on a level: axes steps and workers.

    Only for uniform numbers the worker is the last axis.
    """
    if is_noise_driven(env):
        return jax.random.uniform(key, (steps, env.step_noise_size + env.reset_noise_size, workers))
    keys = jax.random.split(key, (steps, workers))
    if not _steps_as_gymnax(env):  # `step` is overridden
        return keys
    begin = functools.partial(_begin, env, level, _begins_at_random(env, level))
    return jax.vmap(jax.vmap(begin))(keys)


def _begin(env: Environment, level: EnvParams, at_random: bool, key: Key[Array, ""]) -> Beginnings:
    step_key, reset_key = jax.random.split(key)
    return Beginnings(step_key, env.reset_env(reset_key, level) if at_random else None)


def _begins_at_random(env: Environment, level: EnvParams) -> bool:
    # Whether `reset_env` uses its key.
    traced = jax.make_jaxpr(env.reset_env)(jax.random.key(0), level).jaxpr
    key = traced.invars[0]
    return any(key in used for used in (traced.outvars, *(step.invars for step in traced.eqns)))


def reset(env: Environment, key: Key[Array, ""], level: EnvParams, workers: int) -> tuple[Array, Any]:
    """First observations and states of `workers` workers, worker axis first."""
    keys = jax.random.split(key, workers)
    return jax.vmap(env.reset, in_axes=(0, None))(keys, level)


def step(env: Environment, noise: Noise, states: Any, actions: Array, level: EnvParams) -> Transition:
    """One step of every worker, with a reset where an episode ends.

    Args:
        env: the environment.
        noise: one step of what `draw` returned.
        states: environment states, worker axis first.
        actions: one action per worker.
        level: the level, shared by the workers.

    Returns:
        The transition, worker axis first.
    """
    if is_noise_driven(env):
        step_worker = functools.partial(_step_from_noise, env)
        return jax.vmap(step_worker, in_axes=(-1, 0, 0, None))(noise, states, actions, level)
    if isinstance(noise, Beginnings):
        step_worker = functools.partial(_step_to_beginning, env)
        return jax.vmap(step_worker, in_axes=(0, 0, 0, None))(noise, states, actions, level)
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
    observation, moved, reward, terminated = env.step_from(noise[: env.step_noise_size], state, action, level)
    beginning = env.reset_from(noise[env.step_noise_size :], level)
    return _with_reset(env, level, (observation, moved), reward, terminated, beginning)


def _step_to_beginning(
    env: Environment, noise: Beginnings, state: Any, action: Array, level: EnvParams
) -> Transition:
    observation, moved, reward, terminated, _ = env.step_env(noise.key, state, action, level)
    beginning = env.reset_env(noise.key, level) if noise.first is None else noise.first
    return _with_reset(env, level, (observation, moved), reward, terminated, beginning)


def _with_reset(
    env: Environment,
    level: EnvParams,
    after: tuple[Any, Any],
    reward: Array,
    terminated: Array,
    beginning: tuple[Any, Any],
) -> Transition:
    truncated = env.is_truncated(after[1], level)
    over = terminated | truncated
    observation, state = jax.tree.map(functools.partial(jnp.where, over), beginning, after)
    return Transition(
        observation=observation,
        state=state,
        reward=jnp.asarray(reward, jnp.float32),
        terminated=terminated,
        truncated=truncated,
        next_observation=after[0],
    )
