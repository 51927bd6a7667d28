"""One generation of the outer loop (Jackson et al. 2024, algorithm 1), as one pure function."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from discovery.blocks import make_mesh
from discovery.lifetime import make_learner
from envs.levels import Level
from meta.config import RunConfig
from meta.curriculum import Curriculum, RandomLevels
from meta.errors import ConfigError
from meta.evolution import Problem, Strategy, make_strategy, schedules
from meta.lanes import Lanes

INIT, LEVELS, CANDIDATES, LANES = range(4)
"""What the keys of a run are folded with, so that no two uses share a random number."""


@struct.dataclass
class MetaState:
    """Everything that changes from generation to generation, and all that a checkpoint must hold.

    Attributes:
        generation: generations done; with the seed, the whole random state.
        strategy: state of the evolution strategy.
        curriculum: state of the curriculum.
    """

    generation: Int[Array, ""]
    strategy: Any
    curriculum: Any


@dataclasses.dataclass(frozen=True)
class Program:
    """The static side of a run: what `generation` needs besides numbers."""

    seed: int
    lanes: Lanes
    strategy: Strategy
    curriculum: Curriculum
    learning_rate: Any

    def init(self) -> MetaState:
        """State before the first generation."""
        key = jax.random.fold_in(jax.random.key(self.seed), INIT)
        meta_params = self.lanes.learner.objective.init(key)
        return MetaState(
            generation=jnp.int32(0),
            strategy=self.strategy.init(meta_params),
            curriculum=self.curriculum.init(),
        )


def make_program(config: RunConfig) -> Program:
    """Builds the static side of a run from its configuration.

    Raises:
        ConfigError: parts that do not fit each other or this machine (strategy, network, devices).
    """
    try:
        return _assemble(config)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _assemble(config: RunConfig) -> Program:
    distribution = config.levels.build()
    objective = config.objective.build()
    mesh = make_mesh(config.devices)
    example = jax.eval_shape(distribution.sample, jax.random.key(0))
    learner = make_learner(distribution.env, example.params, config.agent, objective)
    learning_rate, sigma = schedules(config.es)
    solution = jax.eval_shape(objective.init, jax.random.key(0))
    problem = Problem(
        solution=jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), solution),
        groups=config.groups,
        group_size=config.es.group_size,
        learning_rate=learning_rate,
        sigma=sigma,
        mesh=mesh,
    )
    return Program(
        seed=config.seed,
        lanes=Lanes(learner, config.groups, config.es.group_size, config.block_size, mesh),
        strategy=make_strategy(config.es.strategy, problem),
        curriculum=RandomLevels(distribution),
        learning_rate=learning_rate,
    )


def generation(program: Program, state: MetaState) -> tuple[MetaState, dict[str, Array]]:
    """Samples levels, tries a population of objectives on them, and moves towards the better ones.

    Args:
        program: the static side.
        state: before the generation.

    Returns:
        The state after it, and the metrics of section 6.2 that depend on nothing but the state.
    """
    lanes, strategy, curriculum = program.lanes, program.strategy, program.curriculum
    key = jax.random.fold_in(jax.random.key(program.seed), state.generation)
    level_key, candidate_key, lane_key = (jax.random.fold_in(key, use) for use in (LEVELS, CANDIDATES, LANES))

    levels = curriculum.serve(state.curriculum, level_key, lanes.groups)
    candidates = strategy.ask(state.strategy, candidate_key)
    fitness = lanes.fitness(candidates, levels, lane_key)
    new_state = MetaState(
        generation=state.generation + 1,
        strategy=strategy.tell(state.strategy, candidate_key, fitness),
        curriculum=curriculum.record(state.curriculum, levels, fitness),
    )
    return new_state, _metrics(program, state, new_state, levels, fitness)


def _metrics(
    program: Program,
    state: MetaState,
    new_state: MetaState,
    levels: Level,
    fitness: Float[Array, "groups size"],
) -> dict[str, Array]:
    finite = jnp.isfinite(fitness)
    count = jnp.maximum(jnp.sum(finite), 1)
    mean = jnp.sum(jnp.where(finite, fitness, 0.0)) / count
    deviation = jnp.where(finite, fitness - mean, 0.0)
    before = ravel_pytree(program.strategy.mean(state.strategy))[0]
    after = ravel_pytree(program.strategy.mean(new_state.strategy))[0]
    return {
        "fitness_mean": mean,
        "fitness_best": jnp.max(jnp.where(finite, fitness, -jnp.inf)),
        "fitness_std": jnp.sqrt(jnp.sum(deviation**2) / count),
        # NaN compares unequal to everything, itself included: a pair that died together agrees.
        "pair_agreement": jnp.mean(jnp.any(fitness != fitness[:, :1], axis=1) & jnp.any(finite, axis=1)),
        "nonfinite_candidates": jnp.sum(~finite),
        "meta_param_norm": jnp.linalg.norm(after),
        "update_norm": jnp.linalg.norm(after - before),
        "learning_rate": jnp.asarray(program.learning_rate(state.generation), jnp.float32),
        "sigma": program.strategy.sigma(state.strategy),
        "horizon_mean": jnp.mean(levels.horizon.astype(jnp.float32)),
        "updates": jnp.sum(levels.horizon) * fitness.shape[1],
    }
