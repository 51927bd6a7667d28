"""`a2c-annealed`: A2C whose step size falls linearly to zero, the schedule that people write by hand.

PPO anneals its step size as it is. Known to the command by `--plugin annealed`, from this folder.
"""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

from rl_discovery.discovery.objectives.a2c import A2C
from rl_discovery.discovery.objectives.registry import RULES, Entry
from rl_discovery.discovery.types import MetaParams, Progress


@dataclasses.dataclass(frozen=True)
class AnnealedA2C(A2C):
    """A2C with its optimiser's step multiplied by 1 - n/N."""

    name = "a2c-annealed"
    uses_progress = True

    def step_scale(self, meta_params: MetaParams, progress: Progress) -> Float[Array, ""]:
        """1 - n/N."""
        del meta_params
        return jnp.asarray(progress.remaining)


RULES.register("a2c-annealed", Entry("A2C whose step size falls linearly to zero", AnnealedA2C))
