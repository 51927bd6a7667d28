"""Tables of `evaluation.tables` on the terminal."""

from collections.abc import Mapping

from rich.table import Table as RichTable
from rich.text import Text

from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.evaluation.results import Results
from rl_discovery.evaluation.tables import Table, suite_tables


def tables(results: Results, suite: str, objectives: Mapping[str, TrainedObjective]) -> list[RichTable]:
    """The tables of a suite for the terminal.

    Args:
        results: the whole document.
        suite: the name of one of its suites.
        objectives: by label; whoever does not see the horizon is named below the first table.

    Returns:
        Scores, with optimality gap and efficiency below each; returns per environment, where there are
        several or no scores; paired differences and probabilities of improvement; what tuning chose.
    """
    named = suite_tables(results, suite)
    shown = [named[name] for name in ("differences", "improvement", "settings") if name in named]
    if "scores" not in named or len(results.environments(suite)) > 1:
        shown.insert(0, named["returns"])
    first = _scores(named) if "scores" in named else draw(shown.pop(0))
    blind = [label for label, objective in objectives.items() if not objective.rule.uses_progress]
    if blind and len({a.horizon for a in results.aggregate if a.suite == suite}) > 1:
        first.caption = f"{first.caption}\nWithout horizon inputs: {', '.join(blind)}"
    return [first, *map(draw, shown)]


def draw(table: Table) -> RichTable:
    """The table with its numbers at the right; a label is not repeated below itself."""
    drawn = _frame(table)
    before: tuple[str, ...] = ()
    for row in table.rows:
        if table.labels > 1 and before and row[0] != before[0]:
            drawn.add_section()
        repeated = table.labels > 1 and before[:1] == row[:1]
        labels = ["" if repeated else row[0], *row[1 : table.labels]]
        drawn.add_row(*labels, *map(_number, row[table.labels :]))
        before = row
    return drawn


def _scores(named: Mapping[str, Table]) -> RichTable:
    drawn = _frame(named["scores"])
    drawn.caption = f"{named['scores'].note}; below it optimality gap and efficiency"
    rows = zip(*(named[name].rows for name in ("scores", "gap", "efficiency")), strict=True)
    for (label, *scores), (_, *gaps), (_, *rates) in rows:
        cells = (
            _number(score)
            if score.endswith("failed")
            else Text.assemble(_number(score), "\n", (f"gap {gap.partition(' ')[0]}  eff. {rate}", "dim"))
            for score, gap, rate in zip(scores, gaps, rates, strict=True)
        )
        drawn.add_row(label, *cells)
    return drawn


def _frame(table: Table) -> RichTable:
    drawn = RichTable(
        title=table.title, caption=table.note, title_justify="left", caption_justify="left", min_width=70
    )
    for i, name in enumerate(table.head):
        drawn.add_column(name, justify="left" if i < table.labels else "right")
    return drawn


def _number(text: str) -> Text:
    """The number bold, and what follows it not: "0.81 [0.78, 0.83]"."""
    if text.endswith("failed"):
        return Text(text, "red")
    middle, *rest = text.partition(" ")
    return Text.assemble((middle, "bold"), *rest)
