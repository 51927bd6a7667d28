"""OpenAI-ES (Salimans et al. 2017, arXiv 1703.03864) whose population is never held in memory.

State, optimiser and update rule are evosax's `Open_ES`. What differs is where the perturbations
live: each is derived from the generation's key and its pair's number, both where the candidate is
used and where the gradient is summed, so that memory does not grow with the population and nothing
but fitness crosses devices before the sum. A test holds it against evosax's own `tell`.
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
"""Partial sums of the gradient. Their number fixes the order of additions, whatever the device count."""


@struct.dataclass
class AntitheticCandidates:
    """`mean + sigma eps_i` and `mean - sigma eps_i` for pair i; a group is one or several pairs.

    `sigma` is a number, or one for each dimension.
    """

    mean: Float[Array, " D"]
    sigma: Float[Array, ""] | Float[Array, " D"]
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
            optimizer=optax.adam(self.problem.learning_rate, b1=self.problem.adam_b1),
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
            sigma=state.std if self._scales is None else state.std * self._scales,
            key=key,
            pairs_per_group=self.problem.group_size // 2,
            unravel=unravel,
        )

    def tell(self, state: Any, key: Key[Array, ""], fitness: Float[Array, "groups size"]) -> Any:
        """One step of Adam on the estimated gradient, ascending fitness.

        With `Problem.scales` s it is Adam in coordinates z of `theta = s z`, where perturbations are alike.
        """
        signs = self._signs(fitness)
        total = self._weighted_noise(key, signs, state.mean.size)
        # evosax's estimate, (1 / (2 P sigma)) sum_i F_i (+-eps_i), for the minimised -F.
        gradient = -total / (2 * self.pairs * state.std)
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
            `noise_ratio`, the length of the step as a multiple of what Adam makes of pure noise (after its
            first `2 / (1 - b1)` generations, in which its steps are longer); and `direction_correlation`,
            over pairs, of who won with the direction of the generations before.
        """
        b1, scales = self.problem.adam_b1, 1.0 if self._scales is None else self._scales
        step = (after.mean - before.mean + self._decay(before)) / scales
        of_noise = self._learning_rate(before) * math.sqrt(step.size * (1 - b1) / (1 + b1))
        # Adam's mean gradients, of -F, and the gradient that took it from the one to the other.
        old, new = (optax.tree_utils.tree_get(state.opt_state, "mu") for state in (before, after))
        ascent = -(new - b1 * old) / (1 - b1)
        return {
            "noise_ratio": jnp.linalg.norm(step) / jnp.where(of_noise > 0, of_noise, jnp.nan),
            "direction_correlation": _correlation(
                ascent * 2 * self.pairs * before.std, -old, self._signs(fitness)
            ),
        }

    def mean(self, state: Any) -> MetaParams:
        """The distribution's mean."""
        return self.evosax.get_mean(state)

    def sigma(self, state: Any) -> Float[Array, ""]:
        """The scheduled scale."""
        return state.std

    def _signs(self, fitness: Float[Array, "groups size"]) -> Float[Array, " P"]:
        """How much each pair's perturbation counts: 1, -1 or 0 in groups of two."""
        shape = pair_ranks if self.problem.group_size == 2 else centred_ranks
        ranks = shape(fitness).reshape(self.pairs, 2)
        return ranks[:, 0] - ranks[:, 1]

    @property
    def _scales(self) -> Float[Array, " D"] | None:
        return None if self.problem.scales is None else ravel_pytree(self.problem.scales)[0]

    def _learning_rate(self, state: Any) -> Float[Array, ""]:
        return jnp.asarray(self.problem.learning_rate(state.generation_counter), jnp.float32)

    def _decay(self, state: Any) -> Float[Array, " D"] | float:
        """What decoupled weight decay takes from the mean (Loshchilov & Hutter 2019, arXiv 1711.05101)."""
        decay = self.problem.weight_decay
        return self._learning_rate(state) * decay * state.mean if decay else 0.0

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


def _correlation(
    total: Float[Array, " D"], direction: Float[Array, " D"], signs: Float[Array, " P"]
) -> Float[Array, ""]:
    """Correlation over pairs of `sign_i`, who won, with `eps_i . direction`; NaN where there is no direction
    yet.

    `total` is the sum of `sign_i eps_i`, and an `eps_i` has deviation 1 along any direction, so no noise is
    drawn again. Of pure noise it is 0 with a standard error of one over the root of the number of pairs.
    """
    length = jnp.linalg.norm(direction) * jnp.sqrt(signs.size * jnp.sum(signs**2))
    # With a handful of pairs their noise is longer or shorter than expected.
    return jnp.clip(jnp.dot(total, direction) / jnp.where(length > 0, length, jnp.nan), -1.0, 1.0)
