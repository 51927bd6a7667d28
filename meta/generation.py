"""One generation of evolution (Jackson et al. 2024, algorithm 1), as one pure function."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from discovery.blocks import replicated
from discovery.objectives.base import Objective
from discovery.types import MetaParams
from meta.config import RunConfig
from meta.curriculum import Curriculum, Served
from meta.evolution import Problem, Schedule, Strategy, make_strategy, schedules
from meta.keys import CANDIDATES, INIT, LANES, LEVELS, REFERENCES, keys_of_generation
from meta.lanes import Lanes
from meta.parts import make_parts
from meta.references import References, complete
from meta.results import by_level


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
class Evolution:
    """The static side of a run by evolution: what `generation` needs besides numbers."""

    seed: int
    lanes: Lanes
    strategy: Strategy
    curriculum: Curriculum
    references: References
    learning_rate: Schedule

    @property
    def objective(self) -> Objective:
        """The rule that is evolved."""
        return self.lanes.learner.objective

    @property
    def mesh(self) -> Mesh:
        """The devices that lanes are dealt to."""
        return self.lanes.mesh

    def init(self) -> MetaState:
        """State before the first generation."""
        key = jax.random.fold_in(jax.random.key(self.seed), INIT)
        meta_params = self.objective.init(key)
        return MetaState(
            generation=jnp.int32(0),
            strategy=self.strategy.init(meta_params),
            curriculum=self.curriculum.init(),
        )

    def place(self, state: MetaState) -> MetaState:
        """Every device holds all of it."""
        return jax.device_put(state, replicated(self.mesh))

    def step(self, state: MetaState) -> tuple[MetaState, dict[str, Array]]:
        """One generation."""
        return generation(self, state)

    def meta_params(self, state: MetaState) -> MetaParams:
        """The mean of the candidates."""
        return self.strategy.mean(state.strategy)


def make_evolution(config: RunConfig) -> Evolution:
    """Builds the static side of a run by evolution.

    Raises:
        ConfigError, ValueError: parts that do not fit each other or this machine.
    """
    parts = make_parts(config, config.devices)
    learning_rate, sigma = schedules(config.es)
    solution = jax.eval_shape(parts.objective.init, jax.random.key(0))
    problem = Problem(
        solution=jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), solution),
        groups=config.groups,
        group_size=config.es.group_size,
        learning_rate=learning_rate,
        sigma=sigma,
        mesh=parts.mesh,
    )
    return Evolution(
        seed=config.seed,
        lanes=Lanes(
            learner=parts.learner,
            score=parts.curriculum.score,
            groups=config.groups,
            group_size=config.es.group_size,
            block_size=config.block_size,
            mesh=parts.mesh,
        ),
        strategy=make_strategy(config.es.strategy, problem),
        curriculum=parts.curriculum,
        references=parts.references,
        learning_rate=learning_rate,
    )


def generation(program: Evolution, state: MetaState) -> tuple[MetaState, dict[str, Array]]:
    """Serves levels, tries a population of objectives on them, and moves towards the better ones.

    Args:
        program: the static side.
        state: before the generation.

    Returns:
        The state after it, and the metrics of section 6.2 that depend on nothing but the state.
    """
    lanes, strategy, curriculum = program.lanes, program.strategy, program.curriculum
    keys = keys_of_generation(program.seed, state.generation)
    now, everywhere = state.generation, jnp.ones(lanes.groups, bool)

    playing, served = curriculum.serve(state.curriculum, keys[LEVELS], now, everywhere)
    served = complete(program.references, served, everywhere, keys[REFERENCES])
    candidates = strategy.ask(state.strategy, keys[CANDIDATES])
    results = lanes.run(candidates, served, keys[LANES])
    played = by_level(results)
    new_state = MetaState(
        generation=now + 1,
        strategy=strategy.tell(state.strategy, keys[CANDIDATES], results.fitness),
        curriculum=curriculum.record(playing, served, played, everywhere, now),
    )
    metrics = _metrics(program, state, new_state, served, results.fitness)
    return new_state, metrics | curriculum.metrics(new_state.curriculum, served, played, everywhere, now)


def _metrics(
    program: Evolution,
    state: MetaState,
    new_state: MetaState,
    served: Served,
    fitness: Float[Array, "groups size"],
) -> dict[str, Array]:
    finite = jnp.isfinite(fitness)
    count = jnp.maximum(jnp.sum(finite), 1)
    mean = jnp.sum(jnp.where(finite, fitness, 0.0)) / count
    deviation = jnp.where(finite, fitness - mean, 0.0)
    before, after = (ravel_pytree(program.meta_params(state))[0] for state in (state, new_state))
    horizon = served.levels.horizon
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
        "horizon_mean": jnp.mean(horizon.astype(jnp.float32)),
        "updates": jnp.sum(horizon) * fitness.shape[1],
    }
