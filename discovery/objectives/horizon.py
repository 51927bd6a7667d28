"""How a rule sees where a lifetime stands: n/N and log N, raw as in the papers or scaled.

Fed raw, log N (2.3 to 5.5 for horizons of 10 to 250) is most of what a perturbation does to a network's
gates. `scaled` brings both inputs to [-1, 1] over the lifetimes that were trained on. Jackson et al. 2024
(arXiv 2402.05828) have the raw inputs; which are used belongs to the rule and its card.
"""

import math
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from rl_discovery.discovery.types import Progress

Encoding = Literal["paper", "scaled"]

FURTHEST = 1.5
"""Scaled log N is held within this distance of the middle of the range trained on."""

ONE_HORIZON_WIDTH = math.log(10.0)
"""What counts as half of the range of log N where there is only one horizon."""


def scaled_progress(
    progress: Progress, shortest: int, longest: int
) -> tuple[Float[Array, "*lanes"], Float[Array, "*lanes"]]:
    """`u = 2 n/N - 1` and `v`, log N mapped from the range of horizons to [-1, 1] and held near it.

    Args:
        progress: n and N.
        shortest: smallest N trained on, in agent updates.
        longest: largest N trained on.
    """
    low, high = math.log(shortest), math.log(longest)
    half = (high - low) / 2 or ONE_HORIZON_WIDTH
    length = (progress.log_horizon - (low + high) / 2) / half
    return 2.0 * jnp.asarray(progress.fraction) - 1.0, jnp.clip(length, -FURTHEST, FURTHEST)


def furthest_horizons(shortest: int, longest: int) -> tuple[float, float]:
    """The horizons beyond which a rule with scaled inputs sees no difference."""
    low, high = math.log(shortest), math.log(longest)
    middle, half = (low + high) / 2, (high - low) / 2 or ONE_HORIZON_WIDTH
    return math.exp(middle - FURTHEST * half), math.exp(middle + FURTHEST * half)
