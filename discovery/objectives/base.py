"""The interface of all objectives, learned or hand-written.

An objective defines `targets` of a rollout, which are constants of the agent's gradient (the outputs of a
learned objective, or advantages), and a `loss` of the agent's outputs given the targets.
`discovery.learning.update` makes an agent update of the two. ES calls it forward only; the meta-gradient
trainer differentiates through it.
"""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from rl_discovery.discovery.objectives.bounds import (
    SQUARES,
    bounded_advantage,
    bounded_log_ratio,
    bounded_ratio,
    in_float32,
)
from rl_discovery.discovery.types import MetaParams, Outputs, Progress, Rollout

Metrics = dict[str, Float[Array, ""]]


class Experience(NamedTuple):
    """A rollout with the agent's outputs before the update; unused parts cost nothing.

    Attributes:
        rollout: T steps of W workers.
        outputs: at the rollout's observations, (T, W, ...).
        next_head: the second head at the next observations, before any reset; undefined where the episode
            terminated.
        last_outputs: at the observations where the next rollout starts, (W, ...).
    """

    rollout: Rollout
    outputs: Outputs
    next_head: Float[Array, "T W K"]
    last_outputs: Outputs


class Objective(abc.ABC):
    """A rule that turns a rollout into an agent update.

    Rules are frozen dataclasses. Their fields are the settings that flags, configurations and exported files
    hold. Every rule defines the abstract members; the others have defaults.
    """

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """Name in `list objectives` and in result tables."""

    @property
    @abc.abstractmethod
    def head_size(self) -> int:
        """K, outputs of the agent's second head."""

    @property
    def discrete_only(self) -> bool:
        """Whether the rule needs discrete actions."""
        return False

    @property
    def uses_progress(self) -> bool:
        """Whether the rule depends on n and N."""
        return False

    @property
    def horizon_inputs(self) -> bool:
        """Whether the rule reads N, and not only n/N."""
        return False

    @property
    def schedule(self) -> bool:
        """Whether the rule's constants change over a lifetime (see `schedule.Scheduled`)."""
        return False

    @property
    def inputs(self) -> tuple[str, ...]:
        """Inputs of the rule, as its card lists them."""
        return ("rollout", "progress") if self.uses_progress else ("rollout",)

    @property
    def begins_as(self) -> str | None:
        """Name of the rule that it equals at its initial meta-parameters; None if there is none."""
        return None

    @property
    def zero_outputs(self) -> int:
        """Number of leading outputs of the second head that are 0 in a new agent."""
        return 0

    @property
    def tabular_learning_rates(self) -> tuple[float, float] | None:
        """Step sizes of policy and second head for tabular agents; None for the defaults."""
        return None

    @abc.abstractmethod
    def init(self, key: Key[Array, ""]) -> MetaParams:
        """Initial meta-parameters; an empty dict for hand-written objectives."""

    def perturbation_scales(self) -> Mapping[str, float] | None:
        """Factors on sigma per tensor of the meta-parameters, by `layer/tensor`; None: the same for all."""
        return None

    def step_scale(self, meta_params: MetaParams, progress: Progress) -> Float[Array, ""] | None:
        """Factor on the optimiser's step; None for 1."""
        del meta_params, progress
        return None

    @abc.abstractmethod
    def targets(self, meta_params: MetaParams, experience: Experience, progress: Progress) -> Any:
        """Targets of the loss, constants of the agent's gradient."""

    @abc.abstractmethod
    def loss(
        self,
        meta_params: MetaParams,
        outputs: Outputs,
        action: Array,
        targets: Any,
        progress: Progress,
    ) -> tuple[Float[Array, ""], Metrics]:
        """The scalar that the agent minimises, and metrics.

        Outputs, actions and targets have the same leading axes: (T, W) for a whole rollout, (B,) for a
        minibatch of it.
        """


@dataclasses.dataclass(frozen=True)
class TrainedObjective:
    """A rule with its meta-parameters, as it is exported, loaded, evaluated and shipped.

    Attributes:
        rule: the objective.
        meta_params: its meta-parameters (empty for hand-written rules).
        card: its origin, JSON-serialisable; see `checkpoints.objective_file`.
        shipped_as: the name that it comes with the package by; None for all others.
    """

    rule: Objective
    meta_params: MetaParams
    card: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    shipped_as: str | None = None

    @property
    def name(self) -> str:
        """The name that it is shipped by, else that of its rule."""
        return self.shipped_as or self.rule.name

    def drift(
        self,
        ratio: Float[Array, "*batch"] | None = None,
        advantage: Float[Array, "*batch"] | None = None,
        progress: Progress | float | Array = 0.0,
        *,
        log_ratio: Float[Array, "*batch"] | None = None,
    ) -> Float[Array, "*batch"]:
        """f of mirror learning, for a PPO of your own: maximise `mean(ratio * advantage - f)`.

        Value and gradient are finite for all ratios from 0 to infinity. f is computed in float32 or wider,
        and is constant where float32 would overflow: for ratios below 5e-20, and above 4e9 for a learned
        drift, 2e29 for a hand-written one.

        Args:
            ratio: pi/pi_old of the actions taken; differentiate with respect to it.
            advantage: A, normalised; a constant.
            progress: n/N, the share of the training that is done; `Progress(n, N)` for a drift that also
                reads N.
            log_ratio: log pi - log pi_old, in place of `ratio`: exact for ratios near 0, and with a gradient
                where `exp` has none.

        Returns:
            f in the type of ratio and advantage.

        Raises:
            ValueError: the objective has no drift, or reads N, and `progress` lacks it.
            TypeError: no advantage, or not exactly one of ratio and log_ratio.
        """
        drift = getattr(self.rule, "drift", None)
        if drift is None:
            raise ValueError(
                f"{self.name} has no drift: only objectives in PPO's loop do (ppo, dpo, lpo ...)"
            )
        if advantage is None or (ratio is None) == (log_ratio is None):
            raise TypeError("drift needs an advantage, and either a ratio or log_ratio=")
        if not isinstance(progress, Progress):
            if self.rule.horizon_inputs or self.rule.schedule:
                raise ValueError(f"this {self.name} also sees N: give Progress(done=n, horizon=N)")
            progress = Progress(done=jnp.asarray(progress), horizon=jnp.asarray(1))
        given, advantage = (_floats(x) for x in (ratio if log_ratio is None else log_ratio, advantage))
        own_type = jnp.result_type(given, advantage)
        given, advantage = in_float32(given), bounded_advantage(in_float32(advantage))
        power = getattr(self.rule, "ratio_power", SQUARES)
        if log_ratio is None:
            log_ratio = jnp.log(bounded_ratio(given, power))
        else:
            log_ratio = bounded_log_ratio(given, power)
        value = drift(self.meta_params, log_ratio, advantage, progress)
        return jnp.minimum(value, jnp.finfo(own_type).max).astype(own_type)

    def schedule(self, progress: Progress) -> Any:
        """Factors of the rule's schedule on its constants, for a loop of your own.

        Args:
            progress: `Progress(n, N)`, in agent updates.

        Returns:
            `discovery.objectives.schedule.Scales`: factors on step size, entropy bonus, clip and 1 - gamma.

        Raises:
            ValueError: the rule has no schedule.
        """
        if not self.rule.schedule:
            raise ValueError(f"{self.name} has no schedule: ta-ppo, ta-a2c and rules with `schedule` do")
        rule: Any = self.rule
        return rule.scales(self.meta_params, progress)


def _floats(x: Any) -> Array:
    return jnp.asarray(x, jnp.result_type(float, x))
