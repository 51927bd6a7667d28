"""Checks an environment before agents are trained on it: its outputs must agree with its spaces.

`make_learner` calls this, so that training, evaluation and meta-training refuse the same environments with
the same message. `reset` and `step` are traced, not run. Only environments that tabular agents observe take
some random steps, because table lookups do not check their index.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from rl_discovery.discovery.agents.spaces import (
    InvalidEnvironmentError,
    Space,
    action_space,
    is_discrete,
    name_of,
    observation_space,
    one_line,
)
from rl_discovery.discovery.learning import vector_env

STEP_RESULTS = "observation, state, reward, terminated, truncated, info"

CHECK_WORKERS, CHECK_STEPS = 8, 32
"""Random steps of which `check_table` checks the observations."""


def check_environment(env: Any, level: Any) -> None:
    """Refuses environments on which agents cannot be trained.

    Args:
        env: any environment that follows gymnax 1.0.
        level: its parameters; zeros if only their shapes are known.

    Raises:
        InvalidEnvironmentError: the environment does not follow gymnax 1.0, or its own spaces.
    """
    name = name_of(env)
    observations, actions = observation_space(env, level), action_space(env, level)
    _check_static(name, env)
    _check_arrays(name, level)
    key = jax.eval_shape(lambda: jax.random.key(0))
    first = _traced(name, "reset(key, level)", env.reset, key, level)
    observation, state = _unpacked(name, "reset", first, "observation, state")
    _check_observation(f"{name}: reset", observation, observations)
    action = jax.ShapeDtypeStruct(actions.shape, jnp.int32 if is_discrete(actions) else jnp.float32)
    moved = _traced(name, "step(key, state, action, level)", env.step, key, state, action, level)
    following, new_state, reward, terminated, truncated, info = _unpacked(name, "step", moved, STEP_RESULTS)
    _check_observation(f"{name}: step", following, observations)
    if _kinds(new_state) != _kinds(state):
        raise InvalidEnvironmentError(f"{name}: step returns another kind of state than it was given")
    _check_number(f"{name}: reward", reward, "a real number", jnp.floating, jnp.integer, jnp.bool_)
    _check_number(f"{name}: terminated", terminated, "True or False", jnp.bool_)
    _check_number(f"{name}: truncated", truncated, "True or False", jnp.bool_)
    if not isinstance(info, dict) or "final_observation" not in info:
        raise InvalidEnvironmentError(
            f"{name}: step's info has no 'final_observation', what an agent would see but for the reset"
        )
    _check_observation(f"{name}: info['final_observation']", info["final_observation"], observations)


def looks_up_tables(env: Any, level: Any) -> bool:
    """Whether `check_table` has anything to check.

    It takes seconds, so environments driven by uniform numbers, which are those of this project, are trusted.
    """
    return is_discrete(observation_space(env, level)) and not vector_env.is_noise_driven(env)


def check_table(env: Any, level: Any) -> None:
    """Refuses `Discrete` observations outside their space, if some random steps show any.

    Args:
        env: an environment that passed `check_environment`.
        level: a level that can be played.

    Raises:
        InvalidEnvironmentError: an observation was outside of the space.
    """
    if not looks_up_tables(env, level):
        return
    space = observation_space(env, level)
    low, high = (int(end) for end in _extremes(env, level))
    if low < 0 or high >= space.n:
        raise InvalidEnvironmentError(
            f"{name_of(env)}: observation {low if low < 0 else high} is outside of {space}"
        )


# Optimisation by XLA would take most of the time.
@functools.partial(jax.jit, static_argnums=0, compiler_options={"xla_backend_optimization_level": 0})
def _extremes(env: Any, level: Any) -> tuple[jax.Array, jax.Array]:
    """The smallest and largest observation of some random steps."""
    key = jax.random.key(0)
    sample = jax.vmap(jax.vmap(action_space(env, level).sample))
    actions = sample(jax.random.split(key, (CHECK_STEPS, CHECK_WORKERS)))
    noise = vector_env.draw(env, key, level, CHECK_STEPS, CHECK_WORKERS)
    first, states = vector_env.reset(env, key, level, CHECK_WORKERS)

    def advance(states: Any, now: Any) -> tuple[Any, Any]:
        moved = vector_env.step(env, now[0], states, now[1], level)
        return moved.state, (moved.observation, moved.next_observation)

    _, seen = jax.lax.scan(advance, states, (noise, actions))
    everything = jnp.concatenate([first, *(each.reshape(-1) for each in seen)])
    return everything.min(), everything.max()


def _check_static(name: str, env: Any) -> None:
    try:
        hash(env)
    except TypeError:
        raise InvalidEnvironmentError(
            f"{name} cannot be hashed, as compiled functions need it: "
            "a dataclass needs eq=False, or frozen=True and fields that can be hashed"
        ) from None


def _check_arrays(name: str, level: Any) -> None:
    try:
        jax.eval_shape(lambda level: level, level)
    except TypeError:
        raise InvalidEnvironmentError(
            f"{name}: the level, a {type(level).__name__}, is no pytree of arrays: "
            "derive it from gymnax's EnvParams with @flax.struct.dataclass"
        ) from None


def _traced(name: str, what: str, function: Any, *arguments: Any) -> Any:
    try:
        return jax.eval_shape(function, *arguments)
    except Exception as error:  # whatever somebody's code raises
        raise InvalidEnvironmentError(f"{name}: {what} fails under jit: {one_line(error)}") from error


def _unpacked(name: str, method: str, result: Any, expected: str) -> tuple[Any, ...]:
    wanted = expected.count(",") + 1
    if not isinstance(result, tuple) or len(result) != wanted:
        returned = len(result) if isinstance(result, tuple) else f"a {type(result).__name__}"
        older = "; rl_discovery.envs.FiveValues wraps environments of gymnax 0.x" if returned == 5 else ""
        raise InvalidEnvironmentError(
            f"{name}: {method} returns {returned}, not the {wanted} of gymnax 1.0: {expected}{older}"
        )
    return result


def _check_observation(whose: str, observation: Any, space: Space) -> None:
    if not isinstance(observation, jax.ShapeDtypeStruct):
        raise InvalidEnvironmentError(f"{whose} observes a {type(observation).__name__}, not one array")
    shape = tuple(space.shape)
    kinds = (jnp.integer,) if is_discrete(space) else (jnp.floating, jnp.integer, jnp.bool_)
    if observation.shape != shape or not _is_any(observation, kinds):
        raise InvalidEnvironmentError(f"{whose} observes {_described(observation)}, its space is {space}")


def _check_number(whose: str, value: Any, expected: str, *kinds: Any) -> None:
    if not isinstance(value, jax.ShapeDtypeStruct) or value.shape or not _is_any(value, kinds):
        raise InvalidEnvironmentError(f"{whose} is {_described(value)}, not {expected} of shape ()")


def _is_any(value: jax.ShapeDtypeStruct, kinds: tuple[Any, ...]) -> bool:
    return any(jnp.issubdtype(value.dtype, kind) for kind in kinds)


def _described(value: Any) -> str:
    if isinstance(value, jax.ShapeDtypeStruct):
        return f"{value.dtype.name} of shape {value.shape}"
    return f"a {type(value).__name__}"


def _kinds(state: Any) -> Any:
    leaves, structure = jax.tree.flatten(state)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]
