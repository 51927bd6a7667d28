"""Hand-written drifts: PPO's clip, DPO, and no drift (A2C in PPO's loop)."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rl_discovery.discovery.objectives.mirror_learning import MirrorLearning
from rl_discovery.discovery.ranges import PositiveFloat
from rl_discovery.discovery.types import MetaParams, Progress

CLIPPED = ("step_size", "entropy", "clip_below", "clip_above")
"""Constants that a schedule changes in rules that clip the ratio."""


@dataclasses.dataclass(frozen=True)
class PPO(MirrorLearning):
    """Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347, equation 7).

    `r A - ReLU((r - clip(r, 1 - eps, 1 + eps)) A)` is the clipped surrogate `min(r A, clip(r) A)`.

    Attributes:
        clip: eps (PPO: 0.2).
    """

    clip: PositiveFloat = 0.2

    @property
    def name(self) -> str:
        """`ta-ppo` with a schedule, else `ppo`."""
        return "ta-ppo" if self.schedule else "ppo"

    @property
    def begins_as(self) -> str:
        """PPO: a schedule of zeros changes nothing."""
        return "ppo"

    @property
    def _constants(self) -> tuple[str, ...]:
        return CLIPPED

    def drift(
        self,
        meta_params: MetaParams,
        log_ratio: Float[Array, "*batch"],
        advantage: Float[Array, "*batch"],
        progress: Progress,
    ) -> Float[Array, "*batch"]:
        """The part of r A that the clip removes."""
        scales = self.scales(meta_params, progress)
        return clip_drift(log_ratio, advantage, self.clip * scales.clip_below, self.clip * scales.clip_above)


@dataclasses.dataclass(frozen=True)
class DPO(MirrorLearning):
    """Discovered policy optimisation (Lu et al. 2022, arXiv 2210.05639, equation 8).

    Its authors derived this closed form from a learned drift.

    Attributes:
        alpha: scale for positive advantages (DPO: 2).
        beta: scale for negative advantages (DPO: 0.6).
    """

    alpha: PositiveFloat = 2.0
    beta: PositiveFloat = 0.6

    name = "dpo"

    def drift(
        self,
        meta_params: MetaParams,
        log_ratio: Float[Array, "*batch"],
        advantage: Float[Array, "*batch"],
        progress: Progress,
    ) -> Float[Array, "*batch"]:
        """Equation 8, a case for each sign of A."""
        del meta_params, progress
        rise, fall = jnp.expm1(log_ratio) * advantage, log_ratio * advantage
        above = jax.nn.relu(rise - self.alpha * jnp.tanh(rise / self.alpha))
        below = jax.nn.relu(fall - self.beta * jnp.tanh(fall / self.beta))
        return jnp.where(advantage >= 0, above, below)


@dataclasses.dataclass(frozen=True)
class NoDrift(MirrorLearning):
    """A2C in PPO's loop: f = 0, so nothing keeps the policy close to the old one."""

    name = "no-drift"

    def drift(
        self,
        meta_params: MetaParams,
        log_ratio: Float[Array, "*batch"],
        advantage: Float[Array, "*batch"],
        progress: Progress,
    ) -> Float[Array, "*batch"]:
        """Zero."""
        del meta_params, advantage, progress
        return jnp.zeros_like(log_ratio)


def clip_drift(
    log_ratio: Float[Array, "*batch"],
    advantage: Float[Array, "*batch"],
    below: Float[Array, "*batch"] | float,
    above: Float[Array, "*batch"] | float,
) -> Float[Array, "*batch"]:
    """PPO's drift, `ReLU((r - clip(r, 1 - below, 1 + above)) A)`; PPO has the same eps on both sides."""
    ratio = jnp.exp(log_ratio)
    return jax.nn.relu((ratio - jnp.clip(ratio, 1.0 - below, 1.0 + above)) * advantage)


def _temporally_aware(**settings: Any) -> PPO:
    return PPO(**({"schedule": True} | settings))


OBJECTIVES = {
    "ppo": (PPO, "proximal policy optimisation (Schulman et al. 2017)"),
    "ta-ppo": (
        _temporally_aware,
        "PPO with a learned schedule of step size, entropy bonus and clip over n/N and N",
    ),
    "dpo": (DPO, "discovered policy optimisation, LPO in closed form (Lu et al. 2022)"),
    "no-drift": (NoDrift, "A2C in PPO's loop: no drift at all"),
}
