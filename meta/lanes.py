"""All lanes of a generation of evolution: lifetimes and their evaluation, in blocks, over a device mesh."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array, Int, Key

from rl_discovery.discovery.keys import keys_of
from rl_discovery.discovery.learning.lifetime import Learner, train_block
from rl_discovery.discovery.sharding import run_blocks
from rl_discovery.discovery.types import MetaParams
from rl_discovery.meta.curriculum import LevelBatch, Score
from rl_discovery.meta.evolution.base import Candidates
from rl_discovery.meta.fitness import FITNESS, Fitness
from rl_discovery.meta.results import LaneResults, evaluate_lane


@struct.dataclass
class Unchanged:
    """Candidates that are all the same objective."""

    meta_params: MetaParams

    def member(self, group: Int[Array, ""], member: Int[Array, ""]) -> MetaParams:
        """The objective, whoever asks."""
        del group, member
        return self.meta_params


@dataclasses.dataclass(frozen=True)
class Lanes:
    """The static side of a generation's lanes.

    Attributes:
        learner: environment, agent and objective.
        score: what the curriculum wants to know of each lane.
        first_group: number of the first group, where the generation has other lanes before these.
        groups: levels per generation.
        group_size: candidates per level.
        block_size: lanes side by side on a device.
        mesh: the devices.
        fitness: what is selected for; where it reads rewards, the learner sums them.
    """

    learner: Learner
    score: Score
    first_group: int
    groups: int
    group_size: int
    block_size: int
    mesh: Mesh
    fitness: Fitness = FITNESS["final_return"]

    def run(self, candidates: Candidates, level_batch: LevelBatch, key: Key[Array, ""]) -> LaneResults:
        """Trains an agent from scratch in every lane and returns how well it ends up.

        Candidates are made inside their block and agents never leave it: memory grows with the
        block, not with lanes or steps. The members of a group share level, initial agent and all
        random numbers, whatever block or device they run on.

        Args:
            candidates: the generation's candidates.
            level_batch: one level with its horizon per group.
            key: of the generation's lanes.

        Returns:
            Results by group and member.
        """

        def run(operands: Any, lanes: Int[Array, " L"]) -> LaneResults:
            candidates, level_batch, key = operands
            levels = level_batch.levels
            members, groups = lanes % self.group_size, lanes // self.group_size
            # Padding lanes: the gathers clamp, and a horizon of 0 makes them cost nothing.
            horizons = jnp.where(groups < self.groups, levels.horizon[groups], 0)
            params = jax.tree.map(lambda x: x[groups], levels.params)
            keys = keys_of(key, self.first_group + groups)
            meta_params = jax.vmap(candidates.member)(self.first_group + groups, members)
            train_states = train_block(self.learner, meta_params, params, horizons, keys)
            judge_lane = functools.partial(evaluate_lane, self.learner, self.score, fitness=self.fitness)
            return jax.vmap(judge_lane)(
                params,
                keys,
                train_states,
                level_batch.reference_return[groups],
                level_batch.best_return[groups],
                horizon=horizons,
                scale=jax.tree.map(lambda x: x[groups], level_batch.scale),
            )

        costs = jnp.repeat(level_batch.levels.horizon.astype(jnp.float32), self.group_size)
        results = run_blocks(run, (candidates, level_batch, key), costs, self.block_size, self.mesh)
        return jax.tree.map(lambda x: x.reshape(self.groups, self.group_size), results)
