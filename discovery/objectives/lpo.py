"""LPO (Lu et al. 2022, arXiv 2210.05639) and its horizon-aware sibling TA-LPO (Jackson et al. 2024).

The drift of mirror learning as a small network, `f = ReLU(NN(x) - xi)`. Inputs are 0 at r = 1 and the
network has no biases, so that f and df/dr are 0 there whatever the meta-parameters.
"""

import dataclasses
import functools
import math
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Key

from rl_discovery.discovery.objectives.horizon import Encoding, scaled_progress
from rl_discovery.discovery.objectives.learned_drift import LearnedDrift
from rl_discovery.discovery.ranges import PositiveInt
from rl_discovery.discovery.types import MetaParams, Progress


class DriftNetwork(nn.Module):
    """One hidden layer of tanh units without biases; the output's weights are zeros at first.

    Were all of them zeros, antithetic pairs would be equal, as NN is even in its weights, and evolution
    would stay where it starts.
    """

    width: int

    @nn.compact
    def __call__(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch"]:
        """NN(x); 0 at x = 0."""
        layer = functools.partial(nn.Dense, use_bias=False)
        hidden = jnp.tanh(layer(self.width, name="hidden")(x))
        return layer(1, name="out", kernel_init=nn.initializers.zeros)(hidden)[..., 0]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LPO(LearnedDrift):
    """Learned policy optimisation.

    Attributes:
        width: hidden units (LPO paper: 128).
        progress_inputs: append n/N times every input: TA-LPO (Jackson et al. 2024); off: LPO.
        horizon_inputs: append log N / log N_max times every input, where the horizon varies.
        encoding: `paper`, as above, or `scaled`: n/N and log N both brought to [-1, 1] over the range trained
            on.
    """

    width: PositiveInt = 128
    progress_inputs: bool = False
    horizon_inputs: bool = False
    encoding: Encoding = "paper"

    @property
    def name(self) -> str:
        """`ta-lpo` or `lpo`."""
        return "ta-lpo" if self.uses_progress else "lpo"

    @property
    def uses_progress(self) -> bool:
        """Whether n and N are among the inputs, or there is a schedule."""
        return self.schedule or self.progress_inputs or self.horizon_inputs

    @property
    def inputs(self) -> tuple[str, ...]:
        """What the drift sees, for its card."""
        names = ("log r", "(log r)^2", "r-1", "(r-1)^2")
        seen = (*names, *(f"{name} A" for name in names))
        factors = [("n/N", self.progress_inputs), ("log N / log N_max", self.horizon_inputs)]
        return (*seen, *(f"{factor} ({name})" for factor, used in factors if used for name in seen))

    @property
    def network(self) -> DriftNetwork:
        """The flax module that the meta-parameters belong to."""
        return DriftNetwork(self.width)

    def init(self, key: Key[Array, ""]) -> MetaParams:
        """A network that gives 0: PPO in the residual form, no drift in the plain one."""
        return dict(self.network.init(key, jnp.zeros(len(self.inputs)))["params"]) | self.init_schedule()

    def before_relu(
        self,
        meta_params: MetaParams,
        log_ratio: Float[Array, "*batch"],
        advantage: Float[Array, "*batch"],
        progress: Progress,
    ) -> Float[Array, "*batch"]:
        """NN(x)."""
        x = self.features(log_ratio, advantage, progress)
        return self.network.apply({"params": meta_params}, x)  # type: ignore[return-value]

    def features(
        self, log_ratio: Float[Array, "*batch"], advantage: Float[Array, "*batch"], progress: Progress
    ) -> Float[Array, "*batch inputs"]:
        """x: all zero at r = 1."""
        step = jnp.expm1(log_ratio)
        of_ratio = jnp.stack([log_ratio, log_ratio**2, step, step**2], axis=-1)
        x = jnp.concatenate([of_ratio, of_ratio * advantage[..., None]], axis=-1)
        parts = [x]
        stage, length = self._stage(progress)
        if self.progress_inputs:
            parts.append(jnp.asarray(stage)[..., None] * x)
        if self.horizon_inputs:
            parts.append(jnp.asarray(length)[..., None] * x)
        return jnp.concatenate(parts, axis=-1)

    def _stage(self, progress: Progress) -> tuple[Float[Array, "*lanes"], Float[Array, "*lanes"]]:
        if self.encoding == "scaled":
            return scaled_progress(progress, self.shortest_horizon, self.longest_horizon)
        return progress.fraction, progress.log_horizon / math.log(self.longest_horizon)


def _temporally_aware(**settings: Any) -> LPO:
    """LPO that also sees n/N."""
    return LPO(**({"progress_inputs": True} | settings))


OBJECTIVES = {
    "lpo": (LPO, "learned policy optimisation, a learned drift (Lu et al. 2022)"),
    "ta-lpo": (_temporally_aware, "LPO that also sees n/N (Jackson et al. 2024)"),
}
