"""Agent networks in flax: a policy and a second head, as lookup tables, MLPs or small CNNs.

Policy and head are separate networks with the parameter names `policy` and `head`, since the papers train
them with different learning rates; or one `body` with two last layers. All take observations of any leading
shape.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, Key, Shaped

from rl_discovery.discovery.agents.policies import DiagonalGaussian, Policy
from rl_discovery.discovery.agents.spaces import is_discrete
from rl_discovery.discovery.types import Outputs

Activation = Literal["relu", "tanh"]
ACTIVATIONS: dict[Activation, Callable[[Array], Array]] = {"relu": nn.relu, "tanh": jnp.tanh}


def orthogonal(scale: float) -> nn.initializers.Initializer:
    """flax's orthogonal initialiser, one lane after the other.

    LAPACK decomposes a batch of matrices with one thread pool for all host devices, and two devices deadlock
    (jaxlib 0.10.2).
    """
    initialiser = nn.initializers.orthogonal(scale)

    def init(key: Key[Array, ""], shape: tuple[int, ...], dtype: Any = jnp.float32, **_: Any) -> Array:
        return jax.custom_batching.sequential_vmap(lambda key: initialiser(key, shape, dtype))(key)

    return init


ORTHOGONAL = orthogonal(math.sqrt(2))


class MakeBody(Protocol):
    """Makes one of an agent's networks."""

    def __call__(self, outputs: int | None, last_scale: float, zeros: int = 0) -> nn.Module:
        """A network whose last layer has `outputs` and this initial scale, or no last layer for None.

        The weights of the first `zeros` outputs start at 0.
        """
        ...


class Table(nn.Module):
    """A lookup table: one row of outputs per state, which starts at zero."""

    states: int
    outputs: int

    @nn.compact
    def __call__(self, observation: Int[Array, "*batch"]) -> Float[Array, "*batch outputs"]:
        """The rows of the observed states."""
        rows = self.param("rows", nn.initializers.zeros, (self.states, self.outputs))
        # States are in range; clipping them would cost a pass over the indices.
        return rows.at[observation].get(mode="promise_in_bounds")


class MLP(nn.Module):
    """Dense layers with orthogonal weights on the flattened observation.

    Attributes:
        hidden: widths of the hidden layers.
        activation: after each of them.
        dims: axes of one observation.
        outputs: of the linear last layer; None for no last layer.
        last_scale: initial scale of its weights.
        zeros: so many first outputs have weights of 0 instead.
    """

    hidden: tuple[int, ...]
    activation: Activation
    dims: int
    outputs: int | None
    last_scale: float
    zeros: int = 0

    @nn.compact
    def __call__(self, observation: Shaped[Array, "*batch_and_dims"]) -> Float[Array, "*batch outputs"]:
        """Outputs for observations with `dims` axes."""
        x = observation.reshape(*observation.shape[: observation.ndim - self.dims], -1).astype(jnp.float32)
        for width in self.hidden:
            x = ACTIVATIONS[self.activation](nn.Dense(width, kernel_init=ORTHOGONAL)(x))
        return x if self.outputs is None else last_layer(self.outputs, self.last_scale, self.zeros)(x)


class CNN(nn.Module):
    """One 3x3 convolution of 16 channels, then an MLP, for stacks of planes (height, width, planes)."""

    hidden: tuple[int, ...]
    activation: Activation
    outputs: int | None
    last_scale: float
    zeros: int = 0

    @nn.compact
    def __call__(self, observation: Shaped[Array, "*batch H W C"]) -> Float[Array, "*batch outputs"]:
        """Outputs for observations with three axes."""
        lead = observation.shape[:-3]
        x = observation.reshape(-1, *observation.shape[-3:]).astype(jnp.float32)
        x = ACTIVATIONS[self.activation](nn.Conv(16, (3, 3), kernel_init=ORTHOGONAL)(x))
        x = x.reshape(*lead, *x.shape[1:])
        return MLP(self.hidden, self.activation, 3, self.outputs, self.last_scale, self.zeros)(x)


def last_layer(outputs: int, scale: float, zeros: int = 0) -> nn.Dense:
    """A linear layer with orthogonal weights; those of the first `zeros` outputs are 0."""
    initialiser = orthogonal(scale)

    def init(key: Key[Array, ""], shape: tuple[int, ...], dtype: Any = jnp.float32, **_: Any) -> Array:
        rest = initialiser(key, (shape[0], shape[1] - zeros), dtype)
        return jnp.pad(rest, ((0, 0), (zeros, 0)))

    return nn.Dense(outputs, kernel_init=init if zeros else initialiser)


class AgentNetwork(nn.Module):
    """A policy and a second head, with separate bodies or a shared one.

    The policy's last layer starts at zero, which makes the first policy uniform or a standard normal. The
    first `zero_outputs` of the second head start at 0.
    """

    make_body: MakeBody
    distribution: Policy
    head_size: int
    shared: bool = False
    zero_outputs: int = 0

    def setup(self) -> None:
        """Makes the bodies and last layers."""
        if self.shared:
            self.body = self.make_body(None, 0.0)
        last = last_layer if self.shared else self.make_body
        if isinstance(self.distribution, DiagonalGaussian):
            dimensions = self.distribution.dimensions
            self.policy: nn.Module = MeanAndDeviation(last(dimensions, 0.0), dimensions)
        else:
            self.policy = last(self.distribution.size, 0.0)
        self.head = last(self.head_size, 1.0, self.zero_outputs)

    def __call__(self, observation: Array) -> Outputs:
        """Parameters of the policy, and the second head."""
        x = self.body(observation) if self.shared else observation
        return Outputs(self.policy(x), self.head(x), self.distribution)


class MeanAndDeviation(nn.Module):
    """Means from a network, and log standard deviations that do not depend on the state, 0 at first (PPO)."""

    mean: nn.Module
    dimensions: int

    @nn.compact
    def __call__(self, observation: Array) -> Float[Array, "*batch D"]:
        """Means, then log standard deviations."""
        mean = self.mean(observation)
        log_std = self.param("log_std", nn.initializers.zeros, (self.dimensions,))
        return jnp.concatenate([mean, jnp.broadcast_to(log_std, mean.shape)], axis=-1)


@dataclasses.dataclass(frozen=True)
class Observations:
    """What a network needs to know of an observation space.

    Attributes:
        shape: of one observation.
        dtype: its name.
        states: S, if observations are the integers below S, else None.
    """

    shape: tuple[int, ...]
    dtype: str
    states: int | None = None

    @classmethod
    def of(cls, space: Any) -> "Observations":
        """From a space of gymnax."""
        states = int(space.n) if is_discrete(space) else None
        return cls(tuple(space.shape), jnp.dtype(space.dtype).name, states)

    def example(self) -> Array:
        """One observation, to initialise a network with."""
        return jnp.zeros(self.shape, self.dtype)


def table_body(observations: Observations, hidden: tuple[int, ...], activation: Activation) -> MakeBody:
    """Lookup tables for integer observations."""
    del hidden, activation
    states = observations.states
    if states is None:
        raise ValueError(
            f"a tabular agent needs integer observations (Discrete), not {observations.dtype} arrays "
            f"of shape {observations.shape}: use network='mlp'"
        )

    def make(outputs: int | None, last_scale: float, zeros: int = 0) -> nn.Module:
        del last_scale, zeros  # all rows start at zero
        assert outputs is not None, "tables share nothing"
        return Table(states, outputs)

    return make


def mlp_body(observations: Observations, hidden: tuple[int, ...], activation: Activation) -> MakeBody:
    """MLPs; integer observations are one-hot encoded."""
    states = observations.states
    if states is not None:
        return lambda *last: OneHot(states, MLP(hidden, activation, 1, *last))
    return lambda *last: MLP(hidden, activation, len(observations.shape), *last)


def cnn_body(observations: Observations, hidden: tuple[int, ...], activation: Activation) -> MakeBody:
    """CNNs for observations of shape (height, width, planes)."""
    if len(observations.shape) != 3:
        raise ValueError("a CNN agent needs observations of shape (height, width, planes): use network='mlp'")
    return lambda *last: CNN(hidden, activation, *last)


class OneHot(nn.Module):
    """Encodes integers as one-hot vectors before `inner`."""

    size: int
    inner: nn.Module

    def __call__(self, observation: Int[Array, "*batch"]) -> Array:
        """Outputs of `inner` for one-hot vectors."""
        return self.inner(jax.nn.one_hot(observation, self.size))


NETWORKS: dict[str, Callable[[Observations, tuple[int, ...], Activation], MakeBody]] = {
    "tabular": table_body,
    "mlp": mlp_body,
    "cnn": cnn_body,
}
