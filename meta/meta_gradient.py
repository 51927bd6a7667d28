"""Meta-gradients (Oh et al. 2020, arXiv 2007.08794; GROOVE with a curriculum): one meta-step on one page.

Levels, lanes, curricula and host loop are those of evolution. The difference: agents live on from one
meta-step to the next, and the objective follows a gradient through their updates. Read `meta_step` first.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from rl_discovery.discovery.objectives.base import Objective
from rl_discovery.discovery.sharding import over_lanes, put, replicated
from rl_discovery.discovery.types import MetaParams
from rl_discovery.meta.curriculum import Curriculum, Played
from rl_discovery.meta.curriculum.base import empty_level_batch, masked_mean
from rl_discovery.meta.curriculum.references import add_references
from rl_discovery.meta.evolution.base import SIGNAL_METRICS
from rl_discovery.meta.keys import AGENTS, INIT, LANES, LEVELS, REFERENCES, keys_of_generation
from rl_discovery.meta.population import Advanced, LivingLanes, Population
from rl_discovery.meta.results import endless_share
from rl_discovery.meta.scale import choose
from rl_discovery.meta.task import Task


@struct.dataclass
class GradientState:
    """Everything that changes from meta-step to meta-step, and what a checkpoint holds.

    Attributes:
        generation: meta-steps done; with the seed, the whole random state.
        meta_params: of the objective.
        opt_state: of the meta-optimiser.
        curriculum: state of the curriculum.
        population: the agents.
        scale: factor on the step, halved where held-out fitness falls; None if unused.
    """

    generation: Int[Array, ""]
    meta_params: MetaParams
    opt_state: optax.OptState
    curriculum: Any
    population: Population
    scale: Float[Array, ""] | None = None


@dataclasses.dataclass(frozen=True)
class MetaGradient:
    """The static side of a run by meta-gradients."""

    seed: int
    objective: Objective
    task: Task
    lanes: LivingLanes
    learning_rate: float
    optimiser: optax.GradientTransformation
    reducible: bool = False

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The one environment of the run."""
        return (self.task,)

    @property
    def mesh(self) -> Mesh:
        """The devices that lanes are spread over."""
        return self.lanes.mesh

    @property
    def curriculum(self) -> Curriculum:
        """Which levels are played."""
        return self.task.curriculum

    def init(self, start: MetaParams | None = None) -> GradientState:
        """State before the first meta-step, with the meta-parameters `start`, if given."""
        meta_params = start
        if meta_params is None:
            meta_params = self.objective.init(jax.random.fold_in(jax.random.key(self.seed), INIT))
        level_batch = empty_level_batch(
            self.task.blank, self.lanes.config.lanes, scaled=self.task.planner is not None
        )
        return GradientState(
            generation=jnp.int32(0),
            meta_params=meta_params,
            opt_state=self.optimiser.init(meta_params),
            curriculum=self.curriculum.init(),
            population=self.lanes.init(level_batch),
            scale=jnp.float32(1) if self.reducible else None,
        )

    def place(self, state: GradientState) -> GradientState:
        """Spreads agents over the devices and copies everything else to each."""
        where = jax.tree.map(lambda _: replicated(self.mesh), state)
        train_states = jax.tree.map(lambda _: over_lanes(self.mesh), state.population.lives)
        where = dataclasses.replace(
            where, population=dataclasses.replace(where.population, lives=train_states)
        )
        return put(state, where)

    def step(self, state: GradientState) -> tuple[GradientState, dict[str, Array]]:
        """One meta-step."""
        return meta_step(self, state)

    def meta_params(self, state: GradientState) -> MetaParams:
        """The meta-parameters of the state."""
        return state.meta_params

    last_mean = meta_params


def meta_step(program: MetaGradient, state: GradientState) -> tuple[GradientState, dict[str, Array]]:
    """One meta-step: every agent trains on for K updates, and the objective follows the meta-gradient.

    Args:
        program: the static side of the run.
        state: before the meta-step.

    Returns:
        The state after it, and its metrics.
    """
    lanes, curriculum, population = program.lanes, program.curriculum, state.population
    keys = keys_of_generation(program.seed, state.generation)
    now, idle = state.generation, population.idle

    # 1. Lanes whose lifetime has ended get a new level, with the reference return that its score needs.
    playing, level_batch = curriculum.serve(state.curriculum, keys[LEVELS], now, idle)
    level_batch = add_references(program.task.references, level_batch, idle, keys[REFERENCES])
    level_batch = choose(idle, level_batch, population.served)
    # Replicate, or XLA would average over lanes device by device.
    level_batch = jax.lax.with_sharding_constraint(level_batch, replicated(program.mesh))
    done = jnp.where(idle, level_batch.levels.horizon, population.done)
    population = dataclasses.replace(population, served=level_batch, done=done)
    # 2. K updates of every agent, and the gradient of the meta-loss through them.
    gradient, advanced = lanes.advance(state.meta_params, population, keys[AGENTS], keys[LANES])
    # 3. The mean gradient over lanes moves the objective.
    meta_params, opt_state = _meta_update(program, state, gradient / jnp.maximum(jnp.sum(advanced.sound), 1))
    # 4. The curriculum records the lifetimes that ended in this meta-step.
    results, finished = advanced.results, advanced.finished
    played = Played(agent_return=results.mean_return, score=results.score, best_return=results.best_return)
    new_state = GradientState(
        generation=now + 1,
        meta_params=meta_params,
        opt_state=opt_state,
        curriculum=curriculum.record(playing, level_batch, played, finished, now),
        population=Population(
            lives=advanced.train_states,
            served=level_batch,
            done=advanced.done,
            fitness=jnp.where(finished, results.fitness, population.fitness),
        ),
        scale=state.scale,
    )
    metrics = _metrics(program, state, new_state, advanced, gradient)
    return new_state, metrics | curriculum.metrics(new_state.curriculum, level_batch, played, finished, now)


def _meta_update(
    program: MetaGradient, state: GradientState, gradient: Float[Array, " D"]
) -> tuple[MetaParams, optax.OptState]:
    _, unravel = ravel_pytree(state.meta_params)
    updates, opt_state = program.optimiser.update(unravel(gradient), state.opt_state, state.meta_params)
    if state.scale is not None:
        updates = jax.tree.map(lambda update: state.scale * update, updates)
    return optax.apply_updates(state.meta_params, updates), opt_state


def _metrics(
    program: MetaGradient,
    state: GradientState,
    new_state: GradientState,
    advanced: Advanced,
    gradient: Float[Array, " D"],
) -> dict[str, Array]:
    # The fitness of a lane is that of its last finished agent; NaN before there is one.
    fitness = new_state.population.fitness
    known = jnp.isfinite(fitness)
    mean = masked_mean(fitness, known)
    before, after = (ravel_pytree(program.meta_params(state))[0] for state in (state, new_state))
    sound = advanced.sound
    scale = 1.0 if state.scale is None else state.scale
    return {
        "fitness_mean": mean,
        "fitness_best": jnp.max(jnp.where(known, fitness, -jnp.inf)),
        "fitness_std": jnp.sqrt(masked_mean((fitness - mean) ** 2, known)),
        # Metrics of evolution alone, so that all runs have the same columns.
        "pair_agreement": jnp.float32(jnp.nan),
        "sigma": jnp.float32(jnp.nan),
        **dict.fromkeys(SIGNAL_METRICS, jnp.float32(jnp.nan)),
        "nonfinite_candidates": jnp.sum(~sound),
        "meta_param_norm": jnp.linalg.norm(after),
        "update_norm": jnp.linalg.norm(after - before),
        "meta_gradient_norm": jnp.linalg.norm(gradient) / jnp.maximum(jnp.sum(sound), 1),
        "learning_rate": scale * jnp.float32(program.learning_rate),
        "horizon_mean": jnp.mean(new_state.population.served.levels.horizon.astype(jnp.float32)),
        "lifetimes_ended": jnp.sum(advanced.finished),
        "endless": endless_share(fitness),
        "updates": jnp.sum(advanced.updates, keepdims=True),
    } | {f"meta_{name}": masked_mean(value, sound) for name, value in advanced.terms._asdict().items()}
