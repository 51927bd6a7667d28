"""Held-out evaluation: agents trained by the objective as it stands, on levels that training never serves.

Levels, their horizons and all random numbers come from a key of their own, so that they are the same in every
evaluation, and for every seed of a run with the same levels: curves of several runs may be compared. The
trainer calls this between two generations; nothing of a run's course depends on it.
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
"""What the key of seed 0 is folded with, which no generation's key is: no run counts that far."""

LEVELS, LANES = range(2)
"""What the key of an environment's held-out levels is folded with."""


@dataclasses.dataclass(frozen=True)
class _HeldOutLevels:
    """The held-out levels of one environment.

    Attributes:
        distribution: what they are sampled from.
        lanes: one agent per level.
        family: of the environment, which may know exact returns.
    """

    distribution: LevelDistribution
    lanes: Lanes
    family: Family

    def scale(self, key: Key[Array, ""]) -> Scale | None:
        """The exact ends of the score of each level; None where nobody knows them."""
        if self.family.expected_returns is None:
            return None
        params = held_out_levels(self.distribution, key, self.lanes.groups).params
        try:
            optimal, random = self.family.expected_returns(self.distribution.env, params)
        except ValueError:  # how a family says that this environment of it has none
            return None
        return Scale(optimal=optimal, random=random)

    def fitness(self, meta_params: MetaParams, key: Key[Array, ""]) -> Float[Array, " levels"]:
        """Of one agent per level, at the end of its lifetime; NaN where its parameters are not finite."""
        count = self.lanes.groups
        level_batch = not_replayed(held_out_levels(self.distribution, key, count), count)
        lanes_key = jax.random.fold_in(key, LANES)
        return self.lanes.run(Unchanged(meta_params), level_batch, lanes_key).fitness[:, 0]


def held_out_levels(distribution: LevelDistribution, key: Key[Array, ""], count: int) -> Level:
    """Levels with horizons spread evenly (in their logarithm) over the range of the run's.

    Level i depends on the key and i alone, but for its horizon. Where a distribution has few levels, as a
    named environment that has one, these are levels of training too: what is held out are the random numbers.
    """
    levels = jax.vmap(distribution.sample)(keys_of(jax.random.fold_in(key, LEVELS), count))
    low, high = distribution.horizon or (1, 1)
    quantiles = (jnp.arange(count) + 0.5) / count
    return Level(params=levels.params, horizon=jax.vmap(lambda q: log_uniform_int(q, low, high))(quantiles))


class HeldOut:
    """Evaluates the current objective of a run on its held-out levels.

    Args:
        config: of the run.
        program: its static side.
    """

    def __init__(self, config: RunConfig, program: Program) -> None:
        self.config = config.held_out
        self._program = program
        shares = config.tasks if config.held_out.every else ()
        self._environments = [
            _held_out(task, share, program) for share, task in zip(shares, program.tasks, strict=False)
        ]
        self._scales: list[Scale | None] = [None] * len(self._environments)
        self._compiled: Any = None

    def due(self, generation: int) -> bool:
        """Whether there is an evaluation after this generation."""
        return self.config.every > 0 and (generation + 1) % self.config.every == 0

    def due_between(self, first: int, end: int) -> bool:
        """Whether there is one after a generation from `first` to `end - 1`."""
        return self.config.every > 0 and end // self.config.every > first // self.config.every

    def compile(self, state: Any) -> None:
        """Prepares `evaluate` for states that lie where this one does."""
        where = replicated(self._program.mesh)
        self._scales = [
            environment.scale(self._key(FOLD, number))
            for number, environment in enumerate(self._environments)
        ]
        # The number is an operand, or XLA would spend its time on computing levels while it compiles.
        self._compiled = jax.jit(self.evaluation, out_shardings=where).lower(state, np.uint32(FOLD)).compile()

    def evaluate(self, state: Any) -> dict[str, float]:
        """Metrics of the objective after the generations of `state`; NaN where an agent is not finite."""
        found = wait_for(self._compiled(state, np.uint32(FOLD)))
        return {name: value.item() for name, value in found.items()}

    def evaluation(self, state: Any, fold: UInt32[Array, ""]) -> dict[str, Array]:
        """The same as arrays; fit for `jit`.

        `held_out_fitness` is the mean over environments of the mean over levels, `held_out_error` its
        standard error over the levels; with several environments each has a fitness of its own besides.
        `held_out_score` is the mean of the scores of levels whose exact returns are known.
        """
        meta_params = self._program.meta_params(state)
        fitness = [
            environment.fitness(meta_params, self._key(fold, number))
            for number, environment in enumerate(self._environments)
        ]
        means = jnp.stack([jnp.mean(values) for values in fitness])
        # Of one level nothing is known about the spread.
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
            names = (name_of(environment.lanes.learner.env) for environment in self._environments)
            metrics |= {f"held_out_fitness.{i}.{name}": means[i] for i, name in enumerate(names)}
        return metrics

    def _key(self, fold: UInt32[Array, ""] | int, number: int) -> Key[Array, ""]:
        """Of the levels of an environment, by its number."""
        return jax.random.fold_in(jax.random.fold_in(jax.random.key(0), fold), number)


def _held_out(task: Task, config: RunConfig, program: Program) -> _HeldOutLevels:
    """The held-out levels of one environment."""
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
