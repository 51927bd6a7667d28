"""Evolution of an objective: one generation on one page (Jackson et al. 2024, algorithm 1).

Read `generation` first: it is the algorithm. Above it are the state that it changes, the lanes that train
agents, and the static side of a run, which `meta.build` makes from a configuration.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Key

from rl_discovery.discovery.keys import keys_of
from rl_discovery.discovery.learning.lifetime import Learner, train_block
from rl_discovery.discovery.objectives.base import Objective
from rl_discovery.discovery.sharding import put, replicated, run_blocks
from rl_discovery.discovery.types import MetaParams
from rl_discovery.meta.curriculum import Curriculum, LevelBatch, Score
from rl_discovery.meta.curriculum.references import add_references
from rl_discovery.meta.evolution import Schedule, Strategy
from rl_discovery.meta.evolution.base import Candidates
from rl_discovery.meta.evolution.reduction import scale_perturbations, scale_step
from rl_discovery.meta.evolution_metrics import evolution_metrics, moments
from rl_discovery.meta.fitness import FITNESS, Fitness
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
from rl_discovery.meta.results import LaneResults, by_level, evaluate_lane, inner_metrics
from rl_discovery.meta.task import Task


@struct.dataclass
class MetaState:
    """Everything that changes from generation to generation, and what a checkpoint holds.

    Attributes:
        generation: generations done; with the seed, the whole random state.
        strategy: state of the evolution strategy.
        curricula: state of the curriculum of each environment.
        scale: factor on sigma and learning rate, halved where held-out fitness falls; None if unused.
        average: running average of the strategy's means; None if unused.
    """

    generation: Int[Array, ""]
    strategy: Any
    curricula: tuple[Any, ...]
    scale: Float[Array, ""] | None = None
    average: MetaParams | None = None

    @property
    def curriculum(self) -> Any:
        """State of the first environment's curriculum, which the gallery shows."""
        return self.curricula[0]


@struct.dataclass
class Unchanged:
    """Candidates that are all the same objective, for held-out evaluation."""

    meta_params: MetaParams

    def member(self, group: Int[Array, ""], member: Int[Array, ""]) -> MetaParams:
        """The same meta-parameters for every candidate."""
        del group, member
        return self.meta_params


@dataclasses.dataclass(frozen=True)
class Lanes:
    """The static side of one environment's lanes.

    Attributes:
        learner: environment, agent and objective.
        score: what the curriculum computes of each lane.
        first_group: number of the first group; other environments have the groups before it.
        groups: levels per generation.
        group_size: candidates per level.
        block_size: lanes that one device runs together.
        mesh: the devices.
        fitness: what is selected for. Where it reads rewards, the learner must sum them.
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
        """Trains an agent from scratch in every lane and evaluates it.

        Candidates are made inside their block and agents never leave it: memory grows with the block, not
        with lanes or steps. The members of a group share level, initial agent and all random numbers,
        whatever block or device they run on.

        Args:
            candidates: the generation's candidates.
            level_batch: one level with its horizon per group.
            key: of all lanes of the generation.

        Returns:
            Results by group and member.
        """

        def run(operands: Any, lanes: Int[Array, " L"]) -> LaneResults:
            candidates, level_batch, key = operands
            levels = level_batch.levels
            members, groups = lanes % self.group_size, lanes // self.group_size
            # Padding lanes read the last group (gathers clamp), and a horizon of 0 makes them cost nothing.
            horizons = jnp.where(groups < self.groups, levels.horizon[groups], 0)
            params = jax.tree.map(lambda x: x[groups], levels.params)
            keys = keys_of(key, self.first_group + groups)
            meta_params = jax.vmap(candidates.member)(self.first_group + groups, members)
            # Train: one whole lifetime per lane.
            train_states = train_block(self.learner, meta_params, params, horizons, keys)
            # Evaluate the final agents.
            evaluate = functools.partial(evaluate_lane, self.learner, self.score, fitness=self.fitness)
            return jax.vmap(evaluate)(
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


@dataclasses.dataclass(frozen=True)
class Evolution:
    """The static side of a run by evolution."""

    seed: int
    objective: Objective
    tasks: tuple[Task, ...]
    lanes: tuple[Lanes, ...]  # of each task
    strategy: Strategy
    learning_rate: Schedule
    reducible: bool = False
    zero_mean: bool = False
    average_decay: float | None = None

    @property
    def mesh(self) -> Mesh:
        """The devices that run the lanes."""
        return self.lanes[0].mesh

    @property
    def curriculum(self) -> Curriculum:
        """Curriculum of the first environment."""
        return self.tasks[0].curriculum

    def init(self, start: MetaParams | None = None) -> MetaState:
        """State before the first generation; its mean is `start`, if given."""
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
        """Copies the state to every device."""
        return put(state, jax.tree.map(lambda _: replicated(self.mesh), state))

    def step(self, state: MetaState) -> tuple[MetaState, dict[str, Array]]:
        """One generation."""
        return generation(self, state)

    def meta_params(self, state: MetaState) -> MetaParams:
        """What is saved and evaluated: the average of the means, or the last mean if there is no average."""
        return self.last_mean(state) if state.average is None else state.average

    def last_mean(self, state: MetaState) -> MetaParams:
        """The mean around which the next candidates are drawn."""
        return self.strategy.mean(state.strategy)


class TaskResult(NamedTuple):
    """One environment's part of a generation; `curriculum` is the state after it."""

    horizons: Int[Array, " groups"]
    fitness: Float[Array, "groups size"]
    curriculum: Any
    metrics: dict[str, Array]


def generation(program: Evolution, state: MetaState) -> tuple[MetaState, dict[str, Array]]:
    """One generation: evaluates a population of objectives on levels, and moves towards the better ones.

    Args:
        program: the static side of the run.
        state: before the generation.

    Returns:
        The state after it and the generation's metrics, both functions of the state alone.
    """
    strategy = program.strategy
    keys = keys_of_generation(program.seed, state.generation)
    # 1. Candidates: theta + sigma eps and theta - sigma eps of every antithetic pair.
    # `evolution.open_es.noise` draws eps where it is used, as a function of this key and the pair's number.
    candidates = strategy.ask(state.strategy, keys[CANDIDATES])
    candidates = scale_perturbations(strategy, state.strategy, candidates, state.scale)
    # 2. Each pair trains two agents from scratch on a level that the curriculum chooses.
    results = [
        _run_task(task, lanes, candidates, curriculum, state.generation, keys, number)
        for number, (task, lanes, curriculum) in enumerate(
            zip(program.tasks, program.lanes, state.curricula, strict=True)
        )
    ]
    # 3. Fitness of the trained agents; several environments are brought to one scale.
    fitness = comparable = jnp.concatenate([result.fitness for result in results])
    if len(results) > 1:
        comparable = jnp.concatenate([_standardised(result.fitness) for result in results])
    # 4. The mean moves towards the better member of each pair.
    after_tell = strategy.tell(state.strategy, keys[CANDIDATES], comparable)
    signal = strategy.signal(state.strategy, after_tell, comparable) if hasattr(strategy, "signal") else {}
    strategy_state = scale_step(state.strategy, after_tell, state.scale)
    # 5. The running average of the means is what is saved, evaluated and shipped.
    new_state = MetaState(
        generation=state.generation + 1,
        strategy=strategy_state,
        curricula=tuple(result.curriculum for result in results),
        scale=state.scale,
        average=_averaged(program, state, strategy.mean(strategy_state)),
    )
    return new_state, evolution_metrics(program, state, new_state, results, fitness, signal)


def _averaged(program: Evolution, state: MetaState, mean: MetaParams) -> MetaParams | None:
    if program.average_decay is None:
        return None
    weight = jnp.maximum(1.0 - program.average_decay, 1.0 / (state.generation + 1))
    return jax.tree.map(lambda old, new: old + weight * (new - old), state.average, mean)


def _run_task(
    task: Task,
    lanes: Lanes,
    candidates: Candidates,
    curriculum: Any,
    generation: Int[Array, ""],
    keys: list[Key[Array, ""]],
    number: int,
) -> TaskResult:
    # Environment 0 has the keys of a run on it alone. Keys of lanes differ by the number of their group.
    levels_key, references_key = (
        keys[use] if number == 0 else jax.random.fold_in(keys[TASKS], len(USES) * number + use)
        for use in (LEVELS, REFERENCES)
    )
    everywhere = jnp.ones(lanes.groups, bool)
    # a. Levels, replayed from the buffer or new; new ones get the reference return that their score needs.
    playing, level_batch = task.curriculum.serve(curriculum, levels_key, generation, everywhere)
    level_batch = add_references(task.references, level_batch, everywhere, references_key)
    # b. Lifetimes of agents, and their evaluation.
    results = lanes.run(candidates, level_batch, keys[LANES])
    # c. The buffer records the scores, takes in new levels and evicts others (`curriculum.buffer.insert`).
    played = by_level(results)
    recorded = task.curriculum.record(playing, level_batch, played, everywhere, generation)
    return TaskResult(
        horizons=level_batch.levels.horizon,
        fitness=results.fitness,
        curriculum=recorded,
        metrics=task.curriculum.metrics(recorded, level_batch, played, everywhere, generation)
        | inner_metrics(results),
    )


def _standardised(fitness: Float[Array, "groups size"]) -> Float[Array, "groups size"]:
    # Mean 0 and deviation 1: no environment outweighs another by the scale of its returns.
    mean, deviation = moments(fitness)
    return (fitness - mean) / jnp.maximum(deviation, 1e-8)
