"""The questions of the papers, each arm from five seeds of meta-training on one budget of environment steps.

First the runs, then their evaluations, then that of the shipped objectives, then tables and figures of
docs/results.md. Finished work stays in docs/studies/results/: the objectives, and a line of JSON for each
run and each evaluation. The script goes on with what is missing, on any machine; --arms and --suites let
several processes share the work. With everything on record it takes a minute, as --report does, which runs
nothing; all of the work is about twenty hours of one core. (What transfers is measured by `transfer.py`,
and written up here.)

    python docs/studies/results.py --out runs/results
"""

import argparse
import dataclasses
import itertools
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import shipped_report
import transfer
from harness import Arm, append, command, curve, evaluate, rows_of, scores, stages, train
from results_report import ANALYSED, BASELINES, Measured, write_up
from shipped import RECIPES

from rl_discovery.checkpoints import read_card
from rl_discovery.checkpoints.fields import differences
from rl_discovery.checkpoints.loading import is_named
from rl_discovery.meta.config import from_json, identity

RECORD = Path(__file__).with_suffix("")
WORKERS = 16
SEEDS = 5
ENV_STEPS = 1e9

ANTAGONISTS = 1.25
"""Cost of a generation with algorithmic regret: half of the levels are new, and each of them trains one
antagonist beside its two agents."""

FREE = "ta-lpg-cpu"
REPLAY = ("--curriculum.buffer-size", "1000", "--curriculum.score")

ARMS = {
    "ta-lpg": (FREE, ()),
    "lpg": ("lpg-cpu", ()),
    "two-stage": ("ta-lpg-two-stage-cpu", ()),
    "ta-lpg-meta-gradient": ("ta-lpg-meta-gradient-cpu", ()),
    "lpg-meta-gradient": (
        "ta-lpg-meta-gradient-cpu",
        ("--objective.no-horizon-inputs", "--objective.no-schedule"),
    ),
    "algorithmic-regret": (FREE, (*REPLAY, "algorithmic_regret")),
    "learnability": (FREE, (*REPLAY, "learnability")),
    "positive-value-loss": (FREE, (*REPLAY, "positive_value_loss")),
    "residual": ("ta-lpg-a2c-cpu", ()),
    "ta-lpo": ("ta-lpo-cpu", ()),
    # On the same lifetimes as TA-LPO, with the same evolution.
    "lpo": (
        "ta-lpo-cpu",
        ("--objective.kind", "lpo", "--objective.no-horizon-inputs", "--objective.no-schedule"),
    ),
    "ta-a2c": ("ta-a2c-cpu", ()),
    "ta-ppo": ("ta-ppo-cpu", ()),
    "inputs-scaled": (FREE, ("--objective.no-schedule",)),
    "inputs-paper": (FREE, ("--objective.no-schedule", "--objective.encoding", "paper")),
}
"""Preset and flags of each."""

ANNEALED = (*BASELINES, "a2c-annealed")


REPLAYED = ("ta-lpg", "algorithmic-regret", "learnability", "positive-value-loss")
ELSEWHERE = (*REPLAYED, "residual", "ta-lpo", "lpo")
GAMES = tuple(arm for arm in ELSEWHERE if arm not in ("learnability", "positive-value-loss"))
CHOSEN = ("--tune-step-size",)
"""Away from what the learned rules know, every rule chooses its step size."""

CONTROL = (*CHOSEN, "--hidden", "64", "64")

EVALUATIONS = {
    "unseen": Measured("unseen", (5, 10, 25, 50, 100, 250), 10, tuple(ARMS), baselines=ANNEALED),
    "longer": Measured(
        "unseen",
        (500, 1000, 2000),
        10,
        ("ta-lpg", "lpg", "ta-lpg-meta-gradient", "ta-lpo", "lpo", "ta-a2c", "ta-ppo"),
        ("--levels", "16"),
    ),
    "tabular": Measured("tabular", (250,), 10, ELSEWHERE, CHOSEN),
    # One loop only: an update of PPO's has more steps there.
    "random": Measured("random", (250,), 10, (*REPLAYED, "residual"), CHOSEN, ("a2c", "random")),
    "mazes": Measured("mazes", (250,), 10, ELSEWHERE, CHOSEN),
    "classic": Measured("classic", (320_000,), 10, ELSEWHERE, CONTROL),
    # As many updates as the longest lifetime of evolution; intervals are over meta-training, not over agents.
    "minatar": Measured("minatar", (320_000,), 3, GAMES, CONTROL),
}

SHIPPED = (*RECIPES, "ta-lpo", "lpo")
TUNED = ("a2c", "ppo")
HORIZONS = (5, 10, 25, 50, 100, 250, 500)
"""Of the comparison of what is shipped."""


def main() -> None:
    """Runs and evaluates what is missing, then writes the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/results"), help="folder of unfinished runs")
    parser.add_argument("--record", type=Path, default=RECORD, help="folder of finished work")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), help="these alone")
    parser.add_argument(
        "--suites", nargs="*", choices=EVALUATIONS, default=list(EVALUATIONS), help="these alone, or none"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(SEEDS)), help="of meta-training")
    parser.add_argument("--report", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    record: Path = arguments.record
    if not arguments.report:
        # Seed by seed, so that an unfinished study is a balanced one.
        for seed, name in itertools.product(arguments.seeds, arguments.arms):
            meta_train(name, seed, arguments.out, record)
        for suite in arguments.suites:
            measure_baselines(suite, arguments.out, record)
            for seed, name in itertools.product(arguments.seeds, arguments.arms):
                measure(name, seed, suite, arguments.out, record)
        for seed, name in itertools.product(arguments.seeds, arguments.arms):
            analyse(name, seed, arguments.out, record)
        compare_shipped(arguments.out, record)
    write_up(record, EVALUATIONS)
    shipped_report.write_up(record)
    transfer.report()


def meta_train(name: str, seed: int, out: Path, record: Path) -> None:
    """One run on the budget, unless it is on record; its objective and its curve are kept."""
    preset, flags = ARMS[name]
    if any((row["arm"], row["seed"]) == (name, seed) for row in rows_of(record / "runs.jsonl")):
        check_same(name, seed, record)
        return
    steps = ENV_STEPS / (ANTAGONISTS if "algorithmic_regret" in flags else 1.0)
    run = out / f"{name}-{seed}"
    train(Arm(name, preset, flags), seed, run, steps)
    file = objective_file(record, name, seed)
    file.parent.mkdir(parents=True, exist_ok=True)
    command("export", run, file)
    known = {"arm": name, "seed": seed, "preset": preset, "flags": " ".join(flags)}
    append(record / "runs.jsonl", known | curve_of(run))
    shutil.rmtree(run)


def check_same(name: str, seed: int, record: Path) -> None:
    """Stops where a run on record had other settings than its arm has now."""
    now = dataclasses.replace(Arm(name, *ARMS[name]).config(), seed=seed)
    then = from_json(read_card(objective_file(record, name, seed))["config"])
    if differ := differences(identity(then), identity(now)):
        raise SystemExit(f"{name}, seed {seed}, was trained with other settings: {'; '.join(differ)}")


def curve_of(run: Path) -> dict[str, Any]:
    """Held-out scores over environment steps, and how long it took."""
    found = stages(run)
    steps, held_out = curve(run)
    return {
        "generations": len(found[-1]),
        "hours": round(sum(rows[-1]["wall_s"] for rows in found) / 3600, 3),
        "env_steps": [int(count) for count in steps],
        "held_out": np.round(held_out, 4).tolist(),
    }


def measure_baselines(suite: str, out: Path, record: Path) -> None:
    """The hand-written rules, tuned, unless they are on record."""
    what = EVALUATIONS[suite]
    for name in what.baselines:
        if (name, None, suite) in measured(record):
            continue
        folder = out / f"{name}-{suite}"
        flags = [flag for flag in flags_of(what) if name != "random" or flag not in CHOSEN]
        flags += ["--tune"] if what.suite == "unseen" else []
        evaluate(
            [name], folder, what.suite, what.horizons, what.seeds,
            "--baselines", *flags, "--plugin", "annealed",
        )  # fmt: skip
        append(record / "evaluations.jsonl", {"arm": name, "seed": None} | result(folder, suite))


def measured(record: Path) -> set[tuple[str, int | None, str]]:
    """Arm, seed and suite of the evaluations on record."""
    return {(row["arm"], row["seed"], row["suite"]) for row in rows_of(record / "evaluations.jsonl")}


def measure(name: str, seed: int, suite: str, out: Path, record: Path) -> None:
    """One evaluation of one objective, unless it is on record."""
    what, file = EVALUATIONS[suite], objective_file(record, name, seed)
    if (name, seed, suite) in measured(record) or name not in what.arms or not file.exists():
        return
    folder = out / f"{name}-{seed}-{suite}"
    evaluate([file], folder, what.suite, what.horizons, what.seeds, "--baselines", *flags_of(what))
    append(record / "evaluations.jsonl", {"arm": name, "seed": seed} | result(folder, suite))
    shutil.rmtree(folder)


def analyse(name: str, seed: int, out: Path, record: Path) -> None:
    """How much an objective changes with n/N, and what is lost when it is told a wrong one."""
    known = {(row["arm"], row["seed"]) for row in rows_of(record / "analyses.jsonl")}
    file = objective_file(record, name, seed)
    if (name, seed) in known or name not in ANALYSED or not file.exists():
        return
    folder = out / f"{name}-{seed}-analysis"
    command("analyse", file, "--out", folder, "--lifetime", 100)
    found = json.loads((folder / "analysis.json").read_text())
    views = {view["view"]: np.mean(view["scores"]) for view in found["lifetimes"]["views"]}
    row = {"arm": name, "seed": seed, "distance": found["horizon_blind"]["overall"]}
    append(record / "analyses.jsonl", row | {view: round(float(score), 4) for view, score in views.items()})
    shutil.rmtree(folder)


def compare_shipped(out: Path, record: Path) -> None:
    """All shipped objectives beside A2C and PPO, tuned for each lifetime, unless that is on record."""
    file = record / "shipped.json"
    if missing := [name for name in SHIPPED if not is_named(name)]:
        print(f"not shipped yet: {', '.join(missing)}; their comparison is left out", flush=True)
    elif not file.exists():
        folder = out / "shipped"
        evaluate(SHIPPED, folder, "unseen", HORIZONS, 10, "--baselines", *TUNED, "--tune")
        found = {name: np.round(scores(folder, HORIZONS, name), 4).tolist() for name in (*SHIPPED, *TUNED)}
        file.write_text(json.dumps({"horizons": HORIZONS, "scores": found}) + "\n")


def flags_of(what: Measured) -> Iterable[object]:
    """Of the command: control tasks have published numbers of workers."""
    return what.flags if "--hidden" in what.flags else (*what.flags, "--workers", WORKERS)


def result(folder: Path, suite: str) -> dict[str, Any]:
    """Scores and returns by environment, agent seed and horizon; no scores where levels have no scale.

    An agent that broke counts as the random policy in scores, and is NaN in returns.
    """
    cells = json.loads((folder / "results.json").read_text())["cells"]
    places = dict.fromkeys(cell["environment"] for cell in cells)
    horizons = EVALUATIONS[suite].horizons
    found: dict[str, Any] = {"suite": suite, "score": {}, "return": {}}
    for place in places:
        returns, values = (
            scores(folder, horizons, number=number, environment=place) for number in ("return", "score")
        )
        found["return"][place] = np.round(returns, 4).tolist()
        if not np.isnan(values).all():
            found["score"][place] = np.round(np.nan_to_num(values), 4).tolist()
    return found


def objective_file(record: Path, name: str, seed: int) -> Path:
    """Where a run's objective is kept."""
    return record / "objectives" / f"{name}-{seed}.safetensors"


if __name__ == "__main__":
    main()
