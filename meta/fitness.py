"""Fitness: what evolution selects for, a function of one agent's lifetime. Higher is better."""

from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from rl_discovery.discovery.registry import Registry
from rl_discovery.meta.scale import Scale


@struct.dataclass
class Lifetime:
    """The lifetime of an agent, as a fitness sees it.

    Attributes:
        returns: undiscounted return of one whole episode per worker, of the final agent.
        reward_per_step: mean reward of all environment steps of the lifetime; 0 if no fitness reads it.
        scale: of the level; None if no fitness reads it.
    """

    returns: Float[Array, " W"]
    reward_per_step: Float[Array, ""]
    scale: Scale | None = None


@dataclass(frozen=True)
class Fitness:
    """A registered fitness.

    Attributes:
        description: one line for `rl-discovery list fitness`.
        function: from a lifetime to its fitness.
        reads_rewards: whether `Lifetime.reward_per_step` is read.
        reads_scale: whether `Lifetime.scale` is read. Then no levels without a scale are served.
    """

    description: str
    function: Callable[[Lifetime], Float[Array, ""]]
    reads_rewards: bool = False
    reads_scale: bool = False


def final_return(lifetime: Lifetime) -> Float[Array, ""]:
    """Mean undiscounted return of the final agent (Jackson et al. 2024)."""
    return jnp.mean(lifetime.returns)


def normalised_return(lifetime: Lifetime) -> Float[Array, ""]:
    """`(mean_w R_w - R_random) / (R_optimal - R_random)`; 0 for every agent on a level without a scale."""
    assert lifetime.scale is not None, "normalised_return reads the level's scale"
    return lifetime.scale.score(jnp.mean(lifetime.returns))


def area_under_curve(lifetime: Lifetime) -> Float[Array, ""]:
    """Mean reward per environment step over the whole lifetime, which favours agents that learn early."""
    return lifetime.reward_per_step


FITNESS = Registry(
    "fitness",
    "fitness",
    Fitness,
    {
        "final_return": Fitness("mean return of the agent at the end of its lifetime", final_return),
        "normalised_return": Fitness(
            "final return on a scale from 0 (random policy) to 1 (best policy), by exact planning",
            normalised_return,
            reads_scale=True,
        ),
        "area_under_curve": Fitness(
            "mean reward per step over the whole lifetime", area_under_curve, reads_rewards=True
        ),
    },
)
