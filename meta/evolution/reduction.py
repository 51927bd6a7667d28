"""Smaller steps for any strategy, for `held_out.on_divergence` reduce.

Candidates are drawn closer to the mean and the mean moves less, both by the same factor. For OpenAI-ES this
equals a smaller sigma and learning rate; strategies that adapt their scale continue from there.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from rl_discovery.discovery.types import MetaParams
from rl_discovery.meta.evolution.base import Candidates, Strategy


@struct.dataclass
class ScaledCandidates:
    """A strategy's candidates at `scale` times their distance from `mean`."""

    candidates: Candidates
    mean: MetaParams
    scale: Float[Array, ""]

    def member(self, group: Int[Array, ""], member: Int[Array, ""]) -> MetaParams:
        """The meta-parameters of one candidate."""
        candidate = self.candidates.member(group, member)
        return jax.tree.map(lambda mean, x: _between(mean, x, self.scale), self.mean, candidate)


def scale_perturbations(
    strategy: Strategy, state: Any, candidates: Candidates, scale: Float[Array, ""] | None
) -> Candidates:
    """The candidates, closer to the mean of `state` by the factor `scale`, if there is one."""
    return candidates if scale is None else ScaledCandidates(candidates, strategy.mean(state), scale)


def scale_step(before: Any, after: Any, scale: Float[Array, ""] | None) -> Any:
    """The state `after` an update, its mean moved by `scale` times the update, if there is a scale."""
    if scale is None:
        return after
    return after.replace(mean=_between(before.mean, after.mean, scale))


def _between(start: Array, end: Array, scale: Float[Array, ""]) -> Array:
    # Exactly `end` at a scale of 1, without rounding.
    return jnp.where(scale == 1, end, start + scale * (end - start))


def check_reducible(strategy: Strategy, solution: MetaParams) -> None:
    """Refuses strategies whose mean cannot be moved from outside.

    Raises:
        ValueError: its state is no `flax.struct.dataclass` with an array `mean`.
    """
    state = jax.eval_shape(strategy.init, solution)
    if not (hasattr(state, "replace") and hasattr(getattr(state, "mean", None), "shape")):
        raise ValueError(
            "held_out.on_divergence reduce needs a strategy whose state has a field `mean`: "
            "choose warn or stop, or another es.strategy"
        )
