"""The contents of the figures of evaluations and analyses, independent of how they are drawn.

`plots` draws a chart with matplotlib, for files; `report.figures` draws the same chart for the page. Colours
and markers follow from a series' style, which is the same number in both.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from rl_discovery.discovery.formatting import MISSING, difference, interval
from rl_discovery.evaluation.matrices import score_matrix
from rl_discovery.evaluation.results import Aggregate, Cell, Results
from rl_discovery.evaluation.statistics import NO_INTERVAL, Difference, performance_profile, profile_band
from rl_discovery.evaluation.tables import aggregates_of, horizon_unit, labels_of

Values: TypeAlias = Sequence[float | None]
"""Numbers, with None where there is none."""

THRESHOLDS = np.linspace(-0.25, 1.5, 71)
"""Scores of a performance profile."""

PROFILE_RUNS = 10
"""Fewest runs (seeds x environments) that a performance profile is drawn of."""

Ends: TypeAlias = tuple[float | None, float | None, float | None]
"""A value with the ends of its interval."""

NOTHING: Ends = (None, None, None)


@dataclasses.dataclass(frozen=True)
class Series:
    """A line with its uncertainty.

    Attributes:
        label: of the legend.
        style: number of its colour and marker; None: grey, of what is a reference and no competitor.
        x, y: the points.
        low, high: the ends of an interval at each point, or nothing.
        runs: lines of single runs at the same x, drawn faint.
        text: what it shows, in words.
        width: of the line, in points.
        marked: whether its points have markers.
        dashed: whether the line is.
    """

    label: str
    style: int | None
    x: Values
    y: Values
    low: Values = ()
    high: Values = ()
    runs: tuple[Values, ...] = ()
    text: str = ""
    width: float = 2
    marked: bool = False
    dashed: bool = False


@dataclasses.dataclass(frozen=True)
class Chart:
    """Series on common axes.

    Attributes:
        name: what it is called in a page.
        title: above it.
        x, y: names of the axes.
        series: in the order of the legend.
        ticks: where x counts categories, their names: series then are points with intervals, joined.
        lines: horizontal lines, by name.
        from_zero: whether the y-axis begins at 0.
    """

    name: str
    title: str
    x: str
    y: str
    series: tuple[Series, ...]
    ticks: tuple[str, ...] = ()
    lines: Mapping[str, float] = dataclasses.field(default_factory=dict)
    from_zero: bool = False

    @property
    def alt(self) -> str:
        """The chart in words."""
        shown = self.title if self.y == self.title else f"{self.title}, {self.y}"
        at = f" at {', '.join(self.ticks)}" if self.ticks else ""
        return f"{shown} over {self.x}{at}: {'; '.join(s.text or s.label for s in self.series)}."


def styles_of(labels: Sequence[str]) -> dict[str, int | None]:
    """A number for each label; "random" has none."""
    others = [label for label in labels if not label.startswith("random")]
    return {label: others.index(label) if label in others else None for label in labels}


def suite_charts(results: Results, suite: str) -> list[Chart]:
    """The scores of a suite, or the returns of each environment where it has none."""
    if results.scored(suite):
        return [score_chart(results, suite)]
    return [_return_chart(results, suite, environment) for environment in results.environments(suite)]


def score_chart(results: Results, suite: str) -> Chart:
    """Normalised return at every horizon."""
    title, measure = f"Evaluation on “{suite}”", "Normalised return (IQM"
    chart = _over_horizons(results, suite, "scores", title, measure, lambda a: (a.iqm, a.ci_low, a.ci_high))
    return dataclasses.replace(chart, lines={"random\npolicy": 0.0, "best or\nreference": 1.0})


def gap_chart(results: Results, suite: str) -> Chart:
    """Optimality gap at every horizon."""
    title, measure = f"Optimality gap on “{suite}” (lower is better)", "Shortfall from 1 (mean"
    return _over_horizons(
        results, suite, "gap", title, measure, lambda a: (a.optimality_gap, a.gap_low, a.gap_high)
    )


def _return_chart(results: Results, suite: str, environment: str) -> Chart:
    def mean(aggregate: Aggregate) -> Ends:
        return results.environment_return(aggregate, environment) or NOTHING

    return _over_horizons(results, suite, f"returns-{environment}", environment, "Return (mean", mean)


def _over_horizons(
    results: Results, suite: str, name: str, title: str, measure: str, value: Callable[[Aggregate], Ends]
) -> Chart:
    values = {place: value(aggregate) for place, aggregate in aggregates_of(results, suite).items()}
    horizons = sorted({horizon for _, horizon in values})
    rows = {
        label: [values.get((label, horizon), NOTHING) for horizon in horizons]
        for label in labels_of(results, suite)
    }
    intervals = any(low is not None for _, low, _ in values.values())
    y = f"{measure}, {'95 % interval' if intervals else NO_INTERVAL})"
    return _categories(results, suite, name, title, y, horizons, rows)


def difference_chart(results: Results, suite: str) -> Chart | None:
    """How far each objective is ahead of each baseline that learns; None where nothing was compared."""
    entries = [e for e in results.improvement if e.suite == suite and e.over != "random"]
    if all(entry.difference is None for entry in entries):
        return None
    horizons = sorted({entry.horizon for entry in entries})
    rows = {}
    for objective, over in dict.fromkeys((entry.objective, entry.over) for entry in entries):
        mine = {e.horizon: e.paired for e in entries if (e.objective, e.over) == (objective, over)}
        mean = results.mean_difference(objective, over, suite)
        known = mean is not None and mean.standard_error is not None
        overall = f": mean {difference(*mean)}" if mean is not None and known else ""
        rows[f"{objective} minus {over}{overall}"] = [_two_errors(mine.get(horizon)) for horizon in horizons]
    title, y = f"Ahead of the baseline on “{suite}”", "Paired difference (± 2 standard errors)"
    chart = _categories(results, suite, "ahead", title, y, horizons, rows)
    return dataclasses.replace(chart, lines={"": 0.0})


def _two_errors(paired: Difference | None) -> Ends:
    if paired is None:
        return NOTHING
    mean, error = paired
    return (mean, None, None) if error is None else (mean, mean - 2 * error, mean + 2 * error)


def _categories(
    results: Results,
    suite: str,
    name: str,
    title: str,
    y: str,
    horizons: Sequence[int],
    rows: Mapping[str, Sequence[Ends]],
) -> Chart:
    """A series per row, beside each other, so that intervals stay readable."""
    styles, series = styles_of(list(rows)), []
    for i, (label, values) in enumerate(rows.items()):
        offset = 0.09 * (i - (len(rows) - 1) / 2)
        x = [k + offset for k in range(len(horizons))]
        text = f"{label} {', '.join(interval(*value) for value in values)}"
        y_values, low, high = zip(*values, strict=True)
        series.append(Series(label, styles[label], x, y_values, low, high, text=text))
    ticks = tuple(f"{horizon:,}" for horizon in horizons)
    unit = f"Lifetime ({horizon_unit(results, suite)})"
    return Chart(f"{name}-{suite}", title, unit, y, tuple(series), ticks)


def curve_charts(results: Results, suite: str) -> Iterator[Chart]:
    """Learning curves at the longest horizon, a chart per environment: mean over seeds, and each seed."""
    longest = longest_horizon(results, suite)
    for environment in results.environments(suite):
        place = (suite, environment, longest)
        cells = [c for c in results.cells if (c.suite, c.environment, c.horizon) == place and c.curve]
        if not cells:
            continue
        styles, series = styles_of(_labels(cells)), []
        for label in styles:
            mine = [cell for cell in cells if cell.objective == label]
            runs = tuple([point.return_ for point in cell.curve] for cell in mine)
            mean = [None if None in column else float(np.mean(column)) for column in zip(*runs, strict=True)]
            steps = [point.env_steps for point in mine[0].curve]
            text = f"{label} ends at {interval(mean[-1])}"
            series.append(Series(label, styles[label], steps, mean, runs=runs, text=text, marked=True))
        title = f"Learning on {environment}, lifetime {longest:,}"
        x = "Environment steps of each agent"
        yield Chart(f"curves-{suite}-{environment}", title, x, "Return", tuple(series))


def profile_chart(results: Results, suite: str, horizon: int | None = None) -> Chart | None:
    """Share of runs above each score, at one horizon: the longest, unless told otherwise.

    None where no objective has `PROFILE_RUNS` runs with scores: the shares would be a few steps.
    """
    horizon = longest_horizon(results, suite) if horizon is None else horizon
    cells = [cell for cell in results.cells if (cell.suite, cell.horizon) == (suite, horizon)]
    styles, series, bands = styles_of(_labels(cells)), [], False
    for label in styles:
        scores = score_matrix([cell for cell in cells if cell.objective == label])
        if scores is None or scores.size < PROFILE_RUNS:
            continue
        share = performance_profile(scores, THRESHOLDS)
        ends = profile_band(scores, THRESHOLDS)
        low, high = ((), ()) if ends is None else (side.tolist() for side in ends)
        bands |= ends is not None
        above = THRESHOLDS[share >= 0.5]
        half = f"{above[-1] if above.size else THRESHOLDS[0]:.2f}"
        text = f"{label}: half of the runs are above {half}"
        series.append(Series(label, styles[label], THRESHOLDS.tolist(), share.tolist(), low, high, text=text))
    if not series:
        return None
    title = f"Performance profile on “{suite}”, lifetime {horizon:,}"
    x = "Normalised return τ" if bands else f"Normalised return τ ({NO_INTERVAL})"
    return Chart(f"profile-{suite}", title, x, "Share of runs above τ", tuple(series), from_zero=True)


def longest_horizon(results: Results, suite: str) -> int:
    """The longest horizon that every objective was evaluated at; the longest of all, where there is none."""
    by_objective: dict[str, set[int]] = {}
    for cell in results.cells:
        if cell.suite == suite:
            by_objective.setdefault(cell.objective, set()).add(cell.horizon)
    return max(set.intersection(*by_objective.values()) or set.union(*by_objective.values()))


def range_text(values: Values) -> str:
    """As in "0.12 to 0.5": the first and the last of a line."""
    ends = [values[0], values[-1]] if values else []
    return " to ".join(MISSING if end is None else f"{end:.3g}" for end in ends)


def suites_of(results: Results) -> list[str]:
    """The suites, in order."""
    return list(dict.fromkeys(cell.suite for cell in results.cells))


def _labels(cells: Sequence[Cell]) -> list[str]:
    return list(dict.fromkeys(cell.objective for cell in cells))
