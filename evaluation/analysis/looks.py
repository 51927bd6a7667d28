"""How the figures of an analysis look.

Categories have Okabe and Ito's colours, as in `evaluation.plots`; n/N, which is a quantity, goes from dark to
light, in steps that are told apart with any kind of colour vision and in grey.
"""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rl_discovery.evaluation.analysis.record import HorizonBlind
from rl_discovery.evaluation.plots import COLOURS, INK, MARKERS, style

REFERENCES: dict[str, dict[str, Any]] = {
    "ppo": {"color": INK, "linestyle": (0, (4, 2)), "linewidth": 1.4, "zorder": 1.8},
    "dpo": {"color": "#8A8A8A", "linestyle": (0, (1, 1.2)), "linewidth": 2.0, "zorder": 1.7},
}
"""Hand-written drifts."""


def share_colour(share: float | None) -> Any:
    """Of n/N; a drift that does not see it has the first category's."""
    return COLOURS[0] if share is None else matplotlib.colormaps["viridis"](0.92 * share)


def panels(rows: int, columns: int, width: float = 3.9, height: float = 3.1) -> tuple[Figure, np.ndarray]:
    """A new figure and its axes, rows first."""
    figure = Figure(figsize=(width * columns, height * rows + 0.5), facecolor="white")
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.08)
    return figure, figure.subplots(rows, columns, squeeze=False)


def legend(figure: Figure, entries: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """One legend below all panels."""
    lines = [Line2D([], [], label=label, **look) for label, look in entries]
    figure.legend(
        handles=lines, loc="outside lower center", ncols=len(lines), frameon=False, fontsize=9,
        handlelength=2.2, columnspacing=1.6,
    )  # fmt: skip


def title(figure: Figure, text: str) -> None:
    """What the whole figure shows."""
    figure.suptitle(text, fontsize=12, fontweight="bold", color=INK, x=0.01, ha="left")


def numbers(row: Sequence[float | None]) -> np.ndarray:
    """None becomes NaN, which is not drawn."""
    return np.array(row, np.float64)


def draw_horizon_blind(ax: Axes, blind: HorizonBlind) -> None:
    """Distance from the mean over n/N, a line per N."""
    style(ax, "Distance from its horizon-blind self")
    shown = blind.distances if blind.overall else ()
    horizons = list(dict.fromkeys(distance.horizon for distance in shown))
    for i, horizon in enumerate(horizons):
        mine = [distance for distance in shown if distance.horizon == horizon]
        ax.plot(
            numbers([d.progress for d in mine]), numbers([d.distance for d in mine]),
            color=COLOURS[i % len(COLOURS)], marker=MARKERS[i % len(MARKERS)],
            markersize=5, label=f"N = {horizon:,}",
        )  # fmt: skip
    ax.set_xlabel("n/N")
    ax.set_ylabel("relative RMS distance")
    ax.set_ylim(bottom=0, top=None if blind.overall else 1)
    if blind.overall:
        ax.legend(frameon=False, fontsize=9)
    else:
        ax.text(0.5, 0.5, "does not see the horizon", ha="center", color=INK, transform=ax.transAxes)
