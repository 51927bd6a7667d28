"""Held-out evaluation: trains agents with the current objective, on levels that training never serves.

Levels, horizons and random numbers come from a fixed key, so that they are the same in every evaluation and
for every seed: curves of runs with the same level distribution can be compared. The trainer calls this
between generations; the run does not depend on the results.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt32

from rl_discovery.discovery.agents.spaces import name_of
from rl_discovery.discovery.keys import keys_of
from rl_discovery.discovery.sharding import replicated
from rl_discovery.discovery.types import MetaParams
from rl_discovery.envs.levels import Family, Level, LevelDistribution, log_uniform_int
from rl_discovery.meta.build import Program
from rl_discovery.meta.config import RunConfig
from rl_discovery.meta.curriculum import SCORES
from rl_discovery.meta.curriculum.base import not_replayed
from rl_discovery.meta.evolve import Lanes, Unchanged
from rl_discovery.meta.runs.signals import wait_for
from rl_discovery.meta.scale import Scale
from rl_discovery.meta.task import Task

FOLD = 0x4E1D0475
"""What the key of seed 0 is folded with; no run has so many generations."""

LEVELS, LANES = range(2)
"""What the key of an environment's held-out levels is folded with."""


@dataclasses.dataclass(frozen=True)
class _HeldOutLevels:
    """The held-out levels of one environment.

    Attributes:
        distribution: their source.
        lanes: one agent per level.
        family: of the environment; it may know exact returns.
    """

    distribution: LevelDistribution
    lanes: Lanes
    family: Family

    def scale(self, key: Key[Array, ""]) -> Scale | None:
        """Exact scale of each level; None if the environment has no exact returns."""
        params = held_out_levels(self.distribution, key, self.lanes.groups).params
        returns = self.family.exact_returns(self.distribution.env, params)
        return None if returns is None else Scale(*returns)

    def fitness(self, meta_params: MetaParams, key: Key[Array, ""]) -> Float[Array, " levels"]:
        """Fitness of one agent per level; NaN if its parameters are not finite."""
        count = self.lanes.groups
        level_batch = not_replayed(held_out_levels(self.distribution, key, count), count)
        lanes_key = jax.random.fold_in(key, LANES)
        return self.lanes.run(Unchanged(meta_params), level_batch, lanes_key).fitness[:, 0]


def held_out_levels(distribution: LevelDistribution, key: Key[Array, ""], count: int) -> Level:
    """Held-out levels, with horizons that are spread evenly on a log scale over the run's range.

    Level i, except for its horizon, depends only on the key and i. If a distribution has few levels (a named
    environment has one), they occur in training too, and only the random numbers are held out.
    """
    levels = jax.vmap(distribution.sample)(keys_of(jax.random.fold_in(key, LEVELS), count))
    low, high = distribution.horizon or (1, 1)
    quantiles = (jnp.arange(count) + 0.5) / count
    return Level(params=levels.params, horizon=jax.vmap(lambda q: log_uniform_int(q, low, high))(quantiles))


class HeldOut:
    """Evaluates the objective of a run on its held-out levels.

    Args:
        config: of the run.
        program: its static side.
    """

    def __init__(self, config: RunConfig, program: Program) -> None:
        self.config = config.held_out
        self._program = program
        shares = config.tasks if config.held_out.every else ()
        self.environments = [
            _held_out(task, share, program) for share, task in zip(shares, program.tasks, strict=False)
        ]
        self._scales: list[Scale | None] = [None] * len(self.environments)
        self._compiled: Any = None

    def due(self, generation: int) -> bool:
        """Whether there is an evaluation after this generation."""
        return self.config.every > 0 and (generation + 1) % self.config.every == 0

    def due_between(self, first: int, end: int) -> bool:
        """Whether an evaluation is due after one of the generations `first` to `end - 1`."""
        return self.config.every > 0 and end // self.config.every > first // self.config.every

    def compile(self, state: Any) -> None:
        """Compiles `evaluate` for states that are placed like this one."""
        where = replicated(self._program.mesh)
        self._scales = [
            environment.scale(self._key(FOLD, number)) for number, environment in enumerate(self.environments)
        ]
        # `FOLD` is an operand, or XLA would compute the levels while it compiles.
        self._compiled = jax.jit(self.evaluation, out_shardings=where).lower(state, np.uint32(FOLD)).compile()

    def evaluate(self, state: Any) -> dict[str, float]:
        """Metrics of the objective of `state`; NaN if an agent is not finite."""
        metrics = wait_for(self._compiled(state, np.uint32(FOLD)))
        return {name: value.item() for name, value in metrics.items()}

    def evaluation(self, state: Any, fold: UInt32[Array, ""]) -> dict[str, Array]:
        """`evaluate` as arrays; fit for `jit`.

        `held_out_fitness` is the mean over environments of the mean over levels, `held_out_error` its
        standard error over the levels. With several environments, each also has its own fitness.
        `held_out_score` is the mean score of levels with known exact returns.
        """
        meta_params = self._program.meta_params(state)
        fitness = [
            environment.fitness(meta_params, self._key(fold, number))
            for number, environment in enumerate(self.environments)
        ]
        means = jnp.stack([jnp.mean(values) for values in fitness])
        # A single level has no spread.
        errors = jnp.stack([jnp.std(values) / jnp.sqrt(max(values.size - 1, 1)) for values in fitness])
        metrics = {
            "held_out_fitness": jnp.mean(means),
            "held_out_error": jnp.linalg.norm(errors) / len(fitness),
        }
        known = [
            jnp.sum(scale.score(values)) / jnp.sum(scale.exists)
            for scale, values in zip(self._scales, fitness, strict=True)
            if scale is not None
        ]
        if known:
            metrics["held_out_score"] = jnp.mean(jnp.stack(known))
        if len(fitness) > 1:
            names = (name_of(environment.lanes.learner.env) for environment in self.environments)
            metrics |= {f"held_out_fitness.{i}.{name}": means[i] for i, name in enumerate(names)}
        return metrics

    def _key(self, fold: UInt32[Array, ""] | int, number: int) -> Key[Array, ""]:
        return jax.random.fold_in(jax.random.fold_in(jax.random.key(0), fold), number)


def _held_out(task: Task, config: RunConfig, program: Program) -> _HeldOutLevels:
    lanes = Lanes(
        learner=task.measured,
        score=SCORES["random"],
        first_group=0,
        groups=config.held_out.levels,
        group_size=1,
        block_size=config.block_size,
        mesh=program.mesh,
    )
    return _HeldOutLevels(distribution=task.distribution, lanes=lanes, family=task.family)
