"""Draws the sheet of a gallery: per level two pictures side by side, with title and labels.

Drawn through matplotlib's objects, without its global state. `meta.runs.gallery` makes pictures and texts.
"""

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.lines import Line2D

from rl_discovery.envs.gridworld import render as gridworld

COLUMNS = 4
# Okabe and Ito's blue, and their vermilion, darkened for legibility.
AGENT_COLOUR, ANTAGONIST_COLOUR = "#0072B2", "#B84A00"
INK, FAINT = "#333333", "#777777"
WIDTH, ROW, HEAD, FOOT = 13.6, 2.15, 1.05, 0.55  # inches
MARGIN, DPI = 0.012, 110


class Picture(NamedTuple):
    """A level with the path of an agent.

    Attributes:
        pixels: RGB, (height, width, 3).
        label: the text below the picture.
    """

    pixels: np.ndarray
    label: str


class Panel(NamedTuple):
    """One level of the sheet.

    Attributes:
        title: above the pictures, at the left, in bold.
        facts: above the pictures, at the right.
        agent, antagonist: the two pictures, from left to right.
    """

    title: str
    facts: str
    agent: Picture
    antagonist: Picture


def sheet(title: str, explanation: str, panels: Sequence[Panel], *, legend: bool) -> bytes:
    """The sheet as a PNG.

    Args:
        title: of the sheet.
        explanation: how to read the sheet, in at most three lines.
        panels: in the order of reading.
        legend: whether the pictures are of gridworlds, whose symbols are to be explained.
    """
    rows = -(-len(panels) // COLUMNS)
    height = HEAD + ROW * rows + FOOT
    figure = Figure(figsize=(WIDTH, height), facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        rows, COLUMNS, left=MARGIN, right=1 - MARGIN, top=1 - HEAD / height, bottom=FOOT / height,
        wspace=0.09, hspace=0.3,
    )  # fmt: skip
    for i, panel in enumerate(panels):
        _draw_panel(figure, grid[i // COLUMNS, i % COLUMNS], panel)
    top = 1 - 0.12 / height
    figure.text(MARGIN, top, title, fontsize=14, fontweight="bold", color=INK, va="top")
    figure.text(MARGIN, top - 0.32 / height, explanation, fontsize=9, color=FAINT, va="top", linespacing=1.35)
    if legend:
        figure.legend(
            handles=_legend(), loc="lower left", bbox_to_anchor=(MARGIN, 0.06 / height), ncols=6,
            frameon=False, fontsize=9, labelcolor=INK, borderpad=0, handletextpad=0.3, columnspacing=1.8,
        )  # fmt: skip
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def _draw_panel(figure: Figure, place: SubplotSpec, panel: Panel) -> None:
    pair = place.subgridspec(1, 2, wspace=0.06)
    left, right = (figure.add_subplot(pair[0, i]) for i in range(2))
    left.set_title(panel.title, loc="left", fontsize=9.5, fontweight="bold", color=INK, pad=4)
    right.set_title(panel.facts, loc="right", fontsize=9, color=INK, pad=4)
    _draw_picture(left, panel.agent, AGENT_COLOUR)
    _draw_picture(right, panel.antagonist, ANTAGONIST_COLOUR)


def _draw_picture(ax: Axes, picture: Picture, colour: str) -> None:
    ax.imshow(picture.pixels)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set(color=colour, linewidth=1.5)
    ax.set_xlabel(picture.label, fontsize=9, color=colour, labelpad=3)


def _legend() -> list[Line2D]:
    return [
        _symbol(gridworld.PATH, "path, fading to its end", linestyle="-", linewidth=2.5),
        _symbol(gridworld.AGENT, "start", marker="D", markersize=6),
        _symbol(gridworld.POSITIVE, "positive reward", marker="o", markersize=8),
        _symbol(gridworld.NEGATIVE, "negative reward", marker="o", markersize=8),
        _symbol(gridworld.POSITIVE, "ring: ends the episode", marker="o", markersize=9, fillstyle="none"),
        _symbol(gridworld.WALL, "wall", marker="s", markersize=8),
    ]


def _symbol(colour: gridworld.Colour, label: str, **style: Any) -> Line2D:
    red, green, blue = colour
    rgb = (red / 255, green / 255, blue / 255)
    return Line2D([], [], color=rgb, label=label, **{"linestyle": "none", **style})
