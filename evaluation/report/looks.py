"""How the page's figures look, and the small change of making one.

Colours of categories are legible on the light and on the dark page alike (a contrast of 3 at least, which
WCAG 2.1 asks of graphics); colours of text and grid are left to the page, which knows its scheme.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rl_discovery.evaluation.report.document import Figure

LIGHT, DARK = "#ffffff", "#1b2027"
"""What figures stand on, in either scheme; as in page/report.css."""

PALETTE = ("#2479B8", "#D0590A", "#12906A", "#B85C95", "#A07400", "#6C74C9")
"""Okabe and Ito's hues, darkened where white would swallow them and lightened where black would."""

GREY = "#7D848C"
"""References: the random policy, PPO beside a learned drift."""

SYMBOLS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross")

HEIGHT = 360

LEGEND = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
"""Above the figure: below, it would run into the axis where there is little room."""


def colours_of(labels: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and symbol of every objective; "random" is always grey."""
    others = [label for label in labels if not label.startswith("random")]
    found = {label: (PALETTE[i % 6], SYMBOLS[i % 6]) for i, label in enumerate(others)}
    return found | {label: (GREY, "x") for label in labels if label.startswith("random")}


def figure(
    name: str, title: str, alt: str, traces: Sequence[Any], *, x: Any = None, y: Any = None, **layout: Any
) -> Figure:
    """A figure of Plotly's traces.

    Args:
        name: as in `Figure`.
        title: as there.
        alt: as there.
        traces: of `plotly.graph_objects`.
        x: settings of the axis; a text is its title.
        y: the same.
        layout: what else Plotly's layout takes.
    """
    import plotly.graph_objects as go

    common = {
        "template": "none",
        "height": HEIGHT,
        "margin": {"l": 56, "r": 12, "t": 16, "b": 48},
        "hovermode": "closest",
        "legend": LEGEND,
        "xaxis": _axis(x),
        "yaxis": _axis(y),
    }
    drawn = go.Figure(list(traces), common | layout).to_plotly_json()
    del drawn["layout"]["template"]  # the page's own takes its place
    return Figure(name, title, alt, drawn)


def line(x: Sequence[Any], y: Sequence[Any], name: str, colour: str, **more: Any) -> Any:
    """A line; None is a gap."""
    import plotly.graph_objects as go

    look: dict[str, Any] = {"color": colour, "width": 2} | more.pop("line", {})
    return go.Scatter(x=list(x), y=list(y), name=name, mode="lines", line=look, **more)


def band(x: Sequence[Any], low: Sequence[Any], high: Sequence[Any], colour: str) -> Any:
    """A pale band between two lines, not in the legend."""
    import plotly.graph_objects as go

    return go.Scatter(
        x=[*x, *reversed(x)], y=[*high, *reversed(low)], fill="toself", fillcolor=faint(colour, 0.18),
        line={"width": 0}, hoverinfo="skip", showlegend=False,
    )  # fmt: skip


def faint(colour: str, opacity: float) -> str:
    """A colour of the palette, transparent."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def slug(text: str) -> str:
    """Fit for an HTML id."""
    return "".join(c if c.isalnum() and c.isascii() else "-" for c in text.lower()).strip("-") or "x"


def _axis(given: Mapping[str, Any] | str | None) -> dict[str, Any]:
    axis = {"title": {"text": given}} if isinstance(given, str) else dict(given or {})
    return {"automargin": True, "zeroline": False} | axis
