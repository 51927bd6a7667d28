"""Observation and action spaces: gymnax's `Discrete` and `Box`.

Gymnasium's spaces mean the same. They are recognised by their attributes, since we do not depend on
gymnasium.
"""

from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from gymnax.environments import spaces

Space: TypeAlias = spaces.Discrete | spaces.Box


class InvalidEnvironmentError(ValueError):
    """An environment or level on which no agent can be trained; the message is one line."""


def observation_space(env: Any, level: Any) -> Space:
    """The observation space.

    Raises:
        InvalidEnvironmentError: observations are neither integers from 0 nor one array.
    """
    return _space_of(env, level, "observation")


def action_space(env: Any, level: Any) -> Space:
    """The action space.

    Raises:
        InvalidEnvironmentError: actions are neither integers from 0 nor a vector of real numbers.
    """
    space = _space_of(env, level, "action")
    if isinstance(space, spaces.Box) and not jnp.issubdtype(space.dtype, jnp.floating):
        raise InvalidEnvironmentError(
            f"{name_of(env)}: actions are whole numbers in a Box, {space}: one of n actions is Discrete(n)"
        )
    return space


def name_of(env: Any) -> str:
    """The environment's `name`, or that of its class."""
    return str(getattr(env, "name", type(env).__name__))


def is_discrete(space: Any) -> bool:
    """Whether the space is `Discrete`."""
    return isinstance(space, spaces.Discrete)


def one_line(error: Exception) -> str:
    """Type and first line of an error."""
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _space_of(env: Any, level: Any, kind: str) -> Space:
    name = name_of(env)
    if level is None:
        raise InvalidEnvironmentError(
            f"{name}: the level is None: give its parameters, for instance env.default_params"
        )
    method = getattr(env, f"{kind}_space", None)
    if not callable(method):
        raise InvalidEnvironmentError(
            f"{name} has no method {kind}_space(level): environments follow gymnax 1.0"
        )
    try:
        space = method(level)
    except Exception as error:  # whatever somebody's code raises
        raise InvalidEnvironmentError(f"{name}: {kind}_space(level) fails: {one_line(error)}") from error
    return _as_gymnax(space, f"{name}: {kind}s")


def _as_gymnax(space: Any, whose: str) -> Space:
    if isinstance(space, spaces.Discrete | spaces.Box):
        return space
    shape = getattr(space, "shape", None)
    if hasattr(space, "n") and shape == ():
        start = int(getattr(space, "start", 0))
        if start:
            raise InvalidEnvironmentError(f"{whose} are numbered from {start}, {space}: number them from 0")
        return spaces.Discrete(int(space.n))
    if hasattr(space, "low") and hasattr(space, "high") and isinstance(shape, tuple):
        return spaces.Box(space.low, space.high, shape, jax.dtypes.canonicalize_dtype(space.dtype))
    raise InvalidEnvironmentError(
        f"{whose} are a {type(space).__name__}: agents take a Discrete or a Box, so make one array of them"
    )
