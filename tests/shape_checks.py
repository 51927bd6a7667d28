"""What `conftest` has jaxtyping's import hook check: the shapes in the signatures of functions.

Only shapes, because mypy checks the types. Constructors are left out: JAX rebuilds the dataclasses of
this project with whatever leaves it has at hand (batched ones inside vmap, numpy arrays, placeholders),
so that the shapes of their fields hold where a function takes one apart, not where one is made. As
everywhere in JAX, an array may be numpy's.
"""

import functools
import inspect
import operator
import types
import typing
from collections.abc import Callable
from typing import Any

import jax
import jaxtyping
import numpy as np
from beartype import beartype

ArrayLike = jax.Array | np.ndarray | np.generic


def functions(function: Callable[..., Any]) -> Callable[..., Any]:
    """beartype for the arrays among the arguments and results of everything that is not a constructor."""
    if function.__name__ == "__init__":
        return function
    function.__annotations__ = {name: _shapes(hint) for name, hint in function.__annotations__.items()}
    return beartype(function)


def _shapes(hint: Any) -> Any:
    """`Float[Array, "T W"]`, alone or in tuples, dicts and unions, with numpy let in; else anything."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is jax.Array:
        return ArrayLike
    if inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray):
        return hint.dtype[ArrayLike, hint.dim_str]
    if origin in (tuple, dict):
        return origin[tuple(_shapes(argument) for argument in arguments)]
    if origin in (typing.Union, types.UnionType):
        return functools.reduce(operator.or_, map(_shapes, arguments))
    return hint if hint in (..., types.NoneType, None) else Any
