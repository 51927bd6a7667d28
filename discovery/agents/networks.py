"""Agent networks in flax: a policy and a second head, as lookup tables, MLPs or small CNNs.

Policy and head are separate networks under the parameter names `policy` and `head`, because the
papers train them with learning rates of their own. All act on observations of any leading shape.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from gymnax.environments import spaces
from jaxtyping import Array, Float, Int, Shaped

from discovery.types import Outputs


class Table(nn.Module):
    """One row of outputs per state, all zeros at first: the gradient of a gather is a scatter-add."""

    states: int
    outputs: int

    @nn.compact
    def __call__(self, observation: Int[Array, "*batch"]) -> Float[Array, "*batch outputs"]:
        """The rows of the observed states."""
        rows = self.param("rows", nn.initializers.zeros, (self.states, self.outputs))
        # States are in range by construction; clipping them would cost a pass over the indices.
        return rows.at[observation].get(mode="promise_in_bounds")


class MLP(nn.Module):
    """ReLU layers with orthogonal weights on the flattened observation; `last_scale` for the output."""

    hidden: tuple[int, ...]
    outputs: int
    dims: int
    last_scale: float

    @nn.compact
    def __call__(self, observation: Shaped[Array, "*batch_and_dims"]) -> Float[Array, "*batch outputs"]:
        """Outputs of observations with `dims` axes of their own."""
        x = observation.reshape(*observation.shape[: observation.ndim - self.dims], -1).astype(jnp.float32)
        for width in self.hidden:
            x = nn.relu(nn.Dense(width, kernel_init=nn.initializers.orthogonal(math.sqrt(2)))(x))
        return nn.Dense(self.outputs, kernel_init=nn.initializers.orthogonal(self.last_scale))(x)


class CNN(nn.Module):
    """One 3x3 convolution of 16 channels, then an MLP, for stacks of planes (height, width, planes)."""

    hidden: tuple[int, ...]
    outputs: int
    last_scale: float

    @nn.compact
    def __call__(self, observation: Shaped[Array, "*batch H W C"]) -> Float[Array, "*batch outputs"]:
        """Outputs of observations with three axes of their own."""
        lead = observation.shape[:-3]
        x = observation.reshape(-1, *observation.shape[-3:]).astype(jnp.float32)
        x = nn.relu(nn.Conv(16, (3, 3), kernel_init=nn.initializers.orthogonal(math.sqrt(2)))(x))
        x = x.reshape(*lead, *x.shape[1:])
        return MLP(self.hidden, self.outputs, 3, self.last_scale)(x)


class AgentNetwork(nn.Module):
    """A policy and a second head that share nothing."""

    body: Callable[..., nn.Module]
    actions: int
    head_size: int

    def setup(self) -> None:
        """Two bodies of the same kind; a last layer of zeros makes the first policy uniform."""
        self.policy = self.body(outputs=self.actions, last_scale=0.0)
        self.head = self.body(outputs=self.head_size, last_scale=1.0)

    def __call__(self, observation: Array) -> Outputs:
        """Action logits and the second head."""
        return Outputs(logits=self.policy(observation), head=self.head(observation))


def table_body(space: Any, hidden: tuple[int, ...]) -> Callable[..., nn.Module]:
    """Lookup tables for integer observations."""
    del hidden
    if not isinstance(space, spaces.Discrete):
        raise ValueError("a tabular agent needs an environment with integer observations: use network='mlp'")

    def make(outputs: int, last_scale: float) -> nn.Module:
        del last_scale
        return Table(space.n, outputs)

    return make


def mlp_body(space: Any, hidden: tuple[int, ...]) -> Callable[..., nn.Module]:
    """MLPs; integer observations are one-hot encoded."""
    if isinstance(space, spaces.Discrete):
        return lambda outputs, last_scale: OneHot(space.n, MLP(hidden, outputs, 1, last_scale))
    return lambda outputs, last_scale: MLP(hidden, outputs, len(space.shape), last_scale)


def cnn_body(space: Any, hidden: tuple[int, ...]) -> Callable[..., nn.Module]:
    """CNNs for observations of shape (height, width, planes)."""
    if len(space.shape) != 3:
        raise ValueError("a CNN agent needs observations of shape (height, width, planes): use network='mlp'")
    return lambda outputs, last_scale: CNN(hidden, outputs, last_scale)


class OneHot(nn.Module):
    """Encodes integers as one-hot vectors before `inner`."""

    size: int
    inner: nn.Module

    def __call__(self, observation: Int[Array, "*batch"]) -> Array:
        """Outputs of `inner`."""
        return self.inner(jax.nn.one_hot(observation, self.size))


NETWORKS: dict[str, Callable[[Any, tuple[int, ...]], Callable[..., nn.Module]]] = {
    "tabular": table_body,
    "mlp": mlp_body,
    "cnn": cnn_body,
}
