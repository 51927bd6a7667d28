"""OpenAI-ES (Salimans et al. 2017, arXiv 1703.03864) whose population is never held in memory.

State, optimiser and update rule are evosax's `Open_ES`. What differs is where the perturbations
live: each is derived from the generation's key and its pair's number, both where the candidate is
used and where the gradient is summed, so that memory does not grow with the population and nothing
but fitness crosses devices before the sum. A test holds it against evosax's own `tell`.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from evosax.algorithms import Open_ES
from flax import struct
from jax.flatten_util import ravel_pytree
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int, Key

from discovery.blocks import AXIS, ordered_sum
from discovery.types import MetaParams
from meta.evolution.base import Problem
from meta.evolution.shaping import centred_ranks, pair_ranks

MAX_CHUNKS = 64
"""Partial sums of the gradient. Their number fixes the order of additions, whatever the device count."""


@struct.dataclass
class AntitheticCandidates:
    """`mean + sigma eps_i` and `mean - sigma eps_i` for pair i; a group is one or several pairs."""

    mean: Float[Array, " D"]
    sigma: Float[Array, ""]
    key: Key[Array, ""]
    pairs_per_group: int = struct.field(pytree_node=False)
    unravel: Any = struct.field(pytree_node=False)

    def member(self, group: Int[Array, ""], member: Int[Array, ""]) -> MetaParams:
        """Even members of a group are the plus, odd ones the minus of its pairs."""
        pair, sign = group * self.pairs_per_group + member // 2, 1.0 - 2.0 * (member % 2)
        return self.unravel(self.mean + sign * self.sigma * noise(self.key, pair, self.mean.size))


def noise(key: Key[Array, ""], pair: Int[Array, ""], size: int) -> Float[Array, " D"]:
    """eps of one pair: standard normal, a function of the generation's key and the pair's number."""
    return jax.random.normal(jax.random.fold_in(key, pair), (size,))


@dataclasses.dataclass(frozen=True)
class StreamedOpenES:
    """OpenAI-ES with Adam and antithetic pairs.

    Where each pair has a level of its own, fitness is shaped within pairs (TA-LPG); where more
    candidates share a level, it is their centred rank (LPO).

    Attributes:
        problem: solution, population and schedules; `group_size` must be even.
    """

    problem: Problem

    def __post_init__(self) -> None:
        """Checks that groups are made of pairs."""
        if self.problem.group_size % 2:
            raise ValueError(
                f"open_es needs an even es.group_size (antithetic pairs), not {self.problem.group_size}"
            )

    @property
    def pairs(self) -> int:
        """P."""
        return self.problem.groups * self.problem.group_size // 2

    @property
    def evosax(self) -> Open_ES:
        """evosax's strategy, every hyper-parameter set: its defaults are not the papers'."""
        return Open_ES(
            population_size=2 * self.pairs,
            solution=self.problem.solution,
            use_antithetic_sampling=True,
            optimizer=optax.adam(self.problem.learning_rate),
            std_schedule=self.problem.sigma,
            fitness_shaping_fn=lambda population, fitness, state, params: fitness,
        )

    def init(self, mean: MetaParams) -> Any:
        """evosax's state around `mean`."""
        strategy = self.evosax
        # evosax draws nothing from this key: the state is its mean, optimiser and schedules.
        return strategy.init(jax.random.key(0), mean, strategy.default_params)

    def ask(self, state: Any, key: Key[Array, ""]) -> AntitheticCandidates:
        """The pairs of this generation; nothing is drawn until a member is asked for."""
        _, unravel = ravel_pytree(self.problem.solution)
        return AntitheticCandidates(
            mean=state.mean,
            sigma=state.std,
            key=key,
            pairs_per_group=self.problem.group_size // 2,
            unravel=unravel,
        )

    def tell(self, state: Any, key: Key[Array, ""], fitness: Float[Array, "groups size"]) -> Any:
        """One step of Adam on the estimated gradient, ascending fitness."""
        shape = pair_ranks if self.problem.group_size == 2 else centred_ranks
        ranks = shape(fitness).reshape(self.pairs, 2)
        total = self._weighted_noise(key, ranks[:, 0] - ranks[:, 1], state.mean.size)
        # evosax's estimate, (1 / (2 P sigma)) sum_i F_i (+-eps_i), for the minimised -F.
        gradient = -total / (2 * self.pairs * state.std)
        updates, opt_state = self.evosax.optimizer.update(gradient, state.opt_state, state.mean)
        generation = state.generation_counter + 1
        return state.replace(
            mean=optax.apply_updates(state.mean, updates),
            std=jnp.asarray(self.problem.sigma(generation), jnp.float32),
            opt_state=opt_state,
            generation_counter=generation,
        )

    def mean(self, state: Any) -> MetaParams:
        """The distribution's mean."""
        return self.evosax.get_mean(state)

    def sigma(self, state: Any) -> Float[Array, ""]:
        """The scheduled scale."""
        return state.std

    def _weighted_noise(self, key: Array, weights: Float[Array, " P"], size: int) -> Float[Array, " D"]:
        """sum_i w_i eps_i, added in an order that does not depend on the number of devices.

        Pairs are cut into chunks that are each summed in order by one device; the chunks are then
        added in order, every device taking a slice of the dimensions.
        """
        mesh, pairs = self.problem.mesh, weights.shape[0]
        chunks = min(pairs, MAX_CHUNKS)
        slots = -(-chunks // mesh.size)  # chunks per device; the last ones may be empty

        def on_device(key, weights):
            def sum_chunk(chunk):
                first, end = (jnp.minimum(c, chunks) * pairs // chunks for c in (chunk, chunk + 1))
                return jax.lax.fori_loop(
                    first, end, lambda i, total: total + weights[i] * noise(key, i, size), jnp.zeros(size)
                )

            numbers = jax.lax.axis_index(AXIS) * slots + jnp.arange(slots)
            return jax.lax.map(sum_chunk, numbers)

        partial_sums = jax.shard_map(
            on_device, mesh=mesh, in_specs=PartitionSpec(), out_specs=PartitionSpec(AXIS), check_vma=False
        )(key, weights)
        return ordered_sum(partial_sums, mesh)
