"""Objectives that are given a wrong n: the ablation of n/N.

A wrapper around any objective, so that agents learn in the same inner loop; what belongs to the agent itself,
such as annealed step sizes, goes by the true time. `lifetimes` calls this.
"""

import dataclasses

import numpy as np
from jaxtyping import Array, Float, Key

from rl_discovery.discovery.objectives.base import Experience, Metrics, Objective
from rl_discovery.discovery.types import MetaParams, Outputs, Progress

PLAIN = "plain"
"""The true progress."""


def views(horizon: int, seed: int = 0) -> dict[str, Float[np.ndarray, " updates"]]:
    """The n that an objective is given at each update, by the name of the view.

    Args:
        horizon: N.
        seed: of the random order, which is the same for all agents.

    Returns:
        The truth, n/N fixed at its beginning, fixed in its middle, and every n once in random order.
    """
    n = np.arange(horizon, dtype=np.float32)
    return {
        PLAIN: n,
        "fixed at 0": np.zeros_like(n),
        "fixed at 0.5": np.full_like(n, horizon / 2),
        "shuffled": np.random.default_rng(seed).permutation(n),
    }


@dataclasses.dataclass(frozen=True)
class MistimedObjective(Objective):
    """An objective that is given another n than the true one.

    Attributes:
        rule: the objective.
        seen_n: the n that it sees at each update.
    """

    rule: Objective
    seen_n: Float[Array, " updates"]

    name = property(lambda self: self.rule.name)
    head_size = property(lambda self: self.rule.head_size)
    uses_progress = property(lambda self: self.rule.uses_progress)
    discrete_only = property(lambda self: self.rule.discrete_only)
    zero_outputs = property(lambda self: self.rule.zero_outputs)

    def step_scale(self, meta_params: MetaParams, progress: Progress) -> Float[Array, ""] | None:
        """The rule's, for the n that it is given."""
        return self.rule.step_scale(meta_params, self.mistimed(progress))

    def mistimed(self, progress: Progress) -> Progress:
        """The progress that the rule is given; N is true."""
        return Progress(done=self.seen_n[progress.done], horizon=progress.horizon)

    def init(self, key: Key[Array, ""]) -> MetaParams:
        """The rule's."""
        return self.rule.init(key)

    def targets(self, meta_params: MetaParams, experience: Experience, progress: Progress) -> object:
        """The rule's, for the n that it is given."""
        return self.rule.targets(meta_params, experience, self.mistimed(progress))

    def loss(
        self, meta_params: MetaParams, outputs: Outputs, action: Array, targets: object, progress: Progress
    ) -> tuple[Float[Array, ""], Metrics]:
        """The rule's, for the n that it is given."""
        return self.rule.loss(meta_params, outputs, action, targets, self.mistimed(progress))
