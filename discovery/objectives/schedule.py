"""Schedules: how a rule's constants change over a lifetime, as a linear map that evolution can find.

A rule with a schedule multiplies its step size, its entropy bonus, the clip of its ratio and 1 - gamma by
`exp(W [1, u, v, u^2, u v])`, where u and v are n/N and log N, scaled (`horizon.scaled_progress`). At W = 0 it
is the rule itself. Ten to twenty numbers, which people can read, plot and paste into a loop of their own.
"""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from rl_discovery.discovery.objectives.base import Objective
from rl_discovery.discovery.objectives.horizon import Encoding, scaled_progress
from rl_discovery.discovery.ranges import PositiveInt
from rl_discovery.discovery.types import MetaParams, Progress

FEATURES = ("1", "u", "v", "u^2", "u v")
"""What a schedule is linear in."""

LARGEST_LOG = 5.0
"""Factors are held between exp(-5) and exp(5)."""


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
        """gamma with its distance from 1 scaled."""
        if isinstance(self.one_minus_gamma, float) and self.one_minus_gamma == 1.0:
            return gamma
        return jnp.clip(1.0 - self.one_minus_gamma * (1.0 - gamma), 0.0, 1.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scheduled(Objective):
    """A rule that may carry a schedule.

    Attributes:
        schedule: learn how the rule's constants change with n/N and N, by a linear map of them (ours).
        schedule_discount: let the schedule bend gamma too.
        shortest_horizon: smallest N trained on, in agent updates.
        longest_horizon: largest N trained on.
    """

    schedule: bool = False
    schedule_discount: bool = False
    shortest_horizon: PositiveInt = 10
    longest_horizon: PositiveInt = 250

    @property
    def encoding(self) -> Encoding:
        """How the rule itself reads n/N and log N, where it does."""
        return "paper"

    @property
    def uses_progress(self) -> bool:
        """Whether there is a schedule."""
        return self.schedule

    @property
    def scheduled(self) -> tuple[str, ...]:
        """Names of the factors that the schedule gives, fields of `Scales`; none without a schedule."""
        if not self.schedule:
            return ()
        return (*self._constants, *(("one_minus_gamma",) if self.schedule_discount else ()))

    @property
    def scales_horizon(self) -> bool:
        """Whether log N is seen as scaled to the range trained on, and held near it."""
        return self.schedule or (self.horizon_inputs and self.encoding == "scaled")

    @property
    def _constants(self) -> tuple[str, ...]:
        """Which of the rule's constants a schedule changes, gamma apart."""
        return ("step_size", "entropy")

    def init_schedule(self) -> dict[str, Any]:
        """Meta-parameters of the schedule, zeros: an empty dict without one."""
        if not self.schedule:
            return {}
        return {"schedule": jnp.zeros((len(FEATURES), len(self.scheduled)), jnp.float32)}

    def scales(self, meta_params: MetaParams, progress: Progress) -> Scales:
        """The factors at this point of a lifetime; all 1 without a schedule."""
        if not self.schedule:
            return Scales()
        u, v = scaled_progress(progress, self.shortest_horizon, self.longest_horizon)
        u, v = jnp.broadcast_arrays(u, v)
        features = jnp.stack([jnp.ones_like(u), u, v, u * u, u * v], axis=-1)
        logs = jnp.clip(features @ meta_params["schedule"], -LARGEST_LOG, LARGEST_LOG)
        factors = jnp.exp(logs)
        return Scales(**{name: factors[..., i] for i, name in enumerate(self.scheduled)})

    def step_scale(self, meta_params: MetaParams, progress: Progress) -> Float[Array, ""] | None:
        """The schedule's factor on the optimiser's step; None without a schedule."""
        return jnp.asarray(self.scales(meta_params, progress).step_size) if self.schedule else None
