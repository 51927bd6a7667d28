"""Figures for files, with matplotlib: the charts of an evaluation, and a run at a glance.

Drawn through matplotlib's objects, without its global state, so that they work in any thread and
without a display. Colours are Okabe and Ito's, told apart with any kind of colour vision; markers
differ as well.
"""

import functools
import io
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from rl_discovery.checkpoints.atomic import replace_file
from rl_discovery.evaluation.charts import (
    Chart,
    Series,
    Values,
    curve_charts,
    difference_chart,
    profile_chart,
    suite_charts,
    suites_of,
)
from rl_discovery.evaluation.results import Results

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
RANDOM_COLOUR = "#767676"  # the random policy is a reference, not a competitor
INK, FAINT = "#333333", "#BBBBBB"
DASHES = (0, (4, 3))
DPI = 150
COLUMNS = 3  # panels beside each other in the evaluation's figure
SMOOTHING = 0.05  # share of the generations that the running mean of the curve covers
LEGEND: dict[str, Any] = {"frameon": False, "fontsize": 9, "handletextpad": 0.4, "columnspacing": 1.4}


def learning_figure(
    rows: Sequence[Mapping[str, Any]], results: Results, draw_more: Sequence[Callable[[Axes], None]] = ()
) -> Figure:
    """A run at a glance: how fitness rose, and what the result is worth.

    Args:
        rows: of the run's metrics.jsonl.
        results: evaluation of its objective.
        draw_more: draws what else there is to see of it, a panel each.

    Returns:
        Meta-training curve (left), evaluation (panels as in `evaluation_figure`), paired differences to the
        baselines where there are any besides the random policy, and what else there is.

    Raises:
        ValueError: no rows, or rows without generation and fitness.
    """
    suites = suites_of(results)
    charts = [chart for suite in suites for chart in suite_charts(results, suite)]
    charts += [chart for suite in suites if (chart := difference_chart(results, suite)) is not None]
    draw: list[Callable[[Axes], None]] = [
        functools.partial(_draw_learning, rows=rows),
        *(functools.partial(draw_chart, chart=chart) for chart in charts),
        *draw_more,
    ]
    figure, axes = grid(len(draw))
    for ax, draw_into in zip(axes, draw, strict=True):
        draw_into(ax)
    return figure


def evaluation_figure(results: Results) -> Figure:
    """The evaluation alone: a panel per suite, or per environment where a suite has no common scale."""
    return _figure([chart for suite in suites_of(results) for chart in suite_charts(results, suite)])


def curves_figure(results: Results) -> Figure:
    """Learning curves at the longest horizon of each suite, a panel per environment.

    The line is the mean over seeds, the faint ones are seeds.
    """
    charts = [chart for suite in suites_of(results) for chart in curve_charts(results, suite)]
    figure = _figure(charts, one_legend=True)
    for ax in figure.axes:
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    return figure


def profiles_figure(results: Results) -> Figure | None:
    """Performance profiles, a panel per suite and horizon: share of runs above each score.

    None where no suite has scores of enough runs (`charts.PROFILE_RUNS`). Bands are 95 % bootstrap intervals,
    with three seeds or more.
    """
    places = [
        (suite, horizon)
        for suite in suites_of(results)
        if results.scored(suite)
        for horizon in sorted({cell.horizon for cell in results.cells if cell.suite == suite})
    ]
    charts = [chart for place in places if (chart := profile_chart(results, *place)) is not None]
    if not charts:
        return None
    figure = _figure(charts, one_legend=True)
    for ax in figure.axes:
        ax.axvline(1.0, color=INK, linewidth=0.9, linestyle=DASHES, zorder=1.5)
        ax.set_ylim(0, 1.02)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a PNG that is whole or not there.

    Raises:
        CheckpointError: the folder cannot be written.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    replace_file(path, buffer.getvalue())


def save_both(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Writes `name.png` and `name.svg`, each whole or not there.

    Raises:
        CheckpointError: the folder cannot be written.
    """
    picture, drawing = folder / f"{name}.png", folder / f"{name}.svg"
    save_figure(figure, picture)
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):  # the same figure is the same file
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    replace_file(drawing, buffer.getvalue())
    return [picture, drawing]


def grid(count: int) -> tuple[Figure, list[Axes]]:
    """A new figure of so many panels, at most `COLUMNS` beside each other; four make a square."""
    columns = 2 if count == 4 else min(count, COLUMNS)
    figure, axes = panels(-(-count // columns), columns, 4.8, 4.4, margin=(1.2, 0.0))
    for unused in axes.ravel()[count:]:
        unused.remove()
    return figure, list(axes.ravel()[:count])


def panels(
    rows: int, columns: int, width: float = 3.9, height: float = 3.1, margin: tuple[float, float] = (0.0, 0.5)
) -> tuple[Figure, np.ndarray]:
    """A new figure and its axes, rows first; sizes in inches."""
    size = (margin[0] + width * columns, margin[1] + height * rows)
    figure = Figure(figsize=size, facecolor="white")
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.08)
    return figure, figure.subplots(rows, columns, squeeze=False)


def draw_chart(ax: Axes, chart: Chart, legend: bool = True) -> None:
    """One chart into one panel."""
    for level in chart.lines.values():
        ax.axhline(level, color=INK, linewidth=0.9, linestyle=DASHES, zorder=1.5)
    for i, series in enumerate(chart.series):  # the first lies on top
        _draw_series(ax, series, categories=bool(chart.ticks), zorder=3 - 0.01 * i)
    set_style(ax, chart.title)
    ax.set_xlabel(chart.x)
    ax.set_ylabel(chart.y)
    if chart.ticks:
        ax.set_xticks(range(len(chart.ticks)), chart.ticks)
        ax.set_xlim(-0.4, len(chart.ticks) - 0.6)
    if named := [level for name, level in chart.lines.items() if name]:
        low, high = ax.get_ylim()
        ax.set_ylim(min(low, min(named) - 0.08), max(high, max(named) + 0.1))
    for name, level in chart.lines.items():
        ax.annotate(
            name, (1.0, level), (4, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
            va="center", fontsize=9, color=INK,
        )  # fmt: skip
    if chart.from_zero:
        ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))
    if legend and chart.series:
        columns = 1 if max(len(series.label) for series in chart.series) > 24 else min(len(chart.series), 4)
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=columns, **LEGEND)


def set_style(ax: Axes, title: str) -> None:
    """Common style: left-aligned title, no box, faint horizontal grid."""
    ax.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(FAINT)
    ax.grid(axis="y", color="#E8E8E8", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(colors=INK, labelsize=9)
    ax.xaxis.label.set(fontsize=10, color=INK)
    ax.yaxis.label.set(fontsize=10, color=INK)


def set_title(figure: Figure, text: str) -> None:
    """What the whole figure shows."""
    text = textwrap.fill(text, int(9 * figure.get_figwidth()))  # characters that an inch holds
    figure.suptitle(text, fontsize=12, fontweight="bold", color=INK, x=0.01, ha="left")


def figure_legend(figure: Figure, entries: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """One legend below all panels: labels and styles of lines."""
    lines = [Line2D([], [], label=label, **style) for label, style in entries]
    figure.legend(
        handles=lines, loc="outside lower center", ncols=len(lines), frameon=False, fontsize=9,
        handlelength=2.2, columnspacing=1.6,
    )  # fmt: skip


def colour_of(style: int | None) -> str:
    """The colour of a series."""
    return RANDOM_COLOUR if style is None else COLOURS[style % len(COLOURS)]


def marker_of(style: int | None) -> str:
    """The marker of a series."""
    return "X" if style is None else MARKERS[style % len(MARKERS)]


def numbers(values: Values) -> np.ndarray:
    """None becomes NaN, which is not drawn."""
    return np.array(values, np.float64)


def running_mean(values: np.ndarray) -> np.ndarray:
    """Centred mean over a window that shrinks at both ends; gaps in the data stay out of it."""
    half = int(len(values) * SMOOTHING / 2)
    known = np.isfinite(values)
    total = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    count = np.concatenate([[0], np.cumsum(known)])
    low = np.maximum(np.arange(len(values)) - half, 0)
    high = np.minimum(np.arange(len(values)) + half + 1, len(values))
    counts = count[high] - count[low]
    return np.where(counts > 0, (total[high] - total[low]) / np.maximum(counts, 1), np.nan)


def _figure(charts: Sequence[Chart], *, one_legend: bool = False) -> Figure:
    """A panel per chart. One legend below the first panel names the series of all of them."""
    figure, axes = grid(len(charts))
    handles: dict[str, Artist] = {}
    for ax, chart in zip(axes, charts, strict=True):
        draw_chart(ax, chart, legend=not one_legend)
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if one_legend and handles:
        axes[0].legend(
            list(handles.values()), list(handles), loc="upper center", bbox_to_anchor=(0.5, -0.16),
            ncols=min(len(handles), 4), **LEGEND,
        )  # fmt: skip
    return figure


def _draw_series(ax: Axes, series: Series, *, categories: bool, zorder: float) -> None:
    colour, x = colour_of(series.style), numbers(series.x)
    for run in series.runs:
        ax.plot(x, numbers(run), color=colour, alpha=0.25, linewidth=0.9)
    if series.low:
        low, high = numbers(series.low), numbers(series.high)
        if categories:
            ax.vlines(x, low, high, color=colour, linewidth=1.8)
        else:
            ax.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    style: dict[str, Any] = {"color": colour, "label": series.label, "linewidth": series.width}
    style["zorder"] = zorder
    if series.dashed:
        style |= {"color": INK, "linestyle": DASHES, "linewidth": 1.4}
    elif categories or series.marked:
        style |= {"marker": marker_of(series.style), "markersize": 6.5 if categories else 4.5}
    if categories:
        style |= {"markeredgecolor": "white", "markeredgewidth": 0.8, "linewidth": 1.3, "clip_on": False}
    ax.plot(x, numbers(series.y), **style)


def _draw_learning(ax: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """Mean fitness over generations, and its running mean: levels differ from one to the next.

    The best and the spread of single candidates are left out: they tell of the levels that a
    generation met, and their scale would hide the trend.
    """
    names = ("generation", "fitness_mean")
    try:
        columns = [np.array([row[name] for row in rows], np.float64) for name in names]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"metrics lack a number that the figure needs: {error}") from error
    if not rows:
        raise ValueError("metrics hold no generation yet")
    generation, mean = columns
    smooth, colour = running_mean(mean), COLOURS[0]
    ax.plot(generation, mean, color=colour, linewidth=0.8, alpha=0.35)
    ax.plot(generation, smooth, color=colour, linewidth=2.4)
    ax.annotate(
        "running\nmean", (generation[-1], smooth[-1]), (5, 0), textcoords="offset points", color=colour,
        fontsize=9, va="center",
    )  # fmt: skip
    set_style(ax, "Meta-training")
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.set_ylabel("Mean fitness (return at the end of a lifetime)")
    steps = rows[-1].get("env_steps")
    total = f" ({EngFormatter(places=1, sep=' ')(steps)} environment steps)" if steps else ""
    ax.set_xlabel(f"Generation{total}")
