"""Running statistics of observations and rewards, by which an agent scales what it sees.

Moments are merged batch by batch (Chan et al. 1983, the parallel form of Welford's algorithm), over all
workers at once. An agent looks through the statistics of the rollouts before the one it is in, so that a
rollout and all updates made of it see the same numbers. Rewards are divided by the standard deviation of
the running discounted return (Engstrom et al. 2020, arXiv 2005.12729, section 3).
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Shaped

from rl_discovery.discovery.types import Rollout

CLIP = 10.0
"""Scaled observations and rewards are kept within this many standard deviations (CleanRL, Brax)."""


@struct.dataclass
class Moments:
    """Count, mean and variance of everything seen so far; variance 1 before anything is.

    Attributes:
        count: numbers seen.
        mean: of each component.
        variance: of each component, divided by the count.
    """

    count: Float[Array, ""]
    mean: Float[Array, "*shape"]
    variance: Float[Array, "*shape"]

    def merge(self, batch: Shaped[Array, "n *shape"]) -> "Moments":
        """With a batch of more."""
        count = self.count + batch.shape[0]
        mean, variance = jnp.mean(batch, axis=0), jnp.var(batch, axis=0)
        share = batch.shape[0] / count
        difference = mean - self.mean
        # Before anything was seen the share is 1, and the placeholder's variance has no part.
        merged = (1 - share) * self.variance + share * variance + share * (1 - share) * difference**2
        return Moments(count=count, mean=self.mean + share * difference, variance=merged)

    def scale(
        self, x: Shaped[Array, "*batch_and_shape"], *, centre: bool
    ) -> Float[Array, "*batch_and_shape"]:
        """In standard deviations, from the mean or from zero."""
        x = x - self.mean if centre else x
        return jnp.clip(x / jnp.sqrt(self.variance + 1e-8), -CLIP, CLIP)


def no_moments(shape: tuple[int, ...]) -> Moments:
    """Of nothing."""
    return Moments(count=jnp.float32(0), mean=jnp.zeros(shape), variance=jnp.ones(shape))


@struct.dataclass
class Statistics:
    """What an agent has seen; None where it does not scale.

    Attributes:
        observations: moments of each component.
        returns: moments of the workers' running discounted returns.
        running: those returns, at the end of the last rollout.
    """

    observations: Moments | None = None
    returns: Moments | None = None
    running: Float[Array, " W"] | None = None


@dataclasses.dataclass(frozen=True)
class Scaling:
    """Which statistics an agent keeps.

    Attributes:
        observations: scale observations to mean 0 and deviation 1.
        rewards: scale rewards by the deviation of the running return.
        discount: gamma of that return.
    """

    observations: bool = False
    rewards: bool = False
    discount: float = 0.99

    def init(self, observation_shape: tuple[int, ...], workers: int) -> Statistics:
        """Before anything is seen."""
        return Statistics(
            observations=no_moments(observation_shape) if self.observations else None,
            returns=no_moments(()) if self.rewards else None,
            running=jnp.zeros(workers) if self.rewards else None,
        )

    def see(self, statistics: Statistics, observation: Array) -> Array:
        """Observations as the agent's network gets them."""
        if statistics.observations is None:
            return observation
        return statistics.observations.scale(observation, centre=True)

    def scale(self, statistics: Statistics, rollout: Rollout) -> tuple[Rollout, Statistics]:
        """A rollout as the agent learns from it, and the statistics with what it shows.

        Observations are scaled by what was known when it was collected, rewards by what is known
        after it, because the first rollout's have a scale, too.
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

    def _running_returns(
        self, running: Float[Array, " W"], rollout: Rollout
    ) -> tuple[Float[Array, " W"], Float[Array, "T W"]]:
        """The discounted return so far after each step, which starts again with every episode."""

        def accumulate(running, step):
            reward, done = step
            total = self.discount * running + reward
            return jnp.where(done, 0.0, total), total

        return jax.lax.scan(accumulate, running, (rollout.reward, rollout.done))
