"""The evaluation protocol: train agents from scratch with an objective, on levels it never saw.

Every seed trains one agent on every level of every environment of a suite, at every horizon. The
lanes of an environment run through the same blocks as in meta-training. `scripts.evaluate` calls it.

Random numbers: a lane's key depends on (seed, level index) alone, so all objectives start from the
same agents and meet the same random numbers. The seed's key is folded with `LIFETIMES_FOLD` first.
Meta-training folds its seeds with counters (generations, lanes), which never get that far, and levels
are drawn with a third fold (`envs.suites.EVALUATION_FOLD`): no key here is a key there, whatever the
seeds. Within a lane, `discovery.lifetime` keeps first agent, updates and final evaluation apart.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments.environment import Environment
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Key

from discovery.agents.agent import AgentConfig
from discovery.blocks import run_blocks
from discovery.keys import keys_of
from discovery.lifetime import Learner, evaluate_block, make_learner, train_block
from discovery.objectives.base import Objective, TrainedObjective
from discovery.settings import default_config
from discovery.types import EnvParams, MetaParams
from envs import registry
from envs.suites import Suite
from evaluation.results import Cell, Results

LIFETIMES_FOLD = 0x5EEDA6E7
"""What a seed's key is folded with before anything else, see above."""

LEVELS_SEED = 0
"""Of the suite's levels: they are the same for all seeds, so that seeds differ by learning alone."""

MIN_SPAN = 0.02
"""A level where the best policy gains less return than this over the random one has no score.

Below it the sampling noise of a return alone would be worth several units of score."""

EPISODES = 64
"""Episodes that a trained agent's return is the mean of, however many workers it learned with."""

WORKERS_PER_BLOCK = 128
"""Environments that run side by side on a device unless told otherwise: 8 lanes of 16 workers, 2 of 64.
Small blocks stay in a CPU core's cache (docs/performance.md)."""


class EvaluationError(ValueError):
    """Something was asked for that cannot be evaluated; the message is for a person."""


class Stage(NamedTuple):
    """What the protocol is about to do; `done` is the share of all environment steps behind it, in [0, 1]."""

    objective: str
    environment: str
    horizon: int
    done: float


@dataclasses.dataclass(frozen=True)
class Task:
    """An environment of the suite with its levels and the ends of its score.

    Attributes:
        name, env: the environment.
        levels: a batch of its parameters, leading axis first.
        optimal: expected return of the best policy per level; NaN where unknown.
        random: expected return of the uniformly random policy per level; NaN where unknown.
    """

    name: str
    env: Environment
    levels: EnvParams
    optimal: Float[np.ndarray, " levels"]
    random: Float[np.ndarray, " levels"]

    def agent_for(self, rule: Objective, workers: int | None) -> AgentConfig:
        """The settings of agents that learn it with this rule, with as many workers as were asked for."""
        config = default_config(self.env, _first(self.levels), rule)
        return config if workers is None else dataclasses.replace(config, workers=workers)

    def scores(self, returns: Float[np.ndarray, "seeds levels"]) -> Float[np.ndarray, "seeds levels"]:
        """Returns between 0 (random policy) and 1 (best policy); NaN where a level has no such scale."""
        span = self.optimal - self.random
        scored = span > MIN_SPAN  # False for NaN
        return np.where(scored, (returns - self.random) / np.where(scored, span, 1.0), np.nan)


@dataclasses.dataclass(frozen=True)
class Trial:
    """One objective on one environment.

    Attributes:
        task: the environment.
        label: what the results call the objective.
        objective: what the agents learn with.
        agent: their settings.
    """

    task: Task
    label: str
    objective: TrainedObjective
    agent: AgentConfig

    def env_steps(self, updates: int) -> int:
        """Steps that each agent makes in so many updates."""
        return updates * self.agent.steps_per_update


def evaluate(
    objectives: Mapping[str, TrainedObjective],
    suite: Suite,
    horizons: Sequence[int],
    seeds: Sequence[int],
    *,
    mesh: Mesh,
    workers: int | None = None,
    block_size: int | None = None,
    progress: Callable[[Stage], None] = lambda stage: None,
) -> Results:
    """Trains agents from scratch with each objective and measures what they reach.

    Args:
        objectives: by the label that the results give them.
        suite: the environments.
        horizons: lifetimes in the suite's unit.
        seeds: one agent per seed and level.
        mesh: the devices; results do not depend on it.
        workers: W of every agent (default: the published number for environment and rule).
        block_size: lanes that run side by side; results depend on it in the last bits, which sampled
            actions amplify (default: `WORKERS_PER_BLOCK` environments).
        progress: called before each (environment, objective, horizon) and once at the end.

    Returns:
        Every seed, and aggregates over seeds and environments.

    Raises:
        EvaluationError: nothing to do, a number that makes no sense, or continuous actions with a rule for
            discrete ones; named.
        UnknownNameError: the suite names an environment that does not exist.
    """
    _check(objectives, horizons, seeds, workers, block_size)
    tasks = [prepare(*environment) for environment in suite.levels(LEVELS_SEED)]
    trials = [
        Trial(task, label, objective, task.agent_for(objective.rule, workers))
        for task in tasks
        for label, objective in objectives.items()
    ]
    updates = [[updates_of(n, suite.unit, trial.agent) for n in horizons] for trial in trials]
    work = sum(trial.env_steps(sum(counts)) for trial, counts in zip(trials, updates, strict=True))
    done = 0
    cells: list[Cell] = []
    stage = Stage("", "", 0, 0.0)
    # All of them first: what cannot be trained is refused before anything is.
    trainers = [_trainer(trial, seeds, mesh, block_size) for trial in trials]
    for trial, counts, train in zip(trials, updates, trainers, strict=True):
        for horizon, count in zip(horizons, counts, strict=True):
            stage = Stage(trial.label, trial.task.name, horizon, done / work)
            progress(stage)
            cells += _cells(trial, suite.name, horizon, count, seeds, train(count))
            done += trial.env_steps(count)
    progress(stage._replace(done=1.0))
    return Results.of(cells)


def prepare(name: str, env: Environment, levels: EnvParams) -> Task:
    """An environment with, where its family has them, exact bounds."""
    return Task(name, env, levels, *reference_returns(name, env, levels))


def reference_returns(
    name: str, env: Environment, levels: EnvParams
) -> tuple[Float[np.ndarray, " levels"], Float[np.ndarray, " levels"]]:
    """Exact expected returns of the best and of the random policy per level; NaN where nobody knows them."""
    family = registry.families().get(name.partition("/")[0])
    unknown = np.full(_count(levels), np.nan)
    if family is None or family.expected_returns is None:
        return unknown, unknown
    try:
        optimal, random = family.expected_returns(env, levels)
    except ValueError:  # how a family says that this environment of it has none
        return unknown, unknown
    return np.asarray(optimal, np.float64), np.asarray(random, np.float64)


def updates_of(horizon: int, unit: str, config: AgentConfig) -> int:
    """A horizon in agent updates.

    Raises:
        EvaluationError: fewer environment steps than one update takes.
    """
    if unit == "updates":
        return horizon
    per_update = config.steps_per_update
    if horizon < per_update:
        raise EvaluationError(
            f"a horizon of {horizon} env steps is less than one update, which takes {per_update}"
        )
    return horizon // per_update


def default_block_size(config: AgentConfig) -> int:
    """Lanes that run side by side on a device unless told otherwise."""
    return max(1, WORKERS_PER_BLOCK // config.workers)


def lane_keys(seeds: Sequence[int], levels: int) -> Key[Array, " lanes"]:
    """A key per (seed, level), seeds first; see the module's text."""
    first = [jax.random.fold_in(jax.random.key(seed), LIFETIMES_FOLD) for seed in seeds]
    return jnp.concatenate([keys_of(key, levels) for key in first])


def _trainer(
    trial: Trial, seeds: Sequence[int], mesh: Mesh, block_size: int | None
) -> Callable[[int], Float[np.ndarray, "seeds levels"]]:
    """From a number of updates to returns; compiles at the first call, whatever the number."""
    task, objective = trial.task, trial.objective
    level = _first(task.levels)
    try:
        learner = make_learner(task.env, level, trial.agent, objective.rule)
    except ValueError as error:  # an environment that no agent of ours fits
        raise EvaluationError(str(error)) from error
    size = block_size or default_block_size(trial.agent)
    levels = _count(task.levels)
    keys = lane_keys(seeds, levels)
    run = jax.jit(functools.partial(train_lanes, learner, mesh, size))

    def train(updates: int) -> Float[np.ndarray, "seeds levels"]:
        returns = run(objective.meta_params, task.levels, keys, jnp.int32(updates))
        return np.asarray(returns, np.float64).reshape(len(seeds), levels)

    return train


def train_lanes(
    learner: Learner,
    mesh: Mesh,
    block_size: int,
    meta_params: MetaParams,
    levels: EnvParams,
    keys: Key[Array, " lanes"],
    updates: Int[Array, ""],
) -> Float[Array, " lanes"]:
    """Returns at the end of one lifetime per key, in blocks over the mesh.

    Args:
        learner: the static side.
        mesh: the devices.
        block_size: lanes that run side by side.
        meta_params: of the objective, the same for all lanes.
        levels: a batch of levels; lane i plays level i modulo their number.
        keys: one per lane.
        updates: N of all lanes.

    Returns:
        Mean undiscounted return of `EPISODES` episodes.
    """
    examiner = dataclasses.replace(learner, agent=dataclasses.replace(learner.agent, workers=EPISODES))
    lanes, count = keys.shape[0], _count(levels)

    def task(operands: Any, numbers: Int[Array, " size"]) -> Float[Array, " size"]:
        meta_params, levels, keys, updates = operands
        # Padding lanes learn nothing, and their last episode is that of a lane beside them.
        horizons = jnp.where(numbers < lanes, updates, 0)
        lane = jnp.minimum(numbers, lanes - 1)
        mine = jax.tree.map(lambda leaf: leaf[lane % count], levels)
        shared = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (block_size, *leaf.shape)), meta_params)
        lives = train_block(learner, shared, mine, horizons, keys[lane])
        return evaluate_block(examiner, lives, mine, keys[lane])

    # Lifetimes take equally long; what differs is the last episode.
    steps = updates * learner.rollout_steps + levels.max_steps_in_episode
    costs = jnp.tile(jnp.broadcast_to(steps, (count,)), lanes // count).astype(jnp.float32)
    return run_blocks(task, (meta_params, levels, keys, updates), costs, block_size, mesh)


def _cells(
    trial: Trial,
    suite: str,
    horizon: int,
    updates: int,
    seeds: Sequence[int],
    returns: Float[np.ndarray, "seeds levels"],
) -> Iterator[Cell]:
    """One cell per seed: means over its levels."""
    task = trial.task
    scores = task.scores(returns)
    scored = task.optimal - task.random > MIN_SPAN
    for seed, of_levels, scores_of_levels in zip(seeds, returns, scores, strict=True):
        yield Cell(
            objective=trial.label,
            suite=suite,
            environment=task.name,
            horizon=horizon,
            seed=seed,
            return_=float(np.mean(of_levels)),
            score=float(np.mean(scores_of_levels[scored])) if scored.any() else None,
            updates=updates,
            env_steps=trial.env_steps(updates),
            levels=len(of_levels),
            unscored_levels=int(np.sum(~scored)),
        )


def _check(
    objectives: Mapping[str, TrainedObjective],
    horizons: Sequence[int],
    seeds: Sequence[int],
    workers: int | None,
    block_size: int | None,
) -> None:
    """Refuses what cannot be evaluated, before anything is computed."""
    for name, values in (("objectives", objectives), ("horizons", horizons), ("seeds", seeds)):
        if len(values) == 0:
            raise EvaluationError(f"{name} must not be empty")
    for name, values in (("horizons", horizons), ("seeds", seeds)):
        if len(set(values)) < len(values):
            raise EvaluationError(f"{name} must differ from each other, not {tuple(values)}")
    if min(horizons) < 1:
        raise EvaluationError(f"horizons must be at least 1, not {min(horizons)}")
    if min(seeds) < 0:
        raise EvaluationError(f"seeds must not be negative, not {min(seeds)}")
    for name, number in (("workers", workers), ("block_size", block_size)):
        if number is not None and number < 1:
            raise EvaluationError(f"{name} must be at least 1, not {number}")


def _first(levels: EnvParams) -> Any:
    """One level of a batch, for what depends on shapes only."""
    return jax.tree.map(lambda leaf: leaf[0], levels)


def _count(levels: EnvParams) -> int:
    """Number of levels in a batch."""
    return jax.tree.leaves(levels)[0].shape[0]
