"""Curricula without memory: fresh levels always (domain randomisation), or draws from a fixed set."""

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
    """What both have in common: they learn nothing from how levels went.

    Attributes:
        distribution: what levels are sampled from.
        planner: of their scales, where anybody reads them.
    """

    distribution: LevelDistribution
    planner: Planner | None = dataclasses.field(default=None, kw_only=True)

    def init(self) -> tuple[()]:
        """Nothing to remember."""
        return ()

    def _fresh(self, keys: Key[Array, " C"], wanted: Bool[Array, " C"]) -> tuple[tuple[()], LevelBatch]:
        """One level per key, as what is served, and nothing to remember."""
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
        """Nothing to remember."""
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
        """What the levels are like."""
        del state, played, generation
        return level_metrics(self.distribution, level_batch.levels, finished, "level")


@dataclasses.dataclass(frozen=True)
class RandomLevels(_Memoryless):
    """Fresh levels from a distribution, every time."""

    @property
    def score(self) -> Score:
        """None."""
        return SCORES["random"]

    def serve(
        self, state: tuple[()], key: Key[Array, ""], generation: Int[Array, ""], wanted: Bool[Array, " C"]
    ) -> tuple[tuple[()], LevelBatch]:
        """Level i depends on the key and i alone."""
        del state, generation
        return self._fresh(keys_of(key, wanted.size), wanted)


@dataclasses.dataclass(frozen=True)
class FrozenLevels(_Memoryless):
    """A fixed set of levels, drawn uniformly and, within a generation, without repetition.

    The set needs no memory: level i of it is sampled anew from a key that belongs to i.

    Attributes:
        size: levels in the set.
        seed: which set.
    """

    size: int
    seed: int

    @property
    def score(self) -> Score:
        """None."""
        return SCORES["frozen"]

    def serve(
        self, state: tuple[()], key: Key[Array, ""], generation: Int[Array, ""], wanted: Bool[Array, " C"]
    ) -> tuple[tuple[()], LevelBatch]:
        """Distinct levels of the set; which of them were played before is not known."""
        del state, generation
        numbers = jax.random.choice(key, self.size, (wanted.size,), replace=False)
        set_key = jax.random.fold_in(jax.random.key(self.seed), FROZEN_FOLD)
        return self._fresh(keys_of(set_key, numbers), wanted)


FROZEN_FOLD = 0xF207E4AB
"""What a seed's key is folded with to draw a fixed set. No run counts generations that far."""


def level_metrics(
    distribution: LevelDistribution, levels: Level, mask: Bool[Array, " C"], prefix: str
) -> Metrics:
    """Means of a family's level statistics and of the horizon, over `mask`."""
    numbers = {"horizon": levels.horizon}
    if distribution.statistics is not None:
        numbers |= jax.vmap(distribution.statistics)(levels.params)
    return {
        f"{prefix}_{name}": masked_mean(jnp.asarray(values, jnp.float32), mask)
        for name, values in numbers.items()
    }
