"""The shipped objectives beside A2C and PPO that are tuned for each lifetime, and the schedule of `ta-ppo`.

Every rule meets the same levels with the same seeds of agents, so differences are paired by seed.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from harness import fill
from results_report import IMAGES, LIFETIME, PAGE, draw
from scipy import stats

from rl_discovery.checkpoints.loading import is_named, load_objective
from rl_discovery.checkpoints.python_parts import scaled_progress_of, schedule_of
from rl_discovery.evaluation.analysis.figures import schedule_figure
from rl_discovery.evaluation.analysis.schedule import analyse_schedule
from rl_discovery.evaluation.charts import Chart, Series
from rl_discovery.evaluation.plots import save_figure

README = Path(__file__).parents[2] / "README.md"
HOW_TO = PAGE.parent / "how-to" / "drift.md"
TITLE = "On gridworlds that they never saw (means over levels, 95 % intervals over seeds of agents)"

PANELS = {
    "a2c": ("ta-lpg-a2c", "ta-lpg-many", "ta-lpg", "ta-a2c"),
    "ppo": ("ta-lpg-a2c", "ta-lpo", "lpo", "ta-ppo"),
}
"""Of the figure of scores: the tuned rule, and what is compared with it."""

SCHEDULED = "ta-ppo"
LIFETIMES = (10, 30, 100, 300)
"""Of the figure of its schedule."""


def write_up(record: Path, page: Path = PAGE, readme: Path = README, images: Path = IMAGES) -> None:
    """Fills the tables of the page and of the README, and draws the figures."""
    if is_named(SCHEDULED):
        draw_schedule(images / f"schedule_{SCHEDULED}.png")
        fill(HOW_TO, {f"schedule of {SCHEDULED}": schedule_code(SCHEDULED)})
    file = record / "shipped.json"
    if not file.exists():
        return
    found = json.loads(file.read_text())
    horizons = found["horizons"]
    scores = {name: np.array(rows) for name, rows in found["scores"].items()}
    table = scores_table(scores, horizons)
    fill(page, {"shipped": table, "shipped differences": differences_table(scores, horizons)})
    fill(readme, {"shipped": table})
    charts = [chart_of(scores, horizons, tuned, names) for tuned, names in PANELS.items()]
    draw(TITLE, charts, images / "shipped.png")


def draw_schedule(path: Path) -> None:
    """Each constant of PPO over n/N, for four lifetimes."""
    schedule = analyse_schedule(load_objective(SCHEDULED), LIFETIMES, anneals=True)
    assert schedule is not None
    save_figure(schedule_figure(SCHEDULED, schedule), path)


def schedule_code(objective: str | Path) -> str:
    """What `export` writes of a schedule, which is the same for numpy and for PyTorch, as a block of code."""
    found = load_objective(objective)
    rule: Any = found.rule
    part = schedule_of(rule, found.meta_params)
    parts = ("import math", part.numbers, scaled_progress_of(rule), part.code)
    return "```python\n" + "\n\n\n".join(parts) + "\n```"


def scores_table(scores: Mapping[str, np.ndarray], horizons: Sequence[int]) -> str:
    """Mean scores at each lifetime, the highest mean first."""
    lines = [f"| | {' | '.join(f'{n:,}' for n in horizons)} | mean |", "|---" * (len(horizons) + 2) + "|"]
    for name, matrix in sorted(scores.items(), key=lambda pair: -pair[1].mean()):
        numbers = (f"{value:.3f}" for value in (*matrix.mean(axis=0), matrix.mean()))
        lines.append(f"| {title_of(name)} | {' | '.join(numbers)} |")
    return "\n".join(lines)


def differences_table(scores: Mapping[str, np.ndarray], horizons: Sequence[int]) -> str:
    """Differences from the tuned rules, with their standard errors."""
    head = " | ".join(f"{n:,}" for n in horizons)
    lines = [f"| | minus | {head} | mean |", "|---" * (len(horizons) + 3) + "|"]
    for name, matrix in scores.items():
        for tuned in PANELS if name not in PANELS else ():
            paired = matrix - scores[tuned]
            columns = [*paired.T, paired.mean(axis=1)]
            cells = (f"{column.mean():+.3f} ± {stats.sem(column):.3f}" for column in columns)
            lines.append(f"| {title_of(name)} | {tuned} | {' | '.join(cells)} |")
    return "\n".join(lines)


def chart_of(
    scores: Mapping[str, np.ndarray], horizons: Sequence[int], tuned: str, names: Sequence[str]
) -> Chart:
    """Differences from a tuned rule over the lifetime."""
    series = []
    for i, name in enumerate(names):
        paired = scores[name] - scores[tuned]
        interval = stats.ttest_1samp(paired, 0.0).confidence_interval()
        shift = 0.1 * (i - (len(names) - 1) / 2)
        places = [place + shift for place in range(len(horizons))]
        ends = (paired.mean(axis=0).tolist(), interval.low.tolist(), interval.high.tolist())
        series.append(Series(name, i, places, *ends))
    title = f"Minus {tuned.upper()}, tuned for each lifetime"
    ticks = tuple(f"{n:,}" for n in horizons)
    y = "Difference of normalised return"
    return Chart("shipped", title, LIFETIME, y, tuple(series), ticks, {"": 0.0})


def title_of(name: str) -> str:
    """As tables show it."""
    return f"{name.upper()}, tuned" if name in PANELS else f"`{name}`"
