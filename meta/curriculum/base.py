"""The interface between trainers and curricula, and the records that they exchange.

A trainer says where it needs levels, trains agents on the levels served, and reports the results. Evolution
(a new level for every group in every generation) and meta-gradients (a new level where a lifetime has ended)
use the same interface.
"""

from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int, Key

from rl_discovery.envs.levels import Level
from rl_discovery.meta.curriculum.scores import Score
from rl_discovery.meta.scale import Scale

Metrics = dict[str, Array]


@struct.dataclass
class LevelBatch:
    """C levels to train on, and what the curriculum knows of each.

    Attributes:
        levels: with their horizons.
        slots: places of replayed levels in the buffer; 0 elsewhere.
        replayed: whether the level comes from the buffer.
        reference_return: what the score compares with; `add_references` fills it in for new levels.
        best_return: highest return of an episode so far; -inf before there was one.
        scale: exact returns; None if neither fitness nor score reads them.
    """

    levels: Level
    slots: Int[Array, " C"]
    replayed: Bool[Array, " C"]
    reference_return: Float[Array, " C"]
    best_return: Float[Array, " C"]
    scale: Scale | None = None


@struct.dataclass
class Played:
    """Results per level, as means over the agents that played it.

    Attributes:
        agent_return: return at the end of the lifetime.
        score: the level's score.
        best_return: highest return of an episode, earlier plays included.
    """

    agent_return: Float[Array, " C"]
    score: Float[Array, " C"]
    best_return: Float[Array, " C"]


class Curriculum(Protocol):
    """Serves levels and learns from their results; its methods are pure functions of its state."""

    @property
    def score(self) -> Score:
        """The score that lanes compute."""
        ...

    def init(self) -> Any:
        """State before the first generation."""
        ...

    def serve(
        self, state: Any, key: Key[Array, ""], generation: Int[Array, ""], wanted: Bool[Array, " C"]
    ) -> tuple[Any, LevelBatch]:
        """The state with the served levels marked as active, and the levels.

        Args:
            state: of the curriculum.
            key: of this generation's levels.
            generation: now.
            wanted: where a level is needed; ignore what is returned elsewhere.
        """
        ...

    def record(
        self,
        state: Any,
        level_batch: LevelBatch,
        played: Played,
        finished: Bool[Array, " C"],
        generation: Int[Array, ""],
    ) -> Any:
        """The state after the lifetimes ended that are `finished`."""
        ...

    def metrics(
        self,
        state: Any,
        level_batch: LevelBatch,
        played: Played,
        finished: Bool[Array, " C"],
        generation: Int[Array, ""],
    ) -> Metrics:
        """Metrics of the state that `record` returned for the same arguments; NaN where there is no data."""
        ...


def masked_mean(values: Float[Array, " C"], mask: Bool[Array, " C"]) -> Float[Array, ""]:
    """Mean of the finite values in `mask`; NaN if there are none."""
    mask &= jnp.isfinite(values)
    return jnp.sum(jnp.where(mask, values, 0.0)) / jnp.where(jnp.any(mask), jnp.sum(mask), jnp.nan)


def not_replayed(levels: Level, count: int, scale: Scale | None = None) -> LevelBatch:
    """A batch of new levels."""
    return LevelBatch(
        levels=levels,
        slots=jnp.zeros(count, jnp.int32),
        replayed=jnp.zeros(count, bool),
        reference_return=jnp.zeros(count),
        best_return=jnp.full(count, -jnp.inf),
        scale=scale,
    )


def empty_level_batch(blank: Level, count: int, scaled: bool) -> LevelBatch:
    """A batch of `count` levels of zeros with horizon 0: every lane is at its end.

    Args:
        blank: a level of zeros.
        count: number of lanes.
        scaled: whether later batches have scales.
    """
    levels = jax.tree.map(lambda leaf: jnp.zeros((count, *leaf.shape), leaf.dtype), blank)
    return not_replayed(levels, count, Scale.unknown(count) if scaled else None)
