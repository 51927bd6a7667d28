"""All lanes of a generation: lifetimes and their evaluation, in blocks, over a device mesh."""

import dataclasses

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Key

from discovery.blocks import run_blocks
from discovery.lifetime import Learner, Life, evaluate_block, train_block
from envs.levels import Level
from meta.evolution.base import Candidates


@dataclasses.dataclass(frozen=True)
class Lanes:
    """The static side of a generation's lanes.

    Attributes:
        learner: environment, agent and objective.
        groups: levels per generation.
        group_size: candidates per level.
        block_size: lanes side by side on a device.
        mesh: the devices.
    """

    learner: Learner
    groups: int
    group_size: int
    block_size: int
    mesh: Mesh

    def fitness(
        self, candidates: Candidates, levels: Level, key: Key[Array, ""]
    ) -> Float[Array, "groups size"]:
        """Trains an agent from scratch in every lane and returns how well it ends up.

        Candidates are made inside their block and agents never leave it: memory grows with the
        block, not with lanes or steps. The members of a group share level, initial agent and all
        random numbers, whatever block or device they run on.

        Args:
            candidates: the generation's candidates.
            levels: one level with its horizon per group.
            key: of the generation's lanes.

        Returns:
            Mean undiscounted return at the end of each lifetime.
        """

        def run(lanes):
            members, groups = lanes % self.group_size, lanes // self.group_size
            # Padding lanes: the gathers clamp, and a horizon of 0 makes them cost nothing.
            horizons = jnp.where(groups < self.groups, levels.horizon[groups], 0)
            params = jax.tree.map(lambda x: x[groups], levels.params)
            keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, groups)
            meta_params = jax.vmap(candidates.member)(groups, members)
            lives = train_block(self.learner, meta_params, params, horizons, keys)
            fitness = evaluate_block(self.learner, lives, params, keys)
            return jnp.where(_alive(lives), fitness, jnp.nan)

        costs = jnp.repeat(levels.horizon.astype(jnp.float32), self.group_size)
        fitness = run_blocks(run, costs, self.block_size, self.mesh)
        return fitness.reshape(self.groups, self.group_size)


def _alive(lives: Life) -> Bool[Array, " L"]:
    """Whether an agent's parameters are all finite.

    An agent of NaNs still acts (it takes one and the same action) and would have a finite return.
    """
    leaves = jax.tree.leaves(lives.agent.params)
    return jnp.stack([jnp.isfinite(leaf).reshape(leaf.shape[0], -1).all(axis=1) for leaf in leaves]).all(
        axis=0
    )
