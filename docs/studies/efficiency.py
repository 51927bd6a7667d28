"""Sample efficiency of meta-training: the settings of evolution, changed one at a time.

Four families of objectives, each with a base and arms that change one thing of it, on one budget of
environment steps and several seeds. Scores are those of the `validation` suite, whose levels no run trains on
and no other study reports: what wins here goes into the presets. Stop and start the script as you like, also
on another machine: every finished run is a line of docs/studies/efficiency/FAMILY.jsonl. --study names the
families.

    python docs/studies/efficiency.py --out runs/efficiency
"""

import argparse
import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from harness import Arm, Difference, append, curve, evaluate, fill, rows_of, scores, train

from rl_discovery.evaluation.plots import (
    COLOURS,
    DASHES,
    INK,
    RANDOM_COLOUR,
    panels,
    save_figure,
    set_style,
)

HORIZONS = (5, 10, 25, 50, 100, 250)
AGENT_SEEDS = 4
WORKERS = 16
SUITE = "validation"
RECORD = Path(__file__).with_suffix("")
PAGE = RECORD.with_suffix(".md")
IMAGES = PAGE.parents[1] / "images"
HAND_WRITTEN = ("a2c", "ppo")


def family(preset: str, base: str, arms: dict[str, str]) -> list[Arm]:
    """The base and its variations: flags of an arm come after those of the base."""
    return [Arm("base", preset, tuple(base.split()))] + [
        Arm(name, preset, tuple(base.split()) + tuple(flags.split())) for name, flags in arms.items()
    ]


BASE = (
    "--es.learning-rate-schedule exponential --es.learning-rate-min 1e-5 --es.learning-rate 3e-2"
    " --es.average-decay 0.95 --objective.encoding scaled"
    " --agent.policy-learning-rate 80 --agent.head-learning-rate 4"
)
"""Flags of all runs. The presets have changed since, as a result of the study, so its runs set every field
that they vary."""

RESIDUAL = family(
    "ta-lpg-a2c-cpu",
    f"{BASE} --es.learning-rate-decay 0.995 --es.sigma 0.2 --objective.width 8",
    {
        "gru-2": "--objective.width 2",
        "gru-16": "--objective.width 16",
        "no-schedule": "--objective.no-schedule",
        "no-horizon-inputs": "--objective.no-horizon-inputs",
        "discount-schedule": "--objective.schedule-discount",
        "scale-1": "--objective.residual-scale 1.0",
        "sigma-0.1": "--es.sigma 0.1",
        "sigma-0.4": "--es.sigma 0.4",
        "sigma-per-part": "--es.sigma-per-part",
        "b1-0.99": "--es.adam-b1 0.99",
        "zero-mean": "--es.initial-mean zeros",
        "cosine": "--es.learning-rate-schedule cosine --es.learning-rate-min 0",
        "constant": "--es.learning-rate-decay 1.0",
        "no-average": "--es.average-decay None",
        "pairs-256": "--es.pairs 256",
        "pairs-16": "--es.pairs 16",
        "groups-of-8": "--es.group-size 8",
        "area-under-curve": "--fitness area_under_curve",
        "scaled-rewards": "--agent.scale-rewards",
        "rates-80-12": "--agent.head-learning-rate 12",
        "rates-40-4": "--agent.policy-learning-rate 40",
        "gru-32": "--objective.width 32",
        "paper-encoding": "--objective.no-schedule --objective.encoding paper",
        "weight-decay": "--es.weight-decay 0.1",
        "normalised-return": "--fitness normalised_return",
        "together": "--es.sigma 0.4 --es.pairs 16 --es.group-size 8",
    },
)

TOGETHER = "--agent.scale-rewards --es.initial-mean zeros --agent.head-learning-rate 12"
"""What was better than the base alone."""

FREE = family(
    "ta-lpg-cpu",
    f"{BASE} --es.learning-rate-schedule cosine --es.learning-rate-min 0 --es.pairs 32 --es.sigma 0.2"
    " --objective.normalise-pihat --objective.schedule --objective.width 8"
    " --es.initial-mean objective --agent.no-scale-rewards",
    {
        "no-schedule": "--objective.no-schedule",
        "no-normalised-pihat": "--objective.no-normalise-pihat",
        "paper-encoding": "--objective.no-schedule --objective.encoding paper",
        "gru-16": "--objective.width 16",
        "gru-32": "--objective.width 32",
        "b1-0.99": "--es.adam-b1 0.99",
        "zero-mean": "--es.initial-mean zeros",
        "weight-decay": "--es.weight-decay 0.1",
        "constant": "--es.learning-rate-schedule exponential --es.learning-rate-decay 1.0",
        "no-average": "--es.average-decay None",
        "sigma-0.1": "--es.sigma 0.1",
        "pairs-64": "--es.pairs 64",
        "pairs-256": "--es.pairs 256",
        "area-under-curve": "--fitness area_under_curve",
        "normalised-return": "--fitness normalised_return",
        "scaled-rewards": "--agent.scale-rewards",
        "rates-40-4": "--agent.policy-learning-rate 40",
        "rates-80-12": "--agent.head-learning-rate 12",
        "together": TOGETHER,
        "together-no-schedule": f"{TOGETHER} --objective.no-schedule",
        "together-gru-16": f"{TOGETHER} --objective.width 16",
        "together-gru-32": f"{TOGETHER} --objective.width 32",
    },
)
FREE.append(Arm("together-after-meta-gradients", "ta-lpg-two-stage-cpu"))

SCHEDULES = [
    *family(
        "ta-ppo-cpu",
        "",
        {
            "no-average": "--es.average-decay None",
            "b1-0.99": "--es.adam-b1 0.99",
            "constant": "--es.learning-rate-decay 1.0",
            "sigma-0.1": "--es.sigma 0.1",
            "pairs-256": "--es.pairs 256",
        },
    ),
    Arm("ta-a2c", "ta-a2c-cpu"),
]

DRIFTS = family(
    "ta-lpo-cpu",
    "--objective.schedule --objective.encoding scaled --es.learning-rate 3e-2 --es.sigma 0.2"
    " --es.average-decay 0.95 --es.learning-rate-schedule cosine --es.learning-rate-min 0",
    {
        "slower": "--es.learning-rate 1e-2 --es.sigma 0.1",
        "no-schedule": "--objective.no-schedule --es.learning-rate 1e-2 --es.sigma 0.1",
        "no-average": "--es.average-decay None",
    },
)
DRIFTS += [
    Arm("lpo", "lpo-cpu", ("--es.learning-rate-schedule", "exponential", "--es.average-decay", "None")),
    Arm(
        "lpo-cooled",
        "lpo-cpu",
        (
            *("--es.learning-rate-schedule", "cosine", "--es.learning-rate-min", "0"),
            *("--es.average-decay", "0.95"),
        ),
    ),
]

STUDIES = {
    "drifts": (DRIFTS, 5e8),
    "residual": (RESIDUAL, 2e8),
    "free": (FREE, 5e8),
    "schedules": (SCHEDULES, 2e8),
}
"""Arms, and environment steps of each run."""


def main() -> None:
    """Runs what is missing, then fills the tables of efficiency.md and draws its figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of unfinished runs")
    parser.add_argument(
        "--record", type=Path, default=RECORD, help=f"folder of the results so far ({RECORD.name}/)"
    )
    parser.add_argument("--study", nargs="+", choices=STUDIES, default=list(STUDIES), help="families")
    parser.add_argument("--arms", nargs="+", help="of these families, these arms only (default: all)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each arm (default: 3)")
    parser.add_argument("--report", action="store_true", help="write up the results so far, run nothing")
    arguments = parser.parse_args()
    for study in arguments.study:
        arms, steps = STUDIES[study]
        chosen = [arm for arm in arms if arguments.arms is None or arm.name in arguments.arms]
        record, out = arguments.record / f"{study}.jsonl", arguments.out / study
        if not arguments.report:
            known = {row["arm"] for row in rows_of(record)}
            for name in HAND_WRITTEN:
                if name not in known:
                    evaluate_arm(name, out / name)
                    append(record, {"arm": name, "scores": scores_of(out / name)})
            for seed, arm in itertools.product(range(arguments.seeds), chosen):
                run_arm(arm, seed, steps, out / f"{arm.name}-{seed}", record)
    found = {study: rows_of(arguments.record / f"{study}.jsonl") for study in STUDIES}
    for study, rows in found.items():
        draw(rows, study)
    fill(PAGE, {study: table(rows, study) for study, rows in found.items()})


def run_arm(arm: Arm, seed: int, steps: float, run: Path, record: Path) -> None:
    """One run and its evaluation, unless the record has it; afterwards its folder is removed."""
    flags = " ".join(arm.flags)
    done = {(row["arm"], row.get("seed")): row.get("flags") for row in rows_of(record)}
    if (arm.name, seed) in done:
        if done[arm.name, seed] != flags:
            raise SystemExit(f"{record}: {arm.name} was run with other flags: {done[arm.name, seed]}")
        return
    train(arm, seed, run, steps)
    evaluate_arm(run, run / "evaluation")
    steps_seen, held_out = curve(run)
    row = {"arm": arm.name, "seed": seed, "preset": arm.preset, "flags": flags}
    row |= {"scores": scores_of(run / "evaluation")}
    append(record, row | {"env_steps": steps_seen.tolist(), "held_out": np.round(held_out, 4).tolist()})
    shutil.rmtree(run)


def evaluate_arm(objective: object, out: Path) -> None:
    """Evaluates it alone; baselines are evaluated once."""
    evaluate([objective], out, SUITE, HORIZONS, AGENT_SEEDS, "--baselines", "--workers", WORKERS)


def scores_of(evaluation: Path) -> list[list[float]]:
    """Mean score over levels, by agent seed and horizon."""
    return np.round(scores(evaluation, HORIZONS), 4).tolist()


def by_score(rows: Sequence[dict[str, Any]], study: str) -> dict[str, np.ndarray]:
    """Scores of each arm by seed and lifetime, the best arm first; empty where the base was not run."""
    found = {
        arm.name: np.array([np.mean(row["scores"], axis=0) for row in rows if row["arm"] == arm.name])
        for arm in STUDIES[study][0]
    }
    known = {name: matrix for name, matrix in found.items() if len(matrix)}
    return dict(sorted(known.items(), key=lambda item: -item[1].mean())) if "base" in known else {}


def table(rows: Sequence[dict[str, Any]], study: str) -> str:
    """Of what is on record; differences have 95 % intervals over seeds."""
    lines = [f"| arm | seeds | {' | '.join(map(str, HORIZONS))} | mean | minus base |"]
    lines.append("|---" * (len(HORIZONS) + 4) + "|")
    for row in rows:
        if row["arm"] in HAND_WRITTEN:
            mean = np.mean(row["scores"], axis=0)
            columns = " | ".join(f"{x:.3f}" for x in (*mean, mean.mean()))
            lines.append(f"| {row['arm'].upper()} | | {columns} | |")
    for name, matrix in by_score(rows, study).items():
        difference = paired(rows, name)
        columns = " | ".join(f"{x:.3f}" for x in (*matrix.mean(axis=0), matrix.mean()))
        change = ""
        if len(difference) > 1:
            mean, low, high = Difference.of(difference, np.zeros(1))
            change = f"{mean:+.3f} ± {(high - low) / 2:.3f}"
        lines.append(f"| {name} | {len(matrix)} | {columns} | {change} |")
    return "\n".join(lines)


def draw(rows: Sequence[dict[str, Any]], study: str) -> None:
    """The figures of what is on record."""
    names = list(by_score(rows, study))
    if len(names) > 1:
        draw_differences(IMAGES / f"efficiency_{study}.png", rows, [name for name in names if name != "base"])
    if len(names) > 1 and study == "free":  # the others start near where they end
        runs = {name: [row for row in rows if row["arm"] == name] for name in names}
        draw_curves(IMAGES / "efficiency_curves.png", runs)


def paired(rows: Sequence[dict[str, Any]], name: str) -> np.ndarray:
    """Mean scores minus those of the base with the same seed of meta-training; none of the base itself."""
    means = {(row["arm"], row.get("seed")): np.mean(row["scores"]) for row in rows}
    return np.array(
        [
            mean - means["base", seed]
            for (arm, seed), mean in means.items()
            if arm == name != "base" and ("base", seed) in means
        ]
    )


def draw_differences(path: Path, rows: Sequence[dict[str, Any]], names: Sequence[str]) -> None:
    """Every arm minus the base: means with intervals, and single seeds."""
    figure, axes = panels(1, 1, 6.4, 0.8 + 0.27 * len(names), margin=(0.0, 0.0))
    ax = axes[0, 0]
    ax.axvline(0, color=INK, linewidth=0.9, linestyle=DASHES)
    for y, name in enumerate(reversed(names)):
        found = paired(rows, name)
        ax.plot(found, np.full(len(found), y), "o", color=COLOURS[5], markersize=3.5, zorder=1.5)
        if len(found) > 1:
            mean, low, high = Difference.of(found, np.zeros(1))
            ax.hlines(y, low, high, color=COLOURS[0])
            ax.plot(mean, y, "o", color=COLOURS[0], markersize=6, markeredgecolor="white")
    set_style(ax, "Score minus the base's, paired by seed")
    ax.grid(axis="x", color="#E8E8E8", linewidth=0.8)
    ax.set_yticks(range(len(names)), names[::-1])
    ax.set_xlabel("Mean over lifetimes (95 % interval; light: single seeds)")
    save_figure(figure, path)


def draw_curves(path: Path, runs: dict[str, list[dict[str, Any]]]) -> None:
    """Score on held-out levels over environment steps, a panel for each arm beside the base."""
    others = [name for name in runs if name != "base"]
    columns = min(4, len(others))
    figure, axes = panels(-(-len(others) // columns), columns, 3.0, 2.3)
    for ax, name in zip(axes.flat, others, strict=False):
        for of, colour in (("base", RANDOM_COLOUR), (name, COLOURS[0])):
            for run in runs[of]:
                ax.plot(np.array(run["env_steps"]) / 1e6, run["held_out"], color=colour, linewidth=1.2)
        set_style(ax, name)
        ax.sharey(axes[0, 0])
    for ax in axes.flat[len(others) :]:
        ax.remove()
    figure.supxlabel("Million environment steps of meta-training", fontsize=10)
    figure.supylabel("Score on held-out levels (grey: base)", fontsize=10)
    save_figure(figure, path)


if __name__ == "__main__":
    main()
