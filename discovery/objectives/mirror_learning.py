"""Mirror learning: PPO's update with any drift in place of its clip (Kuba et al. 2022, arXiv 2201.02373).

With `r = pi/pi_old` and the advantage A (GAE, normalised per minibatch) the agent maximises
`E[r A - f(r, A)]`. PPO, DPO, LPO and their relatives differ in the drift f only; values, entropy
bonus, minibatches and optimiser are the same, so that a comparison of rules compares drifts. A drift
must satisfy f >= 0, and f = 0 and df/dr = 0 at r = 1 (Lu et al. 2022, arXiv 2210.05639, section 3).
"""

import abc
import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Num

from rl_discovery.discovery.objectives.base import Experience, Metrics
from rl_discovery.discovery.objectives.bounds import LINEAR, bounded_log_ratio
from rl_discovery.discovery.objectives.gae import advantages, normalise
from rl_discovery.discovery.objectives.schedule import Scheduled
from rl_discovery.discovery.ranges import NonNegativeFloat, PositiveFloat, UnitInterval
from rl_discovery.discovery.types import MetaParams, Outputs, Progress


class MirrorTargets(NamedTuple):
    """Targets of the loss, and outputs of the agent that collected the rollout."""

    advantage: Float[Array, "*batch"]
    value_target: Float[Array, "*batch"]
    log_prob: Float[Array, "*batch"]
    value: Float[Array, "*batch"]


@dataclasses.dataclass(frozen=True)
class MirrorLearning(Scheduled):
    """The base of PPO and its relatives; the agent's second head is the value, K = 1.

    At `terminated` the next value is 0; at `truncated` it is bootstrapped from the observation
    before the reset. No advantage crosses either.

    Attributes:
        discount: gamma (PPO: 0.99).
        gae_lambda: lambda of the advantage estimate (PPO: 0.95).
        entropy_coef: weight of the entropy bonus (PPO on Atari: 0.01).
        value_coef: weight of the value loss, which is half the squared error (PPO: 0.5).
        value_clip: how far a value may move from the old one before the loss ignores it (PPO reference code:
            0.2).
    """

    discount: UnitInterval = 0.99
    gae_lambda: UnitInterval = 0.95
    entropy_coef: NonNegativeFloat = 0.01
    value_coef: NonNegativeFloat = 0.5
    value_clip: PositiveFloat = 0.2

    ratio_power = LINEAR
    head_size = 1

    @abc.abstractmethod
    def drift(
        self,
        meta_params: MetaParams,
        log_ratio: Float[Array, "*batch"],
        advantage: Float[Array, "*batch"],
        progress: Progress,
    ) -> Float[Array, "*batch"]:
        """f, elementwise.

        Args:
            meta_params: of a learned drift.
            log_ratio: log r, bounded by `ratio_power`.
            advantage: A, normalised.
            progress: n and N.
        """

    def init(self, key: Key[Array, ""]) -> MetaParams:
        """Zeros of the schedule, if there is one."""
        del key
        return self.init_schedule()

    def targets(self, meta_params: MetaParams, experience: Experience, progress: Progress) -> MirrorTargets:
        """GAE advantages, value targets, and the old values and log-probabilities."""
        discount = self.scales(meta_params, progress).discount(self.discount)
        outputs, rollout = experience.outputs, experience.rollout
        values, next_values = outputs.head[..., 0], experience.next_head[..., 0]
        advantage = advantages(rollout, values, next_values, discount, self.gae_lambda)
        return MirrorTargets(
            advantage=advantage,
            value_target=advantage + values,
            log_prob=outputs.log_prob(rollout.action),
            value=values,
        )

    def loss(
        self,
        meta_params: MetaParams,
        outputs: Outputs,
        action: Num[Array, "*batch_and_action"],
        targets: MirrorTargets,
        progress: Progress,
    ) -> tuple[Float[Array, ""], Metrics]:
        """Surrogate, entropy and value terms; `drift` and `kl` measure how far the policy moved."""
        # If a ratio overflowed, r A - f would be inf - inf, and the parameters NaN.
        log_ratio = bounded_log_ratio(outputs.log_prob(action) - targets.log_prob, self.ratio_power)
        ratio, advantage = jnp.exp(log_ratio), normalise(targets.advantage)
        drift = self.drift(meta_params, log_ratio, advantage, progress)
        policy_loss = jnp.mean(drift - ratio * advantage)
        entropy = jnp.mean(outputs.entropy())
        value_loss = self._value_loss(outputs.head[..., 0], targets)
        entropy_coef = self.entropy_coef * self.scales(meta_params, progress).entropy
        loss = policy_loss - entropy_coef * entropy + self.value_coef * value_loss
        return loss, {
            "policy_loss": policy_loss,
            "entropy": entropy,
            "value_loss": value_loss,
            "drift": jnp.mean(drift),
            # Schulman's estimator of KL(pi_old || pi): never negative, little variance.
            "kl": jnp.mean(ratio - 1.0 - log_ratio),
        }

    def _value_loss(self, value: Float[Array, "*batch"], targets: MirrorTargets) -> Float[Array, ""]:
        # Half the larger of the squared errors of the value and of the value clipped around the old one.
        near = targets.value + jnp.clip(value - targets.value, -self.value_clip, self.value_clip)
        errors = [(v - targets.value_target) ** 2 for v in (value, near)]
        return 0.5 * jnp.mean(jnp.maximum(*errors))
