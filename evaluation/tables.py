"""Tables of an evaluation, as text in rows; the command, Markdown and the report each draw the same ones."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rl_discovery.discovery.formatting import MISSING, difference, interval, number, plural, significant
from rl_discovery.evaluation.results import Aggregate, Improvement, Results
from rl_discovery.evaluation.statistics import MIN_RUNS, NO_INTERVAL


@dataclasses.dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: what it shows.
        head: names of the columns.
        rows: one text per column.
        note: how to read it.
        labels: leading columns that name a row; all others hold numbers.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    labels: int = 1

    @property
    def caption(self) -> str:
        """Title and note in one."""
        return f"{self.title}: {self.note}" if self.note else self.title


def suite_tables(results: Results, suite: str) -> dict[str, Table]:
    """All tables of a suite.

    Returns:
        By name: `scores` (interquartile means), `gap`, `efficiency` where there are scores; `returns` per
        environment; `differences` and `improvement` where there are baselines; `settings` of tuned ones.

    Raises:
        ValueError: the results hold nothing of that suite.
    """
    if not results.environments(suite):
        raise ValueError(f"the results hold nothing of suite {suite!r}")
    tables: dict[str, Table] = {}
    if results.scored(suite):
        tables["scores"] = _scores(results, suite)
        tables["gap"] = _by_horizon(
            results,
            suite,
            f"Optimality gap on suite “{suite}”",
            f"mean shortfall from a normalised return of 1, lower is better {_ends(results, suite)}",
            lambda a: interval(a.optimality_gap, a.gap_low, a.gap_high),
        )
        tables["efficiency"] = _by_horizon(
            results,
            suite,
            f"Efficiency on suite “{suite}”",
            "mean normalised return over the lifetime, interquartile mean",
            lambda a: number(a.efficiency),
        )
    tables["returns"] = _returns(results, suite)
    entries = [entry for entry in results.improvement if entry.suite == suite]
    if any(entry.difference is not None for entry in entries):
        tables["differences"] = _differences(results, suite, entries)
    if entries:
        title = f"Probability of improvement on suite “{suite}”"
        note = "of a run over one of the baseline, on an environment drawn at random; ties count half"
        head, rows = _by_pair(
            results, suite, entries, "over", lambda e: interval(e.probability, e.ci_low, e.ci_high)
        )
        tables["improvement"] = Table(title, head, rows, note)
    if any(entry.suite == suite for entry in results.tuned):
        tables["settings"] = _settings(results, suite)
    return tables


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
    tables = suite_tables(results, suite)
    table = tables["returns"] if per_environment or "scores" not in tables else tables["scores"]
    rows = [table.head, ("---",) * len(table.head), *table.rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def horizon_unit(results: Results, suite: str) -> str:
    """What the horizons of a suite count."""
    cells = [cell for cell in results.cells if cell.suite == suite]
    return "agent updates" if all(cell.horizon == cell.updates for cell in cells) else "environment steps"


def aggregates_of(results: Results, suite: str) -> dict[tuple[str, int], Aggregate]:
    """Aggregates of a suite by objective and horizon; horizons ascend."""
    mine = [a for a in results.aggregate if a.suite == suite]
    return {(a.objective, a.horizon): a for a in sorted(mine, key=lambda a: a.horizon)}


def labels_of(results: Results, suite: str) -> list[str]:
    """Objectives of a suite, in order."""
    return list(dict.fromkeys(a.objective for a in results.aggregate if a.suite == suite))


def _scores(results: Results, suite: str) -> Table:
    environments = results.environments(suite)
    scored = {cell.environment for cell in results.cells if cell.suite == suite and cell.score is not None}
    note = f"interquartile mean {_ends(results, suite)}; {_runs(results, suite)}"
    if len(scored) < len(environments):
        note += f"; {len(scored)} of {len(environments)} environments have a score"
    scale = "0 random policy, 1 best policy or reference"
    title = f"Normalised return on suite “{suite}” ({scale})"
    return _by_horizon(results, suite, title, note, lambda a: interval(a.iqm, a.ci_low, a.ci_high))


def _by_horizon(
    results: Results, suite: str, title: str, note: str, text: Callable[[Aggregate], str]
) -> Table:
    aggregates = aggregates_of(results, suite)
    horizons = _horizons(aggregates)

    def entry(aggregate: Aggregate | None) -> str:
        if aggregate is None:
            return MISSING
        return f"{aggregate.failures} failed" if aggregate.failures else text(aggregate)

    labels = labels_of(results, suite)
    rows = ((label, *(entry(aggregates.get((label, horizon))) for horizon in horizons)) for label in labels)
    return Table(title, ("Objective", *_heads(results, suite, horizons)), tuple(rows), note)


def _returns(results: Results, suite: str) -> Table:
    aggregates = aggregates_of(results, suite)
    horizons = _horizons(aggregates)

    def entry(environment: str, aggregate: Aggregate | None) -> str:
        mean = None if aggregate is None else results.environment_return(aggregate, environment)
        return interval(*(mean or ()))

    rows = tuple(
        (environment, label, *(entry(environment, aggregates.get((label, horizon))) for horizon in horizons))
        for environment in results.environments(suite)
        for label in labels_of(results, suite)
    )
    head = ("Environment", "Objective", *_heads(results, suite, horizons))
    note = f"mean over seeds {_ends(results, suite)}; {_runs(results, suite)}"
    return Table(f"Return on suite “{suite}”", head, rows, note, labels=2)


def _differences(results: Results, suite: str, entries: Sequence[Improvement]) -> Table:
    head, rows = _by_pair(results, suite, entries, "minus", lambda e: difference(*(e.paired or ())))
    if len({entry.horizon for entry in entries}) > 1:
        pairs = dict.fromkeys((entry.objective, entry.over) for entry in entries)
        means = (difference(*(results.mean_difference(*pair, suite) or ())) for pair in pairs)
        head, rows = (*head, "Mean"), tuple((*row, mean) for row, mean in zip(rows, means, strict=True))
    title = f"Paired difference of the normalised return on suite “{suite}”"
    note = "mean over seeds ± standard error; both met the same levels and random numbers"
    return Table(title, head, rows, note)


def _by_pair(
    results: Results,
    suite: str,
    entries: Sequence[Improvement],
    between: str,
    text: Callable[[Improvement], str],
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Head and rows: a row per objective and baseline, a column per horizon."""
    horizons = sorted({entry.horizon for entry in entries})
    by_place = {(e.objective, e.over, e.horizon): text(e) for e in entries}
    rows = tuple(
        (f" {between} ".join(pair), *(by_place.get((*pair, horizon), MISSING) for horizon in horizons))
        for pair in dict.fromkeys((e.objective, e.over) for e in entries)
    )
    return (f"Objective {between} baseline", *_heads(results, suite, horizons)), rows


def _settings(results: Results, suite: str) -> Table:
    entries = [entry for entry in results.tuned if entry.suite == suite]
    rows = tuple(
        (
            *(entry.objective, entry.environment, f"{entry.horizon:,}"),
            *(significant(entry.policy_learning_rate), f"x {significant(entry.step_factor, 2)}"),
            *(significant(entry.entropy_coef), significant(entry.discount, 6)),
        )
        for entry in entries
    )
    unit = horizon_unit(results, suite).capitalize()
    head = ("Objective", "Environment", unit, "Step size", "Of published", "Entropy bonus", "Gamma")
    note = f"the best of {entries[0].candidates} by {plural(entries[0].seeds, 'seed')} that are not evaluated"
    return Table(f"Settings chosen on suite “{suite}”", head, rows, note, labels=2)


def _horizons(aggregates: Mapping[tuple[str, int], Any]) -> list[int]:
    return sorted({horizon for _, horizon in aggregates})


def _heads(results: Results, suite: str, horizons: Sequence[int]) -> list[str]:
    noun = "update" if horizon_unit(results, suite) == "agent updates" else "step"
    return [plural(horizon, noun) for horizon in horizons]


def _ends(results: Results, suite: str) -> str:
    few = min(a.seeds for a in results.aggregate if a.suite == suite) < MIN_RUNS
    return f"({NO_INTERVAL})" if few else "[95 % interval]"


def _runs(results: Results, suite: str) -> str:
    """How many levels and seeds, which several runs may have different numbers of."""
    cells = [cell for cell in results.cells if cell.suite == suite]
    seeds: dict[str, set[int]] = {}
    for cell in cells:
        seeds.setdefault(cell.objective, set()).add(cell.seed)
    levels = plural(_range([cell.levels for cell in cells]), "level")
    return f"{levels} per environment, {plural(_range([len(mine) for mine in seeds.values()]), 'seed')}"


def _range(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low}" if low == high else f"{low} to {high}"
