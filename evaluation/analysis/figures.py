"""Figures of LPG's response and of agents' lifetimes, and which figures an analysis has."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rl_discovery.evaluation.analysis import drift_figures
from rl_discovery.evaluation.analysis.charts import schedule_charts, trace_charts, view_name
from rl_discovery.evaluation.analysis.drift_figures import draw_horizon_blind, share_colour
from rl_discovery.evaluation.analysis.record import Analysis, Lifetime, Schedule
from rl_discovery.evaluation.analysis.study import Findings
from rl_discovery.evaluation.plots import (
    FAINT,
    INK,
    colour_of,
    draw_chart,
    figure_legend,
    marker_of,
    panels,
    set_style,
    set_title,
)


def figures(findings: Findings) -> dict[str, Figure]:
    """All figures, by file name."""
    analysis = findings.analysis
    drawn: dict[str, Figure] = {}
    if analysis.response is not None:
        drawn["response"] = response_figure(analysis)
    if analysis.drift is not None:
        drawn["drift"] = drift_figures.drift_figure(analysis)
        drawn["drift_map"] = drift_figures.map_figure(analysis)
        drawn["drift_range"] = drift_figures.range_figure(analysis)
    if analysis.schedule is not None:
        drawn["schedule"] = schedule_figure(analysis.objective.name, analysis.schedule)
    if findings.formula is not None:
        drawn["closed_form"] = drift_figures.closed_form_figure(analysis, findings.formula)
    return drawn | {"lifetimes": lifetimes_figure(analysis)}


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
            set_style(ax, sweep.input if row == 0 else "")
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
    set_title(
        figure,
        f"{analysis.objective.name}: pihat as one input is varied; below 0 the action is made likelier",
    )
    if shares != [None]:
        figure_legend(
            figure,
            [(f"n/N = {s:g}", {"color": share_colour(s), "linewidth": 2}) for s in shares if s is not None],
        )
    return figure


def schedule_figure(name: str, schedule: Schedule) -> Figure:
    """A panel per constant of an objective, a line per N, the rule without its schedule dashed."""
    charts = list(schedule_charts(schedule))
    figure, axes = panels(1, len(charts), width=3.6, height=3.0)
    for ax, chart in zip(axes.ravel(), charts, strict=True):
        draw_chart(ax, chart, legend=False)
    set_title(figure, f"{name}: its constants over a lifetime of N updates")
    lines = axes[0, 0].get_lines()
    figure.legend(handles=lines, loc="outside lower center", ncols=len(lines), frameon=False, fontsize=9)
    return figure


def lifetimes_figure(analysis: Analysis) -> Figure:
    """Traces of agents under each view, what they reach, and the role of the horizon."""
    lives = analysis.lifetimes
    figure, axes = panels(2, 3, width=4.3)
    *traces, reached, blind = axes.ravel()
    for ax, chart in zip(traces, trace_charts(analysis), strict=True):
        draw_chart(ax, chart, legend=False)
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    _draw_results(reached, lives.views)
    draw_horizon_blind(blind, analysis.horizon_blind)
    set_title(
        figure,
        f"{analysis.objective.name}: agents over {lives.horizon:,} updates on “{lives.suite}” "
        f"({lives.levels} levels, {lives.seeds} seeds)",
    )
    entries = [
        (view_name(view), {"color": colour_of(i), "linewidth": 2}) for i, view in enumerate(lives.views)
    ]
    band = {"color": colour_of(0), "linewidth": 8, "alpha": 0.15}
    figure_legend(figure, [*entries, ("± 1 std over seeds", band)])
    return figure


def _draw_results(ax: Axes, views: tuple[Lifetime, ...]) -> None:
    scored = all(view.score is not None for view in views)
    for i, view in enumerate(views):
        value = view.score if view.score is not None else view.return_
        if value.mean is None:
            continue
        if value.low is not None and value.high is not None:
            ax.vlines(i, value.low, value.high, color=colour_of(i), linewidth=2)
        ax.plot(i, value.mean, marker=marker_of(i), markersize=8, color=colour_of(i), markeredgecolor="white")
        ax.annotate(
            f"{value.mean:.3f}", (i, value.mean), (8, 0), textcoords="offset points",
            va="center", fontsize=9, color=INK,
        )  # fmt: skip
    set_style(ax, "What they reach")
    words = [view_name(view).replace("n/N", "").strip() for view in views]
    ax.set_xticks(range(len(views)), [word.replace("fixed at", "fixed\nat") for word in words])
    ax.set_xlim(-0.5, len(views) - 0.3)
    intervals = any(view.return_.low is not None for view in views)
    measure = "score (IQM" if scored else "return (mean"
    ax.set_ylabel(f"{measure}, 95 % interval)" if intervals else f"{measure})")
