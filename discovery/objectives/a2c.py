"""Advantage actor-critic (Mnih et al. 2016, arXiv 1602.01783): the hand-written baseline and antagonist.

One update per rollout on `-log pi(a|s) A - c_H H(pi) + c_V (V - target)^2`, with GAE advantages
normalised over the batch. With a schedule it is `ta-a2c`.
"""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Num

from rl_discovery.discovery.objectives.base import Experience, Metrics
from rl_discovery.discovery.objectives.gae import advantages, normalise
from rl_discovery.discovery.objectives.schedule import Scheduled
from rl_discovery.discovery.ranges import NonNegativeFloat, UnitInterval
from rl_discovery.discovery.types import MetaParams, Outputs, Progress


class A2CTargets(NamedTuple):
    """Targets of the loss."""

    advantage: Float[Array, "*batch"]
    value_target: Float[Array, "*batch"]


@dataclasses.dataclass(frozen=True)
class A2C(Scheduled):
    """Advantage actor-critic; the agent's second head is the value, K = 1.

    At `terminated` the next value is 0; at `truncated` it is bootstrapped from the observation
    before the reset. No advantage crosses either.

    Attributes:
        discount: gamma.
        gae_lambda: lambda of the advantage estimate.
        entropy_coef: weight of the entropy bonus.
        value_coef: weight of the value loss.
    """

    discount: UnitInterval = 0.99
    gae_lambda: UnitInterval = 0.9
    entropy_coef: NonNegativeFloat = 0.02
    value_coef: NonNegativeFloat = 0.5

    # Tuned on levels of the distribution `all` that no suite uses (docs/performance.md, "The baseline").
    tabular_learning_rates = (80.0, 4.0)
    head_size = 1

    @property
    def name(self) -> str:
        """`ta-a2c` with a schedule, else `a2c`."""
        return "ta-a2c" if self.schedule else "a2c"

    @property
    def begins_as(self) -> str:
        """A2C: a schedule of zeros changes nothing."""
        return "a2c"

    def init(self, key: Key[Array, ""]) -> MetaParams:
        """Zeros of the schedule, if there is one."""
        del key
        return self.init_schedule()

    def targets(self, meta_params: MetaParams, experience: Experience, progress: Progress) -> A2CTargets:
        """GAE advantages and value targets."""
        discount = self.scales(meta_params, progress).discount(self.discount)
        values = experience.outputs.head[..., 0]
        next_values = experience.next_head[..., 0]
        advantage = advantages(experience.rollout, values, next_values, discount, self.gae_lambda)
        return A2CTargets(advantage=normalise(advantage), value_target=advantage + values)

    def loss(
        self,
        meta_params: MetaParams,
        outputs: Outputs,
        action: Num[Array, "*batch_and_action"],
        targets: A2CTargets,
        progress: Progress,
    ) -> tuple[Float[Array, ""], Metrics]:
        """Policy, entropy and value terms."""
        entropy_coef = self.entropy_coef * self.scales(meta_params, progress).entropy
        policy_loss = -jnp.mean(outputs.log_prob(action) * targets.advantage)
        entropy = jnp.mean(outputs.entropy())
        value_loss = jnp.mean((outputs.head[..., 0] - targets.value_target) ** 2)
        loss = policy_loss - entropy_coef * entropy + self.value_coef * value_loss
        return loss, {"policy_loss": policy_loss, "entropy": entropy, "value_loss": value_loss}


def _temporally_aware(**settings: Any) -> A2C:
    return A2C(**({"schedule": True} | settings))


OBJECTIVES = {
    "a2c": (A2C, "advantage actor-critic with GAE, the hand-written baseline and antagonist"),
    "ta-a2c": (
        _temporally_aware,
        "A2C with a learned schedule of step size and entropy bonus over n/N and N",
    ),
}
