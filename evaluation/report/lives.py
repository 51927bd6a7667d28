"""What else an analysis found: a schedule, agents over their lifetime with true and wrong n/N, a formula."""

from collections.abc import Iterator

from rl_discovery.evaluation.analysis.figures import TRACE_TITLES
from rl_discovery.evaluation.analysis.record import Analysis, Estimated, Lifetime, Schedule
from rl_discovery.evaluation.report.document import AnalysisPart, Figure, Table
from rl_discovery.evaluation.report.explorer import drift_explorer, response_explorer
from rl_discovery.evaluation.report.looks import GREY, PALETTE, band, figure, line, slug
from rl_discovery.evaluation.report.words import number


def analysis_part(prefix: str, found: Analysis) -> AnalysisPart:
    """An analysis for the page.

    Args:
        prefix: unique in the page, what the names of its figures begin with.
        found: the analysis.
    """
    explorer = None
    if found.drift is not None:
        explorer = drift_explorer(prefix, found.drift, found.objective.name)
    elif found.response is not None:
        explorer = response_explorer(prefix, found.response)
    return AnalysisPart(
        explorer=explorer,
        schedule=() if found.schedule is None else tuple(_schedule_figures(prefix, found.schedule)),
        figures=tuple(_trace_figure(prefix, found, name) for name in TRACE_TITLES),
        tables=tuple(table for table in (_views(found), _fit(found)) if table is not None),
        formula=None if found.closed_form is None else found.closed_form.formula,
        note=_note(found),
    )


def _note(found: Analysis) -> str:
    """What the objective makes of the horizon."""
    name, distance = found.objective.name, found.horizon_blind.overall
    if found.drift is None and found.response is None:
        return f"{name} is a hand-written rule with a schedule, and nothing else is learned."
    if not found.objective.sees_horizon:
        return f"{name} does not see the horizon: n and N are not among its inputs."
    size = "–" if distance is None else number(distance, 3)
    return (
        f"Distance of {name} from its horizon-blind self, which is its mean over n/N: {size} of its size "
        "(root mean square)."
    )


def _schedule_figures(prefix: str, schedule: Schedule) -> Iterator[Figure]:
    """A figure per constant, a line per lifetime, the rule without its schedule dashed."""
    for constant, plain in schedule.plain.items():
        curves = [curve for curve in schedule.curves if curve.constant == constant]
        traces = [line(schedule.progress, plain, "without the schedule", GREY, line={"dash": "dash"})]
        words = []
        for i, curve in enumerate(curves):
            traces.append(line(schedule.progress, curve.values, f"N = {curve.horizon:,}", PALETTE[i % 6]))
            words.append(f"{curve.values[0]:.3g} to {curve.values[-1]:.3g} with N = {curve.horizon:,}")
        title = constant.capitalize()
        alt = f"{title} over n/N: {'; '.join(words)}; {plain[0]:.3g} to {plain[-1]:.3g} without the schedule."
        yield figure(f"{prefix}-schedule-{slug(constant)}", title, alt, traces, x="n/N", y=title, height=300)


def _trace_figure(prefix: str, found: Analysis, name: str) -> Figure:
    """One number over the lifetime, a line per view; a band of one deviation around the truth."""
    traces, words = [], []
    for i, view in enumerate(found.lifetimes.views):
        trace = getattr(view, name)
        updates, colour = list(range(len(trace.mean))), PALETTE[i]
        if i == 0 and None not in trace.mean and None not in trace.deviation:
            pairs = list(zip(trace.mean, trace.deviation, strict=True))
            traces.append(band(updates, [m - d for m, d in pairs], [m + d for m, d in pairs], colour))
        traces.append(line(updates, trace.mean, _name(view), colour, line={"width": 2.4 if i == 0 else 1.4}))
        ends = [trace.mean[0], trace.mean[-1]] if trace.mean else []
        words.append(f"{_name(view)} from {' to '.join('–' if e is None else f'{e:.3g}' for e in ends)}")
    title, unit = TRACE_TITLES[name]
    alt = f"{title} over {found.lifetimes.horizon:,} agent updates: {'; '.join(words)}."
    return figure(
        f"{prefix}-{name.replace('_', '-')}", title, alt, traces, x="agent update n", y=unit, height=300
    )


def _views(found: Analysis) -> Table:
    """What agents reach under each view."""
    lives = found.lifetimes
    rows = tuple(
        (_name(view), *(_estimate(value) for value in (view.score, view.difference, view.return_)))
        for view in lives.views
    )
    caption = (
        f"Agents over {lives.horizon:,} updates on {lives.levels} levels of {lives.environment}, "
        f"{lives.seeds} seeds, told the true n/N and wrong ones [95 % interval]"
    )
    return Table(caption, ("n/N", "Score", "Difference to the truth", "Return"), rows)


def _fit(found: Analysis) -> Table | None:
    """How well the formula agrees with the network."""
    if found.closed_form is None:
        return None
    where = {"met": "points that agents met", "grid": "the grid"}
    rows = tuple(
        (f"{error.of} on {where[error.points]}", *(_digits(value) for value in (error.r2, error.rms)))
        for error in found.closed_form.errors
    )
    return Table("How well the formula agrees with the learned drift", ("", "R²", "RMS error"), rows)


def _name(view: Lifetime) -> str:
    return "true n/N" if view.view == "plain" else f"n/N {view.view}"


def _estimate(value: Estimated | None) -> str:
    if value is None or value.mean is None:
        return "–"
    ends = (
        ""
        if value.low is None or value.high is None
        else f" [{number(value.low, 3)}, {number(value.high, 3)}]"
    )
    return f"{number(value.mean, 3)}{ends}"


def _digits(value: float | None) -> str:
    return "–" if value is None else number(value, 4)
