"""What TensorBoard shows besides metrics: charts at a glance, texts, the fields that a sweep varies."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rl_discovery.checkpoints.fields import flatten
from rl_discovery.checkpoints.provenance import versions
from rl_discovery.discovery.formatting import setting
from rl_discovery.discovery.objectives.registry import RULES
from rl_discovery.meta.config import RunConfig, to_json
from rl_discovery.meta.errors import RunError
from rl_discovery.meta.runs.clock import USES
from rl_discovery.meta.runs.sweep import PLAN_FILE, read_plan

GLANCE = {
    "Is it learning? (noise ratio: 1 is noise)": (
        "meta/fitness_mean",
        "held_out/held_out_fitness",
        "meta/noise_ratio",
        "meta/direction_correlation",
    ),
    "Is the curriculum moving? (scores)": ("curriculum/score_fresh", "curriculum/score_replayed"),
    "Is the curriculum moving? (share replayed)": ("curriculum/replay_fraction",),
    "Is the machine busy? (share of time)": tuple(f"time/share_{use}" for use in (*USES, "idle")),
    "How long to go? (hours)": ("time/hours_to_go",),
}
"""The charts of TensorBoard's tab Custom Scalars, and the tags of each."""

SWEPT_METRICS = ("meta/fitness_mean", "meta/noise_ratio")
"""Tags that TensorBoard's tab HParams compares the trials of a sweep by, besides held-out fitness."""


@dataclasses.dataclass(frozen=True)
class Overview:
    """What is written once, when a run begins.

    Attributes:
        charts: tags by the title of a chart, for the tab Custom Scalars.
        texts: Markdown by tag.
        hparams: fields of the configuration that the run's sweep varies; empty outside of a sweep.
        metrics: tags that the trials of a sweep are compared by.
    """

    charts: Mapping[str, tuple[str, ...]]
    texts: Mapping[str, str]
    hparams: Mapping[str, Any]
    metrics: tuple[str, ...] = SWEPT_METRICS


def make_overview(config: RunConfig, directory: Path) -> Overview:
    """The overview of a run.

    Args:
        config: of the run.
        directory: of the run; the plan of a sweep is in its parent folder.
    """
    return Overview(
        charts=charts(config),
        texts={"run/card": _card(config), "run/configuration": _table(flatten(to_json(config)))},
        hparams=swept(directory),
        metrics=(*(["held_out/held_out_fitness"] if config.held_out.every else []), *SWEPT_METRICS),
    )


def charts(config: RunConfig) -> dict[str, tuple[str, ...]]:
    """`GLANCE`, without the charts of a curriculum where the run has none."""
    return {
        title: tags
        for title, tags in GLANCE.items()
        if config.curriculum.replays or not all(tag.startswith("curriculum/") for tag in tags)
    }


def swept(directory: Path) -> Mapping[str, Any]:
    """The fields that the sweep of this trial varies, with the trial's values; empty if it is not a trial."""
    folder = directory.resolve().parent
    if not (folder / PLAN_FILE).exists():
        return {}
    try:
        trials = read_plan(folder).trials
    except RunError:  # the run itself does not need it
        return {}
    mine = next((trial.overrides for trial in trials if trial.name == directory.resolve().name), {})
    return {
        name: value if isinstance(value, bool | int | float | str) else setting(value)
        for name, value in mine.items()
    }


def _card(config: RunConfig) -> str:
    rule = config.build_objective()
    levels = [task.levels.distribution for task in config.tasks]
    facts = {
        "objective": f"{rule.name}: {RULES.find(config.objective.kind).description}",
        "begins as": config.start_from or rule.begins_as or "random meta-parameters",
        "inputs": ", ".join(rule.inputs),
        "preset": config.preset,
        "trainer": "evolution strategies" if config.trainer == "es" else "meta-gradients",
        "levels": ", ".join(levels),
        "generations": f"{config.generations:,}",
        "seed": str(config.seed),
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
    }
    return "\n".join(f"- **{name}**: {text}" for name, text in facts.items())


def _table(values: Mapping[str, Any]) -> str:
    """Names and values as a Markdown table."""
    bar = r"\|"
    texts = {name: value if isinstance(value, str) else setting(value) for name, value in values.items()}
    rows = (f"| {name} | {text.replace('|', bar)} |" for name, text in texts.items())
    return "\n".join(["| field | value |", "|---|---|", *rows])
