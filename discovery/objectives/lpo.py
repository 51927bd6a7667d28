"""Learned drifts: LPO (Lu et al. 2022, arXiv 2210.05639) and TA-LPO (Jackson et al. 2024).

`LearnedDrift` is a ReLU around a learned function, alone or on top of PPO's drift; `closed_form` has another
subclass. LPO's function is a small network, `f = ReLU(NN(x) - xi)`. Its inputs are 0 at r = 1 and it has no
biases, so that f and df/dr are 0 there whatever the meta-parameters.
"""

import dataclasses
import functools
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Key

from rl_discovery.discovery.objectives.bounds import SQUARES
from rl_discovery.discovery.objectives.mirror_learning import MirrorLearning
from rl_discovery.discovery.objectives.ppo import CLIPPED, clip_drift
from rl_discovery.discovery.objectives.schedule import Encoding, change_of_range, scaled_progress
from rl_discovery.discovery.ranges import NonNegativeFloat, PositiveFloat, PositiveInt
from rl_discovery.discovery.types import MetaParams, Progress

Form = Literal["plain", "ppo_residual"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearnedDrift(MirrorLearning):
    """A drift `ReLU(g(x) - xi)` with meta-parameters; subclasses define g as `before_relu`.

    Attributes:
        form: `plain`, or `ppo_residual`, which adds g to PPO's drift and so starts from PPO, as the published
            code does.
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
        """PPO in the residual form; the plain form starts without a drift, which has no name here."""
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
        """`ReLU(g(x) - xi)`, or in the residual form `ReLU(PPO's drift + g(x) - xi)`."""
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
        """g(x), which must be 0 at r = 1. `analyse` fits a formula to it."""
        raise NotImplementedError


class DriftNetwork(nn.Module):
    """One hidden layer of tanh units without biases; only the output's weights start at zero.

    NN is even in its weights: from zeros in both layers, the members of an antithetic pair would be equal,
    and evolution would never leave its start.
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
        encoding: `paper`, as above, or `scaled`: n/N and log N mapped to [-1, 1] over the horizons
            trained on (ours).
    """

    width: PositiveInt = 128
    progress_inputs: bool = False
    horizon_inputs: bool = False
    encoding: Encoding = "paper"

    def __post_init__(self) -> None:
        if self.horizon_inputs and self.encoding == "paper" and self.longest_horizon < 2:
            raise ValueError(f"longest_horizon must be at least 2, not {self.longest_horizon}")

    @property
    def name(self) -> str:
        """`ta-lpo` or `lpo`."""
        return "ta-lpo" if self.uses_progress else "lpo"

    @property
    def uses_progress(self) -> bool:
        """Whether n and N are among the inputs, or there is a schedule."""
        return self.schedule or self.progress_inputs or self.horizon_inputs

    @property
    def ratio_inputs(self) -> tuple[str, ...]:
        """Inputs without progress."""
        names = ("log r", "(log r)^2", "r-1", "(r-1)^2")
        return (*names, *(f"{name} A" for name in names))

    @property
    def inputs(self) -> tuple[str, ...]:
        """Inputs of the network, as an objective's card lists them."""
        seen = self.ratio_inputs
        factors = [("n/N", self.progress_inputs), ("log N / log N_max", self.horizon_inputs)]
        return (*seen, *(f"{factor} ({name})" for factor, used in factors if used for name in seen))

    @property
    def network(self) -> DriftNetwork:
        """The flax module that the meta-parameters belong to."""
        return DriftNetwork(self.width)

    def init(self, key: Key[Array, ""]) -> MetaParams:
        """A network whose output is 0: PPO in the residual form, no drift in the plain one."""
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
        """x, all zeros at r = 1."""
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

    def with_range_of(self, new: "LPO", meta_params: MetaParams) -> MetaParams:
        """As for every rule with a schedule."""
        changed = dict(super().with_range_of(new, meta_params))
        if self.horizon_inputs:
            slope, offset = math.log(new.longest_horizon) / math.log(self.longest_horizon), 0.0
            if self.encoding == "scaled":
                slope, offset = change_of_range(self, new)
            kernel, count = changed["hidden"]["kernel"], len(self.ratio_inputs)
            of_length = kernel[-count:]
            kernel = kernel.at[:count].add(offset * of_length).at[-count:].set(slope * of_length)
            changed["hidden"] = {"kernel": kernel}
        return changed

    def _stage(self, progress: Progress) -> tuple[Float[Array, "*lanes"], Float[Array, "*lanes"]]:
        if self.encoding == "scaled":
            return scaled_progress(progress, self.shortest_horizon, self.longest_horizon)
        return progress.fraction, progress.log_horizon / math.log(self.longest_horizon)


def _temporally_aware(**settings: Any) -> LPO:
    return LPO(**({"progress_inputs": True} | settings))


OBJECTIVES = {
    "lpo": (LPO, "learned policy optimisation, a learned drift (Lu et al. 2022)"),
    "ta-lpo": (_temporally_aware, "LPO that also sees n/N (Jackson et al. 2024)"),
}
