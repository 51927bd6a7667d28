"""Tables and a figure of the transfer beyond gridworlds, from what `transfer` has measured.

Differences are between means over seeds of agents, with Welch's 95 % interval.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from harness import Difference, fill
from results_report import IMAGES, PAGE

from rl_discovery.evaluation.charts import Chart, Series
from rl_discovery.evaluation.plots import draw_chart, grid, save_figure, set_title

Row = Mapping[str, Any]


def write_up(
    tables: Mapping[str, Sequence[Row]],
    budgets: Sequence[Row],
    panels: Mapping[str, Sequence[str]],
    page: Path = PAGE,
    images: Path = IMAGES,
) -> None:
    """Fills the tables of the page, and draws the figure.

    Args:
        tables: what is on record for each table of all rules, on one budget.
        budgets: what is on record for PPO with and without a schedule.
        panels: of the figure, and their rules.
        page: with the marks.
        images: folder of the figure.
    """
    blocks = {f"transfer {name}": returns_table(rows) for name, rows in tables.items()}
    fill(page, blocks | {"transfer budgets": budgets_table(budgets)})
    rows = [row for part in tables.values() for row in part]
    charts = [chart for title, rules in panels.items() if (chart := scores_chart(title, rows, rules))]
    if charts:
        figure, axes = grid(len(charts))
        for ax, chart in zip(axes, charts, strict=True):
            draw_chart(ax, chart)
            for line in ax.lines:  # tasks have no order
                line.set_linestyle("none")
        set_title(figure, "Control tasks and games (means over seeds of agents, 95 % intervals)")
        save_figure(figure, images / "transfer.png")


def returns_table(rows: Sequence[Row]) -> str:
    """Returns of every rule on each task, the difference to A2C, and the chosen steps."""
    tasks = tasks_of(rows)
    found = {(row["rule"], row["task"]): row for row in rows}
    lines = [f"| rule | {' | '.join(tasks)} | steps, relative |", "|---" * (len(tasks) + 2) + "|"]
    for rule in dict.fromkeys(rule for rule, _ in found):
        cells = [_cell(found.get((rule, task)), found.get(("a2c", task))) for task in tasks]
        factors = [f"{found[rule, task]['step_factor']:g}" for task in tasks if (rule, task) in found]
        lines.append(f"| {rule} | {' | '.join(cells)} | {', '.join(factors)} |")
    return "\n".join(lines)


def budgets_table(rows: Sequence[Row]) -> str:
    """Returns of PPO with a schedule minus those without, by task and budget."""
    tasks = tasks_of(rows)
    returns = {(row["rule"], row["task"], row["budget"]): returns_of(row) for row in rows}
    lines = ["| task | steps | ta-ppo | PPO | difference | better |", "|---" * 6 + "|"]
    for task, budget in sorted({key[1:] for key in returns}, key=lambda key: (tasks.index(key[0]), key[1])):
        if not {("ta-ppo", task, budget), ("ppo", task, budget)} <= set(returns):
            continue
        ours, theirs = (returns[rule, task, budget] for rule in ("ta-ppo", "ppo"))
        difference = Difference.of(ours, theirs)
        lines.append(
            f"| {task} | {budget:,} | {_number(ours.mean())} | {_number(theirs.mean())} "
            f"| {_shown(difference)} | {difference.verdict} |"
        )
    return "\n".join(lines)


def scores_chart(title: str, rows: Sequence[Row], rules: Sequence[str]) -> Chart | None:
    """Scores by task, a series for each rule; None where nothing is measured."""
    tasks, series = tasks_of(rows), []
    for i, rule in enumerate(rules):
        of_rule = {row["task"]: np.array(row["score"], float) for row in rows if row["rule"] == rule}
        places = [(x, of_rule[task]) for x, task in enumerate(tasks) if task in of_rule]
        if places:
            ends = [Difference.of(scores, np.zeros(1)) for _, scores in places]
            shift = 0.09 * (i - (len(rules) - 1) / 2)
            series.append(
                Series(
                    label=rule,
                    style=i,
                    x=[x + shift for x, _ in places],
                    y=[end.mean for end in ends],
                    low=[end.low for end in ends],
                    high=[end.high for end in ends],
                )
            )
    ticks = tuple(task.removesuffix("-MinAtar").removesuffix("-v1") for task in tasks)
    y = "Score (0: random policy, 1: published)"
    return Chart("transfer", title, "", y, tuple(series), ticks, {"": 0.0}) if series else None


def tasks_of(rows: Sequence[Row]) -> list[str]:
    """In the order of the record."""
    return list(dict.fromkeys(row["task"] for row in rows))


def returns_of(row: Row) -> np.ndarray:
    """Returns by seed; NaN for an agent that broke."""
    return np.array(row["return"], float)


def _cell(row: Row | None, reference: Row | None) -> str:
    if row is None:
        return ""
    returns = returns_of(row)
    if reference is None or row["rule"] == reference["rule"]:
        return _number(returns.mean())
    return f"{_number(returns.mean())} ({_shown(Difference.of(returns, returns_of(reference)))})"


def _shown(difference: Difference) -> str:
    return f"{difference.mean:+.3g} [{difference.low:+.3g}, {difference.high:+.3g}]"


def _number(value: float) -> str:
    return f"{value:.4g}"
