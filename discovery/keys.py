"""Random keys by number, independent of how many there are."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key


def keys_of(key: Key[Array, ""], numbers: int | Int[Array, " C"]) -> Key[Array, " C"]:
    """One key per number, a function of `key` and that number alone.

    Args:
        key: of all of them.
        numbers: of lanes, levels, groups ...; an int stands for all numbers below it.
    """
    if isinstance(numbers, int):
        numbers = jnp.arange(numbers)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, numbers)
