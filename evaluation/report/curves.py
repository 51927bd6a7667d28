"""Metrics over meta-training for the page's chart: columns and their running means, thinned for a screen."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rl_discovery.evaluation.plots import SMOOTHING, running_mean
from rl_discovery.evaluation.report.document import Curves
from rl_discovery.evaluation.report.files import RunFiles

POINTS = 600
"""Most points of a line; more generations are averaged in groups."""

AXES = (("generation", "Generation"), ("env_steps", "Environment steps"), ("wall_s", "Wall time in hours"))

FIRST = (
    *("fitness_mean", "held_out_score", "held_out_fitness", "noise_ratio", "direction_correlation"),
    *("fitness_best", "pair_agreement", "regret_mean", "update_norm", "meta_param_norm"),
)
"""Metrics that head the choice; the others follow by name."""

DIGITS = 5


def curves(runs: Sequence[RunFiles]) -> Curves | None:
    """All numbers of all runs' metrics; None if no generation has ended yet."""
    tables = [(run, columns(run.rows)) for run in runs if run.rows]
    if not tables:
        return None
    names = {name for _, table in tables for name in table} - {name for name, _ in AXES}
    metrics = [*(name for name in FIRST if name in names), *sorted(names - {*FIRST})]
    axes = [(name, label) for name, label in AXES if all(name in table for _, table in tables)]
    group = max(-(-len(run.rows) // POINTS) for run, _ in tables)
    means = f", means over up to {group} generations" if group > 1 else ""
    note = f"Thin: as measured{means}. "
    note += f"Thick: running mean over {SMOOTHING:.0%} of the generations."
    return Curves(
        runs=tuple({"name": run.name, **_thinned(table, metrics)} for run, table in tables),
        metrics=tuple(metrics),
        axes=tuple(axes),
        note=note,
    )


def columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Numbers by name, one per generation; NaN where there is none. Names without numbers are left out."""
    names = dict.fromkeys(name for row in rows for name in row)
    table = {name: np.array([_number(row.get(name)) for row in rows]) for name in names}
    return {name: column for name, column in table.items() if np.isfinite(column).any()}


def last_mean(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[float, int] | None:
    """Mean over the last `SMOOTHING` of the generations, and how many these are; None without numbers."""
    return _mean(rows[-_few(rows) :], name)


def first_mean(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[float, int] | None:
    """As `last_mean`, over the first generations."""
    return _mean(rows[: _few(rows)], name)


def _few(rows: Sequence[Mapping[str, Any]]) -> int:
    return max(1, round(len(rows) * SMOOTHING))


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[float, int] | None:
    values = np.array([_number(row.get(name)) for row in rows])
    return (float(np.nanmean(values)), len(rows)) if np.isfinite(values).any() else None


def _thinned(table: Mapping[str, np.ndarray], metrics: Sequence[str]) -> dict[str, Any]:
    """Axes, raw and smooth columns of at most `POINTS` entries."""
    length = len(next(iter(table.values())))
    group = -(-length // POINTS)
    starts = np.arange(0, length, group)
    ends = np.minimum(starts + group, length)
    axes = {name: _rounded(table[name][ends - 1]) for name, _ in AXES if name in table}
    if "wall_s" in axes:
        axes["wall_s"] = _rounded(table["wall_s"][ends - 1] / 3600)
    present = [name for name in metrics if name in table]
    raw = {name: _rounded(_means(table[name], starts, ends)) for name in present}
    smooth = {name: _rounded(_means(running_mean(table[name]), starts, ends)) for name in present}
    return {"axes": axes, "raw": raw, "smooth": smooth}


def _means(values: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Over each group, without gaps; NaN where a group is one."""
    groups = (values[a:b][np.isfinite(values[a:b])] for a, b in zip(starts, ends, strict=True))
    return np.array([group.mean() if group.size else np.nan for group in groups])


def _rounded(values: np.ndarray) -> list[float | int | None]:
    numbers = (float(f"{value:.{DIGITS + 3 if abs(value) > 1e5 else DIGITS}g}") for value in values)
    return [None if not np.isfinite(x) else int(x) if x.is_integer() else x for x in numbers]


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else np.nan
