"""Fitness: what evolution selects for, judged from one agent's lifetime. Higher is better."""

from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from meta.errors import unknown_name


@struct.dataclass
class Lifetime:
    """What a fitness is computed from.

    Attributes:
        returns: undiscounted return of one whole episode per worker, of the final agent.
        reward_per_step: mean reward of all environment steps of the lifetime; 0 where no fitness reads it.
    """

    returns: Float[Array, " W"]
    reward_per_step: Float[Array, ""]


@dataclass(frozen=True)
class Fitness:
    """A registered fitness.

    Attributes:
        description: one line for `rl-discovery list fitness`.
        function: from a lifetime to its fitness.
        reads_rewards: whether `Lifetime.reward_per_step` is read.
    """

    description: str
    function: Callable[[Lifetime], Float[Array, ""]]
    reads_rewards: bool = False


def final_return(lifetime: Lifetime) -> Float[Array, ""]:
    """Mean undiscounted return of the final agent (Jackson et al. 2024)."""
    return jnp.mean(lifetime.returns)


def area_under_curve(lifetime: Lifetime) -> Float[Array, ""]:
    """Mean reward per environment step over the whole lifetime: agents that learn early are fitter."""
    return lifetime.reward_per_step


FITNESS: dict[str, Fitness] = {
    "final_return": Fitness("mean return of the agent at the end of its lifetime", final_return),
    "area_under_curve": Fitness(
        "mean reward per step over the whole lifetime", area_under_curve, reads_rewards=True
    ),
}


def find(name: str) -> Fitness:
    """A fitness by name.

    Raises:
        ConfigError: there is none; the message lists them.
    """
    if name not in FITNESS:
        raise unknown_name("fitness", name, FITNESS)
    return FITNESS[name]
