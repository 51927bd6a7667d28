"""Where the metrics of a run go: live progress in the terminal, TensorBoard, Weights & Biases.

The host loop calls every logger after every generation; none of this is inside compiled code.
"""

import collections
import contextlib
import hashlib
import io
import logging
import os
import re
import secrets
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from matplotlib.image import imread
from rich.console import Console
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
)

from rl_discovery.checkpoints import untrusted
from rl_discovery.checkpoints.atomic import replace_file
from rl_discovery.checkpoints.run_directory import TENSORBOARD, WANDB, WANDB_ID
from rl_discovery.discovery.extras import install
from rl_discovery.discovery.formatting import duration, number
from rl_discovery.meta.config import RunConfig, to_json
from rl_discovery.meta.errors import ConfigError, RunError
from rl_discovery.meta.runs.clock import shares
from rl_discovery.meta.runs.overview import GLANCE, Overview, make_overview

logger = logging.getLogger("rl_discovery")

PANELS = {
    "replay_fraction": "curriculum",
    "regret_": "curriculum",
    "score_": "curriculum",
    "buffer_": "curriculum",
    "level_": "levels",
    "replayed_level_": "levels",
    "held_out_": "held_out",
    "time_": "time",
}
"""Groups in which TensorBoard and W&B show metrics whose names begin so; all others are under "meta"."""

GLANCED = tuple(tag for tags in GLANCE.values() for tag in tags)
"""Tags that W&B also shows in a section of their own."""

FLUSH_SECONDS = 10.0
"""Seconds between two flushes of the events, which TensorBoard sees only then."""

BINS = 64
"""Bins of a histogram."""

ID_BYTES = 64
"""Bytes of the file with the id of Weights & Biases that are read; ours have 17."""

PACE_GENERATIONS = 200
"""Newest generations whose mean time, checkpoints and evaluations included, gives the hours to go."""

LINE_SECONDS = 600.0
"""Maximum of seconds between two lines of progress where there is no terminal."""


class Logger(Protocol):
    """Receives the metrics of a run."""

    def generation(self, row: Mapping[str, Any]) -> None:
        """Logs one generation's metrics."""
        ...

    def histograms(self, values: Mapping[str, np.ndarray], generation: int) -> None:
        """Logs values of all levels in the buffer, by name, after a generation with a checkpoint."""
        ...

    def gallery(self, picture: bytes, generation: int) -> None:
        """Logs the levels of highest score, a PNG, after a generation with a checkpoint."""
        ...

    def close(self) -> None:
        """Ends the log."""
        ...


class Points:
    """Computes what TensorBoard and W&B show of a generation, by `group/name`.

    Args:
        total: generations of the run.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._seconds: collections.deque[float] = collections.deque(maxlen=PACE_GENERATIONS)

    def of(self, row: Mapping[str, Any]) -> dict[str, float]:
        """Every metric that has a value, shares of time, and hours to go at the present pace."""
        points = {
            name if "/" in name else f"{_panel(name)}/{name}": value
            for name, value in row.items()
            if name != "generation" and value is not None
        }
        self._seconds.append(row["generation_s"])
        left = self._total - row["generation"] - 1
        points["time/hours_to_go"] = left * statistics.fmean(self._seconds) / 3600
        return points | {f"time/share_{use}": share for use, share in shares(row).items()}


class Terminal:
    """A progress bar on a terminal; where there is none (a log file, Slurm), a line every so often.

    Args:
        console: where to.
        generations: of the run.
        done: generations that are not run again.
        now: seconds of a clock that is never set back.
    """

    def __init__(
        self, console: Console, generations: int, done: int, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console
        self._total = generations
        self._now = now
        self._fitness: float | None = None
        self._held_out = ""
        self._seconds: collections.deque[float] = collections.deque(maxlen=PACE_GENERATIONS)
        self._next_line, self._line_time = done, now()
        self._progress = Progress(
            TextColumn("generations"),
            MofNCompleteColumn(),
            BarColumn(bar_width=None),
            TextColumn("fitness {task.fields[fitness]}"),
            TextColumn("[dim]best {task.fields[best]}[/]"),
            TextColumn("{task.fields[held_out]}"),
            TextColumn("{task.fields[rate]} env steps/s"),
            TextColumn("{task.fields[left]}"),
            console=console,
        )
        self._task = self._progress.add_task(
            "", total=generations, completed=done, fitness="–", best="–", held_out="", rate="–", left=""
        )
        self._live = (
            Live(self._progress, console=console, refresh_per_second=4) if console.is_terminal else None
        )
        if self._live:
            self._live.start()

    def generation(self, row: Mapping[str, Any]) -> None:
        """Moves the bar; or prints a line after each twentieth of the run, ten minutes or evaluation."""
        # Single generations meet different levels: a running mean shows the trend.
        if (mean := row["fitness_mean"]) is not None:
            self._fitness = mean if self._fitness is None else 0.9 * self._fitness + 0.1 * mean
        self._seconds.append(row["generation_s"])
        rate = _thousands(row["env_steps_per_s"])
        done = row["generation"] + 1
        # Agents that live on from step to step have no fitness before the first lifetime ends.
        fitness, best = number(self._fitness, 3), number(row["fitness_best"])
        if "held_out_fitness" in row:
            self._held_out = f"held out {number(row['held_out_fitness'], 3)}"
        left = f"{duration((self._total - done) * statistics.fmean(self._seconds))} left"
        self._progress.update(
            self._task,
            completed=done,
            fitness=fitness,
            best=best,
            held_out=self._held_out,
            rate=rate,
            left=left,
        )
        late = self._now() >= self._line_time + LINE_SECONDS
        due = late or done >= self._next_line or done == self._total or "held_out_fitness" in row
        if self._live is None and due:
            self._next_line, self._line_time = done + max(1, self._total // 20), self._now()
            evaluated = f"  {self._held_out}" if "held_out_fitness" in row else ""
            self._console.print(
                f"{done} of {self._total} generations  fitness {fitness}{evaluated}  "
                f"{rate} env steps/s  {left}",
                highlight=False,
                soft_wrap=True,
            )

    def histograms(self, values: Mapping[str, np.ndarray], generation: int) -> None:
        """Nothing: a line has no room for it."""

    def gallery(self, picture: bytes, generation: int) -> None:
        """Nothing: a terminal shows no pictures."""

    def close(self) -> None:
        """Leaves the last state of the bar on the screen."""
        if self._live:
            self._live.stop()


class TensorBoard:
    """An overview, scalars of every generation, and the level buffer at checkpoints, as TensorBoard events.

    Events are written by the caller's thread: the queue of tensorboardX's own writer would block the run for
    ever once its thread had died because the disk was full. A run goes on without events where they cannot
    be written.

    Args:
        directory: of the event files.
        generations: of the run.
        done: generations that are not run again.
        overview: what is shown besides the metrics.
        now: seconds of a clock that is never set back.
    """

    def __init__(
        self,
        directory: Path,
        generations: int,
        done: int,
        overview: Overview,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        from tensorboardX import summary
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2

        self._summary, self._event = summary, event_pb2.Event
        self._points = Points(generations)
        self._now = now
        self._flushed = now()
        self._events: Any = None
        layout = {name: ["Multiline", list(tags)] for name, tags in overview.charts.items()}
        with self._or_without():
            directory.mkdir(parents=True, exist_ok=True)
            self._events = EventsWriter(str(directory / "events"))
        # Hides the events of generations that are about to be run again.
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(done, file_version="brain.Event:2")
        self._write(done, session_log=start)
        self._write(done, summary=summary.custom_scalars({"At a glance": layout}))
        for tag, text in overview.texts.items():
            self._write(done, summary=summary.text(tag, text))
        if overview.hparams:
            experiment, session, _ = summary.hparams(dict(overview.hparams), dict.fromkeys(overview.metrics))
            self._write(done, summary=experiment)
            self._write(done, summary=session)

    def generation(self, row: Mapping[str, Any]) -> None:
        """One point per metric, over generations."""
        scalars = self._summary.Summary()
        for tag, value in self._points.of(row).items():
            scalars.MergeFrom(self._summary.scalar(tag, value))
        self._write(row["generation"], summary=scalars)

    def histograms(self, values: Mapping[str, np.ndarray], generation: int) -> None:
        """One histogram per name."""
        for name, numbers in values.items():
            histogram = self._summary.histogram(f"curriculum/{name}", numbers, bins=BINS)
            self._write(generation, summary=histogram)

    def gallery(self, picture: bytes, generation: int) -> None:
        """One image."""
        image = self._summary.image("curriculum/gallery", _pixels(picture), dataformats="HWC")
        self._write(generation, summary=image)

    def close(self) -> None:
        """Flushes and closes the event file."""
        if self._events is not None:
            with self._or_without():
                self._events.close()

    def _write(self, generation: int, **what: Any) -> None:
        if self._events is None:
            return
        with self._or_without():
            self._events.write_event(self._event(wall_time=time.time(), step=generation, **what))
            if self._now() >= self._flushed + FLUSH_SECONDS:
                self._events.flush()
                self._flushed = self._now()

    @contextlib.contextmanager
    def _or_without(self) -> Iterator[None]:
        """Gives up the events, not the run, where one cannot be written; metrics.jsonl has all numbers."""
        try:
            yield
        except OSError as error:
            logger.warning("no more TensorBoard events: %s", error)
            events, self._events = self._events, None
            with contextlib.suppress(OSError):
                if events is not None:
                    events.close()


class WeightsAndBiases:
    """Scalars of every generation in Weights & Biases, resumed under the id that the run directory keeps."""

    def __init__(self, config: RunConfig, directory: Path) -> None:
        try:
            import wandb
        except ImportError:
            raise ConfigError(
                f"logging.wandb_project needs Weights & Biases, which is not installed: {install('wandb')}"
            ) from None
        self._histogram, self._image = wandb.Histogram, wandb.Image
        self._points = Points(config.generations)
        self._run = wandb.init(
            project=config.logging.wandb_project,
            config=to_json(config),
            dir=str(directory),
            id=_wandb_id(directory),
            name=directory.resolve().name,
            resume="allow",
        )

    def generation(self, row: Mapping[str, Any]) -> None:
        """One step per generation."""
        points = self._points.of(row)
        # W&B makes a section of panels from what comes before the slash.
        glance = {f"at a glance/{_name(tag)}": points[tag] for tag in GLANCED if tag in points}
        self._run.log(points | glance, step=row["generation"])

    def histograms(self, values: Mapping[str, np.ndarray], generation: int) -> None:
        """One histogram per name."""
        histograms = {f"curriculum/{name}": self._histogram(numbers) for name, numbers in values.items()}
        self._run.log(histograms, step=generation)

    def gallery(self, picture: bytes, generation: int) -> None:
        """One image."""
        self._run.log({"curriculum/gallery": self._image(_pixels(picture))}, step=generation)

    def close(self) -> None:
        """Finishes the W&B run."""
        self._run.finish()


def make_loggers(config: RunConfig, directory: Path, console: Console, done: int) -> list[Logger]:
    """The loggers that a configuration asks for.

    Args:
        config: of the run.
        directory: of the run.
        console: for progress.
        done: generations that are not run again.

    Raises:
        ConfigError: Weights & Biases is asked for and not installed.
    """
    loggers: list[Logger] = []
    if config.logging.wandb_project is not None:
        loggers.append(WeightsAndBiases(config, directory))
    if config.logging.tensorboard:
        overview = make_overview(config, directory)
        loggers.append(TensorBoard(directory / TENSORBOARD, config.generations, done, overview))
    return [*loggers, Terminal(console, config.generations, done)]


def _wandb_id(directory: Path) -> str:
    """The run's id in Weights & Biases, from its directory, where it is written on first use.

    Raises:
        RunError: the file holds no id.
        CheckpointError, OSError: it cannot be written or read.
    """
    path = directory / WANDB_ID
    if not path.exists():
        # Ids used to be made from the path; a run that began with such an id keeps it.
        former = hashlib.sha256(os.fsencode(directory.resolve())).hexdigest()[:16]
        began = any((directory / WANDB).glob(f"*run-*-{former}"))
        replace_file(path, f"{former if began else secrets.token_hex(8)}\n".encode())
    try:
        kept = untrusted.read_bytes(path, ID_BYTES).decode().strip()
    except (untrusted.RefusedError, UnicodeDecodeError):
        kept = ""
    if not re.fullmatch(r"[0-9a-z]{1,32}", kept):
        raise RunError(f"{path} holds no id of Weights & Biases; delete it to begin a new run there")
    return kept


def _panel(name: str) -> str:
    """The group of panels that a metric is shown in."""
    return next((panel for prefix, panel in PANELS.items() if name.startswith(prefix)), "meta")


def _name(tag: str) -> str:
    return tag.rpartition("/")[2]


def _pixels(picture: bytes) -> np.ndarray:
    """RGB bytes of a PNG."""
    return np.round(255 * imread(io.BytesIO(picture), format="png")[..., :3]).astype(np.uint8)


def _thousands(rate: float) -> str:
    return f"{rate / 1e6:.2f}M" if rate >= 1e6 else f"{rate / 1e3:.0f}k"
