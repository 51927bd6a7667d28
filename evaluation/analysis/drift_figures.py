"""Figures of a drift: f and what the agent gains by r, their maps, how far r goes, and the formula."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.evaluation.analysis.charts import horizon_blind_chart
from rl_discovery.evaluation.analysis.drift import ADVANTAGE, LOG_RATIO, probe_of
from rl_discovery.evaluation.analysis.moments import SHARES, Moment
from rl_discovery.evaluation.analysis.record import Analysis, ClosedForm, Drift, HorizonBlind, Surface
from rl_discovery.evaluation.plots import (
    COLOURS,
    DASHES,
    FAINT,
    INK,
    colour_of,
    draw_chart,
    figure_legend,
    marker_of,
    numbers,
    panels,
    set_style,
    set_title,
)

REFERENCES: dict[str, dict[str, Any]] = {
    "ppo": {"color": INK, "linestyle": (0, (4, 2)), "linewidth": 1.4, "zorder": 1.8},
    "dpo": {"color": "#8A8A8A", "linestyle": (0, (1, 1.2)), "linewidth": 2.0, "zorder": 1.7},
}
"""Hand-written drifts."""

SLICES = (-1.0, 0.0, 1.0)
"""A of the slices."""

RATIO_TICKS = (0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 2.7)


def share_colour(share: float | None) -> Any:
    """Colour for n/N, from dark to light, in steps that are told apart with any kind of colour vision.

    A drift that does not see it has the first category's.
    """
    return COLOURS[0] if share is None else matplotlib.colormaps["viridis"](0.92 * share)


def draw_horizon_blind(ax: Axes, blind: HorizonBlind) -> None:
    """Distance from the mean over n/N, a line per N."""
    draw_chart(ax, horizon_blind_chart(blind), legend=False)
    if blind.overall:
        ax.legend(frameon=False, fontsize=9)
    else:
        ax.set_ylim(0, 1)
        ax.text(0.5, 0.5, "does not see the horizon", ha="center", color=INK, transform=ax.transAxes)


def drift_figure(analysis: Analysis) -> Figure:
    """f (top) and d/dr (r A - f) (bottom) over r, for A = -1, 0 and 1."""
    drift = _drift(analysis)
    figure, axes = panels(2, len(SLICES))
    ratio = np.exp(np.array(drift.log_ratio, float))
    for column, A in enumerate(SLICES):
        row = int(np.argmin(np.abs(ADVANTAGE - A)))
        for surface in _drift(analysis).at_middle:
            style = _style(surface)
            axes[0, column].plot(ratio, numbers(surface.drift[row]), **style)
            axes[1, column].plot(ratio, numbers(surface.slope[row]), **style)
        set_style(axes[0, column], f"A = {A:g}")
        set_style(axes[1, column], "")
        axes[1, column].axhline(0, color=FAINT, linewidth=1, zorder=1)
        axes[1, column].set_xlabel("r = pi / pi_old")
        for ax in axes[:, column]:
            _ratio_axis(ax, "x")
    axes[0, 0].set_ylabel("drift f(r, A)")
    axes[1, 0].set_ylabel("what the agent gains by r:\nd/dr (r A - f)")
    set_title(figure, f"{analysis.objective.name}: its drift{_at_horizon(analysis)}")
    figure_legend(figure, _entries(analysis))
    return figure


def map_figure(analysis: Analysis) -> Figure:
    """d/dr (r A - f) over r and A: the objective's at n/N = 0, 0.5 and 1, PPO's and DPO's."""
    drift = _drift(analysis)
    chosen = [s for s in _drift(analysis).at_middle if s.progress in (None, 0.0, 0.5, 1.0)]
    figure, axes = panels(1, len(chosen), width=2.9, height=3.4)
    ratio, advantage = np.exp(np.array(drift.log_ratio, float)), np.array(drift.advantage, float)
    for ax, surface in zip(axes[0], chosen, strict=True):
        slope = np.array([numbers(row) for row in surface.slope])
        image = ax.pcolormesh(
            ratio, advantage, slope, cmap="RdBu_r", vmin=-3, vmax=3, shading="gouraud", rasterized=True
        )
        # Where the agent is pushed back, for which 0 itself (beyond PPO's clip) does not count.
        back = np.sign(advantage)[:, None] * slope < -1e-3
        if back.any():
            ax.contourf(ratio, advantage, back, levels=[0.5, 1.5], colors="none", hatches=["///"])
        set_style(ax, surface.label)
        ax.grid(visible=False)
        _ratio_axis(ax, "x", ticks=(0.4, 0.6, 1.0, 1.5, 2.5))
        ax.set_xlabel("r")
    axes[0, 0].set_ylabel("advantage A")
    figure.colorbar(image, ax=list(axes[0]), label="d/dr (r A - f)", pad=0.01)
    set_title(figure, f"What the agent gains by r{_at_horizon(analysis)}; hatched: pushed back")
    return figure


def range_figure(analysis: Analysis) -> Figure:
    """How far r goes (implied clip range, half of the incentive), rollback, and the role of the horizon."""
    drift = _drift(analysis)
    figure, axes = panels(2, 2, width=4.9)
    (full, half), (back, blind) = axes
    panels_of = ((full, "clip", "Where the agent gains no more"), (half, "half", "Where half of it is left"))
    for ax, field, text in panels_of:
        drawn = False
        for surface in _drift(analysis).at_middle:
            values = numbers(getattr(surface, field))
            ax.plot(drift.advantage, values, marker="o", markersize=3, **_style(surface))
            drawn |= surface.objective == analysis.objective.name and bool(np.isfinite(values).any())
        if not drawn:
            ax.text(
                0.5, 0.5, f"{analysis.objective.name}: nowhere on the grid", color=INK,
                ha="center", va="center", transform=ax.transAxes, fontsize=9,
            )  # fmt: skip
        set_style(ax, text)
        ax.set_xlabel("advantage A")
        ax.set_ylabel("r")
        ax.set_ylim(np.exp(LOG_RATIO[0]) * 0.97, np.exp(LOG_RATIO[-1]) * 1.03)
        _ratio_axis(ax, "y")
    _draw_rollback(back, drift, analysis.objective.name)
    draw_horizon_blind(blind, analysis.horizon_blind)
    set_title(figure, f"{analysis.objective.name}: how far r is let go{_at_horizon(analysis)}")
    figure_legend(figure, _entries(analysis))
    return figure


def closed_form_figure(analysis: Analysis, formula: TrainedObjective) -> Figure:
    """The formula beside the learned drift, and what more terms would explain."""
    fit = analysis.closed_form
    if fit is None:
        raise ValueError("this analysis has no formula")
    figure, axes = panels(1, 3, width=4.3, height=3.6)
    ratio = np.exp(np.array(_drift(analysis).log_ratio, float))
    probe = probe_of(formula)
    for ax, A in zip(axes[0], (-1.0, 1.0), strict=False):
        row = int(np.argmin(np.abs(ADVANTAGE - A)))
        for surface in _drift(analysis).at_middle:
            if surface.objective != analysis.objective.name or surface.progress not in (None, 0.0, 0.5, 1.0):
                continue
            moment = Moment(surface.horizon or 1, surface.progress or 0.0)
            values, _ = probe(LOG_RATIO, np.full_like(LOG_RATIO, A), moment)
            colour = share_colour(surface.progress)
            ax.plot(ratio, numbers(surface.drift[row]), color=colour, linewidth=3.5, alpha=0.35)
            ax.plot(ratio, values, color=colour, linewidth=1.3)
        set_style(ax, f"f at A = {A:g}")
        _ratio_axis(ax, "x")
        ax.set_xlabel("r = pi / pi_old")
    _draw_path(axes[0, 2], fit)
    set_title(figure, f"{analysis.objective.name} as a formula{_at_horizon(analysis)}")
    shares = dict.fromkeys(s.progress for s in _drift(analysis).at_middle if s.progress in (0.0, 0.5, 1.0))
    entries = [(f"n/N = {share:g}", {"color": share_colour(share), "linewidth": 2}) for share in shares]
    entries += [
        ("learned", {"color": INK, "linewidth": 3.5, "alpha": 0.35}),
        ("formula", {"color": INK, "linewidth": 1.3}),
    ]
    figure_legend(figure, entries)
    return figure


def _draw_path(ax: Axes, fit: ClosedForm) -> None:
    set_style(ax, "Explained by so many terms")
    ax.plot(
        [step.terms for step in fit.path],
        numbers([step.r2 for step in fit.path]),
        marker="o",
        color=COLOURS[0],
    )
    ax.axvline(len(fit.terms), color=INK, linewidth=0.9, linestyle=DASHES)
    ax.annotate(
        "chosen", (len(fit.terms), 0.04), (-4, 0), xycoords=("data", "axes fraction"),
        textcoords="offset points", ha="right", fontsize=9, color=INK,
    )  # fmt: skip
    ax.set_xlabel("terms")
    ax.set_ylabel("cross-validated R^2")


def _draw_rollback(ax: Axes, drift: Drift, name: str) -> None:
    set_style(ax, "Share of (r, A) that is pushed back")
    mine = [surface for surface in drift.surfaces if surface.objective == name]
    horizons = list(dict.fromkeys(surface.horizon for surface in mine))
    for i, horizon in enumerate(horizons):
        shares = [surface.rollback.all or 0.0 for surface in mine if surface.horizon == horizon]
        shares = shares if len(shares) > 1 else shares * len(SHARES)
        label = name if horizon is None else f"{name}, N = {horizon:,}"
        style: dict[str, Any] = {"color": colour_of(i), "label": label}
        ax.plot(SHARES, shares, marker=marker_of(i), markersize=5, **style)
    for surface in drift.surfaces:
        if surface.objective != name:
            share = surface.rollback.all or 0.0
            ax.plot(SHARES, [share] * len(SHARES), label=surface.objective, **REFERENCES[surface.objective])
    ax.set_xlabel("n/N")
    ax.set_ylabel("share")
    ax.set_ylim(bottom=-0.005)
    ax.legend(frameon=False, fontsize=8)


def _at_horizon(analysis: Analysis) -> str:
    middle = _drift(analysis).middle_horizon
    return "" if middle is None else f" (N = {middle:,})"


def _entries(analysis: Analysis) -> list[tuple[str, dict[str, Any]]]:
    return [(surface.label, _style(surface)) for surface in _drift(analysis).at_middle]


def _style(surface: Surface) -> dict[str, Any]:
    if surface.progress is None and surface.objective in REFERENCES:
        return REFERENCES[surface.objective]
    return {"color": share_colour(surface.progress), "linewidth": 1.8}


def _ratio_axis(ax: Axes, which: str, ticks: Sequence[float] = RATIO_TICKS) -> None:
    axis = ax.xaxis if which == "x" else ax.yaxis
    (ax.set_xscale if which == "x" else ax.set_yscale)("log")
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FixedFormatter([f"{tick:g}" for tick in ticks]))
    axis.set_minor_locator(NullLocator())


def _drift(analysis: Analysis) -> Drift:
    if analysis.drift is None:
        raise ValueError(f"{analysis.objective.name} has no drift")
    return analysis.drift
