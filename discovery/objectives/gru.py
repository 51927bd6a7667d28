"""A gated recurrent unit that reads rollouts backwards in time: the memory of LPG's network."""

from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

Precision: TypeAlias = Literal["float32", "bfloat16"]

SLOW_WIDTHS = range(5, 16)
"""XLA's CPU compiler computes so many units one by one, but 16 at once (docs/performance.md)."""


class BackwardGRU(nn.Module):
    """Gated recurrent unit (Cho et al. 2014) that reads a rollout backwards in time.

    `r = s(x Wr + h Ur + br)`, `z = s(x Wz + h Uz + bz)`, `n = tanh(x Wn + bn + r * (h Un + cn))`,
    `h' = (1 - z) n + z h`, as flax's `GRUCell`, but with one matrix product for the three gates.
    """

    width: int  # G
    precision: Precision = "float32"  # of the operands of the recurrent product; the rest is float32

    @nn.compact
    def __call__(self, inputs: Float[Array, "T W F"], resets: Bool[Array, "T W"]) -> Float[Array, "T W G"]:
        """The state after each step; where `resets`, it is set to 0 before the step is read."""
        G = self.width
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (inputs.shape[-1], 3 * G), jnp.float32)
        recurrent = self.param("recurrent_kernel", _orthogonal_gates, (G, 3 * G), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (3 * G,), jnp.float32)
        candidate_bias = self.param("candidate_bias", nn.initializers.zeros, (G,), jnp.float32)
        # More units, with weights of 0, stay at 0.
        P = SLOW_WIDTHS.stop if G in SLOW_WIDTHS else G
        kernel, bias, candidate_bias = (_widen(x, G, P) for x in (kernel, bias, candidate_bias))
        recurrent = jnp.pad(_widen(recurrent, G, P), ((0, P - G), (0, 0)))
        wide = inputs.dtype  # float32; float64 in tests against finite differences
        dtype = wide if self.precision == "float32" else jnp.dtype(self.precision)
        recurrent = recurrent.astype(dtype)

        def cell(state, step):
            x, reset = step
            # Project the input here and not for all steps at once: the result stays in the cache.
            x = x @ kernel + bias
            state = jnp.where(reset[:, None], 0.0, state)
            h = jnp.matmul(state.astype(dtype), recurrent, preferred_element_type=wide)
            r = jax.nn.sigmoid(x[:, :P] + h[:, :P])
            z = jax.nn.sigmoid(x[:, P : 2 * P] + h[:, P : 2 * P])
            n = jnp.tanh(x[:, 2 * P :] + r * (h[:, 2 * P :] + candidate_bias))
            state = (1.0 - z) * n + z * state
            return state, state

        # With the projection inside, unrolling the scan makes it slower (docs/performance.md).
        _, states = jax.lax.scan(cell, jnp.zeros((inputs.shape[1], P), wide), (inputs, resets), reverse=True)
        return states[..., :G]


def _widen(weights: Float[Array, "*batch gates_G"], width: int, wider: int) -> Float[Array, "*batch gates_P"]:
    """Zeros after the columns of each gate."""
    gates = weights.reshape(*weights.shape[:-1], -1, width)
    padding = [(0, 0)] * (gates.ndim - 1) + [(0, wider - width)]
    return jnp.pad(gates, padding).reshape(*weights.shape[:-1], -1)


def _orthogonal_gates(key: Array, shape: tuple[int, int], dtype: jnp.dtype = jnp.float32) -> Array:
    keys = jax.random.split(key, 3)
    orthogonal = nn.initializers.orthogonal()
    return jnp.concatenate([orthogonal(k, (shape[0], shape[0]), dtype) for k in keys], axis=1)
