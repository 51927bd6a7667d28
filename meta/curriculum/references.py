"""Reference returns, which scores compare with: the return of an antagonist, or that of the best policy.

A reference belongs to its level. It is computed when the level is first played and stored with it, so that
replayed levels cost nothing here.
"""

import dataclasses
from typing import Any, Protocol

import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Key

from rl_discovery.discovery.keys import keys_of
from rl_discovery.discovery.learning.build import make_learner
from rl_discovery.discovery.learning.lifetime import Learner, evaluate_block, train_block
from rl_discovery.discovery.learning.settings import with_own_rates
from rl_discovery.discovery.objectives.a2c import A2C
from rl_discovery.discovery.sharding import run_lanes
from rl_discovery.discovery.types import EnvParams
from rl_discovery.envs.levels import Family, Level, LevelDistribution
from rl_discovery.meta.config import RunConfig
from rl_discovery.meta.curriculum import LevelBatch, Score
from rl_discovery.meta.scale import Planner, make_planner


class References(Protocol):
    """Computes reference returns of levels."""

    def returns(self, levels: Level, wanted: Bool[Array, " C"], key: Key[Array, ""]) -> Float[Array, " C"]:
        """One return per level; where it is not wanted, it is meaningless and costs nothing."""
        ...


@dataclasses.dataclass(frozen=True)
class NoReference:
    """For scores that need no reference return."""

    def returns(self, levels: Level, wanted: Bool[Array, " C"], key: Key[Array, ""]) -> Float[Array, " C"]:
        """Zeros."""
        del levels, key
        return jnp.zeros(wanted.shape)


@dataclasses.dataclass(frozen=True)
class Antagonist:
    """An agent that a hand-written objective trains from scratch, for the level's whole lifetime."""

    learner: Learner
    block_size: int
    mesh: Mesh

    def returns(self, levels: Level, wanted: Bool[Array, " C"], key: Key[Array, ""]) -> Float[Array, " C"]:
        """Mean return of the antagonists at the end of their lifetimes."""
        horizons = jnp.where(wanted, levels.horizon, 0)

        def run_block(_: Any, mine: Any, alive: Bool[Array, " L"]) -> Float[Array, " L"]:
            params, horizons, keys = mine
            # A horizon of 0 keeps the loop from running for padding.
            train_states = train_block(self.learner, {}, params, jnp.where(alive, horizons, 0), keys)
            return evaluate_block(self.learner, train_states, params, keys)

        per_lane = (levels.params, horizons, keys_of(key, wanted.size))
        costs = horizons.astype(jnp.float32)
        return run_lanes(run_block, (), per_lane, costs, self.block_size, self.mesh)


@dataclasses.dataclass(frozen=True)
class Optimum:
    """The exact expected return of the best policy, by planning."""

    planner: Planner

    def returns(self, levels: Level, wanted: Bool[Array, " C"], key: Key[Array, ""]) -> Float[Array, " C"]:
        """The optimum of each level."""
        del key
        return self.planner.scale(levels, wanted).optimal


def add_references(
    references: References, level_batch: LevelBatch, wanted: Bool[Array, " C"], key: Key[Array, ""]
) -> LevelBatch:
    """The batch, with the reference returns of its new levels filled in."""
    computed = references.returns(level_batch.levels, wanted & ~level_batch.replayed, key)
    merged = jnp.where(level_batch.replayed, level_batch.reference_return, computed)
    return dataclasses.replace(level_batch, reference_return=merged)


def make_references(
    config: RunConfig,
    score: Score,
    family: Family,
    distribution: LevelDistribution,
    level: EnvParams,
    mesh: Mesh,
) -> References:
    """The references that a score needs; `level` gives shapes and spaces only.

    Raises:
        ValueError: the environment cannot provide them.
    """
    if score.reference == "antagonist":
        return Antagonist(antagonist(config, distribution, level), config.block_size, mesh)
    if score.reference == "optimum":
        name = config.curriculum.score
        return Optimum(make_planner("curriculum.score", name, family, distribution, level, mesh))
    return NoReference()


def antagonist(config: RunConfig, distribution: LevelDistribution, level: EnvParams) -> Learner:
    """A learner with A2C and the agents' settings; tabular agents get A2C's own step sizes."""
    rule = A2C()
    return make_learner(
        distribution.env, level, with_own_rates(config.agent.without_variation(), rule), rule, blank=True
    )
