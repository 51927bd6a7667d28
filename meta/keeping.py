"""Configuration of what a run keeps and shows: checkpoints, held-out evaluation, logging.

Parts of `meta.config.RunConfig`, which says with `identity` what of them decides a run's results.
"""

import dataclasses
from typing import Annotated, Literal

from pydantic import Field

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, le=1)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When the state of a run is saved."""

    every: PositiveInt = 20
    """Generations between two checkpoints; those whose number it divides."""
    minutes: PositiveFloat | None = 10.0
    """Also when this many minutes have passed since the last checkpoint; None: by generations alone. What a
    `kill -9` costs is bounded by it where generations are long."""
    keep: Annotated[int, Field(ge=2)] = 3
    """Newest checkpoints kept; one is always spare in case the newest is damaged. The best by held-out
    fitness stays besides."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldOutConfig:
    """Evaluation of the current objective on levels that are held out from training."""

    every: Annotated[int, Field(ge=0)] = 0
    """Generations between two evaluations; those whose number it divides. 0: none."""
    levels: PositiveInt = 64
    """Levels, per environment: an agent's whole lifetime each. The same in every evaluation and run."""
    on_divergence: Literal["warn", "reduce", "stop"] = "warn"
    """What happens when held-out fitness has fallen (see `drop`, `patience`): a line says so; or also sigma
    and learning rate are halved; or the run stops with exit status 3."""
    drop: Fraction = 0.5
    """Share of what was gained between the first and the best evaluation that must be lost for held-out
    fitness to have fallen; two standard errors of the best one at least."""
    patience: PositiveInt = 3
    """Evaluations in a row that must have fallen before anything happens."""

    @property
    def reduces(self) -> bool:
        """Whether sigma and learning rate may come to depend on the evaluations."""
        return self.every > 0 and self.on_divergence == "reduce"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoggingConfig:
    """Where metrics go besides metrics.jsonl."""

    tensorboard: bool = True
    """Write TensorBoard events to tb/ in the run directory."""
    wandb_project: str | None = None
    """Log to this Weights & Biases project (needs the extra `wandb`)."""
    inner_metrics: bool = False
    """Also log means over lanes of the metrics of each agent's last update (losses, entropy, gradient norm,
    kl), as `inner/NAME`; where `trainer` is es. Results do not depend on it."""
