"""The random policy, as an objective that never changes its agent: it defines the zero of scores."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from rl_discovery.discovery.objectives.base import Experience, Metrics, Objective
from rl_discovery.discovery.types import MetaParams, Outputs, Progress


@dataclasses.dataclass(frozen=True)
class Random(Objective):
    """Leaves the agent as it is: new agents act uniformly at random.

    Continuous actions are a standard normal, clipped or squashed to their range.
    """

    name = "random"
    head_size = 1

    def init(self, key: Key[Array, ""]) -> MetaParams:
        """No meta-parameters."""
        del key
        return {}

    def targets(self, meta_params: MetaParams, experience: Experience, progress: Progress) -> None:
        """No targets."""
        del meta_params, experience, progress

    def loss(
        self, meta_params: MetaParams, outputs: Outputs, action: Array, targets: None, progress: Progress
    ) -> tuple[Float[Array, ""], Metrics]:
        """A constant, so that the gradient is exactly zero."""
        del meta_params, action, targets, progress
        return jnp.sum(outputs.parameters) * 0.0 + jnp.sum(outputs.head) * 0.0, {}


OBJECTIVES = {"random": (Random, "a new agent that is never updated: the uniformly random policy")}
