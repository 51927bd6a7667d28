"""What a level's score compares with: the return of an antagonist, or of the best policy there is.

Either belongs to the level. It is computed when the level is first played and kept with it, so that
replayed levels cost nothing here.
"""

import dataclasses
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Key

from rl_discovery.discovery.keys import keys_of
from rl_discovery.discovery.learning.build import make_learner
from rl_discovery.discovery.learning.lifetime import Learner, evaluate_block, train_block
from rl_discovery.discovery.learning.settings import with_own_rates
from rl_discovery.discovery.objectives.a2c import A2C
from rl_discovery.discovery.sharding import run_blocks
from rl_discovery.discovery.types import EnvParams
from rl_discovery.envs.levels import Family, Level, LevelDistribution
from rl_discovery.meta.config import RunConfig
from rl_discovery.meta.curriculum import LevelBatch, Score
from rl_discovery.meta.scale import Planner, make_planner


class References(Protocol):
    """Computes reference returns of levels."""

    def returns(self, levels: Level, wanted: Bool[Array, " C"], key: Key[Array, ""]) -> Float[Array, " C"]:
        """One number per level; of no meaning, and at no cost, where it is not wanted."""
        ...


@dataclasses.dataclass(frozen=True)
class Nothing:
    """For scores that compare with nothing."""

    def returns(self, levels: Level, wanted: Bool[Array, " C"], key: Key[Array, ""]) -> Float[Array, " C"]:
        """Zeros."""
        del levels, key
        return jnp.zeros(wanted.shape)


@dataclasses.dataclass(frozen=True)
class Antagonist:
    """An agent that a hand-written objective trains from scratch, for the level's whole lifetime.

    Attributes:
        learner: as the agents' own, with another objective.
        block_size: lanes side by side on a device.
        mesh: the devices.
    """

    learner: Learner
    block_size: int
    mesh: Mesh

    def returns(self, levels: Level, wanted: Bool[Array, " C"], key: Key[Array, ""]) -> Float[Array, " C"]:
        """Mean return of the antagonists at the end of their lifetimes."""
        horizons = jnp.where(wanted, levels.horizon, 0)

        def run(operands: Any, lanes: Int[Array, " L"]) -> Float[Array, " L"]:
            params, horizons, key = operands
            mine = jax.tree.map(lambda leaf: leaf[lanes], params)
            # Padding lanes read the last level: the loop must not run for them.
            length = jnp.where(lanes < wanted.size, horizons[lanes], 0)
            keys = keys_of(key, lanes)
            train_states = train_block(self.learner, {}, mine, length, keys)
            return evaluate_block(self.learner, train_states, mine, keys)

        operands = (levels.params, horizons, key)
        return run_blocks(run, operands, horizons.astype(jnp.float32), self.block_size, self.mesh)


@dataclasses.dataclass(frozen=True)
class Optimum:
    """The exact expected return of the best policy.

    Attributes:
        planner: of the family's levels.
    """

    planner: Planner

    def returns(self, levels: Level, wanted: Bool[Array, " C"], key: Key[Array, ""]) -> Float[Array, " C"]:
        """The optimum of each level; no randomness."""
        del key
        return self.planner.scale(levels, wanted).optimal


def add_references(
    references: References, level_batch: LevelBatch, wanted: Bool[Array, " C"], key: Key[Array, ""]
) -> LevelBatch:
    """What was served, with the reference returns of the levels that are played for the first time."""
    found = references.returns(level_batch.levels, wanted & ~level_batch.replayed, key)
    merged = jnp.where(level_batch.replayed, level_batch.reference_return, found)
    return dataclasses.replace(level_batch, reference_return=merged)


def make_references(
    config: RunConfig,
    score: Score,
    family: Family,
    distribution: LevelDistribution,
    level: EnvParams,
    mesh: Mesh,
) -> References:
    """What a score needs to compare with; `level` gives shapes and spaces only.

    Raises:
        ValueError: the environment cannot give it.
    """
    if score.reference == "antagonist":
        return Antagonist(antagonist(config, distribution, level), config.block_size, mesh)
    if score.reference == "optimum":
        name = config.curriculum.score
        return Optimum(make_planner("curriculum.score", name, family, distribution, level, mesh))
    return Nothing()


def antagonist(config: RunConfig, distribution: LevelDistribution, level: EnvParams) -> Learner:
    """A learner by A2C: the same network, workers and rollouts; for tables A2C's own step sizes."""
    rule = A2C()
    return make_learner(distribution.env, level, with_own_rates(config.agent, rule), rule, blank=True)
