"""The runs behind the shipped objectives: each is one resumable command, evaluated and exported at its end.

    python docs/studies/shipped.py --out runs/shipped ta-lpg

Choices among several runs were made by scores on the suite `validation` (docs/results.md), never on the
suites that are reported.
"""

import argparse
import dataclasses
import shlex
from pathlib import Path
from typing import NamedTuple

from harness import Arm, command, train

from rl_discovery import checkpoints
from rl_discovery.checkpoints import read_objective, save_objective

FOLDER = Path(checkpoints.__file__).parent / "shipped"
HORIZONS = (5, 10, 25, 50, 100, 250)
"""Of the card's evaluation."""

SHORT_TOO = "--levels.horizon 3 --levels.longest-horizon 250 --objective.schedule-v-squared"
"""Shorter lifetimes than any that is reported, and a schedule that may treat them differently."""

FEW_PAIRS = "--es.pairs 16 --es.group-size 8 --es.sigma 0.4"
MORE_SHORT = f"--config {shlex.quote(str(Path(__file__).with_name('short_lifetimes.toml')))}"
REPLAY = "--curriculum.buffer-size 1000 --curriculum.score algorithmic_regret"


class Stage(NamedTuple):
    """A run on a budget of environment steps."""

    arm: Arm
    env_steps: float


class Recipe(NamedTuple):
    """Stages, each from where the one before it ended, and what the card compares the result with."""

    stages: tuple[Stage, ...]
    baselines: tuple[str, ...]


def stage(name: str, env_steps: float, preset: str, flags: str = "") -> Stage:
    """A preset with flags."""
    return Stage(Arm(name, preset, tuple(shlex.split(flags))), env_steps)


def schedule(name: str, baselines: tuple[str, ...]) -> Recipe:
    """First on tables, then on seven kinds of tasks at once, two hours of a core."""
    flags = (
        "--levels.horizon 8 --levels.longest-horizon 240"
        " --es.learning-rate-schedule cosine --es.learning-rate-min 0"
    )
    tables = stage(f"{name}-tables", 5.05e9, f"{name}-cpu", flags)
    return Recipe((tables, stage(name, 5e8, f"{name}-many-cpu")), baselines)


RECIPES = {
    "ta-lpg": Recipe((stage("ta-lpg", 2e10, "ta-lpg-cpu"),), ("a2c", "random")),
    "lpg": Recipe((stage("lpg", 2e10, "lpg-cpu"),), ("a2c", "random")),
    # The budget counts antagonists: half of the levels are new, and have one beside the two agents.
    "ta-lpg-groove": Recipe((stage("ta-lpg-groove", 2e10 / 1.25, "ta-lpg-cpu", REPLAY),), ("a2c", "random")),
    "ta-lpg-a2c": Recipe(
        (
            stage("ta-lpg-a2c-first", 1e10, "ta-lpg-a2c-cpu", f"{SHORT_TOO} {FEW_PAIRS}"),
            stage("ta-lpg-a2c", 4.036e9, "ta-lpg-a2c-cpu", MORE_SHORT),
        ),
        ("a2c", "ppo"),
    ),
    "ta-a2c": schedule("ta-a2c", ("a2c", "ppo")),
    "ta-ppo": schedule("ta-ppo", ("ppo", "a2c")),
    "lpg-meta-gradient": Recipe(
        (
            stage(
                "lpg-meta-gradient",
                2e9,
                "ta-lpg-meta-gradient-cpu",
                "--objective.no-horizon-inputs --objective.no-schedule",
            ),
        ),
        ("a2c", "random"),
    ),
    "ta-lpg-many": Recipe((stage("ta-lpg-many", 1.01e10, "ta-lpg-many-cpu"),), ("a2c", "ppo")),
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
        run = make(RECIPES[name], arguments.out, arguments.seed)
        if not arguments.train_only:
            ship(name, run, RECIPES[name].baselines)


def make(recipe: Recipe, out: Path, seed: int) -> Path:
    """The stages one after the other; the run of the last one."""
    run = None
    for arm, env_steps in recipe.stages:
        start = () if run is None else ("--start-from", str(run))
        run = out / arm.name
        train(dataclasses.replace(arm, flags=arm.flags + start), seed, run, env_steps, evaluations=40)
    assert run is not None
    return run


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
