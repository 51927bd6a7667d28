"""How far ratios and advantages go before a drift's arithmetic leaves the numbers there are.

`exp(log r)` overflows where a policy has moved by e^88 in float32, and its square and its gradient sooner:
then a loss is inf - inf, and all of an agent NaN. Within the bounds these functions change nothing.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

LINEAR, SQUARES = 0.75, 0.25
"""`power` below, for drifts that take r itself, and (r-1)^2: they leave room for A, A^2 and weights.
float32: r up to 2e29 and 4e9."""


def in_float32(x: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Numbers of 16 bits as ones of 32, whose gradient comes back at most as large as 16 bits can say."""
    return _widened(x) if jnp.finfo(x.dtype).bits < 32 else x


@jax.custom_vjp
def _widened(x: Array) -> Array:
    return x.astype(jnp.float32)


def _widened_forward(x: Array) -> tuple[Array, Array]:
    return _widened(x), jnp.zeros((), x.dtype)


def _widened_backward(like: Array, slope: Array) -> tuple[Array]:
    largest = _largest(like)
    return (jnp.clip(slope, -largest, largest).astype(like.dtype),)


_widened.defvjp(_widened_forward, _widened_backward)


def bounded_ratio(ratio: Float[Array, "*batch"], power: float) -> Float[Array, "*batch"]:
    """r where 1/r and `r^(1 / power)` are finite numbers of its type; beyond, held constant."""
    largest = _largest(ratio)
    return jnp.clip(ratio, largest**-0.5, largest**power)


def bounded_log_ratio(log_ratio: Float[Array, "*batch"], power: float) -> Float[Array, "*batch"]:
    """log r where `r^(1 / power)` is a finite number of its type; beyond, held constant."""
    largest = _largest(log_ratio)
    return jnp.clip(log_ratio, -(largest**0.25), power * math.log(largest))


def bounded_advantage(advantage: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """A where its products with a bounded ratio are finite. float32: 5e7 either way."""
    largest = _largest(advantage) ** 0.2
    return jnp.clip(advantage, -largest, largest)


def _largest(x: Any) -> float:
    return float(jnp.finfo(x.dtype).max)
