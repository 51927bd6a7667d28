"""Figures of the page, with Plotly: charts as for the files, and the parts of those that only the page has.

Colours of categories are legible on the light and on the dark page alike (a contrast of 3 at least, which
WCAG 2.1 asks of graphics); colours of text and grid are left to the page, which knows its scheme.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rl_discovery.discovery.formatting import interval
from rl_discovery.evaluation.charts import Chart, Series
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


def colour_of(style: int | None) -> str:
    """The colour of a series."""
    return GREY if style is None else PALETTE[style % len(PALETTE)]


def draw(chart: Chart, name: str = "", **layout: Any) -> Figure:
    """A chart as a figure of the page.

    Args:
        chart: what it shows.
        name: in place of the chart's, if that is not unique in the page.
        layout: what else Plotly's layout takes.
    """
    traces = [trace for series in chart.series for trace in _traces(series, categories=bool(chart.ticks))]
    dashed = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "line": {"dash": "dash", "width": 1}}
    shapes = [dashed | {"y0": level, "y1": level} for level in chart.lines.values()]
    x: dict[str, Any] = {"title": {"text": chart.x}}
    if chart.ticks:
        count = len(chart.ticks)
        ticks = {"tickvals": list(range(count)), "ticktext": list(chart.ticks)}
        x |= {"range": [-0.4, count - 0.6]} | ticks
    y: dict[str, Any] = {"title": {"text": chart.y}}
    if chart.from_zero or chart.lines:
        y |= {"rangemode": "tozero"}
    return figure(slug(name or chart.name), chart.title, chart.alt, traces, x=x, y=y, shapes=shapes, **layout)


def _traces(series: Series, *, categories: bool) -> Iterator[Any]:
    colour, y = colour_of(series.style), list(series.y)
    x, low, high = list(series.x), list(series.low), list(series.high)
    group: dict[str, Any] = {"legendgroup": series.label}
    for run in series.runs:
        pale = {"line": {"width": 1}, "showlegend": False, "hoverinfo": "skip"}
        yield line(x, run, series.label, faint(colour, 0.35), **group, **pale)
    if categories:
        yield _points(series, x, y, colour)
        return
    if low and None not in low and None not in high:
        yield band(x, low, high, colour)
    style = {"width": series.width} | ({"dash": "dash"} if series.dashed else {})
    yield line(x, y, series.label, colour, line=style, **group)


def _points(series: Series, x: list[Any], y: list[Any], colour: str) -> Any:
    estimates = list(zip(y, series.low, series.high, strict=True))
    errors = {"type": "data", "symmetric": False, "thickness": 2, "width": 0}
    errors |= {"array": [None if high is None else high - middle for middle, _, high in estimates]}
    errors |= {"arrayminus": [None if low is None else middle - low for middle, low, _ in estimates]}
    marker = {
        "size": 9,
        "symbol": "x" if series.style is None else SYMBOLS[series.style % 6],
        "color": colour,
    }
    return line(
        x, y, series.label, colour, line={"width": 1.4}, marker=marker, error_y=errors,
        text=[interval(*estimate) for estimate in estimates],
        hovertemplate="%{text}<extra>%{fullData.name}</extra>",
    ).update(mode="lines+markers")  # fmt: skip


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

    style: dict[str, Any] = {"color": colour, "width": 2} | more.pop("line", {})
    return go.Scatter(x=list(x), y=list(y), name=name, mode="lines", line=style, **more)


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
