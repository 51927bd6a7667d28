"""Where a run's wall time goes, on the host: the columns `wall_s` and `time_*_s` of metrics.jsonl.

The host loop says what it is doing; time that it does not account for is idle. Where generations are short
enough to be dispatched ahead, the devices keep working except during compilations.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

Use = Literal["compile", "generations", "evaluation", "checkpoint"]
USES: tuple[Use, ...] = ("compile", "generations", "evaluation", "checkpoint")
"""Uses that time is accounted to; the rest is idle."""

DIGITS = 3
"""Decimals of seconds in metrics.jsonl."""


class Clock:
    """Counts the seconds of a run over all its starts, without the pauses between them.

    Args:
        now: seconds of a clock that is never set back.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self._start = now()
        self._spent = dict.fromkeys(USES, 0.0)

    def resume(self, row: Mapping[str, Any]) -> None:
        """Goes on from a generation's metrics; time that they do not account for was idle."""
        self._start -= row["wall_s"]
        for use in USES:
            self._spent[use] += row.get(f"time_{use}_s") or 0.0

    @property
    def wall(self) -> float:
        """Seconds since the run began."""
        return self.now() - self._start

    @contextlib.contextmanager
    def spent(self, use: Use) -> Iterator[None]:
        """Accounts what happens inside to `use`; not to be nested."""
        began = self.now()
        try:
            yield
        finally:
            self._spent[use] += self.now() - began

    def row(self) -> dict[str, float]:
        """`wall_s` and its parts `time_*_s`, which add up to it; seconds."""
        wall = round(self.wall, DIGITS)
        parts = {f"time_{use}_s": round(seconds, DIGITS) for use, seconds in self._spent.items()}
        idle = max(0.0, round(wall - sum(parts.values()), DIGITS))
        return {"wall_s": wall, **parts, "time_idle_s": idle}


def shares(row: Mapping[str, Any]) -> dict[str, float]:
    """Shares of the run's time so far by use, `idle` included; empty where a row has no times."""
    names = [name for name in row if name.startswith("time_") and name.endswith("_s")]
    seconds = {name[len("time_") : -len("_s")]: max(0.0, row[name] or 0.0) for name in names}
    total = math.fsum(seconds.values())
    return {name: value / total for name, value in seconds.items()} if total > 0 else {}
