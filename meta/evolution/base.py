"""What the outer loop asks of an evolution strategy.

Candidates are numbered by (group, member): the members of a group share a level and its random
numbers. In a strategy of antithetic pairs a group is a pair, member 0 being `mean + sigma eps` and
member 1 `mean - sigma eps`. Fitness is maximised throughout; the sign turns inside the strategies,
because evosax minimises.
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
"""What says whether a strategy learns or walks at random (docs/runs.md). A strategy that can tell has a
method `signal(before, after, fitness)`, from its states around `tell`, that returns them."""


class Candidates(Protocol):
    """A generation's candidates, made one at a time where they are used."""

    def member(self, group: Int[Array, ""], member: Int[Array, ""]) -> MetaParams:
        """The meta-parameters of one candidate."""
        ...


class Strategy(Protocol):
    """An evolution strategy over a pytree of meta-parameters; pure functions of its state."""

    def init(self, mean: MetaParams) -> Any:
        """State around initial meta-parameters."""
        ...

    def ask(self, state: Any, key: Key[Array, ""]) -> Candidates:
        """The candidates of this generation, determined by state and key."""
        ...

    def tell(self, state: Any, key: Key[Array, ""], fitness: Float[Array, "groups size"]) -> Any:
        """The state after the candidates that `ask` gave for the same state and key reached `fitness`."""
        ...

    def mean(self, state: Any) -> MetaParams:
        """The current best guess: what is saved and evaluated."""
        ...

    def sigma(self, state: Any) -> Float[Array, ""]:
        """The current perturbation scale (mean over dimensions where each has its own)."""
        ...


@dataclasses.dataclass(frozen=True)
class Problem:
    """What a strategy is built from.

    Attributes:
        solution: meta-parameters of the right structure.
        groups: levels per generation.
        group_size: candidates per level.
        learning_rate: of the mean, per generation.
        sigma: perturbation scale, per generation.
        mesh: devices to spread the update over.
        adam_b1: Adam's decay of the mean gradient.
        weight_decay: decoupled, per step size.
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
        """Refuses what only open_es can do.

        Raises:
            ValueError: weight decay or scales.
        """
        if self.weight_decay or self.scales is not None:
            name = "es.weight_decay" if self.weight_decay else "es.sigma_per_part"
            raise ValueError(f"{name} works with es.strategy open_es only, not with {strategy}")
