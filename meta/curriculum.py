"""Which levels a generation trains on. For now: fresh ones, sampled uniformly (domain randomisation)."""

import dataclasses
from typing import Any, Protocol

import jax
from jaxtyping import Array, Float, Key

from envs.levels import Level, LevelDistribution


class Curriculum(Protocol):
    """Serves levels and learns from how they went; pure functions of its state."""

    def init(self) -> Any:
        """State before the first generation."""
        ...

    def serve(self, state: Any, key: Key[Array, ""], count: int) -> Level:
        """`count` levels with their horizons, batched."""
        ...

    def record(self, state: Any, levels: Level, fitness: Float[Array, "groups size"]) -> Any:
        """The state after the candidates of each level reached `fitness`."""
        ...


@dataclasses.dataclass(frozen=True)
class RandomLevels:
    """Fresh levels from a distribution, every time."""

    distribution: LevelDistribution

    def init(self) -> tuple[()]:
        """Nothing to remember."""
        return ()

    def serve(self, state: tuple[()], key: Key[Array, ""], count: int) -> Level:
        """Level i depends on the key and i alone."""
        del state
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jax.numpy.arange(count))
        return jax.vmap(self.distribution.sample)(keys)

    def record(self, state: tuple[()], levels: Level, fitness: Float[Array, "groups size"]) -> tuple[()]:
        """Nothing to remember."""
        del levels, fitness
        return state
