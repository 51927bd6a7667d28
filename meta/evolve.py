"""One generation of evolution (Jackson et al. 2024, algorithm 1), as one pure function."""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Key

from rl_discovery.discovery.agents.spaces import name_of
from rl_discovery.discovery.objectives.base import Objective
from rl_discovery.discovery.sharding import put, replicated
from rl_discovery.discovery.types import MetaParams
from rl_discovery.meta.build import make_parts
from rl_discovery.meta.config import RunConfig
from rl_discovery.meta.curriculum import Curriculum
from rl_discovery.meta.curriculum.references import References, add_references
from rl_discovery.meta.errors import ConfigError
from rl_discovery.meta.evolution import Problem, Schedule, Strategy, make_strategy, schedules
from rl_discovery.meta.evolution.base import SIGNAL_METRICS, Candidates
from rl_discovery.meta.evolution.reduction import check_reducible, scale_perturbations, scale_step
from rl_discovery.meta.fitness import FITNESS
from rl_discovery.meta.keys import (
    CANDIDATES,
    INIT,
    LANES,
    LEVELS,
    REFERENCES,
    TASKS,
    USES,
    keys_of_generation,
)
from rl_discovery.meta.lanes import Lanes
from rl_discovery.meta.results import by_level, endless_share


@struct.dataclass
class MetaState:
    """Everything that changes from generation to generation, and all that a checkpoint must hold.

    Attributes:
        generation: generations done; with the seed, the whole random state.
        strategy: state of the evolution strategy.
        curricula: states of the curricula, one per environment.
        scale: factor on sigma and learning rate, halved where held-out fitness falls; None in runs that do
            something else then.
        average: running average of the strategy's means; None in runs without one.
    """

    generation: Int[Array, ""]
    strategy: Any
    curricula: tuple[Any, ...]
    scale: Float[Array, ""] | None = None
    average: MetaParams | None = None

    @property
    def curriculum(self) -> Any:
        """Of the first environment, which is the one that people look at."""
        return self.curricula[0]


@dataclasses.dataclass(frozen=True)
class Task:
    """One environment of a run, which is compiled once.

    Attributes:
        lanes: its share of the candidates, with the agents that they train on it.
        curriculum: which of its levels are played.
        references: what their scores compare with.
    """

    lanes: Lanes
    curriculum: Curriculum
    references: References

    @property
    def name(self) -> str:
        """Of the environment."""
        return name_of(self.lanes.learner.env)


@dataclasses.dataclass(frozen=True)
class Evolution:
    """The static side of a run by evolution: what `generation` needs besides numbers."""

    seed: int
    objective: Objective
    tasks: tuple[Task, ...]
    strategy: Strategy
    learning_rate: Schedule
    reducible: bool = False
    zero_mean: bool = False
    average_decay: float | None = None

    @property
    def mesh(self) -> Mesh:
        """The devices that lanes are dealt to."""
        return self.tasks[0].lanes.mesh

    @property
    def curriculum(self) -> Curriculum:
        """Of the first environment."""
        return self.tasks[0].curriculum

    def init(self, start: MetaParams | None = None) -> MetaState:
        """State before the first generation, around `start` where it is given."""
        key = jax.random.fold_in(jax.random.key(self.seed), INIT)
        meta_params = self.objective.init(key) if start is None else start
        if start is None and self.zero_mean:
            meta_params = jax.tree.map(jnp.zeros_like, meta_params)
        return MetaState(
            generation=jnp.int32(0),
            strategy=self.strategy.init(meta_params),
            curricula=tuple(task.curriculum.init() for task in self.tasks),
            scale=jnp.float32(1) if self.reducible else None,
            average=None if self.average_decay is None else meta_params,
        )

    def place(self, state: MetaState) -> MetaState:
        """Every device holds all of it."""
        return put(state, jax.tree.map(lambda _: replicated(self.mesh), state))

    def step(self, state: MetaState) -> tuple[MetaState, dict[str, Array]]:
        """One generation."""
        return generation(self, state)

    def meta_params(self, state: MetaState) -> MetaParams:
        """The average of the means, or the last mean where none is kept."""
        return self.last_mean(state) if state.average is None else state.average

    def last_mean(self, state: MetaState) -> MetaParams:
        """The mean that the next candidates are drawn around."""
        return self.strategy.mean(state.strategy)


def make_evolution(config: RunConfig) -> Evolution:
    """Builds the static side of a run by evolution.

    Raises:
        ConfigError, ValueError: parts that do not fit each other or this machine.
    """
    tasks = tuple(_task(part, config.devices, first) for part, first in _shares(config))
    learning_rate, sigma = schedules(config.es, config.generations)
    objective = config.build_objective()
    solution = jax.eval_shape(objective.init, jax.random.key(0))
    problem = Problem(
        solution=jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), solution),
        groups=config.groups,
        group_size=config.es.group_size,
        learning_rate=learning_rate,
        sigma=sigma,
        mesh=tasks[0].lanes.mesh,
        adam_b1=config.es.adam_b1,
        weight_decay=config.es.weight_decay,
        scales=_perturbation_scales(objective, solution) if config.es.sigma_per_part else None,
    )
    strategy = make_strategy(config.es.strategy, problem)
    if config.held_out.reduces:
        check_reducible(strategy, solution)
    return Evolution(
        seed=config.seed,
        objective=objective,
        tasks=tasks,
        strategy=strategy,
        learning_rate=learning_rate,
        reducible=config.held_out.reduces,
        zero_mean=config.es.initial_mean == "zeros",
        average_decay=config.es.average_decay,
    )


def _perturbation_scales(objective: Objective, solution: MetaParams) -> MetaParams:
    """The objective's factor for each tensor, in the structure of its meta-parameters; 1 where it names
    none.
    """
    by_name = objective.perturbation_scales()
    if by_name is None:
        raise ConfigError(f"es.sigma_per_part: {objective.name} does not say how its parts differ")
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.full(
            leaf.shape, by_name.get(jax.tree_util.keystr(path, simple=True, separator="/"), 1.0)
        ),
        solution,
    )


def _shares(config: RunConfig) -> Iterator[tuple[RunConfig, int]]:
    """The configuration of each environment, and the first of its groups."""
    first = 0
    for task in config.tasks:
        yield task, first
        first += task.groups


def _task(config: RunConfig, devices: int | None, first_group: int) -> Task:
    parts = make_parts(config, devices)
    fitness = FITNESS.find(config.fitness)
    lanes = Lanes(
        learner=dataclasses.replace(parts.learner, sums_rewards=fitness.reads_rewards),
        fitness=fitness,
        score=parts.curriculum.score,
        first_group=first_group,
        groups=config.groups,
        group_size=config.es.group_size,
        block_size=config.block_size,
        mesh=parts.mesh,
    )
    return Task(lanes=lanes, curriculum=parts.curriculum, references=parts.references)


class Turn(NamedTuple):
    """What came of one environment in a generation.

    Attributes:
        horizons: of the levels that were served.
        fitness: of its share of the candidates.
        curriculum: its state afterwards.
        metrics: its own.
    """

    horizons: Int[Array, " groups"]
    fitness: Float[Array, "groups size"]
    curriculum: Any
    metrics: dict[str, Array]


def generation(program: Evolution, state: MetaState) -> tuple[MetaState, dict[str, Array]]:
    """Serves levels, tries a population of objectives on them, and moves towards the better ones.

    Args:
        program: the static side.
        state: before the generation.

    Returns:
        The state after it, and the metrics of section 6.2 that depend on nothing but the state.
    """
    strategy = program.strategy
    keys = keys_of_generation(program.seed, state.generation)
    candidates = strategy.ask(state.strategy, keys[CANDIDATES])
    candidates = scale_perturbations(strategy, state.strategy, candidates, state.scale)
    turns = [
        _play(task, candidates, curriculum, state.generation, keys, number)
        for number, (task, curriculum) in enumerate(zip(program.tasks, state.curricula, strict=True))
    ]
    fitness = told = jnp.concatenate([turn.fitness for turn in turns])
    if len(turns) > 1:
        told = jnp.concatenate([_standardised(turn.fitness) for turn in turns])
    told_state = strategy.tell(state.strategy, keys[CANDIDATES], told)
    signal = strategy.signal(state.strategy, told_state, told) if hasattr(strategy, "signal") else {}
    strategy_state = scale_step(state.strategy, told_state, state.scale)
    new_state = MetaState(
        generation=state.generation + 1,
        strategy=strategy_state,
        curricula=tuple(turn.curriculum for turn in turns),
        scale=state.scale,
        average=_averaged(program, state, strategy.mean(strategy_state)),
    )
    return new_state, _metrics(program, state, new_state, turns, fitness, signal)


def _averaged(program: Evolution, state: MetaState, mean: MetaParams) -> MetaParams | None:
    """The running average with one more mean."""
    if program.average_decay is None:
        return None
    weight = jnp.maximum(1.0 - program.average_decay, 1.0 / (state.generation + 1))
    return jax.tree.map(lambda old, new: old + weight * (new - old), state.average, mean)


def _play(
    task: Task,
    candidates: Candidates,
    curriculum: Any,
    now: Int[Array, ""],
    keys: list[Key[Array, ""]],
    number: int,
) -> Turn:
    """One environment's share of a generation; `number` is the environment's."""
    # The first one's keys are those of a run on it alone; the lanes' keys differ by their groups.
    levels_key, references_key = (
        keys[use] if number == 0 else jax.random.fold_in(keys[TASKS], len(USES) * number + use)
        for use in (LEVELS, REFERENCES)
    )
    everywhere = jnp.ones(task.lanes.groups, bool)
    playing, level_batch = task.curriculum.serve(curriculum, levels_key, now, everywhere)
    level_batch = add_references(task.references, level_batch, everywhere, references_key)
    results = task.lanes.run(candidates, level_batch, keys[LANES])
    played = by_level(results)
    recorded = task.curriculum.record(playing, level_batch, played, everywhere, now)
    return Turn(
        horizons=level_batch.levels.horizon,
        fitness=results.fitness,
        curriculum=recorded,
        metrics=task.curriculum.metrics(recorded, level_batch, played, everywhere, now),
    )


def _standardised(fitness: Float[Array, "groups size"]) -> Float[Array, "groups size"]:
    """Mean 0 and deviation 1, so that no environment outweighs another by the scale of its returns."""
    mean, deviation = _moments(fitness)
    return (fitness - mean) / jnp.maximum(deviation, 1e-8)


def _moments(fitness: Float[Array, "groups size"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean and standard deviation of what is finite."""
    finite = jnp.isfinite(fitness)
    count = jnp.maximum(jnp.sum(finite), 1)
    mean = jnp.sum(jnp.where(finite, fitness, 0.0)) / count
    return mean, jnp.sqrt(jnp.sum(jnp.where(finite, fitness - mean, 0.0) ** 2) / count)


def _metrics(
    program: Evolution,
    state: MetaState,
    new_state: MetaState,
    turns: list[Turn],
    fitness: Float[Array, "groups size"],
    signal: dict[str, Array],
) -> dict[str, Array]:
    finite = jnp.isfinite(fitness)
    mean, deviation = _moments(fitness)
    before, after = (ravel_pytree(program.last_mean(state))[0] for state in (state, new_state))
    horizons = jnp.concatenate([turn.horizons for turn in turns])
    scale = 1.0 if state.scale is None else state.scale
    metrics = {
        "fitness_mean": mean,
        "fitness_best": jnp.max(jnp.where(finite, fitness, -jnp.inf)),
        "fitness_std": deviation,
        # NaN compares unequal to everything, itself included: a pair that died together agrees.
        "pair_agreement": jnp.mean(jnp.any(fitness != fitness[:, :1], axis=1) & jnp.any(finite, axis=1)),
        "nonfinite_candidates": jnp.sum(~finite),
        "meta_param_norm": jnp.linalg.norm(after),
        "update_norm": jnp.linalg.norm(after - before),
        "learning_rate": scale * jnp.asarray(program.learning_rate(state.generation), jnp.float32),
        "sigma": scale * program.strategy.sigma(state.strategy),
        "horizon_mean": jnp.mean(horizons.astype(jnp.float32)),
        **{name: signal.get(name, jnp.float32(jnp.nan)) for name in SIGNAL_METRICS},
        "endless": endless_share(fitness),
        "updates": jnp.stack([jnp.sum(turn.horizons) * turn.fitness.shape[1] for turn in turns]),
    }
    if len(turns) == 1:
        return metrics | turns[0].metrics
    for number, (task, turn) in enumerate(zip(program.tasks, turns, strict=True)):
        own = turn.metrics | {"fitness_mean": _moments(turn.fitness)[0]}
        metrics |= {f"{name}.{number}.{task.name}": value for name, value in own.items()}
    return metrics
