"""Figures of LPG's response and of agents' lifetimes, and which figures an analysis has."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rl_discovery.evaluation.analysis import drift_figures
from rl_discovery.evaluation.analysis.lifetimes import TRACES
from rl_discovery.evaluation.analysis.looks import draw_horizon_blind, legend, panels, share_colour, title
from rl_discovery.evaluation.analysis.record import Analysis, Lifetime
from rl_discovery.evaluation.analysis.schedule import schedule_figure
from rl_discovery.evaluation.analysis.study import Findings
from rl_discovery.evaluation.plots import COLOURS, FAINT, INK, MARKERS, style

TRACE_TITLES = {
    "policy_entropy": ("Policy entropy", "nats"),
    "update_size": ("Update size", "norm of the change"),
    "prediction_spread": ("Spread of predictions over states", "standard deviation"),
    "reward_per_step": ("Reward per step", "mean of the rollout"),
}


def figures(findings: Findings) -> dict[str, Figure]:
    """All figures, by file name."""
    analysis = findings.analysis
    found: dict[str, Figure] = {}
    if analysis.response is not None:
        found["response"] = response_figure(analysis)
    if analysis.drift is not None:
        found["drift"] = drift_figures.drift_figure(analysis)
        found["drift_map"] = drift_figures.map_figure(analysis)
        found["drift_range"] = drift_figures.range_figure(analysis)
    if analysis.schedule is not None:
        found["schedule"] = schedule_figure(analysis.objective.name, analysis.schedule)
    if findings.formula is not None:
        found["closed_form"] = drift_figures.closed_form_figure(analysis, findings.formula)
    return found | {"lifetimes": lifetimes_figure(analysis)}


def response_figure(analysis: Analysis) -> Figure:
    """pihat over each input (columns) at each N (rows), a line per n/N."""
    response = analysis.response
    if response is None:
        raise ValueError(f"{analysis.objective.name} has no pihat")
    horizons = list(dict.fromkeys(curve.horizon for curve in response.sweeps[0].curves))
    figure, axes = panels(len(horizons), len(response.sweeps), width=2.9, height=2.4)
    shares = list(dict.fromkeys(curve.progress for curve in response.sweeps[0].curves))
    for column, sweep in enumerate(response.sweeps):
        for row, horizon in enumerate(horizons):
            ax = axes[row, column]
            style(ax, sweep.input if row == 0 else "")
            ax.axhline(0, color=FAINT, linewidth=1, zorder=1)
            for curve in sweep.curves:
                if curve.horizon == horizon:
                    ax.plot(sweep.values, curve.pihat, color=share_colour(curve.progress), linewidth=1.7)
            ax.sharey(axes[0, column])
            if column == 0:
                ax.set_ylabel("pihat" if horizon is None else f"N = {horizon:,}\npihat")
    for ax in axes[-1]:
        ax.set_xlabel("value of the input")
    for ax in axes[-1, -2:]:
        ax.set_xlabel("steps")
    title(
        figure,
        f"{analysis.objective.name}: pihat as one input is varied; below 0 the action is made likelier",
    )
    if shares != [None]:
        legend(
            figure,
            [(f"n/N = {s:g}", {"color": share_colour(s), "linewidth": 2}) for s in shares if s is not None],
        )
    return figure


def lifetimes_figure(analysis: Analysis) -> Figure:
    """Traces of agents under each view, what they reach, and the role of the horizon."""
    lifetimes = analysis.lifetimes
    figure, axes = panels(2, 3, width=4.3)
    flat = axes.ravel()
    for ax, name in zip(flat, TRACES, strict=False):
        for i, view in enumerate(lifetimes.views):
            trace = getattr(view, name)
            mean, deviation = np.array(trace.mean, float), np.array(trace.deviation, float)
            n = np.arange(len(mean))
            ax.plot(n, mean, color=COLOURS[i], linewidth=2 if i == 0 else 1.2, zorder=3 - 0.1 * i)
            if i == 0:
                ax.fill_between(
                    n, mean - deviation, mean + deviation, color=COLOURS[i], alpha=0.15, linewidth=0
                )
        text, unit = TRACE_TITLES[name]
        style(ax, text)
        ax.set_ylabel(unit)
        ax.set_xlabel("agent update n")
        ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]) if name == "reward_per_step" else 0.0)
    _draw_results(flat[4], lifetimes.views)
    draw_horizon_blind(flat[5], analysis.horizon_blind)
    title(
        figure,
        f"{analysis.objective.name}: agents over {lifetimes.horizon:,} updates on “{lifetimes.suite}” "
        f"({lifetimes.levels} levels, {lifetimes.seeds} seeds)",
    )
    names = ["true n/N" if view.view == "plain" else f"n/N {view.view}" for view in lifetimes.views]
    entries = [(name, {"color": COLOURS[i], "linewidth": 2}) for i, name in enumerate(names)]
    legend(figure, [*entries, ("± 1 std over seeds", {"color": COLOURS[0], "linewidth": 8, "alpha": 0.15})])
    return figure


def _draw_results(ax: Axes, views: tuple[Lifetime, ...]) -> None:
    """Final score of every view, or return where there is none."""
    scored = all(view.score is not None for view in views)
    for i, view in enumerate(views):
        value = view.score if view.score is not None else view.return_
        if value.mean is None:
            continue
        if value.low is not None and value.high is not None:
            ax.vlines(i, value.low, value.high, color=COLOURS[i], linewidth=2)
        ax.plot(i, value.mean, marker=MARKERS[i], markersize=8, color=COLOURS[i], markeredgecolor="white")
        ax.annotate(
            f"{value.mean:.3f}", (i, value.mean), (8, 0), textcoords="offset points",
            va="center", fontsize=9, color=INK,
        )  # fmt: skip
    style(ax, "What they reach")
    ax.set_xticks(range(len(views)), [view.view.replace("fixed at", "fixed\nat") for view in views])
    ax.set_xlim(-0.5, len(views) - 0.3)
    intervals = any(view.return_.low is not None for view in views)
    measure = "score (IQM" if scored else "return (mean"
    ax.set_ylabel(f"{measure}, 95 % interval)" if intervals else f"{measure})")
