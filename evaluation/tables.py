"""Tables of an evaluation as Markdown, for pages and notebooks; the command prints its own.

They say what the figures of `evaluation.plots` draw, in numbers.
"""

from collections.abc import Iterator, Sequence

from rl_discovery.evaluation.results import Results
from rl_discovery.evaluation.statistics import Estimate


def markdown_table(results: Results, suite: str, *, per_environment: bool = False) -> str:
    """One suite as a Markdown table: a row per objective, a column per horizon.

    Entries are interquartile means of the scores with their 95 % intervals, as in "0.81 [0.78, 0.83]";
    there are no intervals with fewer than three seeds.

    Args:
        results: with cells of the suite.
        suite: its name.
        per_environment: mean returns on each environment instead, as for suites without a common scale.

    Raises:
        ValueError: the results hold nothing of that suite.
    """
    environments = results.environments(suite)
    if not environments:
        raise ValueError(f"the results hold nothing of suite {suite!r}")
    by_name = per_environment or not results.scored(suite)
    return _table(results, suite, environments if by_name else [None])


def _table(results: Results, suite: str, places: Sequence[str | None]) -> str:
    """Rows of all places: environments, or None for the suite as a whole."""
    points = [point for point in results.aggregate if point.suite == suite]
    horizons = sorted({point.horizon for point in points})
    named = None not in places
    head = [*(["environment"] if named else []), "objective", *(f"{horizon:,}" for horizon in horizons)]
    rows = [
        [*([str(place)] if named else []), label, *(_text(results, suite, label, n, place) for n in horizons)]
        for place in places
        for label in dict.fromkeys(point.objective for point in points)
    ]
    return "\n".join(_lines([head, ["---"] * len(head), *rows]))


def _lines(rows: list[list[str]]) -> Iterator[str]:
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _text(results: Results, suite: str, label: str, horizon: int, environment: str | None) -> str:
    """One entry; a dash where a run failed or nothing was trained."""
    place = (label, suite, horizon)
    for point in results.aggregate:
        if (point.objective, point.suite, point.horizon) == place:
            if environment is not None:
                return _interval(results.environment_return(point, environment))
            return _interval(None if point.iqm is None else Estimate(point.iqm, point.ci_low, point.ci_high))
    return "–"


def _interval(estimate: Estimate | None) -> str:
    if estimate is None:
        return "–"
    mean, low, high = estimate
    return f"{mean:.2f}" if low is None else f"{mean:.2f} [{low:.2f}, {high:.2f}]"
