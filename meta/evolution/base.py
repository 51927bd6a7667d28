"""The interface of evolution strategies.

Candidates are numbered by (group, member); the members of a group share a level and its random numbers. With
antithetic pairs a group is a pair: member 0 is `mean + sigma eps`, member 1 is `mean - sigma eps`. Fitness is
maximised throughout. evosax minimises, so the strategies flip the sign.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Key

from rl_discovery.discovery.types import MetaParams

Schedule = Callable[[Array | int], Array]
"""From the generation's number to a value."""


SIGNAL_METRICS = ("noise_ratio", "direction_correlation")
"""Metrics that tell learning from a random walk (docs/runs.md). A strategy that has them has a method
`signal(before, after, fitness)`, which computes them from its states before and after `tell`."""


class Candidates(Protocol):
    """A generation's candidates, each made where it is used."""

    def member(self, group: Int[Array, ""], member: Int[Array, ""]) -> MetaParams:
        """The meta-parameters of one candidate."""
        ...


class Strategy(Protocol):
    """An evolution strategy over a pytree of meta-parameters; pure functions of its state."""

    def init(self, mean: MetaParams) -> Any:
        """State around initial meta-parameters."""
        ...

    def ask(self, state: Any, key: Key[Array, ""]) -> Candidates:
        """The candidates of this generation, a function of state and key."""
        ...

    def tell(self, state: Any, key: Key[Array, ""], fitness: Float[Array, "groups size"]) -> Any:
        """The state after an update with the fitness of the candidates that `ask` returned for this state
        and key.
        """
        ...

    def mean(self, state: Any) -> MetaParams:
        """Mean of the search distribution: what is saved and evaluated."""
        ...

    def sigma(self, state: Any) -> Float[Array, ""]:
        """Current perturbation scale; the mean over dimensions if each has its own."""
        ...


@dataclasses.dataclass(frozen=True)
class Problem:
    """Settings of a strategy.

    Attributes:
        solution: meta-parameters of the right structure.
        groups: levels per generation.
        group_size: candidates per level.
        learning_rate: of the mean, per generation.
        sigma: perturbation scale, per generation.
        mesh: devices to spread the update over.
        adam_b1: Adam's decay of the mean gradient.
        weight_decay: decoupled, relative to the learning rate.
        scales: factor on the perturbations and steps of each meta-parameter, in the structure of `solution`;
            None: 1 for all.
    """

    solution: MetaParams
    groups: int
    group_size: int
    learning_rate: Schedule
    sigma: Schedule
    mesh: Mesh
    adam_b1: float = 0.9
    weight_decay: float = 0.0
    scales: MetaParams | None = None

    def check_plain(self, strategy: str) -> None:
        """Refuses settings that only open_es has.

        Raises:
            ValueError: weight decay or scales are set.
        """
        if self.weight_decay or self.scales is not None:
            name = "es.weight_decay" if self.weight_decay else "es.sigma_per_part"
            raise ValueError(f"{name} works with es.strategy open_es only, not with {strategy}")
