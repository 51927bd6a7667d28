"""How numbers are written, the same in the terminal, in tables, in figures and on pages.

What is missing (None) is a dash. Imports nothing, so that `status` and `--help` stay fast.
"""

from typing import Any

MISSING = "–"


def number(value: float | None, digits: int = 2, *, sign: bool = False) -> str:
    """A number with so many decimals, a real minus sign and no negative zero.

    Args:
        value: any finite number.
        digits: decimals.
        sign: put a + before what is not below zero.
    """
    if value is None:
        return MISSING
    return f"{round(float(value), digits) + 0.0:{'+' if sign else ''}.{digits}f}".replace("-", "−")


def interval(
    middle: float | None = None, low: float | None = None, high: float | None = None, digits: int = 2
) -> str:
    """A value with its interval, as in "0.81 [0.78, 0.83]"; without the ends where there are none."""
    if middle is None or low is None or high is None:
        return number(middle, digits)
    return f"{number(middle, digits)} [{number(low, digits)}, {number(high, digits)}]"


def difference(mean: float | None = None, error: float | None = None, digits: int = 3) -> str:
    """A difference with its error, as in "+0.028 ± 0.006"; without the error where there is none."""
    ends = "" if mean is None or error is None else f" ± {number(error, digits)}"
    return f"{number(mean, digits, sign=True)}{ends}"


def percent(share: float | None) -> str:
    """A share in percent, as in "12.5 %"."""
    return MISSING if share is None else f"{100 * share:.1f} %"


def significant(value: float | None, digits: int = 3) -> str:
    """A number with so many significant digits, as in "0.0123" or "1.2e−05"."""
    return MISSING if value is None else f"{value:.{digits}g}".replace("-", "−")


def count(value: float | None) -> str:
    """A large number in short, as in 1.48 G, 1.10 M, 680 k, 4,000."""
    if value is None:
        return MISSING
    for factor, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= factor:
            return f"{value / factor:.2f} {unit}"
    return f"{value / 1e3:.0f} k" if value >= 1e4 else f"{value:,.0f}"


def duration(seconds: float | None) -> str:
    """A duration in its two largest units, as in 45 s, 12 min, 1 h 45 min, 3 d 12 h."""
    if seconds is None:
        return MISSING
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def plural(amount: int | str, noun: str) -> str:
    """As in "1 seed" and "1,000 seeds"; a text ("3 to 5") is more than one unless it is "1"."""
    shown = amount if isinstance(amount, str) else f"{amount:,}"
    return f"{shown} {noun}{'' if shown == '1' else 's'}"


def setting(value: Any) -> str:
    """A value of a configuration as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return MISSING
    if isinstance(value, list | tuple):
        return " ".join(map(setting, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
