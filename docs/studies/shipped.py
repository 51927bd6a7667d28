"""The runs behind the shipped objectives: each is one resumable command, evaluated and exported at its end.

    python docs/studies/shipped.py --out runs/shipped ta-lpg

Where several runs are candidates for a name, the one with the highest mean score on the suite `validation` is
exported; the suites that are reported play no part in the choice.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import NamedTuple

from harness import Arm, command, evaluate, scores, train

from rl_discovery import checkpoints
from rl_discovery.checkpoints import read_objective, save_objective

FOLDER = Path(checkpoints.__file__).parent / "shipped"
HORIZONS = (5, 10, 25, 50, 100, 250)

SHORT_TOO = "--levels.horizon 3 --levels.longest-horizon 250 --objective.schedule-v-squared"
"""Shorter lifetimes than any that is reported, and a schedule that may treat them differently."""

FEW_PAIRS = "--es.pairs 16 --es.group-size 8 --es.sigma 0.4"
MORE_SHORT = f"--config {Path(__file__).with_name('short_lifetimes.toml')}"
REPLAY = "--curriculum.buffer-size 1000 --curriculum.score algorithmic_regret"


class Recipe(NamedTuple):
    """How an objective is made: runs that compete, on one budget, and what its card is measured against."""

    candidates: tuple[Arm, ...]
    env_steps: float
    baselines: tuple[str, ...]
    first: Arm | None = None
    """A run that the candidates start from."""
    first_env_steps: float = 0.0


def one(name: str, preset: str, flags: str = "") -> tuple[Arm]:
    """The only candidate for a name."""
    return (Arm(name, preset, tuple(flags.split())),)


def schedule(name: str, baselines: tuple[str, ...]) -> Recipe:
    """First on tables, then on seven kinds of tasks at once, two hours on two cores."""
    flags = (
        "--levels.horizon 8 --levels.longest-horizon 240"
        " --es.learning-rate-schedule cosine --es.learning-rate-min 0"
    )
    (tables,) = one(f"{name}-tables", f"{name}-cpu", flags)
    return Recipe(one(name, f"{name}-many-cpu"), 1e9, baselines, tables, 5.05e9)


RECIPES = {
    "ta-lpg": Recipe(
        one("ta-lpg", "ta-lpg-cpu") + one("ta-lpg-short", "ta-lpg-cpu", SHORT_TOO), 2e10, ("a2c", "random")
    ),
    "lpg": Recipe(one("lpg", "lpg-cpu"), 2e10, ("a2c", "random")),
    # The budget counts antagonists: half of the levels are new, and have one beside the two agents.
    "ta-lpg-groove": Recipe(one("ta-lpg-groove", "ta-lpg-cpu", REPLAY), 2e10 / 1.25, ("a2c", "random")),
    "ta-lpg-a2c": Recipe(
        one("ta-lpg-a2c", "ta-lpg-a2c-cpu", MORE_SHORT),
        4.036e9,
        ("a2c", "ppo"),
        *one("ta-lpg-a2c-first", "ta-lpg-a2c-cpu", f"{SHORT_TOO} {FEW_PAIRS}"),
        1e10,
    ),
    "ta-a2c": schedule("ta-a2c", ("a2c", "ppo")),
    "ta-ppo": schedule("ta-ppo", ("ppo", "a2c")),
    "lpg-meta-gradient": Recipe(
        one(
            "lpg-meta-gradient",
            "ta-lpg-meta-gradient-cpu",
            "--objective.no-horizon-inputs --objective.no-schedule",
        ),
        2e9,
        ("a2c", "random"),
    ),
    "ta-lpg-many": Recipe(one("ta-lpg-many", "ta-lpg-many-cpu"), 1.01e10, ("a2c", "ppo")),
}


def main() -> None:
    """Trains, evaluates and exports what is named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="+", choices=RECIPES, help="objectives to make")
    parser.add_argument("--out", type=Path, default=Path("runs/shipped"), help="folder of the runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train-only", action="store_true", help="stop before evaluation and export")
    arguments = parser.parse_args()
    for name in arguments.names:
        recipe = RECIPES[name]
        runs = [arguments.out / arm.name for arm in recipe.candidates]
        start: tuple[str, ...] = ()
        if recipe.first is not None:
            before = arguments.out / recipe.first.name
            train(recipe.first, arguments.seed, before, recipe.first_env_steps, evaluations=40)
            start = ("--start-from", str(before))
        for arm, run in zip(recipe.candidates, runs, strict=True):
            begun = dataclasses.replace(arm, flags=arm.flags + start)
            train(begun, arguments.seed, run, recipe.env_steps, evaluations=40)
        if not arguments.train_only:
            ship(name, max(runs, key=validated) if len(runs) > 1 else runs[0], recipe.baselines)


def validated(run: Path) -> float:
    """A run's mean score on levels that are not reported."""
    out = run / "validation"
    evaluate([run], out, "validation", HORIZONS, 4, "--levels", 256, "--baselines", "--workers", 16)
    return float(scores(out, HORIZONS).mean())


def ship(name: str, run: Path, baselines: tuple[str, ...]) -> None:
    """Evaluates a run's objective and writes it, with the numbers on its card."""
    out = run / "evaluation"
    command(
        "evaluate", run, "--suite", "unseen", "--horizons", *HORIZONS, "--seeds", 5,
        "--baselines", *baselines, "--out", out,
    )  # fmt: skip
    file = FOLDER / f"{name}.safetensors"
    command("export", run, file, "--evaluation", out / "results.json")
    give_name(file, name)


def give_name(file: Path, name: str) -> None:
    """On a card's evaluation an objective has the name that it is shipped by."""
    found = read_objective(file)
    evaluation = found.card["evaluation"]
    evaluation["command"] = evaluation["command"].replace(f"./{file.name}", name)
    for row in (*evaluation["aggregate"], *evaluation["cells"]):
        if row["objective"] == found.name:
            row["objective"] = name
    save_objective(file, found)


if __name__ == "__main__":
    main()
