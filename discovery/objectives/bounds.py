"""Bounds on ratios and advantages, within which drifts do not overflow.

`exp(log r)` overflows in float32 where a policy has moved by e^88, its square and gradient sooner. Then the
loss is inf - inf, and the whole agent becomes NaN. Within the bounds these functions change nothing.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

LINEAR, SQUARES = 0.75, 0.25
"""`power` for drifts that use r itself, and (r-1)^2. They leave room for factors A, A^2 and weights; in
float32 r goes up to 2e29 and 4e9."""


def in_float32(x: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """16-bit numbers as float32; their gradient is clipped to the 16-bit range."""
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
    """r, clipped to where 1/r and `r^(1 / power)` are finite in its type."""
    largest = _largest(ratio)
    return jnp.clip(ratio, largest**-0.5, largest**power)


def bounded_log_ratio(log_ratio: Float[Array, "*batch"], power: float) -> Float[Array, "*batch"]:
    """log r, clipped to where `r^(1 / power)` is finite in its type."""
    largest = _largest(log_ratio)
    return jnp.clip(log_ratio, -(largest**0.25), power * math.log(largest))


def bounded_advantage(advantage: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """A, clipped to where its products with a bounded ratio are finite; float32: +-5e7."""
    largest = _largest(advantage) ** 0.2
    return jnp.clip(advantage, -largest, largest)


def _largest(x: Any) -> float:
    return float(jnp.finfo(x.dtype).max)
