"""A drift in closed form: a sum of a few named terms of r, A and the progress.

Lu et al. 2022 (arXiv 2210.05639, section 5) derived DPO from LPO by hand; here a regression chooses the terms
(`evaluation.analysis.closed_form`). Every term is 0 at r = 1, so that `f = ReLU(sum_k c_k b_k - xi)` meets
the conditions of mirror learning whatever the coefficients.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from rl_discovery.discovery.objectives.lpo import LearnedDrift
from rl_discovery.discovery.types import MetaParams, Progress

Factor = Callable[[Array, Array], Array]

POLYNOMIAL: Mapping[str, Factor] = {
    "log r": lambda log_ratio, advantage: log_ratio,
    "(log r)^2": lambda log_ratio, advantage: log_ratio**2,
    "(r-1)": lambda log_ratio, advantage: jnp.expm1(log_ratio),
    "(r-1)^2": lambda log_ratio, advantage: jnp.expm1(log_ratio) ** 2,
}
"""First factors of a term that grow with the ratio, functions of log r and A: LPO's inputs."""

SATURATING: Mapping[str, Factor] = {
    "tanh(log r)": lambda log_ratio, advantage: jnp.tanh(log_ratio),
    "tanh(log r)^2": lambda log_ratio, advantage: jnp.tanh(log_ratio) ** 2,
    "tanh(2 log r)": lambda log_ratio, advantage: jnp.tanh(2 * log_ratio),
    "tanh(2 log r)^2": lambda log_ratio, advantage: jnp.tanh(2 * log_ratio) ** 2,
    "tanh(A log r)": lambda log_ratio, advantage: jnp.tanh(advantage * log_ratio),
    "tanh(A log r)^2": lambda log_ratio, advantage: jnp.tanh(advantage * log_ratio) ** 2,
    "tanh(A (r-1))": lambda log_ratio, advantage: jnp.tanh(advantage * jnp.expm1(log_ratio)),
}
"""First factors that saturate, like LPO's hidden units and DPO. All are smooth, and 0 at r = 1."""

RATIO: Mapping[str, Factor] = {**POLYNOMIAL, **SATURATING}

ADVANTAGE: Mapping[str, Callable[[Array], Array]] = {
    "": jnp.ones_like,
    "A": lambda advantage: advantage,
    "|A|": jnp.abs,
    "A^2": jnp.square,
}
"""Second factor."""

PROGRESS = ("", "n/N", "log N / log N_max")
"""Third factor."""

BASIS: Mapping[str, tuple[str, str, str]] = {
    " ".join(filter(None, factors)): factors for factors in itertools.product(RATIO, ADVANTAGE, PROGRESS)
}
"""Every term by name, such as "(log r)^2 |A| n/N", with its factors."""

LINEAR = tuple(
    " ".join(filter(None, factors))
    for factors in itertools.product(POLYNOMIAL, tuple(ADVANTAGE)[:2], PROGRESS[:2])
)
"""The 16 inputs of TA-LPO."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClosedFormDrift(LearnedDrift):
    """A readable drift, `ReLU(sum_k c_k b_k - xi)`; PPO's drift may be added as in LPO.

    The meta-parameters are the coefficients, which start at zero. The default terms are the inputs of
    TA-LPO, which makes it TA-LPO without the hidden layer.

    Attributes:
        terms: names of the b_k, from `BASIS`.

    Raises:
        ValueError: no terms, one that is not in the basis, or one twice.
    """

    terms: tuple[str, ...] = LINEAR

    name = "closed-form-drift"

    def __post_init__(self) -> None:
        object.__setattr__(self, "terms", tuple(self.terms))  # a card has lists, which cannot be hashed
        if not self.terms:
            raise ValueError("terms must not be empty")
        if unknown := [term for term in self.terms if term not in BASIS]:
            raise ValueError(f"terms must be of the basis, and {unknown[0]!r} is not")
        if len(set(self.terms)) < len(self.terms):
            raise ValueError("terms must differ from each other")
        if self.longest_horizon < 2:
            raise ValueError(f"longest_horizon must be at least 2, not {self.longest_horizon}")

    @property
    def uses_progress(self) -> bool:
        """Whether any term has n/N or log N, or there is a schedule."""
        return self.schedule or any(BASIS[term][2] for term in self.terms)

    @property
    def horizon_inputs(self) -> bool:
        """Whether any term has log N."""
        return any(BASIS[term][2] == PROGRESS[2] for term in self.terms)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The terms, as an objective's card lists them."""
        return self.terms

    def with_range_of(self, new: "ClosedFormDrift", meta_params: MetaParams) -> MetaParams:
        """As for every rule with a schedule."""
        changed = dict(super().with_range_of(new, meta_params))
        slope = math.log(new.longest_horizon) / math.log(self.longest_horizon)
        factors = [slope if BASIS[term][2] == PROGRESS[2] else 1.0 for term in self.terms]
        return changed | {"coefficients": changed["coefficients"] * jnp.asarray(factors)}

    def init(self, key: Key[Array, ""]) -> MetaParams:
        """Zeros: PPO in the residual form, no drift in the plain one."""
        del key
        return {"coefficients": jnp.zeros(len(self.terms), jnp.float32)} | self.init_schedule()

    def before_relu(
        self,
        meta_params: MetaParams,
        log_ratio: Float[Array, "*batch"],
        advantage: Float[Array, "*batch"],
        progress: Progress,
    ) -> Float[Array, "*batch"]:
        """`sum_k c_k b_k`."""
        values = evaluate_terms(self.terms, log_ratio, advantage, progress, self.longest_horizon)
        return jnp.sum(meta_params["coefficients"] * values, axis=-1)


def evaluate_terms(
    terms: tuple[str, ...],
    log_ratio: Float[Array, "*batch"],
    advantage: Float[Array, "*batch"],
    progress: Progress,
    longest_horizon: int,
) -> Float[Array, "*batch terms"]:
    """The values of terms by name; all 0 at r = 1."""
    length = progress.log_horizon / math.log(longest_horizon)
    stages: tuple[Any, ...] = (1.0, progress.fraction, length)
    of_progress = dict(zip(PROGRESS, stages, strict=True))
    values = []
    for term in terms:
        ratio, weight, stage = BASIS[term]
        product = RATIO[ratio](log_ratio, advantage) * ADVANTAGE[weight](advantage)
        values.append(product * of_progress[stage])
    return jnp.stack(values, axis=-1)


OBJECTIVES = {
    "closed-form-drift": (
        ClosedFormDrift,
        "a drift that is a sum of named terms, such as `analyse` fits to a learned one",
    ),
}
