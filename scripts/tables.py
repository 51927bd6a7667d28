"""Results of an evaluation as rich tables: scores, returns per environment, who beats whom, settings."""

from collections.abc import Callable, Mapping, Sequence

from rich.table import Table
from rich.text import Text

from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.envs.suites import Suite
from rl_discovery.evaluation.results import Aggregate, Cell, Improvement, Results
from rl_discovery.evaluation.statistics import MIN_RUNS, Difference


def tables(results: Results, suite: Suite, objectives: Mapping[str, TrainedObjective]) -> list[Table]:
    """What there is to say of a suite.

    Args:
        results: the whole document.
        suite: one of its suites.
        objectives: by label; whoever does not see the horizon is named below the table.

    Returns:
        Scores, where there are any; returns per environment, where there are several or no scores; how
        far each objective is ahead of each baseline, and how likely one of its runs beats one of the
        baseline; settings of baselines that were searched for.
    """
    scored = results.scored(suite.name)
    several = len(results.environments(suite.name)) > 1
    found = [_scores(results, suite, objectives)] if scored else []
    if several or not scored:
        found.append(_returns(results, suite, {} if scored else objectives))
    entries = [entry for entry in results.improvement if entry.suite == suite.name]
    if any(entry.difference is not None for entry in entries):
        found.append(_differences(results, suite, entries))
    if entries:
        found.append(_improvement(suite, entries))
    if any(entry.suite == suite.name for entry in results.tuned):
        found.append(_tuned(results, suite))
    return found


def _scores(results: Results, suite: Suite, objectives: Mapping[str, TrainedObjective]) -> Table:
    """Interquartile mean with interval, and below it optimality gap and efficiency."""
    aggregates, labels, horizons = _parts(results, suite)
    cells = [cell for cell in results.cells if cell.suite == suite.name]
    with_score = len({cell.environment for cell in cells if cell.score is not None})
    scale = "0 random policy, 1 best policy or reference"
    some = f"; {with_score} of {len(suite.environments)} environments have a score"
    table = _table(
        f"Normalised return on suite “{suite.name}” ({scale})",
        f"interquartile mean {_interval_words(cells)}, below it optimality gap and efficiency; "
        f"{_runs_words(cells)}{some if with_score < len(suite.environments) else ''}",
        objectives if len(horizons) > 1 else {},
    )
    table.add_column(f"objective \\ {_unit(suite)}")
    for horizon in horizons:
        table.add_column(f"{horizon:,}", justify="right")
    for label in labels:
        table.add_row(label, *(_score(aggregates[label, horizon]) for horizon in horizons))
    return table


def _score(aggregate: Aggregate) -> Text:
    if aggregate.failures:
        return Text(f"{aggregate.failures} failed", "red")
    below = f"gap {_number(aggregate.optimality_gap)}  eff. {_number(aggregate.efficiency)}"
    interval = _interval(aggregate.iqm, aggregate.ci_low, aggregate.ci_high)
    return Text.assemble(interval, "\n", (below, "dim"))


def _returns(results: Results, suite: Suite, objectives: Mapping[str, TrainedObjective]) -> Table:
    """Mean return on each environment."""
    aggregates, labels, horizons = _parts(results, suite)
    cells = [cell for cell in results.cells if cell.suite == suite.name]
    table = _table(
        f"Return on suite “{suite.name}”",
        f"mean over seeds {_interval_words(cells)}; {_runs_words(cells)}",
        objectives if len(horizons) > 1 else {},
    )
    table.add_column("environment")
    table.add_column(f"objective \\ {_unit(suite)}")
    for horizon in horizons:
        table.add_column(f"{horizon:,}", justify="right")
    for environment in results.environments(suite.name):
        for label in labels:
            row = [results.environment_return(aggregates[label, n], environment) for n in horizons]
            numbers = (_interval(*(estimate or (None,) * 3)) for estimate in row)
            table.add_row(environment if label == labels[0] else "", label, *numbers)
        table.add_section()
    return table


def _differences(results: Results, suite: Suite, entries: Sequence[Improvement]) -> Table:
    """How far the scores of an objective are above those of a baseline, seed by seed."""

    def mean(objective: str, over: str) -> Text:
        return _difference(results.mean_difference(objective, over, suite.name))

    several = len({entry.horizon for entry in entries}) > 1
    return _by_pair(
        suite,
        entries,
        f"Paired difference of the normalised return on suite “{suite.name}”",
        "mean over seeds ± standard error; both met the same levels and random numbers",
        "minus",
        lambda entry: _difference(entry.paired),
        mean if several else None,
    )


def _improvement(suite: Suite, entries: Sequence[Improvement]) -> Table:
    """How likely a run of an objective beats one of a baseline."""
    return _by_pair(
        suite,
        entries,
        f"Probability of improvement on suite “{suite.name}”",
        "of a run over one of the baseline, on an environment drawn at random; ties count half",
        "over",
        lambda entry: _interval(entry.probability, entry.ci_low, entry.ci_high),
    )


def _by_pair(
    suite: Suite,
    entries: Sequence[Improvement],
    title: str,
    caption: str,
    between: str,
    text: Callable[[Improvement], Text],
    mean: Callable[[str, str], Text] | None = None,
) -> Table:
    """A row per objective and baseline, a column per horizon, and one for their mean."""
    horizons = list(dict.fromkeys(entry.horizon for entry in entries))
    found = {(entry.objective, entry.over, entry.horizon): entry for entry in entries}
    table = _table(title, caption, {})
    table.add_column(f"objective {between} baseline \\ {_unit(suite)}")
    for head in (*(f"{horizon:,}" for horizon in horizons), *(["mean"] if mean else [])):
        table.add_column(head, justify="right")
    for pair in dict.fromkeys((entry.objective, entry.over) for entry in entries):
        row = [found.get((*pair, horizon)) for horizon in horizons]
        cells = [Text("–") if entry is None else text(entry) for entry in row]
        table.add_row(f" {between} ".join(pair), *cells, *([mean(*pair)] if mean else []))
    return table


def _tuned(results: Results, suite: Suite) -> Table:
    """What the search chose for the baselines."""
    entries = [entry for entry in results.tuned if entry.suite == suite.name]
    first = entries[0]
    table = _table(
        f"Settings of baselines on suite “{suite.name}”",
        f"the best of {first.candidates} by {first.seeds} seeds that are not evaluated",
        {},
    )
    for column in ("baseline", "environment"):
        table.add_column(column)
    for column in (_unit(suite), "step size", "of published", "entropy bonus", "gamma"):
        table.add_column(column, justify="right")
    for entry in entries:
        numbers = (
            f"{entry.policy_learning_rate:.3g}",
            f"x {entry.step_factor:.2g}",
            f"{entry.entropy_coef:.3g}",
            "–" if entry.discount is None else f"{entry.discount:g}",
        )
        table.add_row(entry.objective, entry.environment, f"{entry.horizon:,}", *numbers)
    return table


def _table(title: str, caption: str, objectives: Mapping[str, TrainedObjective]) -> Table:
    blind = [label for label, objective in objectives.items() if not objective.rule.uses_progress]
    if blind:
        caption += f"\nWithout horizon inputs: {', '.join(blind)}"
    return Table(
        title=title,
        caption=caption,
        title_justify="left",
        caption_justify="left",
        min_width=70,
    )


def _parts(results: Results, suite: Suite) -> tuple[dict[tuple[str, int], Aggregate], list[str], list[int]]:
    """Aggregates of a suite by objective and horizon, with the names of both in order."""
    mine = [aggregate for aggregate in results.aggregate if aggregate.suite == suite.name]
    labels = list(dict.fromkeys(aggregate.objective for aggregate in mine))
    horizons = list(dict.fromkeys(aggregate.horizon for aggregate in mine))
    return {(a.objective, a.horizon): a for a in mine}, labels, horizons


def _unit(suite: Suite) -> str:
    return "agent updates" if suite.unit == "updates" else "environment steps"


def _runs_words(cells: list[Cell]) -> str:
    levels, seeds = cells[0].levels, len({cell.seed for cell in cells})
    return f"{levels} level{'s' * (levels > 1)} per environment, {seeds} seed{'s' * (seeds > 1)}"


def _interval_words(cells: list[Cell]) -> str:
    enough = len({cell.seed for cell in cells}) >= MIN_RUNS
    return "[95 % interval]" if enough else "(no interval with fewer than three seeds)"


def _interval(middle: float | None, low: float | None, high: float | None) -> Text:
    """As in "0.81 [0.78, 0.83]"."""
    ends = "" if low is None else f" [{_number(low)}, {_number(high)}]"
    return Text.assemble((_number(middle), "bold"), ends)


def _difference(found: Difference | None) -> Text:
    """As in "+0.028 ± 0.006"."""
    if found is None:
        return Text("–")
    mean, *error = str(found).partition(" ")
    return Text.assemble((mean, "bold"), *error)


def _number(value: float | None) -> str:
    """Two decimals, or a dash."""
    return "–" if value is None else f"{value:.2f}"
