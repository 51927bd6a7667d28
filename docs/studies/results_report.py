"""Tables, figures and verdicts of the papers' questions, from what `results` has measured.

Differences are between means of meta-training seeds, with Welch's 95 % interval. A hand-written rule is one
number: then the interval is that of the mean of the learned ones.
"""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from harness import Difference, fill, rows_of

from rl_discovery.evaluation.charts import Chart, Series
from rl_discovery.evaluation.plots import draw_chart, grid, save_figure, set_title

PAGE = Path(__file__).parents[1] / "results.md"
IMAGES = PAGE.parent / "images"

LIFETIME = "Lifetime (agent updates)"
MOST_PAIRS = 4
"""In one panel."""

Pair = tuple[str, str]

BASELINES = ("a2c", "ppo", "dpo")

QUESTIONS = {
    "1. Does knowing the horizon help?": (("ta-lpg", "lpg"),),
    "2. Evolution or meta-gradients?": (
        ("ta-lpg", "ta-lpg-meta-gradient"),
        ("ta-lpg-meta-gradient", "lpg-meta-gradient"),
    ),
    "3. Does replay of levels help?": tuple(
        (arm, "ta-lpg") for arm in ("algorithmic-regret", "learnability", "positive-value-loss")
    ),
    "4. Is a learned LPG better than a tuned A2C, and than PPO, and does a warm start help?": (
        *itertools.product(("ta-lpg", "residual", "two-stage"), ("a2c", "ppo")),
        ("two-stage", "ta-lpg"),
    ),
    "5. Is TA-LPO better than LPO, PPO and DPO?": tuple(("ta-lpo", arm) for arm in ("lpo", "ppo", "dpo")),
    "6. How much of it is a schedule?": (
        ("ta-a2c", "a2c-annealed"),
        ("ta-ppo", "ppo"),
        ("residual", "ta-a2c"),
        ("ta-lpo", "ta-ppo"),
    ),
    "7. Does the encoding of the horizon matter?": (
        ("inputs-scaled", "inputs-paper"),
        ("inputs-scaled", "lpg"),
        ("ta-lpg", "inputs-scaled"),
    ),
}
"""Which arm is compared with which."""

ANALYSED = ("ta-lpg", "ta-lpg-meta-gradient", "residual", "ta-lpo")
"""Arms whose agents are also trained with a wrong n/N."""

WRONG = ("fixed at 0", "fixed at 0.5", "shuffled")
"""What these agents are told in place of n/N."""


class Measured(NamedTuple):
    """An evaluation of every arm that it names: suite, lifetimes, seeds of agents, more flags."""

    suite: str
    horizons: tuple[int, ...]
    seeds: int
    arms: tuple[str, ...]
    flags: tuple[str, ...] = ()
    baselines: tuple[str, ...] = BASELINES


class Comparison(NamedTuple):
    """Two arms on one suite: scores by meta-training seed and horizon."""

    pair: Pair
    suite: str
    horizons: tuple[int, ...]
    ours: np.ndarray
    theirs: np.ndarray

    def at_each(self) -> list[Difference]:
        """At each lifetime."""
        return [Difference.of(*columns) for columns in zip(self.ours.T, self.theirs.T, strict=True)]

    def overall(self) -> Difference:
        """Of the means over lifetimes."""
        return Difference.of(self.ours.mean(axis=1), self.theirs.mean(axis=1))


def write_up(record: Path, suites: Mapping[str, Measured], page: Path = PAGE, images: Path = IMAGES) -> None:
    """Fills the tables of the page, and draws its figures."""
    rows = rows_of(record / "evaluations.jsonl")
    blocks = {suite: scores_table(rows, suite, what) for suite, what in suites.items()}
    for number, (question, pairs) in enumerate(QUESTIONS.items(), 1):
        found = comparisons(rows, suites, pairs)
        blocks[f"question {number}"] = comparison_table(found)
        if found:
            title = f"{question} (means over meta-training seeds, 95 % intervals)"
            draw(title, charts_of(found), images / f"question_{number}.png")
    blocks["wrong n/N"] = wrong_progress(rows_of(record / "analyses.jsonl"))
    fill(page, blocks)


def means(rows: Sequence[Mapping[str, Any]], arm: str, suite: str) -> np.ndarray:
    """Mean score over environments and agents, by meta-training seed and horizon; no rows where none is.

    On levels without a scale 0 is the return of the random policy and 1 that of the tuned A2C.
    """
    by_seed = {row["seed"] or 0: row for row in rows if (row["arm"], row["suite"]) == (arm, suite)}
    if all(row["score"] for row in by_seed.values()):
        return np.array([np.mean(list(by_seed[i]["score"].values()), axis=(0, 1)) for i in sorted(by_seed)])
    ends = {row["arm"]: row["return"] for row in rows if row["suite"] == suite and row["seed"] is None}
    if not {"random", "a2c"} <= set(ends):
        return np.empty((0, 0))
    low, high = (
        {place: np.nanmean(values) for place, values in ends[name].items()} for name in ("random", "a2c")
    )

    def relative(row: Mapping[str, Any]) -> np.ndarray:
        scaled = [
            (np.array(values) - low[place]) / (high[place] - low[place])
            for place, values in row["return"].items()
        ]
        return np.mean([np.nanmean(values, axis=0) for values in scaled], axis=0)

    return np.array([relative(by_seed[i]) for i in sorted(by_seed)])


def comparisons(
    rows: Sequence[Mapping[str, Any]], suites: Mapping[str, Measured], pairs: Sequence[Pair]
) -> list[Comparison]:
    """Every pair on every suite where both were measured, the first with at least two seeds."""
    found = []
    for pair, (suite, what) in itertools.product(pairs, suites.items()):
        ours, theirs = (means(rows, arm, suite) for arm in pair)
        if len(ours) > 1 and len(theirs):
            found.append(Comparison(pair, suite, what.horizons, ours, theirs))
    return found


def scores_table(rows: Sequence[Mapping[str, Any]], suite: str, what: Measured) -> str:
    """Mean scores of every arm at each lifetime."""
    lines = [f"| arm | seeds | {' | '.join(f'{n:,}' for n in what.horizons)} | mean |"]
    lines.append("|---" * (len(what.horizons) + 3) + "|")
    for name in (*what.arms, *what.baselines):
        matrix = means(rows, name, suite)
        if len(matrix):
            numbers = [f"{x:.3f}" for x in (*matrix.mean(axis=0), matrix.mean())]
            seeds = "" if name in what.baselines else len(matrix)
            lines.append(f"| {name} | {seeds} | {' | '.join(numbers)} |")
    return "\n".join(lines)


def comparison_table(found: Sequence[Comparison]) -> str:
    """Differences at each lifetime and in the mean, and whether the first is better."""
    lines = ["| is | better than | on | by lifetime | mean | |", "|---" * 6 + "|"]
    for each in found:
        ours, theirs = each.pair
        several = len(each.horizons) > 1
        by_lifetime = "; ".join(
            f"{horizon:,}: {difference.mean:+.3f}"
            for horizon, difference in zip(each.horizons, each.at_each(), strict=True)
        )
        mean = each.overall()
        cells = (ours, theirs, each.suite, by_lifetime if several else "", str(mean), mean.verdict)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def charts_of(found: Sequence[Comparison]) -> list[Chart]:
    """Panels over the lifetimes of unseen levels, and over the other suites; of many pairs, by opponent."""
    pairs = {each.pair for each in found}
    opponents = sorted({theirs for _, theirs in pairs}) if len(pairs) > MOST_PAIRS else [None]
    charts = []
    for opponent in opponents:
        shown = [each for each in found if opponent in (None, each.pair[1])]
        levels = [each for each in shown if len(each.horizons) > 1]
        others = [each for each in shown if len(each.horizons) == 1]
        if levels:
            places = [
                (each.pair, horizon, difference)
                for each in levels
                for horizon, difference in zip(each.horizons, each.at_each(), strict=True)
            ]
            charts.append(_chart("On unseen gridworlds", LIFETIME, places))
        if others:
            charts.append(
                _chart("On other suites", "", [(each.pair, each.suite, each.overall()) for each in others])
            )
    return charts


def _chart(title: str, x: str, places: Sequence[tuple[Pair, int | str, Difference]]) -> Chart:
    names = list(dict.fromkeys(name for _, name, _ in places))
    if x == LIFETIME:
        names.sort()
    pairs = list(dict.fromkeys(pair for pair, *_ in places))
    series = []
    for i, pair in enumerate(pairs):
        of_pair = sorted(
            (names.index(name), difference) for which, name, difference in places if which == pair
        )
        shift = 0.12 * (i - (len(pairs) - 1) / 2)
        series.append(
            Series(
                label=f"{pair[0]} minus {pair[1]}",
                style=i,
                x=[place + shift for place, _ in of_pair],
                y=[difference.mean for _, difference in of_pair],
                low=[difference.low for _, difference in of_pair],
                high=[difference.high for _, difference in of_pair],
            )
        )
    ticks = tuple(f"{name:,}" if isinstance(name, int) else name for name in names)
    y = "Difference of normalised return"
    return Chart("difference", title, x, y, tuple(series), ticks, {"": 0.0})


def draw(title: str, charts: Sequence[Chart], path: Path) -> None:
    """The panels beside each other."""
    figure, axes = grid(len(charts))
    for ax, chart in zip(axes, charts, strict=True):
        draw_chart(ax, chart)
        if chart.ticks and chart.x != LIFETIME:
            for line in ax.lines[1:]:  # suites have no order: points that are not joined
                line.set_linestyle("none")
    set_title(figure, title)
    save_figure(figure, path)


def wrong_progress(rows: Sequence[Mapping[str, Any]]) -> str:
    """How far objectives are from their mean over n/N, and what a wrong n/N costs their agents."""
    lines = [f"| arm | seeds | distance of pihat or f | plain | {' | '.join(WRONG)} |", "|---" * 7 + "|"]
    for name in ANALYSED:
        found = [row for row in rows if row["arm"] == name]
        if len(found) > 1:
            columns = {key: np.array([row[key] for row in found]) for key in ("distance", "plain", *WRONG)}
            losses = [str(Difference.of(columns[view] - columns["plain"], np.zeros(1))) for view in WRONG]
            start = f"{columns['distance'].mean():.2f} | {columns['plain'].mean():.3f}"
            lines.append(f"| {name} | {len(found)} | {start} | {' | '.join(losses)} |")
    return "\n".join(lines)
