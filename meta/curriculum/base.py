"""What the trainers ask of a curriculum, and the records that go back and forth.

A trainer says where it wants levels, trains agents on what it is served, and reports how they did.
Both evolution (everywhere a new level, every generation) and meta-gradients (where a lifetime has
ended) speak to every curriculum through these.
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
    """Levels to train on, and what the curriculum knows of each already.

    Attributes:
        levels: C levels with their horizons.
        slots: where replayed ones are in the buffer; 0 elsewhere.
        replayed: whether a level was played before.
        reference_return: what a score compares with; of replayed levels only, until `references`
            fills in the others.
        best_return: highest return of an episode so far; -inf where there was none.
        scale: exact returns to measure by; None where neither fitness nor score reads them.
    """

    levels: Level
    slots: Int[Array, " C"]
    replayed: Bool[Array, " C"]
    reference_return: Float[Array, " C"]
    best_return: Float[Array, " C"]
    scale: Scale | None = None


@struct.dataclass
class Played:
    """How it went on each level, as a mean over the agents that played it.

    Attributes:
        agent_return: return at the end of the lifetime.
        score: what the curriculum ranks levels by.
        best_return: highest return of an episode, earlier plays included.
    """

    agent_return: Float[Array, " C"]
    score: Float[Array, " C"]
    best_return: Float[Array, " C"]


class Curriculum(Protocol):
    """Serves levels and learns from how they went; pure functions of its state."""

    @property
    def score(self) -> Score:
        """What lanes have to compute."""
        ...

    def init(self) -> Any:
        """State before the first generation."""
        ...

    def serve(
        self, state: Any, key: Key[Array, ""], generation: Int[Array, ""], wanted: Bool[Array, " C"]
    ) -> tuple[Any, LevelBatch]:
        """Levels with their horizons, and the state in which they are being played.

        Args:
            state: the curriculum's.
            key: of this generation's levels.
            generation: now.
            wanted: where a level is needed; what is returned elsewhere is to be ignored.
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
        """The state after lifetimes ended where `finished`."""
        ...

    def metrics(
        self,
        state: Any,
        level_batch: LevelBatch,
        played: Played,
        finished: Bool[Array, " C"],
        generation: Int[Array, ""],
    ) -> Metrics:
        """Numbers that show how the curriculum moves; NaN where there was nothing to average.

        Of what `record` was told, and of the state that it returned.
        """
        ...


def masked_mean(values: Float[Array, " C"], mask: Bool[Array, " C"]) -> Float[Array, ""]:
    """Mean over `mask` of what is finite; NaN where that is nothing."""
    mask &= jnp.isfinite(values)
    return jnp.sum(jnp.where(mask, values, 0.0)) / jnp.where(jnp.any(mask), jnp.sum(mask), jnp.nan)


def not_replayed(levels: Level, count: int, scale: Scale | None = None) -> LevelBatch:
    """Levels of which nothing is known yet, but for their scale."""
    return LevelBatch(
        levels=levels,
        slots=jnp.zeros(count, jnp.int32),
        replayed=jnp.zeros(count, bool),
        reference_return=jnp.zeros(count),
        best_return=jnp.full(count, -jnp.inf),
        scale=scale,
    )


def empty_level_batch(blank: Level, count: int, scaled: bool) -> LevelBatch:
    """`LevelBatch` before anything was, with levels of horizon 0: every lane is at its end.

    Args:
        blank: a level of zeros.
        count: of lanes.
        scaled: whether what is served later has scales.
    """
    levels = jax.tree.map(lambda leaf: jnp.zeros((count, *leaf.shape), leaf.dtype), blank)
    return not_replayed(levels, count, Scale.unknown(count) if scaled else None)
