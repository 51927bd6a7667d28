"""The evaluation as tables and figures; of several runs side by side."""

from collections.abc import Sequence
from typing import Any

from rl_discovery.evaluation.charts import (
    curve_charts,
    difference_chart,
    gap_chart,
    profile_chart,
    suite_charts,
    suites_of,
)
from rl_discovery.evaluation.report.document import EvaluationPart, Figure
from rl_discovery.evaluation.report.figures import draw
from rl_discovery.evaluation.report.files import RunFiles
from rl_discovery.evaluation.results import Cell, Improvement, Results, improvements, summarise
from rl_discovery.evaluation.statistics import NO_INTERVAL
from rl_discovery.evaluation.tables import Table, suite_tables

NOTE = (
    "A normalised return of 0 is what the uniformly random policy gets, 1 the best policy (computed exactly) "
    "or a reference. Square brackets and error bars are 95 % bootstrap intervals over seeds. IQM is the "
    "interquartile mean over seeds and environments."
)


def evaluation_part(runs: Sequence[RunFiles]) -> EvaluationPart | None:
    """Tables and figures of all evaluated runs; None if none was evaluated."""
    results = merged(runs)
    if results is None:
        return None
    tables: list[Table] = []
    more: list[Table] = []
    figures: list[Figure] = []
    for suite in suites_of(results):
        named = suite_tables(results, suite)
        folded = {"gap", "efficiency", "settings"}
        if "scores" in named and len(results.environments(suite)) == 1:
            folded.add("returns")
        tables += [table for name, table in named.items() if name not in folded]
        more += [table for name, table in named.items() if name in folded]
        figures += _figures(results, suite)
    few = any(NO_INTERVAL in table.note for table in tables)
    note = f"{NOTE} There is {NO_INTERVAL}." if few else NOTE
    return EvaluationPart(tuple(tables), tuple(figures), tuple(more), note)


def _figures(results: Results, suite: str) -> list[Figure]:
    charts = suite_charts(results, suite)
    ahead = difference_chart(results, suite)
    if results.scored(suite):
        charts.append(gap_chart(results, suite))
    charts += [*([] if ahead is None else [ahead]), *curve_charts(results, suite)]
    if results.scored(suite) and (profile := profile_chart(results, suite)) is not None:
        charts.append(profile)
    return [draw(chart) for chart in charts]


def merged(runs: Sequence[RunFiles]) -> Results | None:
    """The results of all runs as one document.

    Where runs have different numbers under the same name, they are told apart by the runs' names; baselines
    whose numbers are all the same appear once. The first objective of each later run is compared with that
    of the first run, where both were evaluated in the same way.
    """
    evaluated = [(run.name, run.results) for run in runs if run.results is not None]
    if len(evaluated) < 2:
        return evaluated[0][1] if evaluated else None
    labels = _labels(evaluated)
    cells: dict[tuple[Any, ...], Cell] = {}
    entries: dict[tuple[Any, ...], Improvement] = {}
    for name, results in evaluated:
        for cell in results.cells:
            new = cell.model_copy(update={"objective": labels[name, cell.objective]})
            cells[new.objective, new.suite, new.environment, new.horizon, new.seed] = new
        for entry in results.improvement:
            names = {"objective": labels[name, entry.objective], "over": labels[name, entry.over]}
            renamed = entry.model_copy(update=names)
            entries[renamed.objective, renamed.over, renamed.suite, renamed.horizon] = renamed
    every = list(cells.values())
    first, *others = (labels[name, results.cells[0].objective] for name, results in evaluated)
    pairs: list[Improvement] = []
    for other in others:
        both = [cell for cell in every if cell.objective in (first, other)]
        pairs += improvements(both, [first]) if _comparable(both) else ()
    document = Results(cells=tuple(every), aggregate=summarise(every), improvement=(), versions={})
    return document.model_copy(update={"improvement": (*pairs, *entries.values())})


def _labels(evaluated: Sequence[tuple[str, Results]]) -> dict[tuple[str, str], str]:
    groups: dict[str, dict[tuple[Cell, ...], list[str]]] = {}
    for name, results in evaluated:
        for label in dict.fromkeys(cell.objective for cell in results.cells):
            mine = tuple(cell for cell in results.cells if cell.objective == label)
            groups.setdefault(label, {}).setdefault(mine, []).append(name)
    return {
        (name, label): label if len(different) == 1 else f"{label} ({', '.join(names)})"
        for label, different in groups.items()
        for names in different.values()
        for name in names
    }


def _comparable(cells: Sequence[Cell]) -> bool:
    where: dict[str, set[tuple[Any, ...]]] = {}
    for c in cells:
        where.setdefault(c.objective, set()).add((c.suite, c.environment, c.horizon, c.seed, c.levels))
    return len(where) > 1 and all(places == next(iter(where.values())) for places in where.values())
