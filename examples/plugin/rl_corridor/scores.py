"""Regret relative to the returns, so that levels with large returns do not come first."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from rl_discovery.meta.curriculum import LaneOutcome, Score


def relative_regret(outcome: LaneOutcome) -> Float[Array, ""]:
    """Regret as a share of what both agents reach."""
    mine, theirs = jnp.mean(outcome.returns), outcome.reference_return
    return (theirs - mine) / (jnp.abs(theirs) + jnp.abs(mine) + 0.1)


RELATIVE_REGRET = Score("regret as a share of both returns", relative_regret, reference="antagonist")
