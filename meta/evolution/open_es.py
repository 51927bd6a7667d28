"""OpenAI-ES (Salimans et al. 2017, arXiv 1703.03864) that never holds its population in memory.

State, optimiser and update rule are evosax's `Open_ES`. Only the perturbations differ: each is a function of
the generation's key and its pair's number, drawn once where the candidate is used and again where the
gradient is summed. Memory does not grow with the population, and only fitness crosses devices before the
sum. A test compares the result with evosax's own `tell`.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
from evosax.algorithms import Open_ES
from flax import struct
from jax.flatten_util import ravel_pytree
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int, Key

from rl_discovery.discovery.objectives.base import Metrics
from rl_discovery.discovery.sharding import AXIS, ordered_sum
from rl_discovery.discovery.types import MetaParams
from rl_discovery.meta.evolution.base import Problem
from rl_discovery.meta.evolution.shaping import centred_ranks, pair_ranks

MAX_CHUNKS = 64
"""Partial sums of the gradient. Their number fixes the order of additions for any number of devices."""


@struct.dataclass
class AntitheticCandidates:
    """`mean + sigma eps_i` and `mean - sigma eps_i` of pair i; a group has one or several pairs."""

    mean: Float[Array, " D"]
    sigma: Float[Array, ""] | Float[Array, " D"]
    key: Key[Array, ""]
    pairs_per_group: int = struct.field(pytree_node=False)
    unravel: Any = struct.field(pytree_node=False)

    def member(self, group: Int[Array, ""], member: Int[Array, ""]) -> MetaParams:
        """One candidate: even members of a group are `mean + sigma eps`, odd ones `mean - sigma eps`."""
        pair, sign = group * self.pairs_per_group + member // 2, 1.0 - 2.0 * (member % 2)
        return self.unravel(self.mean + sign * self.sigma * noise(self.key, pair, self.mean.size))


def noise(key: Key[Array, ""], pair: Int[Array, ""], size: int) -> Float[Array, " D"]:
    """eps of one pair, standard normal: a function of the generation's key and the pair's number."""
    return jax.random.normal(jax.random.fold_in(key, pair), (size,))


@dataclasses.dataclass(frozen=True)
class StreamedOpenES:
    """OpenAI-ES with Adam and antithetic pairs.

    Fitness is shaped within pairs where each pair has a level of its own (TA-LPG), and by centred ranks
    where more candidates share a level (LPO). `problem.group_size` must be even.
    """

    problem: Problem

    def __post_init__(self) -> None:
        if self.problem.group_size % 2:
            raise ValueError(
                f"open_es needs an even es.group_size (antithetic pairs), not {self.problem.group_size}"
            )

    @property
    def pairs(self) -> int:
        """P, antithetic pairs per generation."""
        return self.problem.groups * self.problem.group_size // 2

    @property
    def evosax(self) -> Open_ES:
        """evosax's strategy with all hyper-parameters set, since its defaults are not the papers'."""
        return Open_ES(
            population_size=2 * self.pairs,
            solution=self.problem.solution,
            use_antithetic_sampling=True,
            optimizer=optax.adam(self.problem.learning_rate, b1=self.problem.adam_b1),
            std_schedule=self.problem.sigma,
            fitness_shaping_fn=lambda population, fitness, state, params: fitness,
        )

    def init(self, mean: MetaParams) -> Any:
        """evosax's state: mean, optimiser state and sigma."""
        strategy = self.evosax
        # evosax draws nothing from this key.
        return strategy.init(jax.random.key(0), mean, strategy.default_params)

    def ask(self, state: Any, key: Key[Array, ""]) -> AntitheticCandidates:
        """The candidates of this generation; noise is drawn when a member is made."""
        _, unravel = ravel_pytree(self.problem.solution)
        return AntitheticCandidates(
            mean=state.mean,
            sigma=state.std if self._scales is None else state.std * self._scales,
            key=key,
            pairs_per_group=self.problem.group_size // 2,
            unravel=unravel,
        )

    def tell(self, state: Any, key: Key[Array, ""], fitness: Float[Array, "groups size"]) -> Any:
        """One step of Adam on the estimated gradient, ascending fitness.

        With factors s = `Problem.scales` Adam works in coordinates z of `theta = s z`, in which all
        perturbations have the same scale.
        """
        # 1. Fitness shaping: which member of each pair is better.
        signs = self._signs(fitness)
        # 2. Draw the noise of every pair again, and sum it up.
        total = self._weighted_noise(key, signs, state.mean.size)
        # 3. evosax's estimate (1 / (2 P sigma)) sum_i F_i (+-eps_i), negated: evosax minimises.
        gradient = -total / (2 * self.pairs * state.std)
        # 4. Adam, and decoupled weight decay.
        updates, opt_state = self.evosax.optimizer.update(gradient, state.opt_state, state.mean)
        if self._scales is not None:
            updates = updates * self._scales
        updates = updates - self._decay(state)
        generation = state.generation_counter + 1
        return state.replace(
            mean=optax.apply_updates(state.mean, updates),
            std=jnp.asarray(self.problem.sigma(generation), jnp.float32),
            opt_state=opt_state,
            generation_counter=generation,
        )

    def signal(self, before: Any, after: Any, fitness: Float[Array, "groups size"]) -> Metrics:
        """Whether the step from `before` to `after` was more than noise.

        Returns:
            `noise_ratio`: length of the step relative to Adam's step on pure noise, once Adam has averaged
            over some `2 / (1 - b1)` generations. `direction_correlation`: correlation over pairs of who won
            with the direction of the generations before.
        """
        b1, scales = self.problem.adam_b1, 1.0 if self._scales is None else self._scales
        step = (after.mean - before.mean + self._decay(before)) / scales
        of_noise = self._learning_rate(before) * math.sqrt(step.size * (1 - b1) / (1 + b1))
        # Adam's mean gradients of -F, and the last gradient, which took the old mean to the new one.
        old, new = (optax.tree_utils.tree_get(state.opt_state, "mu") for state in (before, after))
        ascent = -(new - b1 * old) / (1 - b1)
        return {
            "noise_ratio": jnp.linalg.norm(step) / jnp.where(of_noise > 0, of_noise, jnp.nan),
            "direction_correlation": _correlation(
                ascent * 2 * self.pairs * before.std, -old, self._signs(fitness)
            ),
        }

    def mean(self, state: Any) -> MetaParams:
        """Mean of the search distribution."""
        return self.evosax.get_mean(state)

    def sigma(self, state: Any) -> Float[Array, ""]:
        """sigma, as scheduled."""
        return state.std

    def _signs(self, fitness: Float[Array, "groups size"]) -> Float[Array, " P"]:
        """Weight of each pair's noise: 1, -1 or (for a tie) 0 in groups of two."""
        shape = pair_ranks if self.problem.group_size == 2 else centred_ranks
        ranks = shape(fitness).reshape(self.pairs, 2)
        return ranks[:, 0] - ranks[:, 1]

    @property
    def _scales(self) -> Float[Array, " D"] | None:
        return None if self.problem.scales is None else ravel_pytree(self.problem.scales)[0]

    def _learning_rate(self, state: Any) -> Float[Array, ""]:
        return jnp.asarray(self.problem.learning_rate(state.generation_counter), jnp.float32)

    def _decay(self, state: Any) -> Float[Array, " D"] | float:
        # Decoupled weight decay (Loshchilov & Hutter 2019, arXiv 1711.05101).
        decay = self.problem.weight_decay
        return self._learning_rate(state) * decay * state.mean if decay else 0.0

    def _weighted_noise(self, key: Array, weights: Float[Array, " P"], size: int) -> Float[Array, " D"]:
        """sum_i w_i eps_i, in an order of additions that does not depend on the number of devices.

        Pairs are cut into chunks, each summed in order by one device. Then the chunks are added in order,
        every device taking a slice of the dimensions.
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


def _correlation(
    total: Float[Array, " D"], direction: Float[Array, " D"], signs: Float[Array, " P"]
) -> Float[Array, ""]:
    """Correlation over pairs of `sign_i`, who won, with `eps_i . direction`; NaN without a direction.

    `total` is the sum of `sign_i eps_i`, and `eps_i` has deviation 1 along any direction, so that no noise
    is drawn again. For pure noise it is 0 with a standard error of one over the root of the number of pairs.
    """
    length = jnp.linalg.norm(direction) * jnp.sqrt(signs.size * jnp.sum(signs**2))
    # With few pairs the length of their noise is not what is expected of it.
    return jnp.clip(jnp.dot(total, direction) / jnp.where(length > 0, length, jnp.nan), -1.0, 1.0)
