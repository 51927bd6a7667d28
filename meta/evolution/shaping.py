"""Fitness shaping: from fitness to the weights of an evolution strategy. Higher is better."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def pair_ranks(fitness: Float[Array, "P 2"]) -> Float[Array, "P 2"]:
    """1 for the better member of each antithetic pair, 0 for the other, 0.5 each for a tie.

    The comparison is on one level with the same random numbers, so that the scale of a level's returns does
    not matter. A member whose fitness is not finite loses to one whose fitness is.
    """
    comparable = jnp.where(jnp.isfinite(fitness), fitness, -jnp.inf)
    other = comparable[:, ::-1]
    return jnp.where(comparable == other, 0.5, (comparable > other).astype(jnp.float32))


def centred_ranks(fitness: Float[Array, "groups size"]) -> Float[Array, "groups size"]:
    """Ranks of all candidates in [-0.5, 0.5], after normalising per level; ties share their mean rank.

    Each group shares a level: its mean is subtracted, and the rest divided by its standard deviation. A
    candidate whose fitness is not finite comes last.
    """
    finite = jnp.isfinite(fitness)
    count = jnp.maximum(jnp.sum(finite, axis=1, keepdims=True), 1)
    # Count from the smallest: the mean of equal numbers differs from them by rounding (six times 100.3 has
    # the mean 100.30001), and the difference would get a rank of its own.
    lowest = jnp.min(jnp.where(finite, fitness, jnp.inf), axis=1, keepdims=True)
    above = jnp.where(finite, fitness - lowest, 0.0)
    mean = jnp.sum(above, axis=1, keepdims=True) / count
    deviation = jnp.where(finite, above - mean, 0.0)
    spread = jnp.sqrt(jnp.sum(deviation**2, axis=1, keepdims=True) / count)
    normalised = jnp.where(finite, deviation / (spread + 1e-8), -jnp.inf).ravel()
    below = jnp.sum(normalised[None, :] < normalised[:, None], axis=1)
    equal = jnp.sum(normalised[None, :] == normalised[:, None], axis=1)
    rank = below + (equal - 1) / 2
    return (rank / (normalised.size - 1) - 0.5).reshape(fitness.shape).astype(jnp.float32)
