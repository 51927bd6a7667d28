"""The evaluation as tables and figures; of several runs side by side."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rl_discovery.evaluation.curves import THRESHOLDS
from rl_discovery.evaluation.matrices import score_matrix
from rl_discovery.evaluation.plots import horizon_unit
from rl_discovery.evaluation.report.document import Evaluation, Figure, Table
from rl_discovery.evaluation.report.files import RunFiles
from rl_discovery.evaluation.report.looks import band, colours_of, faint, figure, line, slug
from rl_discovery.evaluation.report.merging import merged
from rl_discovery.evaluation.report.words import interval
from rl_discovery.evaluation.results import Aggregate, Improvement, Results
from rl_discovery.evaluation.statistics import MIN_RUNS, performance_profile, profile_band

NOTE = (
    "A normalised return of 0 is what the uniformly random policy gets, 1 the best policy (computed exactly) "
    "or a reference. Square brackets and error bars are 95 % bootstrap intervals over seeds. IQM is the "
    "interquartile mean over seeds and environments."
)


def evaluation(runs: Sequence[RunFiles]) -> Evaluation | None:
    """What is known of all runs; None if none was evaluated."""
    results = merged(runs)
    if results is None:
        return None
    tables: list[Table] = []
    more: list[Table] = []
    figures: list[Figure] = []
    for suite in dict.fromkeys(aggregate.suite for aggregate in results.aggregate):
        scored = results.scored(suite)
        if scored:
            tables += [_scores(results, suite)]
            more += [_gaps(results, suite), _efficiency(results, suite)]
            figures += [_score_figure(results, suite), _gap_figure(results, suite)]
        returns = _returns(results, suite)
        (more if scored and len(results.environments(suite)) == 1 else tables).append(returns)
        if entries := [entry for entry in results.improvement if entry.suite == suite]:
            tables += [_differences(results, suite, entries), _improvement(results, suite, entries)]
        figures += _return_figures(results, suite) if not scored else []
        figures += _curve_figures(results, suite)
        figures += [_profile_figure(results, suite)] if scored else []
    few = any(aggregate.seeds < MIN_RUNS for aggregate in results.aggregate)
    note = f"{NOTE} With fewer than {MIN_RUNS} seeds there are none." if few else NOTE
    return Evaluation(tuple(tables), tuple(figures), tuple(more), note)


def _scores(results: Results, suite: str) -> Table:
    return _by_horizon(
        results,
        suite,
        f"Normalised return on “{suite}” (IQM)",
        lambda a: interval(a.iqm, a.ci_low, a.ci_high),
    )


def _gaps(results: Results, suite: str) -> Table:
    caption = f"Optimality gap on “{suite}”: mean shortfall from 1, lower is better"
    return _by_horizon(results, suite, caption, lambda a: interval(a.optimality_gap, a.gap_low, a.gap_high))


def _efficiency(results: Results, suite: str) -> Table:
    caption = f"Efficiency on “{suite}”: mean normalised return over the lifetime (IQM)"
    return _by_horizon(results, suite, caption, lambda a: interval(a.efficiency))


def _by_horizon(results: Results, suite: str, caption: str, text: Callable[[Aggregate], str]) -> Table:
    """A row per objective, a column per horizon."""
    found = {(a.objective, a.horizon): a for a in results.aggregate if a.suite == suite}
    labels = dict.fromkeys(label for label, _ in found)
    horizons = sorted({horizon for _, horizon in found})

    def cell(aggregate: Aggregate | None) -> str:
        if aggregate is None:
            return "–"
        return f"{aggregate.failures} failed" if aggregate.failures else text(aggregate)

    rows = ((label, *(cell(found.get((label, horizon))) for horizon in horizons)) for label in labels)
    return Table(
        f"{caption}. {_runs(results, suite)}", ("Objective", *_heads(results, suite, horizons)), tuple(rows)
    )


def _returns(results: Results, suite: str) -> Table:
    """Mean return of each objective on each environment."""
    found = {(a.objective, a.horizon): a for a in results.aggregate if a.suite == suite}
    horizons = sorted({horizon for _, horizon in found})
    rows = []
    for environment in results.environments(suite):
        for label in dict.fromkeys(label for label, _ in found):
            aggregates = [found.get((label, horizon)) for horizon in horizons]
            means = [None if a is None else results.environment_return(a, environment) for a in aggregates]
            rows.append((environment, label, *(interval(*(mean or (None,))) for mean in means)))
    head = ("Environment", "Objective", *_heads(results, suite, horizons))
    return Table(f"Return on “{suite}”, mean over seeds. {_runs(results, suite)}", head, tuple(rows))


def _differences(results: Results, suite: str, entries: Sequence[Improvement]) -> Table:
    caption = (
        f"Paired difference of the normalised return on “{suite}”: mean over seeds ± standard error; both "
        "met the same levels and random numbers"
    )
    return _by_pair(results, suite, entries, caption, "minus", lambda e: str(e.paired or "–"))


def _improvement(results: Results, suite: str, entries: Sequence[Improvement]) -> Table:
    caption = (
        f"Probability of improvement on “{suite}”: that a run of one beats a run of the other; "
        "ties count half"
    )
    return _by_pair(
        results, suite, entries, caption, "over", lambda e: interval(e.probability, e.ci_low, e.ci_high)
    )


def _by_pair(
    results: Results,
    suite: str,
    entries: Sequence[Improvement],
    caption: str,
    between: str,
    text: Callable[[Improvement], str],
) -> Table:
    """A row per objective and baseline, a column per horizon."""
    horizons = sorted({entry.horizon for entry in entries})
    found = {(e.objective, e.over, e.horizon): e for e in entries}
    rows = tuple(
        (
            f"{objective} {between} {over}",
            *("–" if e is None else text(e) for e in (found.get((objective, over, n)) for n in horizons)),
        )
        for objective, over in dict.fromkeys((e.objective, e.over) for e in entries)
    )
    return Table(caption, ("", *_heads(results, suite, horizons)), rows)


def _score_figure(results: Results, suite: str) -> Figure:
    values = {
        (a.objective, a.horizon): (a.iqm, a.ci_low, a.ci_high) for a in results.aggregate if a.suite == suite
    }
    title = f"Normalised return on “{suite}”"
    return _points(results, suite, "scores", title, "Normalised return (IQM)", values, ends=True)


def _gap_figure(results: Results, suite: str) -> Figure:
    values = {
        (a.objective, a.horizon): (a.optimality_gap, a.gap_low, a.gap_high)
        for a in results.aggregate
        if a.suite == suite
    }
    title = f"Optimality gap on “{suite}” (lower is better)"
    return _points(results, suite, "gap", title, "Mean shortfall from 1", values)


def _return_figures(results: Results, suite: str) -> list[Figure]:
    """One per environment, where there is no common scale."""
    found = []
    for environment in results.environments(suite):
        values = {
            (a.objective, a.horizon): tuple(results.environment_return(a, environment) or (None,) * 3)
            for a in results.aggregate
            if a.suite == suite
        }
        found.append(
            _points(results, suite, f"returns-{slug(environment)}", environment, "Return (mean)", values)
        )
    return found


def _points(
    results: Results,
    suite: str,
    name: str,
    title: str,
    measure: str,
    values: Mapping[tuple[str, int], tuple[float | None, ...]],
    *,
    ends: bool = False,
) -> Figure:
    """Values with intervals over the horizons, which stand at equal distances."""
    horizons = sorted({horizon for _, horizon in values})
    labels = list(dict.fromkeys(label for label, _ in values))
    colours = colours_of(labels)
    traces, words = [], []
    for i, label in enumerate(labels):
        places = [k for k, horizon in enumerate(horizons) if (label, horizon) in values]
        mine = [values[label, horizons[k]] for k in places]
        offset = 0.07 * (i - (len(labels) - 1) / 2)  # beside each other, so that intervals stay readable
        traces.append(_with_intervals([k + offset for k in places], mine, label, colours[label]))
        traces[-1].text = [
            f"{horizons[k]:,}: {interval(*value)}" for k, value in zip(places, mine, strict=True)
        ]
        words.append(f"{label} {', '.join(interval(*value) for value in mine)}")
    axis: dict[str, Any] = {"title": {"text": measure}}
    shapes = []
    if ends:
        axis |= {"rangemode": "tozero"}
        shapes = [
            {
                "type": "line",
                "xref": "paper",
                "x0": 0,
                "x1": 1,
                "y0": y,
                "y1": y,
                "line": {"dash": "dash", "width": 1},
            }
            for y in (0, 1)
        ]
    ticks = {"tickvals": list(range(len(horizons))), "ticktext": [f"{horizon:,}" for horizon in horizons]}
    x = {
        "title": {"text": f"Lifetime in {horizon_unit(results, suite)}"},
        "range": [-0.4, len(horizons) - 0.6],
    } | ticks
    at = f"{', '.join(f'{h:,}' for h in horizons)} {horizon_unit(results, suite)}"
    alt = f"{title} at {at}: {'; '.join(words)}."
    return figure(f"{name}-{slug(suite)}", title, alt, traces, x=x, y=axis, shapes=shapes)


def _with_intervals(
    x: Sequence[float], values: Sequence[tuple[Any, ...]], label: str, look: tuple[str, str]
) -> Any:
    colour, symbol = look
    middle = [value[0] for value in values]
    above = [None if v[2] is None else v[2] - v[0] for v in values]
    below = [None if v[1] is None else v[0] - v[1] for v in values]
    errors = {
        "type": "data",
        "symmetric": False,
        "array": above,
        "arrayminus": below,
        "thickness": 2,
        "width": 0,
    }
    return line(
        x, middle, label, colour, line={"width": 1.4}, marker={"size": 9, "symbol": symbol, "color": colour},
        error_y=errors, hovertemplate="%{text}<extra>%{fullData.name}</extra>",
    ).update(mode="lines+markers")  # fmt: skip


def _curve_figures(results: Results, suite: str) -> list[Figure]:
    """Learning curves at the longest horizon: the mean over seeds, and every seed."""
    longest = _longest(results, suite)
    found = []
    for environment in results.environments(suite):
        cells = [
            c
            for c in results.cells
            if (c.suite, c.environment, c.horizon) == (suite, environment, longest) and c.curve
        ]
        if not cells:
            continue
        labels = list(dict.fromkeys(cell.objective for cell in cells))
        looks, traces, words = colours_of(labels), [], []
        for label in labels:
            mine = [cell for cell in cells if cell.objective == label]
            steps = [point.env_steps for point in mine[0].curve]
            curves = [[point.return_ for point in cell.curve] for cell in mine]
            colour = looks[label][0]
            traces += [
                line(steps, curve, label, faint(colour, 0.35), line={"width": 1}, showlegend=False,
                     hoverinfo="skip", legendgroup=label)
                for curve in curves
            ]  # fmt: skip
            mean = [_mean(column) for column in zip(*curves, strict=True)]
            traces.append(line(steps, mean, label, colour, legendgroup=label))
            words.append(f"{label} ends at {interval(mean[-1])}")
        title = f"Learning on {environment}, lifetime {longest:,}"
        alt = f"{title}: mean return over environment steps. {'; '.join(words)}."
        found.append(
            figure(
                f"curves-{slug(suite)}-{slug(environment)}", title, alt, traces,
                x="Environment steps of each agent", y="Return",
            )
        )  # fmt: skip
    return found


def _profile_figure(results: Results, suite: str) -> Figure:
    """Share of runs above each score at the longest horizon."""
    longest = _longest(results, suite)
    cells = [cell for cell in results.cells if (cell.suite, cell.horizon) == (suite, longest)]
    labels = list(dict.fromkeys(cell.objective for cell in cells))
    looks, traces, words = colours_of(labels), [], []
    for label in labels:
        scores = score_matrix([cell for cell in cells if cell.objective == label])
        if scores is None:
            continue
        share = performance_profile(scores, THRESHOLDS)
        colour = looks[label][0]
        if (limits := profile_band(scores, THRESHOLDS)) is not None:
            traces.append(band(THRESHOLDS.tolist(), limits[0].tolist(), limits[1].tolist(), colour))
        traces.append(line(THRESHOLDS.tolist(), share.tolist(), label, colour))
        words.append(f"{label}: half of the runs are above {_median(share):.2f}")
    title = f"Performance profile on “{suite}”, lifetime {longest:,}"
    alt = f"{title}: share of runs whose normalised return exceeds a threshold. {'; '.join(words)}."
    return figure(
        f"profile-{slug(suite)}", title, alt, traces, x="Normalised return τ", y="Share of runs above τ"
    )


def _median(share: Any) -> float:
    """The threshold that half of the runs exceed."""
    above = [float(t) for t, value in zip(THRESHOLDS, share, strict=True) if value >= 0.5]
    return above[-1] if above else float(THRESHOLDS[0])


def _heads(results: Results, suite: str, horizons: Sequence[int]) -> list[str]:
    unit = "updates" if horizon_unit(results, suite) == "agent updates" else "steps"
    return [f"{horizon:,} {unit}" for horizon in horizons]


def _longest(results: Results, suite: str) -> int:
    """The longest horizon that every objective was evaluated at; the longest of all, where there is none."""
    by_objective: dict[str, set[int]] = {}
    for cell in results.cells:
        if cell.suite == suite:
            by_objective.setdefault(cell.objective, set()).add(cell.horizon)
    return max(set.intersection(*by_objective.values()) or set.union(*by_objective.values()))


def _runs(results: Results, suite: str) -> str:
    """How many levels and seeds, which several runs may have different numbers of."""
    cells = [cell for cell in results.cells if cell.suite == suite]
    seeds: dict[str, set[int]] = {}
    for cell in cells:
        seeds.setdefault(cell.objective, set()).add(cell.seed)
    counts = _range([cell.levels for cell in cells]), _range([len(mine) for mine in seeds.values()])
    words = (
        f"{text} {what}{'s' * (text != '1')}" for text, what in zip(counts, ("level", "seed"), strict=True)
    )
    return " per environment, ".join(words)


def _range(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low}" if low == high else f"{low} to {high}"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None
