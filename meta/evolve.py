"""Evolution of an objective, one generation on one page (Jackson et al. 2024, algorithm 1).

`generation` is the algorithm. Above it stand the state that it changes, the lanes in which it trains agents,
and the static side that it reads, which `meta.build` makes from a configuration.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax.flatten_util import ravel_pytree
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
from rl_discovery.meta.evolution.base import SIGNAL_METRICS, Candidates
from rl_discovery.meta.evolution.reduction import scale_perturbations, scale_step
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
from rl_discovery.meta.results import LaneResults, by_level, endless_share, evaluate_lane, inner_metrics
from rl_discovery.meta.task import Task


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


@dataclasses.dataclass(frozen=True)
class Evolution:
    """The static side of a run by evolution: what `generation` needs besides numbers."""

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
        """The devices that lanes are dealt to."""
        return self.lanes[0].mesh

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


class TaskResult(NamedTuple):
    """What came of one environment in a generation.

    Attributes:
        horizons: of its levels.
        fitness: of its share of the candidates.
        curriculum: its state afterwards.
        metrics: its own.
    """

    horizons: Int[Array, " groups"]
    fitness: Float[Array, "groups size"]
    curriculum: Any
    metrics: dict[str, Array]


def generation(program: Evolution, state: MetaState) -> tuple[MetaState, dict[str, Array]]:
    """One generation: tries a population of objectives on levels, and moves towards the better ones.

    Args:
        program: the static side.
        state: before the generation.

    Returns:
        The state after it, and the metrics of section 6.2 that depend on nothing but the state.
    """
    strategy = program.strategy
    keys = keys_of_generation(program.seed, state.generation)
    # 1. Candidates: theta + sigma eps and theta - sigma eps of every antithetic pair.
    candidates = strategy.ask(state.strategy, keys[CANDIDATES])
    candidates = scale_perturbations(strategy, state.strategy, candidates, state.scale)
    # 2. Each pair trains two agents from scratch on a level that the curriculum chooses.
    results = [
        _play(task, lanes, candidates, curriculum, state.generation, keys, number)
        for number, (task, lanes, curriculum) in enumerate(
            zip(program.tasks, program.lanes, state.curricula, strict=True)
        )
    ]
    # 3. Fitness: the return of the trained agents, on one scale where there are several environments.
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
    return new_state, _metrics(program, state, new_state, results, fitness, signal)


def _averaged(program: Evolution, state: MetaState, mean: MetaParams) -> MetaParams | None:
    """The running average with one more mean."""
    if program.average_decay is None:
        return None
    weight = jnp.maximum(1.0 - program.average_decay, 1.0 / (state.generation + 1))
    return jax.tree.map(lambda old, new: old + weight * (new - old), state.average, mean)


def _play(
    task: Task,
    lanes: Lanes,
    candidates: Candidates,
    curriculum: Any,
    generation: Int[Array, ""],
    keys: list[Key[Array, ""]],
    number: int,
) -> TaskResult:
    """One environment's share of a generation; `number` is the environment's."""
    # The first one's keys are those of a run on it alone; the lanes' keys differ by their groups.
    levels_key, references_key = (
        keys[use] if number == 0 else jax.random.fold_in(keys[TASKS], len(USES) * number + use)
        for use in (LEVELS, REFERENCES)
    )
    everywhere = jnp.ones(lanes.groups, bool)
    # a. Levels, replayed from the buffer or new; for the new ones, what their scores compare with.
    playing, level_batch = task.curriculum.serve(curriculum, levels_key, generation, everywhere)
    level_batch = add_references(task.references, level_batch, everywhere, references_key)
    # b. Lifetimes, and the evaluation of the agents at their end.
    results = lanes.run(candidates, level_batch, keys[LANES])
    # c. The buffer takes the new scores in, and evicts.
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
    results: list[TaskResult],
    fitness: Float[Array, "groups size"],
    signal: dict[str, Array],
) -> dict[str, Array]:
    finite = jnp.isfinite(fitness)
    mean, deviation = _moments(fitness)
    before, after = (ravel_pytree(program.last_mean(state))[0] for state in (state, new_state))
    horizons = jnp.concatenate([result.horizons for result in results])
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
        "updates": jnp.stack([jnp.sum(result.horizons) * result.fitness.shape[1] for result in results]),
    }
    if len(results) == 1:
        return metrics | results[0].metrics
    for number, (task, result) in enumerate(zip(program.tasks, results, strict=True)):
        own = result.metrics | {"fitness_mean": _moments(result.fitness)[0]}
        metrics |= {f"{name}.{number}.{task.name}": value for name, value in own.items()}
    return metrics
