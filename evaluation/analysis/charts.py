"""Charts and tables of an analysis: agents over their lifetime, schedule, role of the horizon, formula."""

from collections.abc import Iterator

from rl_discovery.discovery.formatting import interval, number
from rl_discovery.evaluation.analysis.record import Analysis, Estimated, HorizonBlind, Lifetime, Schedule
from rl_discovery.evaluation.charts import Chart, Series, range_text
from rl_discovery.evaluation.tables import Table

TRACES = {
    "policy_entropy": ("Policy entropy", "nats"),
    "update_size": ("Update size", "norm of the change"),
    "prediction_spread": ("Spread of predictions over states", "standard deviation"),
    "reward_per_step": ("Reward per step", "mean of the rollout"),
}
"""Title and unit of what is followed over a lifetime."""


def trace_charts(analysis: Analysis) -> Iterator[Chart]:
    """Each of `TRACES` over the lifetime, a series per view; a band of one deviation around the true n/N."""
    for name, (title, unit) in TRACES.items():
        series = []
        for i, view in enumerate(analysis.lifetimes.views):
            trace = getattr(view, name)
            low, high = [], []
            if i == 0 and None not in trace.mean and None not in trace.deviation:
                pairs = list(zip(trace.mean, trace.deviation, strict=True))
                low, high = [m - d for m, d in pairs], [m + d for m, d in pairs]
            text = f"{view_name(view)} from {range_text(trace.mean)}"
            updates = range(len(trace.mean))
            series.append(
                Series(
                    view_name(view),
                    i,
                    updates,
                    trace.mean,
                    low,
                    high,
                    text=text,
                    width=2.4 if i == 0 else 1.4,
                )
            )
        yield Chart(name, title, "agent update n", unit, tuple(series), from_zero=True)


def schedule_charts(schedule: Schedule) -> Iterator[Chart]:
    """Each constant over n/N, a series per N, the rule without its schedule dashed."""
    horizons = list(dict.fromkeys(curve.horizon for curve in schedule.curves))
    for constant, plain in schedule.plain.items():
        text = f"{range_text(plain)} without the schedule"
        series = [Series("without the schedule", None, schedule.progress, plain, text=text, dashed=True)]
        for curve in schedule.curves:
            if curve.constant == constant:
                label = f"N = {curve.horizon:,}"
                style, text = horizons.index(curve.horizon), f"{range_text(curve.values)} with {label}"
                series.append(Series(label, style, schedule.progress, curve.values, text=text))
        title, from_zero = constant.capitalize(), constant in ("step size", "entropy bonus")
        yield Chart(f"schedule-{constant}", title, "n/N", title, tuple(series), from_zero=from_zero)


def horizon_blind_chart(blind: HorizonBlind) -> Chart:
    """Distance from the mean over n/N, a series per N; none where the horizon is not seen."""
    shown = blind.distances if blind.overall else ()
    series = []
    for i, horizon in enumerate(dict.fromkeys(d.horizon for d in shown)):
        mine = [d for d in shown if d.horizon == horizon]
        values = [d.distance for d in mine]
        series.append(Series(f"N = {horizon:,}", i, [d.progress for d in mine], values, marked=True))
    title, y = "Distance from its horizon-blind self", "relative RMS distance"
    return Chart("horizon-blind", title, "n/N", y, tuple(series), from_zero=True)


def lifetimes_table(analysis: Analysis) -> Table:
    """What agents reach under each view of n/N."""
    lives = analysis.lifetimes
    rows = tuple(
        (view_name(view), *(_estimate(value) for value in (view.score, view.difference, view.return_)))
        for view in lives.views
    )
    note = f"{lives.levels} levels of {lives.environment}, {lives.seeds} seeds; [95 % interval] over seeds"
    title = f"Agents over {lives.horizon:,} updates, told the true n/N and wrong ones"
    return Table(title, ("n/N", "Score", "Difference to the truth", "Return"), rows, note)


def fit_table(analysis: Analysis) -> Table | None:
    """How well the formula agrees with the learned drift; None where there is no formula."""
    if analysis.closed_form is None:
        return None
    where = {"met": "points that agents met", "grid": "the grid"}
    rows = tuple(
        (f"{error.of} on {where[error.points]}", number(error.r2, 4), number(error.rms, 4))
        for error in analysis.closed_form.errors
    )
    return Table("How well the formula agrees with the learned drift", ("", "R²", "RMS error"), rows)


def view_name(view: Lifetime) -> str:
    """Name of a view: the n that the objective was given."""
    return "true n/N" if view.view == "plain" else f"n/N {view.view}"


def _estimate(value: Estimated | None) -> str:
    return interval() if value is None else interval(value.mean, value.low, value.high, digits=3)
