"""A rule's constants over a lifetime under its schedule, beside the rule without one.

Step sizes are relative to the agent's own; where agents anneal them (PPO), both have the factor 1 - n/N.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes

from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.objectives.schedule import Scales, Scheduled
from rl_discovery.discovery.types import Progress
from rl_discovery.evaluation.analysis.record import Schedule, ScheduleCurve
from rl_discovery.evaluation.plots import INK, colour_of, set_style

POINTS = 41
"""Values of n/N."""

DEFINITIONS = {
    "schedule": "factors on the rule's constants, exp(W [1, u, v, u^2, u v]), or with v^2 too, with "
    "u = 2 n/N - 1 and v = log N brought to [-1, 1] over the horizons trained on"
}


def analyse_schedule(objective: TrainedObjective, horizons: Sequence[int], anneals: bool) -> Schedule | None:
    """The constants over n/N for several N.

    Args:
        objective: any.
        horizons: N, in agent updates.
        anneals: whether its agents' step sizes fall by 1 - n/N on their own.

    Returns:
        The record; None where there is no schedule.
    """
    rule = objective.rule
    if not isinstance(rule, Scheduled) or not rule.schedule:
        return None
    shares = np.linspace(0.0, 1.0, POINTS)
    curves = []
    for horizon in horizons:
        now = Progress(done=jnp.asarray(shares * horizon), horizon=jnp.full(POINTS, horizon))
        scales = rule.scales(objective.meta_params, now)
        for name in rule.scheduled:
            constant, values = _constant(rule, name, scales, shares, anneals)
            curves.append(
                ScheduleCurve(constant=constant, horizon=horizon, values=tuple(np.asarray(values, float)))
            )
    plain = {}
    for name in rule.scheduled:
        constant, values = _constant(rule, name, Scales(), shares, anneals)
        plain[constant] = tuple(np.broadcast_to(np.asarray(values, float), shares.shape))
    return Schedule(progress=tuple(shares), curves=tuple(curves), plain=plain)


def _constant(
    rule: Any, name: str, scales: Scales, shares: np.ndarray, anneals: bool
) -> tuple[str, np.ndarray]:
    of: dict[str, Callable[[], tuple[str, Any]]] = {
        "step_size": lambda: ("step size", scales.step_size * (1 - shares if anneals else 1)),
        "entropy": lambda: ("entropy bonus", rule.entropy_coef * scales.entropy),
        "clip_below": lambda: ("clip of the ratio, below", 1 - rule.clip * scales.clip_below),
        "clip_above": lambda: ("clip of the ratio, above", 1 + rule.clip * scales.clip_above),
        "one_minus_gamma": lambda: ("discount", scales.discount(rule.discount)),
    }
    return of[name]()


def draw_factors(ax: Axes, objective: TrainedObjective, horizons: Sequence[int]) -> None:
    """Step size and entropy bonus of a schedule in one panel, as factors on the rule's own."""
    set_style(ax, "Discovered schedule")
    shares = jnp.linspace(0.0, 1.0, POINTS)
    for i, horizon in enumerate(horizons):
        scales = objective.schedule(Progress(done=shares * horizon, horizon=jnp.full(POINTS, horizon)))
        colour = colour_of(i)
        ax.plot(shares, scales.step_size, color=colour, linewidth=1.8, label=f"N = {horizon:,}")
        if "entropy" in objective.rule.scheduled:  # type: ignore[attr-defined]
            ax.plot(shares, scales.entropy, color=colour, linewidth=1.2, linestyle=(0, (1, 1.4)))
    ax.axhline(1, color=INK, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("n/N, share of the lifetime that is over")
    ax.set_ylabel("factor on the step size (dotted: entropy bonus)")
    ax.legend(frameon=False, fontsize=9)
