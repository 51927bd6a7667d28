"""Random keys that depend on numbers, never on how many others there are."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key


def keys_of(key: Key[Array, ""], numbers: int | Int[Array, " C"]) -> Key[Array, " C"]:
    """One key per number, a function of `key` and that number alone.

    Args:
        key: where they come from.
        numbers: of lanes, levels, groups …; an int means all below it.
    """
    if isinstance(numbers, int):
        numbers = jnp.arange(numbers)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, numbers)
