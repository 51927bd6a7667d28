"""Figures of a run and its evaluation: the meta-training curve, and normalised scores per horizon.

Drawn through matplotlib's objects, without its global state, so that they work in any thread and
without a display. Colours are Okabe and Ito's, told apart with any kind of colour vision; markers
differ as well.
"""

import functools
import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from rl_discovery.checkpoints.atomic import replace_file
from rl_discovery.evaluation.results import Aggregate, Improvement, Results
from rl_discovery.evaluation.statistics import MIN_RUNS, Estimate

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
RANDOM_COLOUR = "#767676"  # the random policy is a reference, not a competitor
INK, FAINT = "#333333", "#BBBBBB"
DPI = 150
COLUMNS = 3  # panels beside each other in the evaluation's figure
SMOOTHING = 0.05  # share of the generations that the running mean of the curve covers
NO_INTERVAL = f"no interval with fewer than {MIN_RUNS} seeds"


class Style(NamedTuple):
    """How an objective is drawn, the same in all panels."""

    colour: str
    marker: str


class Panel(NamedTuple):
    """What one panel shows: a suite on its common scale, or one environment of a suite that has none."""

    suite: str
    environment: str | None


def learning_figure(
    rows: Sequence[Mapping[str, Any]],
    results: Results,
    draw_more: Sequence[Callable[[Axes], None]] = (),
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
    panels = _panels(results)
    draw: list[Callable[[Axes], None]] = [
        functools.partial(_draw_learning, rows=rows),
        *(functools.partial(_draw_panel, results=results, panel=panel) for panel in panels),
        *(functools.partial(_draw_differences, results=results, suite=suite) for suite in _compared(results)),
        *draw_more,
    ]
    figure, axes = grid(len(draw))
    for ax, draw_into in zip(axes, draw, strict=True):
        draw_into(ax)
    return figure


def evaluation_figure(results: Results) -> Figure:
    """The evaluation alone: a panel per suite, or per environment where a suite has no common scale."""
    panels = _panels(results)
    figure, axes = grid(len(panels))
    for ax, panel in zip(axes, panels, strict=True):
        _draw_panel(ax, results, panel)
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
    rows = -(-count // columns)
    figure = Figure(figsize=(1.2 + 4.8 * columns, 4.4 * rows), facecolor="white")
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.08)
    return figure, [figure.add_subplot(rows, columns, number + 1) for number in range(count)]


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
    steps = [row.get("env_steps") for row in rows]
    smooth = running_mean(mean)
    ax.plot(generation, mean, color=COLOURS[0], linewidth=0.8, alpha=0.35)
    ax.plot(generation, smooth, color=COLOURS[0], linewidth=2.4)
    _label_end(ax, generation, smooth, "running\nmean", COLOURS[0])
    style(ax, "Meta-training")
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.set_ylabel("Mean fitness (return at the end of a lifetime)")
    total = f" ({EngFormatter(places=1, sep=' ')(steps[-1])} environment steps)" if steps[-1] else ""
    ax.set_xlabel(f"Generation{total}")


def _label_end(ax: Axes, x: np.ndarray, y: np.ndarray, text: str, colour: str) -> None:
    """Names a line beside its last point."""
    ax.annotate(
        text, (x[-1], y[-1]), (5, 0), textcoords="offset points", color=colour, fontsize=9, va="center"
    )


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


def _draw_panel(ax: Axes, results: Results, panel: Panel) -> None:
    """Score (where there is none: return) of every objective at every horizon."""
    points = [point for point in results.aggregate if point.suite == panel.suite]
    horizons = sorted({point.horizon for point in points})
    labels = list(dict.fromkeys(point.objective for point in points))
    styles = styles_of(labels)
    intervals = False
    for i, label in enumerate(labels):
        mine = {point.horizon: point for point in points if point.objective == label}
        values = [_value(results, mine.get(horizon), panel.environment) for horizon in horizons]
        _draw_objective(ax, values, _offset(i, len(labels)), styles[label], label)
        intervals |= any(value.low is not None for value in values if value is not None)
    style(ax, f"Evaluation on “{panel.suite}”" if panel.environment is None else panel.environment)
    _name_horizons(ax, results, panel.suite, horizons)
    if panel.environment is None:
        _draw_ends_of_scale(ax)
    name = "Return (mean" if panel.environment is not None else "Normalised return (IQM"
    ax.set_ylabel(f"{name}, {'95 % interval' if intervals else NO_INTERVAL})")
    ax.legend(
        frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=min(len(labels), 4),
        handletextpad=0.4, columnspacing=1.4,
    )  # fmt: skip


def _draw_objective(
    ax: Axes, values: Sequence[Estimate | None], offset: float, style: Style, label: str
) -> None:
    """One objective's points, joined, with intervals."""
    x = np.arange(len(values)) + offset
    # None becomes NaN, which is not drawn.
    middle, low, high = np.array([value or (None,) * 3 for value in values], np.float64).T
    ax.vlines(x, low, high, color=style.colour, linewidth=1.8)
    ax.plot(
        x, middle, marker=style.marker, markersize=6.5, markeredgecolor="white", markeredgewidth=0.8,
        color=style.colour, linewidth=1.3, label=label, clip_on=False,
    )  # fmt: skip


def _draw_differences(ax: Axes, results: Results, suite: str) -> None:
    """How far each objective is ahead of each baseline, seed by seed, at every horizon."""
    entries = [entry for entry in results.improvement if entry.suite == suite and entry.over != "random"]
    horizons = sorted({entry.horizon for entry in entries})
    pairs = list(dict.fromkeys((entry.objective, entry.over) for entry in entries))
    styles = styles_of([f"{objective} minus {over}" for objective, over in pairs])
    ax.axhline(0.0, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1.5)
    for i, (objective, over) in enumerate(pairs):
        mine = {e.horizon: e for e in entries if (e.objective, e.over) == (objective, over)}
        values = [_two_errors(mine.get(horizon)) for horizon in horizons]
        label = f"{objective} minus {over}"
        overall = results.mean_difference(objective, over, suite)
        known = overall is not None and overall.standard_error is not None
        words = f": mean {overall}" if known else ""
        _draw_objective(ax, values, _offset(i, len(pairs)), styles[label], label + words)
    style(ax, f"Ahead of the baseline on “{suite}”")
    _name_horizons(ax, results, suite, horizons)
    ax.set_ylabel("Paired difference (± 2 standard errors)")
    ax.legend(frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.13), handletextpad=0.4)


def _two_errors(entry: Improvement | None) -> Estimate | None:
    """The difference with the ends of two standard errors."""
    if entry is None or entry.paired is None:
        return None
    mean, error = entry.paired
    ends = math.nan if error is None else 2 * error
    return Estimate(mean, mean - ends, mean + ends)


def _offset(number: int, count: int) -> float:
    """Objectives stand beside each other, so that intervals stay readable."""
    return 0.09 * (number - (count - 1) / 2)


def _name_horizons(ax: Axes, results: Results, suite: str, horizons: Sequence[int]) -> None:
    """The axis of a panel whose columns are horizons."""
    ax.set_xticks(range(len(horizons)), [f"{horizon:,}" for horizon in horizons])
    ax.set_xlim(-0.4, len(horizons) - 0.6)
    ax.set_xlabel(f"Lifetime ({horizon_unit(results, suite)})")


def _compared(results: Results) -> list[str]:
    """Suites with paired differences to a baseline that learns."""
    found = (
        entry for entry in results.improvement if entry.over != "random" and entry.difference is not None
    )
    return list(dict.fromkeys(entry.suite for entry in found))


def _value(results: Results, point: Aggregate | None, environment: str | None) -> Estimate | None:
    """What is drawn of an aggregate: its score, or the return on one environment."""
    if point is None:
        return None
    if environment is not None:
        return results.environment_return(point, environment)
    return None if point.iqm is None else Estimate(point.iqm, point.ci_low, point.ci_high)


def _draw_ends_of_scale(ax: Axes) -> None:
    """Lines at the random policy and at the best one or the reference, named at the right."""
    low, high = ax.get_ylim()
    ax.set_ylim(min(low, -0.08), max(high, 1.1))
    for level, name in ((0.0, "random\npolicy"), (1.0, "best or\nreference")):
        ax.axhline(level, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1.5)
        ax.annotate(
            name, (1.0, level), (4, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
            va="center", fontsize=9, color=INK,
        )  # fmt: skip


def style(ax: Axes, title: str) -> None:
    """Common look: left-aligned title, no box, faint horizontal grid."""
    ax.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(FAINT)
    ax.grid(axis="y", color="#E8E8E8", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(colors=INK, labelsize=9)
    ax.xaxis.label.set(fontsize=10, color=INK)
    ax.yaxis.label.set(fontsize=10, color=INK)


def styles_of(labels: Sequence[str]) -> dict[str, Style]:
    """A look for each objective; "random" is always grey."""
    others = [label for label in labels if label != "random"]
    found = {
        label: Style(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i, label in enumerate(others)
    }
    return found | {"random": Style(RANDOM_COLOUR, "X")}


def _panels(results: Results) -> list[Panel]:
    """What is drawn, in order."""
    panels: list[Panel] = []
    for suite in dict.fromkeys(point.suite for point in results.aggregate):
        names = [None] if results.scored(suite) else results.environments(suite)
        panels += [Panel(suite, name) for name in names]
    return panels


def horizon_unit(results: Results, suite: str) -> str:
    """What the horizons of a suite count."""
    cells = [cell for cell in results.cells if cell.suite == suite]
    return "agent updates" if all(cell.horizon == cell.updates for cell in cells) else "environment steps"
