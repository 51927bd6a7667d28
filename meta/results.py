"""Evaluation of a lane at the end of its lifetime: fitness, and the score of its level."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int, Key

from rl_discovery.discovery.learning.lifetime import Learner, TrainState
from rl_discovery.discovery.learning.rollout import UNFINISHED
from rl_discovery.discovery.objectives.base import Metrics
from rl_discovery.discovery.types import EnvParams
from rl_discovery.meta.config import RunConfig
from rl_discovery.meta.curriculum import LaneOutcome, Played, Score
from rl_discovery.meta.fitness import FITNESS, Fitness, Lifetime
from rl_discovery.meta.scale import Scale


def env_steps_of(config: RunConfig, updates: Int[np.ndarray, " environments"]) -> int:
    """Environment steps of a generation, from its agent updates on each environment."""
    # In Python's integers: there may be more steps than 32 bits hold.
    return sum(
        int(count) * task.agent.steps_per_update for count, task in zip(updates, config.tasks, strict=True)
    )


@struct.dataclass
class LaneResults:
    """Results of lanes, of any leading shape.

    Attributes:
        fitness: NaN if the agent is not finite, -inf if an episode did not end.
        mean_return: undiscounted return of the final agent; NaN and -inf likewise.
        score: of the level, by this agent.
        best_return: highest return of an episode on the level, earlier plays included; discounted if the
            score reads a critic's values, which are discounted too.
        inner: metrics of the agent's last update, if the learner keeps them; NaN without any update.
    """

    fitness: Float[Array, "*lanes"]
    mean_return: Float[Array, "*lanes"]
    score: Float[Array, "*lanes"]
    best_return: Float[Array, "*lanes"]
    inner: Metrics = struct.field(default_factory=dict)


def evaluate_lane(
    learner: Learner,
    score: Score,
    level: EnvParams,
    key: Key[Array, ""],
    train_state: TrainState,
    reference_return: Float[Array, ""],
    best_return: Float[Array, ""],
    fitness: Fitness = FITNESS["final_return"],
    horizon: Int[Array, ""] | int = 1,
    scale: Scale | None = None,
) -> LaneResults:
    """Evaluates the final agent of one lane and scores its level.

    Args:
        learner: the static side; with a critic if the score reads values.
        score: of the curriculum.
        level: the level played.
        key: the lane's key.
        train_state: at the end of the lifetime.
        reference_return: what the score compares with.
        best_return: highest return of an episode on the level in earlier plays.
        fitness: what is selected for.
        horizon: N, over which rewards were summed, if the fitness reads them.
        scale: of the level, if fitness or score reads it.
    """
    discount = learner.critic.discount if score.critic and learner.critic is not None else 1.0
    episodes = learner.episodes(level, key, train_state, discount)
    mean_return = learner.fitness(train_state, episodes)
    best = jnp.maximum(best_return, jnp.max(episodes.discounted))
    reward_per_step = (
        jnp.float32(0) if train_state.reward_sum is None else train_state.reward_sum / jnp.maximum(horizon, 1)
    )
    value = fitness.function(Lifetime(returns=episodes.returns, reward_per_step=reward_per_step, scale=scale))
    results = LaneResults(
        fitness=jnp.where(jnp.isfinite(mean_return), value, mean_return),
        mean_return=mean_return,
        score=jnp.zeros_like(mean_return),
        best_return=best,
        inner=train_state.metrics or {},
    )
    if score.function is None:
        return results
    values = advantages = jnp.zeros((1, 1))
    if score.critic:
        values, advantages = learner.assess(level, key, train_state)
    outcome = LaneOutcome(
        returns=episodes.returns,
        reference_return=reference_return,
        best_return=best,
        values=values,
        advantages=advantages,
        scale=scale,
    )
    level_score = jnp.where(jnp.isfinite(mean_return), score.function(outcome), jnp.nan)
    return dataclasses.replace(results, score=level_score)


def by_level(results: LaneResults) -> Played:
    """Results per level: means over the finite members of its group, and the best episode."""
    return Played(
        agent_return=_finite_mean(results.mean_return),
        score=_finite_mean(results.score),
        best_return=jnp.max(results.best_return, axis=1),
    )


def inner_metrics(results: LaneResults) -> dict[str, Float[Array, ""]]:
    """Means over lanes of the finite metrics of their last updates, named `inner/NAME`."""
    return {
        f"inner/{name}": jnp.nanmean(jnp.where(jnp.isfinite(values), values, jnp.nan))
        for name, values in results.inner.items()
    }


def _finite_mean(values: Float[Array, "groups size"]) -> Float[Array, " groups"]:
    finite = jnp.isfinite(values)
    count = jnp.sum(finite, axis=1)
    return jnp.sum(jnp.where(finite, values, 0.0), axis=1) / jnp.where(count > 0, count, jnp.nan)


def endless_share(fitness: Float[Array, "*lanes"]) -> Float[Array, ""]:
    """Share of the evaluated agents with an episode that did not end; 0 if none was evaluated."""
    measured = jnp.sum(~jnp.isnan(fitness))
    return jnp.sum(fitness == UNFINISHED) / jnp.maximum(measured, 1)
