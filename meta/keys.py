"""Random keys of a run: all randomness is a function of (seed, generation)."""

import jax
from jaxtyping import Array, Int, Key

INIT, LEVELS, CANDIDATES, LANES, REFERENCES, AGENTS, GALLERY, TASKS = USES = tuple(range(8))
"""What keys are folded with, so that no two uses share a random number."""


def keys_of_generation(seed: int, generation: Int[Array, ""]) -> list[Key[Array, ""]]:
    """The keys of one generation by use."""
    key = jax.random.fold_in(jax.random.key(seed), generation)
    return [jax.random.fold_in(key, use) for use in USES]
