"""Curricula without memory: fresh levels (domain randomisation), or a fixed set of levels."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key

from rl_discovery.discovery.keys import keys_of
from rl_discovery.envs.levels import Level, LevelDistribution
from rl_discovery.meta.curriculum.base import LevelBatch, Metrics, Played, masked_mean, not_replayed
from rl_discovery.meta.curriculum.scores import SCORES, Score
from rl_discovery.meta.scale import Planner


@dataclasses.dataclass(frozen=True)
class _Memoryless:
    """The base of both: they do not learn from results, and their state is empty.

    Attributes:
        distribution: source of the levels.
        planner: computes the levels' scales; None if neither fitness nor score reads them.
    """

    distribution: LevelDistribution
    planner: Planner | None = dataclasses.field(default=None, kw_only=True)

    def init(self) -> tuple[()]:
        """The empty state."""
        return ()

    def _fresh(self, keys: Key[Array, " C"], wanted: Bool[Array, " C"]) -> tuple[tuple[()], LevelBatch]:
        levels, scale = jax.vmap(self.distribution.sample)(keys), None
        if self.planner is not None:
            levels, scale = self.planner.complete(levels, keys, wanted)
        return (), not_replayed(levels, keys.size, scale)

    def record(
        self,
        state: tuple[()],
        level_batch: LevelBatch,
        played: Played,
        finished: Bool[Array, " C"],
        generation: Int[Array, ""],
    ) -> tuple[()]:
        """The empty state."""
        del level_batch, played, finished, generation
        return state

    def metrics(
        self,
        state: tuple[()],
        level_batch: LevelBatch,
        played: Played,
        finished: Bool[Array, " C"],
        generation: Int[Array, ""],
    ) -> Metrics:
        """Means of the level statistics."""
        del state, played, generation
        return level_metrics(self.distribution, level_batch.levels, finished, "level")


@dataclasses.dataclass(frozen=True)
class RandomLevels(_Memoryless):
    """New levels from a distribution, in every generation."""

    @property
    def score(self) -> Score:
        """No score."""
        return SCORES["random"]

    def serve(
        self, state: tuple[()], key: Key[Array, ""], generation: Int[Array, ""], wanted: Bool[Array, " C"]
    ) -> tuple[tuple[()], LevelBatch]:
        """New levels; level i depends on the key and i alone."""
        del state, generation
        return self._fresh(keys_of(key, wanted.size), wanted)


@dataclasses.dataclass(frozen=True)
class FrozenLevels(_Memoryless):
    """A fixed set of `size` levels, drawn uniformly and without repetition within a generation.

    The set is not stored: level i is sampled again from a key that depends on `seed` and i.
    """

    size: int
    seed: int

    @property
    def score(self) -> Score:
        """No score."""
        return SCORES["frozen"]

    def serve(
        self, state: tuple[()], key: Key[Array, ""], generation: Int[Array, ""], wanted: Bool[Array, " C"]
    ) -> tuple[tuple[()], LevelBatch]:
        """Distinct levels of the set, all marked as not replayed."""
        del state, generation
        numbers = jax.random.choice(key, self.size, (wanted.size,), replace=False)
        set_key = jax.random.fold_in(jax.random.key(self.seed), FROZEN_FOLD)
        return self._fresh(keys_of(set_key, numbers), wanted)


FROZEN_FOLD = 0xF207E4AB
"""What a seed's key is folded with to draw the fixed set; no run has so many generations."""


def level_metrics(
    distribution: LevelDistribution, levels: Level, mask: Bool[Array, " C"], prefix: str
) -> Metrics:
    """Means of the horizon and of the family's level statistics, over `mask`."""
    numbers = {"horizon": levels.horizon}
    if distribution.statistics is not None:
        numbers |= jax.vmap(distribution.statistics)(levels.params)
    return {
        f"{prefix}_{name}": masked_mean(jnp.asarray(values, jnp.float32), mask)
        for name, values in numbers.items()
    }
