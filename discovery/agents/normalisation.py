"""Running statistics of observations and rewards, by which an agent scales its inputs.

Moments are merged batch by batch over all workers (Chan et al. 1983, the parallel form of Welford's
algorithm). Observations are scaled by the statistics of earlier rollouts, so that a rollout and all updates
on it use the same numbers. Rewards are divided by the standard deviation of the running discounted return
(Engstrom et al. 2020, arXiv 2005.12729, section 3).
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Shaped

from rl_discovery.discovery.types import Rollout

CLIP = 10.0
"""Clip of scaled observations and rewards, in standard deviations (CleanRL, Brax)."""


@struct.dataclass
class Moments:
    """Running count, mean and variance (divided by the count) of each component; variance 1 at first."""

    count: Float[Array, ""]
    mean: Float[Array, "*shape"]
    variance: Float[Array, "*shape"]

    def merge(self, batch: Shaped[Array, "n *shape"]) -> "Moments":
        """The moments after another batch."""
        count = self.count + batch.shape[0]
        mean, variance = jnp.mean(batch, axis=0), jnp.var(batch, axis=0)
        share = batch.shape[0] / count
        difference = mean - self.mean
        # For the first batch the share is 1, so the initial variance does not count.
        merged = (1 - share) * self.variance + share * variance + share * (1 - share) * difference**2
        return Moments(count=count, mean=self.mean + share * difference, variance=merged)

    @property
    def deviation(self) -> Float[Array, "*shape"]:
        """Standard deviation, never 0."""
        return jnp.sqrt(self.variance + 1e-8)

    def scale(
        self, x: Shaped[Array, "*batch_and_shape"], *, centre: bool
    ) -> Float[Array, "*batch_and_shape"]:
        """x in standard deviations, clipped; centred at the mean if `centre`."""
        x = x - self.mean if centre else x
        return jnp.clip(x / self.deviation, -CLIP, CLIP)


def no_moments(shape: tuple[int, ...]) -> Moments:
    """Moments before the first batch."""
    return Moments(count=jnp.float32(0), mean=jnp.zeros(shape), variance=jnp.ones(shape))


@struct.dataclass
class Statistics:
    """Running statistics of an agent; None where it does not scale.

    Attributes:
        observations: moments of each component.
        returns: moments of the workers' running discounted returns.
        running: these returns at the end of the last rollout.
    """

    observations: Moments | None = None
    returns: Moments | None = None
    running: Float[Array, " W"] | None = None


@dataclasses.dataclass(frozen=True)
class Scaling:
    """The statistics that an agent keeps.

    Attributes:
        observations: scale observations to mean 0 and deviation 1.
        rewards: scale rewards by the deviation of the running return.
        discount: gamma of that return.
    """

    observations: bool = False
    rewards: bool = False
    discount: float = 0.99

    def init(self, observation_shape: tuple[int, ...], workers: int) -> Statistics:
        """Statistics of a new agent."""
        return Statistics(
            observations=no_moments(observation_shape) if self.observations else None,
            returns=no_moments(()) if self.rewards else None,
            running=jnp.zeros(workers) if self.rewards else None,
        )

    def see(self, statistics: Statistics, observation: Array) -> Array:
        """Observations as inputs of the network."""
        if statistics.observations is None:
            return observation
        return statistics.observations.scale(observation, centre=True)

    def scale(self, statistics: Statistics, rollout: Rollout) -> tuple[Rollout, Statistics]:
        """The scaled rollout, and the statistics updated with it.

        Observations are scaled by the statistics before the rollout, rewards by those after it, so that the
        first rollout's rewards have a scale, too.
        """
        observations, returns, running = statistics.observations, statistics.returns, statistics.running
        reward = rollout.reward
        if returns is not None and running is not None:
            running, totals = self._running_returns(running, rollout)
            returns = returns.merge(totals.reshape(-1))
            reward = returns.scale(reward, centre=False)
        if observations is not None:
            observations = observations.merge(rollout.observation.reshape(-1, *observations.mean.shape))
        scaled = dataclasses.replace(
            rollout,
            reward=reward,
            observation=self.see(statistics, rollout.observation),
            next_observation=self.see(statistics, rollout.next_observation),
            last_observation=self.see(statistics, rollout.last_observation),
        )
        return scaled, Statistics(observations=observations, returns=returns, running=running)

    def reward_unit(self, statistics: Statistics) -> Float[Array, ""]:
        """What rewards are divided by."""
        returns = statistics.returns
        return jnp.float32(1) if returns is None else returns.deviation

    def _running_returns(
        self, running: Float[Array, " W"], rollout: Rollout
    ) -> tuple[Float[Array, " W"], Float[Array, "T W"]]:
        # The discounted return up to each step; it restarts with every episode.

        def accumulate(running, step):
            reward, done = step
            total = self.discount * running + reward
            return jnp.where(done, 0.0, total), total

        return jax.lax.scan(accumulate, running, (rollout.reward, rollout.done))
