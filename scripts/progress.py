"""Progress of `evaluate`: a bar on a terminal, lines elsewhere; both move within one long evaluation too."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn

from rl_discovery.discovery.formatting import duration

if TYPE_CHECKING:
    from rl_discovery.evaluation import Stage

LINE_SECONDS = 600.0
"""Seconds after which there is a line where there is no terminal."""

COMPUTED_SECONDS = 1.0
"""What takes less was looked up, not computed, and says nothing about the pace."""

MOST = 0.95
"""Share of a stage that an estimate may reach before the stage is over."""


class Estimate:
    """The share of an evaluation that is done: as reported before each stage, by the pace so far in between.

    Args:
        now: seconds of a clock that is never set back.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._since = now()
        self._done = self._end = self._work = self._spent = 0.0
        self.text = "preparing levels"

    def report(self, stage: "Stage") -> None:
        """Begins a stage."""
        if self.seconds >= COMPUTED_SECONDS:
            self._work += stage.done - self._done
            self._spent += self.seconds
        self._done, self._end, self._since = stage.done, stage.end, self._now()
        self.text = _describe(stage)

    @property
    def seconds(self) -> float:
        """Since the stage began."""
        return self._now() - self._since

    @property
    def share(self) -> float:
        """Of all that is to be done, in [0, 1]."""
        pace = self._work / self._spent if self._spent else 0.0
        return self._done + min(pace * self.seconds, MOST * (self._end - self._done))

    def line(self) -> str:
        """For people."""
        return f"{self.share:4.0%} {self.text}"


@contextlib.contextmanager
def progress_of_evaluation(console: Console) -> Iterator[Callable[["Stage"], None]]:
    """Shows progress inside; yields what is to be called with each stage."""
    estimate = Estimate()
    with (_bar if console.is_terminal else _lines)(console, estimate) as changed:

        def report(stage: "Stage") -> None:
            estimate.report(stage)
            changed()

        yield report


class _Bar(Progress):
    """A bar that asks the estimate whenever it is drawn."""

    def __init__(self, console: Console, estimate: Estimate) -> None:
        columns = [TextColumn("{task.percentage:3.0f} %"), TextColumn("{task.fields[time]}")]
        what = TextColumn("{task.description}", markup=False)
        self._estimate, self._began = estimate, time.monotonic()
        super().__init__(BarColumn(), *columns, what, console=console, transient=True)
        self.add_task("", total=1.0, time="")

    def get_renderables(self) -> Iterable[RenderableType]:
        for task in self.tasks:
            task.completed, task.description = self._estimate.share, self._estimate.text
            task.fields["time"] = duration(time.monotonic() - self._began)
        return super().get_renderables()


@contextlib.contextmanager
def _bar(console: Console, estimate: Estimate) -> Iterator[Callable[[], None]]:
    with _Bar(console, estimate):
        yield lambda: None


@contextlib.contextmanager
def _lines(console: Console, estimate: Estimate) -> Iterator[Callable[[], None]]:
    over = threading.Event()

    def remind() -> None:
        while not over.wait(LINE_SECONDS):
            if estimate.seconds >= LINE_SECONDS:
                console.print(f"{estimate.line()}, {duration(estimate.seconds)} so far", soft_wrap=True)

    reminder = threading.Thread(target=remind, daemon=True)
    reminder.start()
    try:
        yield lambda: console.print(estimate.line(), soft_wrap=True)
    finally:
        over.set()
        reminder.join()


def _describe(stage: "Stage") -> str:
    if stage.done == 1:
        return "done"
    what = f"settings of {stage.objective}" if stage.tuning else stage.objective
    return f"{what} on {stage.environment}, horizon {stage.horizon}"
