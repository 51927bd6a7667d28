"""Objectives that are told a wrong time: the ablation of n/N.

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
    """What an objective is told in place of n at each update, by name.

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
class Misled(Objective):
    """An objective that is told another n than the true one.

    Attributes:
        rule: the objective.
        told: n as it is told at each update.
    """

    rule: Objective
    told: Float[Array, " updates"]

    @property
    def name(self) -> str:
        """The objective's."""
        return self.rule.name

    @property
    def head_size(self) -> int:
        """The objective's."""
        return self.rule.head_size

    @property
    def uses_progress(self) -> bool:
        """The objective's."""
        return self.rule.uses_progress

    @property
    def discrete_only(self) -> bool:
        """The objective's."""
        return self.rule.discrete_only

    @property
    def zero_outputs(self) -> int:
        """The objective's."""
        return self.rule.zero_outputs

    def step_scale(self, meta_params: MetaParams, progress: Progress) -> Float[Array, ""] | None:
        """The objective's, at the time that it is told."""
        return self.rule.step_scale(meta_params, self.misled(progress))

    def misled(self, progress: Progress) -> Progress:
        """What it is told; N is true."""
        return Progress(done=self.told[progress.done], horizon=progress.horizon)

    def init(self, key: Key[Array, ""]) -> MetaParams:
        """The objective's."""
        return self.rule.init(key)

    def targets(self, meta_params: MetaParams, experience: Experience, progress: Progress) -> object:
        """The objective's, at the time that it is told."""
        return self.rule.targets(meta_params, experience, self.misled(progress))

    def loss(
        self, meta_params: MetaParams, outputs: Outputs, action: Array, targets: object, progress: Progress
    ) -> tuple[Float[Array, ""], Metrics]:
        """The objective's, at the time that it is told."""
        return self.rule.loss(meta_params, outputs, action, targets, self.misled(progress))
