"""What a drift does to an agent in PPO's loop, over r, A and the lifetime, beside PPO and DPO.

The agent maximises r A - f(r, A). Lu et al. 2022 (arXiv 2210.05639) read a learned drift by the derivative
of that in r: where it is 0 the agent has no reason to go on (PPO's clip), where it has A's opposite sign the
agent is pushed back (rollback). `study` calls this.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.objectives.mirror_learning import MirrorLearning
from rl_discovery.discovery.objectives.registry import make_objective
from rl_discovery.evaluation.analysis.moments import Moment
from rl_discovery.evaluation.analysis.record import Drift, Rollback, Surface

SPAN = 1.0
"""log r goes from -SPAN to SPAN."""

LOG_RATIO = np.linspace(-SPAN, SPAN, 81)
ADVANTAGE = np.linspace(-3.0, 3.0, 13)
"""The grid. Advantages are normalised, so that almost all lie within 3 of 0."""

SCAN = 2000
"""Points at which the end of the clip range is looked for, before it is bisected."""

HALVINGS = 30
"""Bisections, to the last bit of float32."""

FLAT = 1e-4
"""Slopes of less than this times |A| are none: rounding alone leaves as much."""

DEFINITIONS = {
    "drift": "f(r, A), taken from what the agent maximises: E[r A - f(r, A)]; r = pi/pi_old, A normalised",
    "slope": "d/dr (r A - f), by automatic differentiation",
    "clip": "implied clip range: going away from r = 1, upwards where A > 0 and downwards where A < 0, "
    "the first r at which sign(A) d/dr (r A - f) is 0 or less; PPO: 1.2 and 0.8",
    "half": "as clip, with A / 2 in place of 0: where half of the incentive is left; PPO: 1.2 and 0.8",
    "rollback": "share of the grid's points with A != 0 where sign(A) d/dr (r A - f) < 0",
    "zero_advantage": "f(r, 0): what the drift charges for a change of probability that gains nothing",
}

Probe = Callable[[np.ndarray, np.ndarray, Moment], tuple[np.ndarray, np.ndarray]]
"""From log r, A (same shape) and a moment to f and d/dr (r A - f)."""


def probe_of(objective: TrainedObjective) -> Probe:
    """Compiles a drift and its exact derivative.

    Raises:
        ValueError: the objective has none.
    """
    rule = objective.rule
    if not isinstance(rule, MirrorLearning):
        raise ValueError(f"{objective.name} has no drift")

    def drift(log_ratio, advantage, progress):
        return rule.drift(objective.meta_params, log_ratio, advantage, progress)

    # By log r, in which rules are written: PPO's slope beyond its clip is then exactly 0.
    both = jax.jit(jax.vmap(jax.value_and_grad(drift), in_axes=(0, 0, None)))

    def probe(log_ratio, advantage, moment):
        flat = [np.ravel(x).astype(np.float32) for x in (log_ratio, advantage)]
        value, by_log = (np.asarray(x).reshape(np.shape(log_ratio)) for x in both(*flat, moment.progress))
        ratio = np.asarray(jnp.exp(flat[0])).reshape(np.shape(log_ratio))
        return value, (ratio * flat[1].reshape(ratio.shape) - by_log) / ratio

    return probe


def analyse_drift(objective: TrainedObjective, moments: Sequence[Moment]) -> tuple[Drift, np.ndarray]:
    """Surfaces of the objective at every moment, of PPO and of DPO.

    Args:
        objective: in PPO's loop.
        moments: of its lifetime; without horizon inputs there is one surface.

    Returns:
        The record, and f of the objective (moments x grid) for `horizon_blind`.
    """
    probe, sees_horizon = probe_of(objective), objective.rule.uses_progress
    mine = [
        surface(objective.name, probe, moment, sees_horizon=sees_horizon)
        for moment in moments[: None if sees_horizon else 1]
    ]
    others = [
        surface(name, probe_of(TrainedObjective(make_objective(name), {})), moments[0], sees_horizon=False)
        for name in ("ppo", "dpo")
        if name != objective.name
    ]
    record = Drift(log_ratio=tuple(LOG_RATIO), advantage=tuple(ADVANTAGE), surfaces=(*mine, *others))
    outputs = np.stack([probe(*np.meshgrid(LOG_RATIO, ADVANTAGE), moment)[0] for moment in moments])
    return record, outputs


def surface(name: str, probe: Probe, moment: Moment, *, sees_horizon: bool) -> Surface:
    """One drift at one moment; `sees_horizon` says whether it depends on the moment."""
    log_ratio, advantage = np.meshgrid(LOG_RATIO, ADVANTAGE)
    drift, slope = probe(log_ratio, advantage, moment)
    zero, _ = probe(LOG_RATIO, np.zeros_like(LOG_RATIO), moment)
    return Surface(
        objective=name,
        horizon=moment.horizon if sees_horizon else None,
        progress=moment.share if sees_horizon else None,
        drift=tuple(map(tuple, drift)),
        slope=tuple(map(tuple, slope)),
        clip=tuple(reach(probe, ADVANTAGE, moment, 0.0)),
        half=tuple(reach(probe, ADVANTAGE, moment, 0.5)),
        zero_advantage=tuple(zero),
        rollback=rollback(slope, advantage),
    )


def reach(probe: Probe, advantage: np.ndarray, moment: Moment, share: float) -> np.ndarray:
    """The r at which the slope of r A - f has first fallen to a share of A, for each A.

    Args:
        probe: the drift.
        advantage: one axis.
        moment: of the lifetime.
        share: of the slope at r = 1, which is A; 0: the agent gains nothing more.

    Returns:
        The r; NaN at A = 0 and where it is not on the grid.
    """
    side = np.sign(advantage)

    def reached(log_ratio: np.ndarray, index: np.ndarray) -> np.ndarray:
        A = advantage[index]
        return side[index] * probe(log_ratio, A, moment)[1] <= (share + FLAT) * np.abs(A)

    steps = np.linspace(0.0, SPAN, SCAN + 1)[1:]
    every = np.broadcast_to(np.arange(len(advantage))[:, None], (len(advantage), SCAN))
    there = reached(side[:, None] * steps, every)
    within = np.flatnonzero(there.any(axis=1) & (side != 0))
    first = there[within].argmax(axis=1)
    high, low = side[within] * steps[first], side[within] * np.where(first > 0, steps[first - 1], 0.0)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        beyond = reached(middle, within)
        low, high = np.where(beyond, low, middle), np.where(beyond, middle, high)
    limits = np.full(len(advantage), np.nan)
    limits[within] = np.exp(high)
    return limits


def rollback(slope: np.ndarray, advantage: np.ndarray) -> Rollback:
    """Share of points at which the gain falls in the direction of A."""
    back = np.sign(advantage) * slope < -FLAT * np.abs(advantage)
    shares = {"all": advantage != 0, "positive": advantage > 0, "negative": advantage < 0}
    return Rollback(**{name: back[where].mean() for name, where in shares.items()})
