"""How rules depend on the progress of a lifetime: scaled inputs n/N and log N, and learned schedules.

A rule with a schedule multiplies its step size, entropy bonus, clip and 1 - gamma by
`exp(W [1, u, v, u^2, u v])`, where u and v are n/N and log N, scaled; v^2 may be added. At W = 0 it is the
rule itself. W has ten to thirty numbers, which people can read, plot and copy into a loop of their own.
"""

import dataclasses
import math
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from rl_discovery.discovery.objectives.base import Objective
from rl_discovery.discovery.ranges import PositiveInt
from rl_discovery.discovery.types import MetaParams, Progress

Encoding = Literal["paper", "scaled"]
"""How a rule reads n/N and log N: raw, as in Jackson et al. 2024 (arXiv 2402.05828), or `scaled_progress`.

Raw log N (2.3 to 5.5 for horizons of 10 to 250) dominates what a perturbation does to a network's gates.
"""

FURTHEST = 1.5
"""Clip of the scaled log N."""

ONE_HORIZON_WIDTH = math.log(10.0)
"""Half the range of log N where all horizons are equal."""


def scaled_progress(
    progress: Progress, shortest: int, longest: int
) -> tuple[Float[Array, "*lanes"], Float[Array, "*lanes"]]:
    """`u = 2 n/N - 1`, and v: log N, mapped from the horizons trained on to [-1, 1] and clipped.

    Args:
        progress: n and N.
        shortest: smallest N trained on, in agent updates.
        longest: largest N trained on.
    """
    middle, half = scaled_interval(shortest, longest)
    length = (progress.log_horizon - middle) / half
    return 2.0 * jnp.asarray(progress.fraction) - 1.0, jnp.clip(length, -FURTHEST, FURTHEST)


def scaled_interval(shortest: int, longest: int) -> tuple[float, float]:
    """Middle and half the width of the range of log N that is mapped to [-1, 1]."""
    low, high = math.log(shortest), math.log(longest)
    return (low + high) / 2, (high - low) / 2 or ONE_HORIZON_WIDTH


def change_of_range(old: "Scheduled", new: "Scheduled") -> tuple[float, float]:
    """Slope and offset of the old scaled log N as a function of the new one, where neither is clipped."""
    (was, half_was), (middle, half) = (
        scaled_interval(rule.shortest_horizon, rule.longest_horizon) for rule in (old, new)
    )
    return half / half_was, (middle - was) / half_was


def furthest_horizons(shortest: int, longest: int) -> tuple[float, float]:
    """The horizons at which the scaled log N is clipped."""
    middle, half = scaled_interval(shortest, longest)
    return math.exp(middle - FURTHEST * half), math.exp(middle + FURTHEST * half)


FEATURES = ("1", "u", "v", "u^2", "u v")
"""Features of the linear map."""

SQUARE = "v^2"
"""A feature that a rule may have besides."""

LARGEST_LOG = 5.0
"""Factors are clipped to [exp(-5), exp(5)]."""


class Scales(NamedTuple):
    """Factors on a rule's constants at one point of a lifetime; 1 is the rule itself.

    Attributes:
        step_size: on the optimiser's step (with Adam a scaled loss would change nothing).
        entropy: on the weight of the entropy bonus.
        clip_below: on eps of the ratio's lower bound 1 - eps.
        clip_above: on eps of its upper bound 1 + eps.
        one_minus_gamma: on 1 - gamma, which is kept within [0, 1].
    """

    step_size: Float[Array, "*lanes"] | float = 1.0
    entropy: Float[Array, "*lanes"] | float = 1.0
    clip_below: Float[Array, "*lanes"] | float = 1.0
    clip_above: Float[Array, "*lanes"] | float = 1.0
    one_minus_gamma: Float[Array, "*lanes"] | float = 1.0

    def discount(self, gamma: float) -> Float[Array, "*lanes"] | float:
        """gamma, with its distance from 1 multiplied."""
        if isinstance(self.one_minus_gamma, float) and self.one_minus_gamma == 1.0:
            return gamma
        return jnp.clip(1.0 - self.one_minus_gamma * (1.0 - gamma), 0.0, 1.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scheduled(Objective):
    """A rule that may carry a schedule.

    Attributes:
        schedule: learn how the rule's constants change with n/N and N, by a linear map of them (ours).
        schedule_discount: let the schedule bend gamma too.
        schedule_v_squared: give it v^2 too, so that the shortest and the longest lifetimes may both differ
            from those between.
        shortest_horizon: smallest N trained on, in agent updates.
        longest_horizon: largest N trained on.
    """

    schedule: bool = False
    schedule_discount: bool = False
    schedule_v_squared: bool = False
    shortest_horizon: PositiveInt = 10
    longest_horizon: PositiveInt = 250

    @property
    def encoding(self) -> Encoding:
        """How the rule's own inputs encode n/N and log N, if it has such inputs."""
        return "paper"

    @property
    def uses_progress(self) -> bool:
        """Whether there is a schedule."""
        return self.schedule

    @property
    def scheduled(self) -> tuple[str, ...]:
        """Fields of `Scales` that the schedule sets; none without a schedule."""
        if not self.schedule:
            return ()
        return (*self._constants, *(("one_minus_gamma",) if self.schedule_discount else ()))

    @property
    def schedule_features(self) -> tuple[str, ...]:
        """What the schedule is a linear map of."""
        return (*FEATURES, *((SQUARE,) if self.schedule_v_squared else ()))

    @property
    def scales_horizon(self) -> bool:
        """Whether the rule reads the scaled log N."""
        return self.schedule or (self.horizon_inputs and self.encoding == "scaled")

    @property
    def _constants(self) -> tuple[str, ...]:
        return ("step_size", "entropy")

    def init_schedule(self) -> dict[str, Any]:
        """Meta-parameters of the schedule, all zeros; an empty dict without one."""
        if not self.schedule:
            return {}
        return {"schedule": jnp.zeros((len(self.schedule_features), len(self.scheduled)), jnp.float32)}

    def with_range_of(self, new: Any, meta_params: MetaParams) -> MetaParams:
        """Meta-parameters with which `new`, this rule with another range of N, does what this one does.

        Exact for horizons at which neither rule clips the scaled log N.
        """
        if not self.schedule:
            return meta_params
        slope, offset = change_of_range(self, new)
        one, u, v, u_squared, product, *rest = meta_params["schedule"]
        rows = [one + offset * v, u + offset * product, slope * v, u_squared, slope * product]
        for v_squared in rest:
            rows[0] += offset**2 * v_squared
            rows[2] += 2 * slope * offset * v_squared
            rows.append(slope**2 * v_squared)
        return dict(meta_params) | {"schedule": jnp.stack(rows)}

    def scales(self, meta_params: MetaParams, progress: Progress) -> Scales:
        """The factors at this point of the lifetime; all 1 without a schedule."""
        if not self.schedule:
            return Scales()
        u, v = scaled_progress(progress, self.shortest_horizon, self.longest_horizon)
        u, v = jnp.broadcast_arrays(u, v)
        values = [jnp.ones_like(u), u, v, u * u, u * v, v * v]
        features = jnp.stack(values[: len(self.schedule_features)], axis=-1)
        logs = jnp.clip(features @ meta_params["schedule"], -LARGEST_LOG, LARGEST_LOG)
        factors = jnp.exp(logs)
        return Scales(**{name: factors[..., i] for i, name in enumerate(self.scheduled)})

    def step_scale(self, meta_params: MetaParams, progress: Progress) -> Float[Array, ""] | None:
        """The schedule's factor on the optimiser's step; None without a schedule."""
        return jnp.asarray(self.scales(meta_params, progress).step_size) if self.schedule else None
