"""Smaller steps for any strategy: what it does, in coordinates that are shrunk around its mean.

Candidates are drawn nearer to the mean and the mean moves less far, both by the same factor, which is what
half the sigma and half the learning rate are for OpenAI-ES. Strategies that adapt their scale go on doing so
from there. `meta.evolve` uses it where `held_out.on_divergence` is reduce.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from rl_discovery.discovery.types import MetaParams
from rl_discovery.meta.evolution.base import Candidates, Strategy


@struct.dataclass
class NearerCandidates:
    """A strategy's candidates at `scale` times their distance from `mean`."""

    candidates: Candidates
    mean: MetaParams
    scale: Float[Array, ""]

    def member(self, group: Int[Array, ""], member: Int[Array, ""]) -> MetaParams:
        """The meta-parameters of one candidate."""
        far = self.candidates.member(group, member)
        return jax.tree.map(lambda mean, x: _between(mean, x, self.scale), self.mean, far)


def scale_perturbations(
    strategy: Strategy, state: Any, candidates: Candidates, scale: Float[Array, ""] | None
) -> Candidates:
    """The candidates of `state`, nearer to its mean; themselves without a scale."""
    return candidates if scale is None else NearerCandidates(candidates, strategy.mean(state), scale)


def scale_step(before: Any, after: Any, scale: Float[Array, ""] | None) -> Any:
    """A strategy's state `after` telling, its mean moved by `scale` of the way; itself without a scale."""
    if scale is None:
        return after
    return after.replace(mean=_between(before.mean, after.mean, scale))


def _between(start: Array, end: Array, scale: Float[Array, ""]) -> Array:
    """The point at `scale` of the way; at 1 the end itself, without rounding."""
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
