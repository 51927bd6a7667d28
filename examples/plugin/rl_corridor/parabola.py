"""A quadratic drift: a penalty on the squared distance of the ratio from 1."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from rl_discovery.discovery.objectives.mirror_learning import MirrorLearning
from rl_discovery.discovery.objectives.registry import Entry
from rl_discovery.discovery.types import MetaParams, Progress


@dataclasses.dataclass(frozen=True)
class Parabola(MirrorLearning):
    """`f = c (r - 1)^2 |A|`: 0 and flat at r = 1, and never negative.

    Attributes:
        scale: c.
    """

    scale: float = 2.0

    name = "parabola"

    def drift(
        self,
        meta_params: MetaParams,
        log_ratio: Float[Array, "*batch"],
        advantage: Float[Array, "*batch"],
        progress: Progress,
    ) -> Float[Array, "*batch"]:
        """f, elementwise."""
        del meta_params, progress
        return self.scale * jnp.expm1(log_ratio) ** 2 * jnp.abs(advantage)


@dataclasses.dataclass(frozen=True)
class LearnedParabola(Parabola):
    """A parabola with a learned scale for each sign of the advantage: two meta-parameters."""

    name = "learned-parabola"

    def init(self, key: Key[Array, ""]) -> MetaParams:
        """Log-scales for negative and positive advantages, both from `scale`."""
        del key
        return {"log_scales": jnp.full(2, jnp.log(self.scale))}

    def drift(
        self,
        meta_params: MetaParams,
        log_ratio: Float[Array, "*batch"],
        advantage: Float[Array, "*batch"],
        progress: Progress,
    ) -> Float[Array, "*batch"]:
        """f, elementwise; scales are exponentials, so that it is never negative."""
        del progress
        fall, rise = jnp.exp(meta_params["log_scales"])
        scale = jnp.where(advantage >= 0, rise, fall)
        return scale * jnp.expm1(log_ratio) ** 2 * jnp.abs(advantage)


PARABOLA = Entry("PPO's loop with a quadratic drift", Parabola)
LEARNED_PARABOLA = Entry("a quadratic drift whose two scales are learned", LearnedParabola)
