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

from discovery.types import MetaParams

Schedule = Callable[[Array | int], Array]
"""From the generation's number to a value."""


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
    """

    solution: MetaParams
    groups: int
    group_size: int
    learning_rate: Schedule
    sigma: Schedule
    mesh: Mesh
