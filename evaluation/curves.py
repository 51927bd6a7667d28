"""Figures of an evaluation besides its scores: how agents learned, and how runs are spread.

Looks as in `evaluation.plots`.
"""

from typing import NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from rl_discovery.evaluation.matrices import score_matrix
from rl_discovery.evaluation.plots import INK, NO_INTERVAL, grid, style, styles_of
from rl_discovery.evaluation.results import Cell, Results
from rl_discovery.evaluation.statistics import MIN_RUNS, performance_profile, profile_band

THRESHOLDS = np.linspace(-0.25, 1.5, 71)
"""Scores of a performance profile."""


class Place(NamedTuple):
    """What a panel is of."""

    suite: str
    environment: str | None
    horizon: int


def curves_figure(results: Results) -> Figure:
    """Learning curves at the longest horizon of each suite, a panel per environment.

    The line is the mean over seeds, the faint ones are seeds.
    """
    places = [
        Place(suite, environment, max(c.horizon for c in results.cells if c.suite == suite))
        for suite in _suites(results)
        for environment in results.environments(suite)
    ]
    figure, axes = grid(len(places))
    for ax, place in zip(axes, places, strict=True):
        cells = [c for c in results.cells if (c.suite, c.environment, c.horizon) == place]
        _draw_curves(ax, cells)
        style(ax, str(place.environment))
        ax.set_xlabel("Environment steps of each agent")
        ax.set_ylabel("Return")
    _legend(axes)
    return figure


def profiles_figure(results: Results) -> Figure | None:
    """Performance profiles, a panel per suite and horizon: share of runs above each score.

    None where no suite has scores. Bands are 95 % bootstrap intervals, with three seeds or more.
    """
    places = [
        Place(suite, None, horizon)
        for suite in _suites(results)
        if results.scored(suite)
        for horizon in sorted({c.horizon for c in results.cells if c.suite == suite})
    ]
    if not places:
        return None
    figure, axes = grid(len(places))
    for ax, place in zip(axes, places, strict=True):
        _draw_profiles(ax, [c for c in results.cells if (c.suite, c.horizon) == (place.suite, place.horizon)])
        style(ax, f"“{place.suite}”, lifetime {place.horizon:,}")
        few = len({c.seed for c in results.cells if c.suite == place.suite}) < MIN_RUNS
        ax.set_xlabel(f"Normalised return τ ({NO_INTERVAL})" if few else "Normalised return τ")
        ax.set_ylabel("Share of runs above τ")
        ax.set_ylim(0, 1.02)
    _legend(axes)
    return figure


def _draw_curves(ax: Axes, cells: list[Cell]) -> None:
    looks = styles_of(_labels(cells))
    for label in _labels(cells):
        mine = [cell for cell in cells if cell.objective == label and cell.curve]
        for cell in mine:
            ax.plot(*_points(cell), color=looks[label].colour, alpha=0.25, linewidth=0.9)
        if mine:
            steps = _points(mine[0])[0]
            mean = np.mean([_points(cell)[1] for cell in mine], axis=0)
            ax.plot(
                steps, mean, color=looks[label].colour, marker=looks[label].marker, markersize=4.5,
                linewidth=2, label=label,
            )  # fmt: skip
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))


def _points(cell: Cell) -> tuple[np.ndarray, np.ndarray]:
    """Steps and returns; a return that is not finite is NaN and not drawn."""
    steps, returns = zip(*((point.env_steps, point.return_) for point in cell.curve), strict=True)
    return np.array(steps, np.float64), np.array(returns, np.float64)


def _draw_profiles(ax: Axes, cells: list[Cell]) -> None:
    looks = styles_of(_labels(cells))
    for label in _labels(cells):
        scores = score_matrix([cell for cell in cells if cell.objective == label])
        if scores is None:
            continue
        colour = looks[label].colour
        ax.plot(THRESHOLDS, performance_profile(scores, THRESHOLDS), color=colour, linewidth=2, label=label)
        if (band := profile_band(scores, THRESHOLDS)) is not None:
            ax.fill_between(THRESHOLDS, *band, color=colour, alpha=0.15, linewidth=0)
    ax.axvline(1.0, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1.5)


def _legend(axes: list[Axes]) -> None:
    """Below the first panel, of all panels: in the first one an objective may have failed."""
    found: dict[str, Artist] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if found:
        axes[0].legend(
            list(found.values()), list(found), frameon=False, fontsize=9, loc="upper center",
            bbox_to_anchor=(0.5, -0.16), ncols=min(len(found), 4), handletextpad=0.4, columnspacing=1.4,
        )  # fmt: skip


def _labels(cells: list[Cell] | tuple[Cell, ...]) -> list[str]:
    return list(dict.fromkeys(cell.objective for cell in cells))


def _suites(results: Results) -> list[str]:
    return list(dict.fromkeys(cell.suite for cell in results.cells))
