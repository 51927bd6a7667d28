"""evosax's other strategies, which hold the whole population on every device: for small models.

Strategies with antithetic pairs (PGPE) use ranks within pairs, the others centred ranks of the fitness,
normalised per level.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from evosax import algorithms
from flax import struct
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, Key

from rl_discovery.discovery.types import MetaParams
from rl_discovery.meta.evolution.base import Problem
from rl_discovery.meta.evolution.shaping import centred_ranks, pair_ranks


@struct.dataclass
class PopulationCandidates:
    """Candidates as rows of a matrix; in evosax the partner of row i is row i + P."""

    population: Float[Array, "candidates D"]
    groups: int = struct.field(pytree_node=False)
    unravel: Any = struct.field(pytree_node=False)

    def member(self, group: Int[Array, ""], member: Int[Array, ""]) -> MetaParams:
        """One candidate: row `group + member * groups`."""
        return self.unravel(self.population[group + member * self.groups])


@dataclasses.dataclass(frozen=True)
class EvosaxStrategy:
    """A population strategy of evosax behind our interface.

    Attributes:
        problem: solution, population and schedules.
        make: builds the evosax algorithm from population size, solution and shaping.
        initial_params: sets evosax's parameters (the initial scale among them) from its defaults.
        antithetic: whether rows i and i + P mirror each other.
    """

    problem: Problem
    make: Callable[[int, MetaParams, Problem], Any]
    initial_params: Callable[[Any, Problem], Any]
    antithetic: bool

    def __post_init__(self) -> None:
        self.problem.check_plain(type(self.evosax).__name__)
        if self.antithetic and self.problem.group_size != 2:
            raise ValueError(f"antithetic pairs need es.group_size 2, not {self.problem.group_size}")

    @property
    def evosax(self) -> Any:
        """The algorithm."""
        problem = self.problem
        return self.make(problem.groups * problem.group_size, problem.solution, problem)

    @property
    def params(self) -> Any:
        """evosax's parameters."""
        return self.initial_params(self.evosax.default_params, self.problem)

    def init(self, mean: MetaParams) -> Any:
        """evosax's state around `mean`."""
        return self.evosax.init(jax.random.key(0), mean, self.params)

    def ask(self, state: Any, key: Key[Array, ""]) -> PopulationCandidates:
        """All candidates at once."""
        population, _ = self._ask(state, key)
        _, unravel = ravel_pytree(self.problem.solution)
        flat = jax.vmap(lambda member: ravel_pytree(member)[0])(population)
        return PopulationCandidates(population=flat, groups=self.problem.groups, unravel=unravel)

    def tell(self, state: Any, key: Key[Array, ""], fitness: Float[Array, "groups size"]) -> Any:
        """evosax's update with the shaped fitness, negated because evosax minimises."""
        shaped = pair_ranks(fitness) if self.antithetic else centred_ranks(fitness)
        population, state = self._ask(state, key)
        # (group, member) to evosax's row member * groups + group.
        return self.evosax.tell(key, population, -shaped.T.ravel(), state, self.params)[0]

    def mean(self, state: Any) -> MetaParams:
        """The distribution's mean."""
        return self.evosax.get_mean(state)

    def sigma(self, state: Any) -> Float[Array, ""]:
        """Mean over dimensions of the scale, which these strategies (but for PGPE) adapt themselves."""
        return jnp.mean(state.std)

    def _ask(self, state: Any, key: Key[Array, ""]) -> tuple[Any, Any]:
        return self.evosax.ask(key, state, self.params)


def _scale(params: Any, problem: Problem) -> Any:
    # evosax's default is 1.
    return params.replace(std_init=jnp.asarray(problem.sigma(0), jnp.float32))


def _identity(population: Any, fitness: Array, state: Any, params: Any) -> Array:
    del population, state, params
    return fitness


def snes(problem: Problem) -> EvosaxStrategy:
    """Separable natural evolution strategy (Wierstra et al. 2014); the learning rate is 1 by design."""
    return EvosaxStrategy(
        problem, lambda size, solution, _: algorithms.SNES(size, solution), _scale, antithetic=False
    )


def pgpe(problem: Problem) -> EvosaxStrategy:
    """Parameter-exploring policy gradients (Sehnke et al. 2010) with Adam.

    Its scale never changes here: that would need comparisons between pairs, and each has its own level.
    """

    def make(size: int, solution: MetaParams, problem: Problem) -> Any:
        optimizer = optax.adam(problem.learning_rate, b1=problem.adam_b1)
        return algorithms.PGPE(size, solution, optimizer=optimizer, fitness_shaping_fn=_identity)

    return EvosaxStrategy(problem, make, _scale, antithetic=True)


def cma_es(problem: Problem) -> EvosaxStrategy:
    """CMA-ES (Hansen 2016); its covariance matrix limits it to small models."""
    size = ravel_pytree(problem.solution)[0].size
    if size > 5000:
        raise ValueError(
            f"cma_es keeps a {size} x {size} covariance matrix; use sep_cma_es, or a smaller objective.width"
        )
    return EvosaxStrategy(
        problem, lambda size, solution, _: algorithms.CMA_ES(size, solution), _scale, antithetic=False
    )


def sep_cma_es(problem: Problem) -> EvosaxStrategy:
    """CMA-ES with a diagonal covariance (Ros & Hansen 2008)."""
    return EvosaxStrategy(
        problem, lambda size, solution, _: algorithms.Sep_CMA_ES(size, solution), _scale, antithetic=False
    )
