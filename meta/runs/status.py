"""The state of a run, read only from its files: `status` shows it, and `sweep` compares trials by it.

Nothing is locked or written and JAX is not imported, so that it is instant and works on another machine, on
a run that is being written and on a read-only copy.
"""

import dataclasses
import itertools
import math
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rl_discovery.checkpoints.run_directory import (
    CONFIG,
    LOCK,
    METRICS,
    Row,
    damaged_metrics,
    newest_checkpoint,
    read_document,
    read_metrics,
)
from rl_discovery.meta.errors import RunError
from rl_discovery.meta.runs.clock import shares

State = Literal["running", "probably running", "stopped", "done"]
Trend = Literal["rising", "falling", "flat"]

WINDOW_SHARE = 0.1
"""The newest share of a run, over which running means and rates are taken."""

MIN_WINDOW = 5
"""Fewest generations that means and rates are taken over."""

TREND_SHARE = 0.5
"""The newest share of a run, over which the trend of fitness is taken. It is longer than that of the means,
because fitness varies with the levels, and that noise hides a slope sooner than a mean."""

SIGNIFICANT = 2.0
"""Standard errors from zero at which a slope is a trend."""

CURVE_POINTS = 24
"""Points, at most, of the curve of fitness."""

PATIENCE_SECONDS = 60.0
"""Maximum age in seconds of the last row of a live run, in addition to the time of three generations."""

COMPILING_SECONDS = 600.0
"""Maximum age in seconds of the configuration of a live run without any generation: it may be compiling."""

SHARED = ("nfs", "lustre", "gpfs", "ceph", "cifs", "smb", "beegfs", "afs", "9p", "virtiofs", "fuse")
"""Prefixes of the types of file systems whose locks other machines may hold."""

FIRST_NAMESPACE = "pid:[4026531836]"
"""Linux's name of the namespace outside of every container; others do not see all holders of locks."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunStatus:
    """The progress of a run.

    Attributes:
        run: the directory.
        state: running where a live process of this machine holds the lock; `probably running` where that
            cannot be told but the last generation is not old; done when every generation is.
        preset: its name.
        generations: done so far.
        total: to be done in all.
        progress: generations over total, from 0 to 1.
        window: newest generations that `fitness`, `env_steps_per_s` and `eta_s` are taken over.
        fitness: mean of `fitness_mean` over them; None before there is any.
        trend: whether the slope of fitness over the newest half of the run is beyond two standard errors;
            None with fewer than 10 generations.
        slope: that slope, per 100 generations.
        slope_error: its standard error.
        curve: means of fitness over equal parts of the run, at most 24.
        noise_ratio: mean over the window of how long the steps are, 1 being what noise alone makes; None
            where the trainer does not say.
        direction_correlation: mean over the window of how well the winners of pairs agree with the direction
            of the last generations, 0 being noise.
        held_out_fitness: the newest on fixed levels that are never trained on; None where there is none.
        held_out_generation: the generation of that evaluation.
        held_out_best: the highest so far.
        curriculum: how levels are replayed: `replay_fraction`, `buffer_filled`, over the window's last row.
        env_steps: of training so far.
        env_steps_per_s: over the window.
        seconds: of running, without the pauses between resumes.
        time_shares: shares of the time by use, summing to 1; empty where the metrics lack them.
        eta_s: seconds to go at the window's pace; None before the first generation.
        checkpoint: generations in the newest checkpoint; None before the first.
        age_s: seconds since metrics were last written; None before the first.
    """

    run: str
    state: State
    preset: str
    generations: int
    total: int
    progress: float
    window: int
    fitness: float | None
    trend: Trend | None
    slope: float | None
    slope_error: float | None
    curve: tuple[float | None, ...]
    noise_ratio: float | None
    direction_correlation: float | None
    held_out_fitness: float | None
    held_out_generation: int | None
    held_out_best: float | None
    curriculum: Mapping[str, float]
    env_steps: int
    env_steps_per_s: float | None
    seconds: float
    time_shares: Mapping[str, float]
    eta_s: float | None
    checkpoint: int | None
    age_s: float | None


def read_status(path: Path) -> RunStatus:
    """Reads a run's state.

    Args:
        path: the run directory.

    Raises:
        RunError: no run directory, or a file in it is damaged; one line.
    """
    preset, total = _read_plan(path)
    rows = _read_rows(path)
    age = _age(path / METRICS)
    recent = rows[-window(len(rows)) :]
    seconds = [row["generation_s"] for row in recent]
    fitness = [_number(row, "fitness_mean") for row in rows]
    slope, error = least_squares_slope(fitness[-math.ceil(TREND_SHARE * len(rows)) :])
    held_out = [
        (value, row["generation"]) for row in rows if (value := _number(row, "held_out_fitness")) is not None
    ]
    curriculum = {
        name: value
        for name in ("replay_fraction", "buffer_filled")
        for value in [_number(rows[-1], name) if rows else None]
        if value is not None
    }
    return RunStatus(
        run=str(path),
        state=_state(path, len(rows), total, age, statistics.fmean(seconds) if seconds else 0.0),
        preset=preset,
        generations=len(rows),
        total=total,
        progress=min(1.0, len(rows) / total),
        window=len(recent),
        fitness=mean(fitness[-len(recent) :]),
        trend=trend_of(slope, error),
        slope=None if slope is None else 100 * slope,
        slope_error=None if error is None else 100 * error,
        curve=_curve(fitness),
        noise_ratio=mean([_number(row, "noise_ratio") for row in recent]),
        direction_correlation=mean([_number(row, "direction_correlation") for row in recent]),
        held_out_fitness=held_out[-1][0] if held_out else None,
        held_out_generation=held_out[-1][1] if held_out else None,
        held_out_best=max(value for value, _ in held_out) if held_out else None,
        curriculum=curriculum,
        env_steps=int(rows[-1]["env_steps"]) if rows else 0,
        env_steps_per_s=_rate(rows, len(recent)),
        seconds=rows[-1]["wall_s"] if rows else 0.0,
        time_shares=shares(rows[-1]) if rows else {},
        eta_s=max(0, total - len(rows)) * statistics.fmean(seconds) if seconds else None,
        checkpoint=newest_checkpoint(path),
        age_s=age,
    )


def window(rows: int) -> int:
    """Generations that a running mean is taken over: the newest tenth, or 5 if those are more."""
    return min(rows, max(MIN_WINDOW, math.ceil(WINDOW_SHARE * rows)))


def mean(values: Sequence[float | None]) -> float | None:
    """Mean of the values that are not None; None where all are."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _read_plan(path: Path) -> tuple[str, int]:
    """A run's preset and how many generations it is to have."""
    config = read_document(path)["config"]
    preset, total = config.get("preset"), config.get("generations")
    if not isinstance(preset, str) or not isinstance(total, int) or total < 1:
        raise RunError(
            f"{path / CONFIG} is damaged: preset and generations are missing; restore it from a backup"
        )
    return preset, total


def _read_rows(path: Path) -> list[Row]:
    """The metrics of all generations, each with the numbers that the status is made of."""
    rows = read_metrics(path)
    for number, row in enumerate(rows):
        numbers = ("wall_s", "generation_s", "env_steps")
        if row["generation"] != number or any(_number(row, name) is None for name in numbers):
            raise damaged_metrics(path / METRICS, number + 1, f"it should be generation {number}")
    return rows


def _number(row: Mapping[str, Any], name: str) -> float | None:
    """A finite number, or None."""
    value = row.get(name)
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if usable else None


def least_squares_slope(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Least-squares slope per generation and its standard error; neither with fewer than 5 values."""
    points = [(float(x), y) for x, y in enumerate(values) if y is not None]
    if len(points) < MIN_WINDOW:
        return None, None
    xs, ys = zip(*points, strict=True)
    slope, intercept = statistics.linear_regression(xs, ys)
    squares = math.fsum((y - intercept - slope * x) ** 2 for x, y in points)
    centre = statistics.fmean(xs)
    error = math.sqrt(squares / (len(points) - 2) / math.fsum((x - centre) ** 2 for x in xs))
    return slope, error


def trend_of(slope: float | None, error: float | None) -> Trend | None:
    """The trend that a slope with this standard error shows."""
    if slope is None or error is None:
        return None
    if abs(slope) <= SIGNIFICANT * error:
        return "flat"
    return "rising" if slope > 0 else "falling"


def _curve(values: Sequence[float | None]) -> tuple[float | None, ...]:
    points = min(len(values), CURVE_POINTS)
    edges = [len(values) * i // points for i in range(points + 1)] if points else []
    return tuple(mean(values[start:end]) for start, end in itertools.pairwise(edges))


def _rate(rows: Sequence[Mapping[str, Any]], newest: int) -> float | None:
    """Environment steps per second over the newest rows."""
    if not rows:
        return None
    before = rows[-newest - 1]["env_steps"] if newest < len(rows) else 0
    seconds = math.fsum(row["generation_s"] for row in rows[-newest:])
    return (rows[-1]["env_steps"] - before) / seconds if seconds > 0 else None


def _age(path: Path) -> float | None:
    """Seconds since a file was written; clocks of two machines may differ a little."""
    return max(0.0, time.time() - path.stat().st_mtime) if path.exists() else None


def _state(path: Path, done: int, total: int, age: float | None, generation_s: float) -> State:
    held = _lock_is_held(path)
    if held:
        return "running"
    if done >= total:
        return "done"
    if held is False:
        return "stopped"
    if age is None:
        age, patience = _age(path / CONFIG) or 0.0, COMPILING_SECONDS
    else:
        patience = PATIENCE_SECONDS + 3 * generation_s
    return "probably running" if age < patience else "stopped"


def _lock_is_held(path: Path) -> bool | None:
    """Whether a live process has the run, or None where this machine cannot tell.

    Linux lists the holders of locks. Trying to take the lock, even shared and for a moment, could make a run
    fail that starts at that moment.
    """
    lock, locks = path / LOCK, Path("/proc/locks")
    try:
        inode = lock.stat()
        place = f"{os.major(inode.st_dev):02x}:{os.minor(inode.st_dev):02x}:{inode.st_ino}"
        if any(place in line.split() for line in locks.read_text().splitlines()):
            return True
        certain = str(Path("/proc/self/ns/pid").readlink()) == FIRST_NAMESPACE and not _is_shared(path)
    except OSError:
        return None
    return False if certain and not _is_copy(path) else None


def _is_shared(path: Path) -> bool:
    """Whether other machines may write to this file system, or its kind is not known."""
    device = path.stat().st_dev
    place = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, kind = line.partition(" - ")
        if mount.split()[2] == place:
            return kind.startswith(SHARED)
    return True


def _is_copy(path: Path) -> bool:
    """Whether the files came from elsewhere, with times from before they were made here."""
    file = path / METRICS
    times = (file if file.exists() else path / CONFIG).stat()
    return times.st_ctime - times.st_mtime > 0.5
