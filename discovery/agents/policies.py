"""Distributions over actions, which the policy outputs of an agent network parametrise.

`policy_for` picks one for an action space: softmax for discrete actions, a diagonal Gaussian for boxes.
Sampling is a function of random numbers drawn in bulk beforehand. `Outputs` carries its policy, so that
objectives compute log-probabilities and entropies without knowing which it is.
"""

import dataclasses
import math
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import spaces
from jaxtyping import Array, Float, Int, Key, Num

from rl_discovery.discovery.agents.spaces import is_discrete

Bounds = Literal["clip", "tanh"]


class Policy(Protocol):
    """A family of distributions over actions; hashable, as the static part of `Outputs`."""

    @property
    def size(self) -> int:
        """D, parameters of one distribution."""
        ...

    def draw(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "..."]:
        """Random numbers for `sample`, for distributions of leading shape `shape`."""
        ...

    def sample(self, parameters: Float[Array, "*batch D"], draws: Float[Array, "..."]) -> Num[Array, "..."]:
        """Actions, from parameters and random numbers."""
        ...

    def log_prob(self, parameters: Float[Array, "*batch D"], action: Array) -> Float[Array, "*batch"]:
        """Log-probabilities (densities) of actions."""
        ...

    def entropy(self, parameters: Float[Array, "*batch D"]) -> Float[Array, "*batch"]:
        """Entropies, in nats."""
        ...

    def to_environment(self, action: Array) -> Array:
        """Actions in the range of the environment."""
        ...


@dataclasses.dataclass(frozen=True)
class Categorical:
    """Softmax over A discrete actions; parameters are the logits.

    Attributes:
        size: A.
    """

    size: int

    def draw(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "*batch"]:
        """One uniform number per action."""
        return jax.random.uniform(key, shape)

    def sample(
        self, parameters: Float[Array, "*batch A"], draws: Float[Array, "*batch"]
    ) -> Int[Array, "*batch"]:
        """Actions by inverse transform sampling."""
        weights = jnp.exp(parameters - jnp.max(parameters, axis=-1, keepdims=True))
        threshold = draws * jnp.sum(weights, axis=-1)
        below = jnp.cumsum(weights[..., :-1], axis=-1) <= threshold[..., None]
        return jnp.sum(below, axis=-1, dtype=jnp.int32)

    def log_prob(
        self, parameters: Float[Array, "*batch A"], action: Int[Array, "*batch"]
    ) -> Float[Array, "*batch"]:
        """log pi(a)."""
        # A comparison, not an index: the gradient of a gather is a scatter, which runs row by row.
        chosen = action[..., None] == jnp.arange(self.size)
        return jnp.sum(jnp.where(chosen, jax.nn.log_softmax(parameters), 0.0), axis=-1)

    def entropy(self, parameters: Float[Array, "*batch A"]) -> Float[Array, "*batch"]:
        """-sum_a pi(a) log pi(a)."""
        log_policy = jax.nn.log_softmax(parameters)
        return -jnp.sum(jnp.exp(log_policy) * log_policy, axis=-1)

    def to_environment(self, action: Int[Array, "*batch"]) -> Int[Array, "*batch"]:
        """Discrete actions are passed on as they are."""
        return action


@dataclasses.dataclass(frozen=True)
class DiagonalGaussian:
    """Independent normal distributions; parameters are the means, then the log standard deviations.

    Actions are stored as sampled, and `bounds` maps them to the range of the environment. Log-probabilities
    are those
    of the sampled action: tanh's change of variables cancels in the ratio of two policies and has no
    gradient, so that neither mirror learning nor A2C depends on it. The entropy is that of the Gaussian, too.

    Attributes:
        low: of the action space, one number per component.
        high: likewise.
        bounds: `clip`, or `tanh`, which squashes to the range.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    bounds: Bounds = "clip"

    @property
    def dimensions(self) -> int:
        """Components of an action."""
        return len(self.low)

    @property
    def size(self) -> int:
        """Mean and log deviation of every component."""
        return 2 * self.dimensions

    def draw(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "*batch A"]:
        """One standard normal number per component."""
        return jax.random.normal(key, (*shape, self.dimensions))

    def sample(
        self, parameters: Float[Array, "*batch D"], draws: Float[Array, "*batch A"]
    ) -> Float[Array, "*batch A"]:
        """Mean plus standard deviation times the draws, not bounded."""
        mean, log_std = jnp.split(parameters, 2, axis=-1)
        return mean + jnp.exp(log_std) * draws

    def log_prob(
        self, parameters: Float[Array, "*batch D"], action: Float[Array, "*batch A"]
    ) -> Float[Array, "*batch"]:
        """Log-density of the sampled action."""
        mean, log_std = jnp.split(parameters, 2, axis=-1)
        error = (action - mean) * jnp.exp(-log_std)
        return jnp.sum(-0.5 * error**2 - log_std - 0.5 * math.log(2 * math.pi), axis=-1)

    def entropy(self, parameters: Float[Array, "*batch D"]) -> Float[Array, "*batch"]:
        """Entropy of the Gaussian, before bounds."""
        _, log_std = jnp.split(parameters, 2, axis=-1)
        return jnp.sum(log_std + 0.5 * math.log(2 * math.pi * math.e), axis=-1)

    def to_environment(self, action: Float[Array, "*batch A"]) -> Float[Array, "*batch A"]:
        """Actions clipped or squashed to the range."""
        low, high = jnp.asarray(self.low), jnp.asarray(self.high)
        if self.bounds == "clip":
            return jnp.clip(action, low, high)
        return low + (high - low) * (jnp.tanh(action) + 1) / 2


def policy_for(space: Any, bounds: Bounds = "clip") -> Categorical | DiagonalGaussian:
    """The policy for an action space.

    Args:
        space: `Discrete`, or a `Box` with one axis, of gymnax.
        bounds: how a Gaussian's actions are mapped to the box.

    Raises:
        ValueError: another kind of space, or an unbounded box.
    """
    if is_discrete(space):
        return Categorical(int(space.n))
    if not isinstance(space, spaces.Box) or len(space.shape) != 1:
        raise ValueError(f"no policy for actions in {space}: only discrete ones and vectors have one")
    low, high = (np.broadcast_to(np.asarray(end, float), space.shape) for end in (space.low, space.high))
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise ValueError("no policy for actions without bounds")
    return DiagonalGaussian(tuple(low.tolist()), tuple(high.tolist()), bounds)
