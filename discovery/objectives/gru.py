"""A GRU that reads a rollout backwards in time: the core of LPG, and where its time goes."""

from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

Precision: TypeAlias = Literal["float32", "bfloat16"]


class BackwardGRU(nn.Module):
    """Gated recurrent unit (Cho et al. 2014) over reversed time.

    `r = s(x Wr + h Ur + br)`, `z = s(x Wz + h Uz + bz)`, `n = tanh(x Wn + bn + r * (h Un + cn))`,
    `h' = (1 - z) n + z h`, as flax's `GRUCell`. The three gates are one product each for input and
    state.

    Attributes:
        width: G.
        precision: number format of the operands of the recurrent product; sums and state stay float32.
    """

    width: int
    precision: Precision = "float32"

    @nn.compact
    def __call__(self, inputs: Float[Array, "T W F"], resets: Bool[Array, "T W"]) -> Float[Array, "T W G"]:
        """The state after consuming each step.

        Args:
            inputs: features per step.
            resets: True where the state is set to 0 before it consumes that step, which keeps an
                episode from hearing of the one that followed it.

        Returns:
            The state at every step, last step computed first.
        """
        G = self.width
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (inputs.shape[-1], 3 * G), jnp.float32)
        recurrent = self.param("recurrent_kernel", _orthogonal_gates, (G, 3 * G), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (3 * G,), jnp.float32)
        candidate_bias = self.param("candidate_bias", nn.initializers.zeros, (G,), jnp.float32)
        wide = inputs.dtype  # float32; float64 in tests against finite differences
        dtype = wide if self.precision == "float32" else jnp.dtype(self.precision)
        recurrent = recurrent.astype(dtype)

        def cell(state, step):
            x, reset = step
            # Projected here, not for all steps at once: the result then never leaves the cache.
            x = x @ kernel + bias
            state = jnp.where(reset[:, None], 0.0, state)
            h = jnp.matmul(state.astype(dtype), recurrent, preferred_element_type=wide)
            r = jax.nn.sigmoid(x[:, :G] + h[:, :G])
            z = jax.nn.sigmoid(x[:, G : 2 * G] + h[:, G : 2 * G])
            n = jnp.tanh(x[:, 2 * G :] + r * (h[:, 2 * G :] + candidate_bias))
            state = (1.0 - z) * n + z * state
            return state, state

        first = jnp.zeros((inputs.shape[1], G), wide)
        # Not unrolled: with the projection inside, that costs time (docs/performance.md).
        _, states = jax.lax.scan(cell, first, (inputs, resets), reverse=True)
        return states


def _orthogonal_gates(key: Array, shape: tuple[int, int], dtype: jnp.dtype = jnp.float32) -> Array:
    """Three orthogonal matrices side by side."""
    keys = jax.random.split(key, 3)
    orthogonal = nn.initializers.orthogonal()
    return jnp.concatenate([orthogonal(k, (shape[0], shape[0]), dtype) for k in keys], axis=1)
