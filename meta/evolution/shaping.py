"""Fitness shaping: from returns to the weights that an evolution strategy sees. Higher is better."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def pair_ranks(fitness: Float[Array, "P 2"]) -> Float[Array, "P 2"]:
    """1 for the better member of each antithetic pair, 0 for the other, 0.5 each for a tie.

    Comparing within a pair, on the same level with the same random numbers, makes levels of
    different return scales count alike. A member whose fitness is not finite loses to one whose is.
    """
    comparable = jnp.where(jnp.isfinite(fitness), fitness, -jnp.inf)
    other = comparable[:, ::-1]
    return jnp.where(comparable == other, 0.5, (comparable > other).astype(jnp.float32))


def centred_ranks(fitness: Float[Array, "groups size"]) -> Float[Array, "groups size"]:
    """Ranks of all candidates in [-0.5, 0.5] after normalising per level; ties share their mean rank.

    Candidates of a group met the same level: subtracting its mean and dividing by its standard
    deviation removes the level's scale. A candidate whose fitness is not finite comes last.
    """
    finite = jnp.isfinite(fitness)
    count = jnp.maximum(jnp.sum(finite, axis=1, keepdims=True), 1)
    mean = jnp.sum(jnp.where(finite, fitness, 0.0), axis=1, keepdims=True) / count
    deviation = jnp.where(finite, fitness - mean, 0.0)
    spread = jnp.sqrt(jnp.sum(deviation**2, axis=1, keepdims=True) / count)
    normalised = jnp.where(finite, deviation / (spread + 1e-8), -jnp.inf).ravel()
    below = jnp.sum(normalised[None, :] < normalised[:, None], axis=1)
    equal = jnp.sum(normalised[None, :] == normalised[:, None], axis=1)
    rank = below + (equal - 1) / 2
    return (rank / (normalised.size - 1) - 0.5).reshape(fitness.shape).astype(jnp.float32)
