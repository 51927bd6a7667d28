"""What learned drifts have in common: a ReLU around what is learned, beside PPO's drift or alone.

Lu et al. 2022 (LPO, arXiv 2210.05639). `lpo` learns a network, `closed_form` the coefficients of named terms.
"""

import dataclasses
from typing import Literal

import jax
from jaxtyping import Array, Float

from rl_discovery.discovery.objectives.bounds import SQUARES
from rl_discovery.discovery.objectives.mirror_learning import MirrorLearning
from rl_discovery.discovery.objectives.ppo import CLIPPED, clip_drift
from rl_discovery.discovery.ranges import NonNegativeFloat, PositiveFloat, PositiveInt
from rl_discovery.discovery.types import MetaParams, Progress

Form = Literal["plain", "ppo_residual"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearnedDrift(MirrorLearning):
    """A drift with meta-parameters; subclasses say what is inside the ReLU.

    Attributes:
        form: `plain`, or `ppo_residual`, which adds what is learned to PPO's drift: the published code's
            start from PPO.
        offset: xi, below which f is exactly 0 (LPO paper: 1e-4).
        clip: eps of PPO's drift in the residual form.
        longest_horizon: N_max, in agent updates, where the horizon is an input or there is a schedule.
    """

    ratio_power = SQUARES

    form: Form = "ppo_residual"
    offset: NonNegativeFloat = 1e-4
    clip: PositiveFloat = 0.2
    longest_horizon: PositiveInt = 10_000

    @property
    def begins_as(self) -> str | None:
        """The rule that it is before anything is learned; None where it is no drift at all."""
        return "ppo" if self.form == "ppo_residual" else None

    @property
    def _constants(self) -> tuple[str, ...]:
        return CLIPPED if self.form == "ppo_residual" else super()._constants

    def drift(
        self,
        meta_params: MetaParams,
        log_ratio: Float[Array, "*batch"],
        advantage: Float[Array, "*batch"],
        progress: Progress,
    ) -> Float[Array, "*batch"]:
        """`ReLU(g(x) - xi)`, or `ReLU(PPO's drift + g(x) - xi)`, g being `before_relu`."""
        learned = self.before_relu(meta_params, log_ratio, advantage, progress)
        if self.form == "ppo_residual":
            scales = self.scales(meta_params, progress)
            below, above = self.clip * scales.clip_below, self.clip * scales.clip_above
            learned = clip_drift(log_ratio, advantage, below, above) + learned
        return jax.nn.relu(learned - self.offset)

    def before_relu(
        self,
        meta_params: MetaParams,
        log_ratio: Float[Array, "*batch"],
        advantage: Float[Array, "*batch"],
        progress: Progress,
    ) -> Float[Array, "*batch"]:
        """g(x): 0 at r = 1, which `analyse` describes by a formula."""
        raise NotImplementedError
