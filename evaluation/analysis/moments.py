"""The moments of a lifetime (n/N, N) at which an objective is evaluated, and how much it depends on them."""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from rl_discovery.discovery.types import Progress
from rl_discovery.evaluation.analysis.record import Distance, HorizonBlind

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""n/N."""


@dataclasses.dataclass(frozen=True)
class Moment:
    """A moment of a lifetime.

    Attributes:
        horizon: N, in agent updates.
        share: n/N.
    """

    horizon: int
    share: float

    @property
    def progress(self) -> Progress:
        """n and N, as objectives see them."""
        return Progress(done=jnp.float32(self.share * self.horizon), horizon=jnp.int32(self.horizon))


def moments(horizons: Sequence[int]) -> list[Moment]:
    """Every n/N of every N, by N."""
    return [Moment(horizon, share) for horizon in horizons for share in SHARES]


def horizon_blind(outputs: np.ndarray, horizons: Sequence[int], over: str) -> HorizonBlind:
    """Distances from the mean over n/N.

    Args:
        outputs: of an objective at the same inputs, one row per moment as `moments` orders them.
        horizons: of the moments.
        over: what the outputs are, for the record.

    Returns:
        RMS of (output - mean over n/N at the same N), relative to the RMS of all outputs at that N; overall
        both over all N. Exactly 0 where n/N changes nothing, as the mean of equal float32 numbers is exact in
        float64.
    """
    by_horizon = outputs.astype(np.float64).reshape(len(horizons), len(SHARES), -1)
    apart = by_horizon - by_horizon.mean(axis=1, keepdims=True)
    distances = [
        Distance(horizon=horizon, progress=share, distance=_relative(apart[i, j], by_horizon[i]))
        for i, horizon in enumerate(horizons)
        for j, share in enumerate(SHARES)
    ]
    return HorizonBlind(over=over, overall=_relative(apart, by_horizon), distances=tuple(distances))


def _relative(difference: np.ndarray, output: np.ndarray) -> float:
    size = np.sqrt(np.mean(output**2))
    return float(np.sqrt(np.mean(difference**2)) / size) if size > 0 else 0.0
