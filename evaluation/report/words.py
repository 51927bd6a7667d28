"""Numbers and values as a reader wants them, the same everywhere in a report."""

from typing import Any


def interval(middle: float | None = None, low: float | None = None, high: float | None = None) -> str:
    """As in "0.81 [0.78, 0.83]"."""
    if middle is None:
        return "–"
    return f"{number(middle)}" + ("" if low is None or high is None else f" [{number(low)}, {number(high)}]")


def number(value: float, digits: int = 2) -> str:
    """With a minus sign that can be seen, but none before a zero."""
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def text(value: Any) -> str:
    """A value of the configuration for reading."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "–"
    if isinstance(value, list | tuple):
        return " ".join(map(text, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """As in "2 h 05 min"."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def short(value: float) -> str:
    """As in "1.9 billion"."""
    for size, name in ((1e12, " trillion"), (1e9, " billion"), (1e6, " million"), (1e3, " thousand")):
        if value >= size:
            return f"{value / size:.3g}{name}"
    return f"{value:.3g}"
