"""Generalised advantage estimation (Schulman et al. 2016, arXiv 1506.02438, equation 16)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rl_discovery.discovery.types import Rollout


def advantages(
    rollout: Rollout,
    values: Float[Array, "T W"],
    next_values: Float[Array, "T W"],
    discount: float | Float[Array, ""],
    gae_lambda: float,
) -> Float[Array, "T W"]:
    """Exponentially weighted sums of temporal-difference errors.

    A terminated step has no next value; a truncated one is bootstrapped from `next_values`, the
    value of the observation before the reset. Sums never cross the end of an episode.

    Args:
        rollout: T steps of W workers.
        values: V(s_t).
        next_values: V(s_{t+1}) before any reset.
        discount: gamma.
        gae_lambda: lambda; 0 is one-step, 1 is the full return.

    Returns:
        Advantages, not normalised.
    """
    errors = rollout.reward + discount * next_values * ~rollout.terminated - values
    decay = discount * gae_lambda * ~rollout.done

    def accumulate(following, step):
        error, decay = step
        total = error + decay * following
        return total, total

    _, result = jax.lax.scan(accumulate, jnp.zeros_like(errors[0]), (errors, decay), reverse=True)
    return result


def normalise(x: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Zero mean and unit standard deviation over the whole batch."""
    return (x - jnp.mean(x)) / (jnp.std(x) + 1e-8)


SMALLEST_VARIANCE = 1e-12
"""A smaller variance counts as rounding of equal numbers."""


def deviation(x: Float[Array, "*batch"]) -> Float[Array, ""]:
    """Standard deviation over the whole batch, or 1 if all are equal, so that its gradient is finite."""
    variance = jnp.var(x)
    varies = variance > SMALLEST_VARIANCE
    return jnp.where(varies, jnp.sqrt(jnp.where(varies, variance, 1.0)), 1.0)
