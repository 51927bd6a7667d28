"""Sample efficiency of meta-training: the settings of evolution, changed one at a time.

Three families of objectives, each with a base and arms that change one thing of it, on one budget of
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
from harness import Arm, Estimate, append, curve, evaluate, rows_of, scores, train

HORIZONS = (5, 10, 25, 50, 100, 250)
AGENT_SEEDS = 4
WORKERS = 16
SUITE = "validation"
RECORD = Path(__file__).with_suffix("")
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
        "area-under-curve": "--fitness area_under_curve",
    },
)

FREE = family(
    "ta-lpg-cpu",
    f"{BASE} --es.learning-rate-schedule cosine --es.learning-rate-min 0 --es.pairs 32 --es.sigma 0.2"
    " --objective.normalise-pihat --objective.schedule --objective.width 8",
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
        "scaled-rewards": "--agent.scale-rewards",
        "rates-40-4": "--agent.policy-learning-rate 40",
        "rates-80-12": "--agent.head-learning-rate 12",
    },
)
FREE.append(Arm("meta-gradients-first", "ta-lpg-two-stage-cpu"))

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
    "--levels.longest-horizon 250 --es.average-decay 0.95"
    " --es.learning-rate-schedule cosine --es.learning-rate-min 0",
    {
        "neither": "--es.average-decay None --es.learning-rate-schedule exponential",
        "schedule": "--objective.schedule --objective.encoding scaled --es.learning-rate 3e-2 --es.sigma 0.2",
        "schedule-slower": "--objective.schedule --objective.encoding scaled",
    },
)

STUDIES = {
    "drifts": (DRIFTS, 5e8),
    "residual": (RESIDUAL, 2e8),
    "free": (FREE, 5e8),
    "schedules": (SCHEDULES, 2e8),
}
"""Arms, and environment steps of each run."""


def main() -> None:
    """Runs what is missing, then writes tables and figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs, tables and figures")
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
        arms = [arm for arm in arms if arguments.arms is None or arm.name in arguments.arms]
        record, out = arguments.record / f"{study}.jsonl", arguments.out / study
        out.mkdir(parents=True, exist_ok=True)
        if not arguments.report:
            if not any(row["arm"] in HAND_WRITTEN for row in rows_of(record)):
                evaluate(HAND_WRITTEN, out / "baselines", SUITE, HORIZONS, AGENT_SEEDS, "--workers", WORKERS)
                for name in HAND_WRITTEN:
                    append(record, {"arm": name, "scores": scores_of(out / "baselines", name)})
            for seed, arm in itertools.product(range(arguments.seeds), arms):
                run_arm(arm, seed, steps, out / f"{arm.name}-{seed}", record)
        report(rows_of(record), out, [arm.name for arm in arms])


def run_arm(arm: Arm, seed: int, steps: float, run: Path, record: Path) -> None:
    """One run and its evaluation, unless the record has it; afterwards its folder is removed."""
    flags = " ".join(arm.flags)
    done = {(row["arm"], row.get("seed")): row.get("flags") for row in rows_of(record)}
    if (arm.name, seed) in done:
        if done[arm.name, seed] != flags:
            raise SystemExit(f"{record}: {arm.name} was run with other flags: {done[arm.name, seed]}")
        return
    train(arm, seed, run, steps)
    evaluate([run], run / "evaluation", SUITE, HORIZONS, AGENT_SEEDS, "--baselines", "--workers", WORKERS)
    steps_seen, held_out = curve(run)
    row = {"arm": arm.name, "seed": seed, "preset": arm.preset, "flags": flags}
    row |= {"scores": scores_of(run / "evaluation")}
    append(record, row | {"env_steps": steps_seen.tolist(), "held_out": np.round(held_out, 4).tolist()})
    shutil.rmtree(run)


def scores_of(evaluation: Path, name: str | None = None) -> list[list[float]]:
    """Mean score over levels, by agent seed and horizon."""
    return np.round(scores(evaluation, HORIZONS, name), 4).tolist()


def report(rows: Sequence[dict[str, Any]], out: Path, arms: Sequence[str]) -> None:
    """The table and the curves of what is on record."""
    means = {name: [np.mean(row["scores"], axis=0) for row in rows if row["arm"] == name] for name in arms}
    found = {name: np.stack(runs) for name, runs in means.items() if runs}
    lines = [f"| arm | seeds | {' | '.join(map(str, HORIZONS))} | mean | minus base |"]
    lines.append("|---" * (len(HORIZONS) + 4) + "|")
    for row in rows:
        if row["arm"] in HAND_WRITTEN:
            mean = np.mean(row["scores"], axis=0)
            lines.append(f"| {row['arm']} | | {' | '.join(f'{x:.3f}' for x in mean)} | {mean.mean():.3f} | |")
    for name, matrix in sorted(found.items(), key=lambda item: -item[1].mean()):
        columns = " | ".join(f"{x:.3f}" for x in matrix.mean(axis=0))
        difference = paired(rows, name) if name != "base" else ""
        lines.append(
            f"| {name} | {len(matrix)} | {columns} | {Estimate.of(matrix.mean(axis=1))} | {difference} |"
        )
    (out / "results.md").write_text("\n".join(lines) + "\n")
    draw(
        out / "curves.png",
        {
            name: [
                (np.array(row["env_steps"]), np.array(row["held_out"])) for row in rows if row["arm"] == name
            ]
            for name in found
        },
    )
    print("\n".join(lines))


def paired(rows: Sequence[dict[str, Any]], name: str) -> str:
    """Mean score minus that of the base, seed by seed: mean and standard error over meta-training seeds."""
    means = {(row["arm"], row.get("seed")): np.mean(row["scores"]) for row in rows}
    seeds = [seed for arm, seed in means if arm == name and ("base", seed) in means]
    if len(seeds) < 2:
        return ""
    differences = np.array([means[name, seed] - means["base", seed] for seed in seeds])
    return f"{differences.mean():+.3f} ± {differences.std(ddof=1) / len(seeds) ** 0.5:.3f}"


def draw(path: Path, curves: dict[str, list[tuple[np.ndarray, np.ndarray]]]) -> None:
    """Score on held-out levels over environment steps, a panel for each arm beside the base."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    others = [name for name in curves if name != "base"]
    if "base" not in curves or not others:
        return
    columns = min(4, len(others))
    lines = -(-len(others) // columns)
    figure = Figure(figsize=(3.0 * columns, 2.3 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for ax, name in zip(panels.flat, others, strict=False):
        for of, colour in (("base", "#999999"), (name, "#0072B2")):
            for steps, score in curves[of]:
                ax.plot(steps / 1e6, score, color=colour, linewidth=1.2)
        ax.set_title(name, loc="left", fontsize=10)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="y", color="#E8E8E8")
    for ax in panels.flat[len(others) :]:
        ax.set_visible(False)
    figure.supxlabel("million environment steps of meta-training", fontsize=10)
    figure.supylabel("score on held-out levels", fontsize=10)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
