"""Whether knowing the horizon helps evolution, and whether it helps meta-gradients (Jackson et al. 2024).

Four arms on one budget of environment steps: {ES, meta-gradients} x {LPG, TA-LPG}, several seeds each,
then an evaluation on levels that none of them saw. Every run resumes, and finished work is kept: stop
and start the script as you like.

    python docs/studies/horizon_conditioning.py --out runs/horizon-conditioning
"""

import argparse
import dataclasses
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from harness import Estimate, command

ARMS = tuple(itertools.product(("es", "meta_gradient"), (False, True)))
PRESETS = {"es": "ta-lpg-cpu", "meta_gradient": "lpg-meta-gradient-cpu"}
TRAINERS = {"es": "evolution", "meta_gradient": "meta-gradients"}
HORIZONS = (10, 25, 100, 250)
AGENT_SEEDS = 3
BASELINE = "random"
"""The cheapest one; scores are exact without any."""


class Arm(NamedTuple):
    """One way of learning an objective."""

    trainer: str
    aware: bool

    @property
    def name(self) -> str:
        """As in "es-ta-lpg"."""
        return f"{self.trainer.replace('_', '-')}-{'ta-lpg' if self.aware else 'lpg'}"


def main() -> None:
    """Runs what is missing, then writes results.json, results.md and the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the study")
    parser.add_argument("--env-steps", type=float, default=1e9, help="budget of each run (default: 1e9)")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each arm (default: 5)")
    arguments = parser.parse_args()
    arms = [Arm(*arm) for arm in ARMS]
    # Seed by seed, so that an unfinished study is a balanced one.
    for seed, arm in itertools.product(range(arguments.seeds), arms):
        run = arguments.out / "runs" / f"{arm.name}-{seed}"
        train(arm, seed, run, arguments.env_steps)
        evaluate(run)
    report(arguments.out, arms, arguments.seeds)


def train(arm: Arm, seed: int, run: Path, env_steps: float) -> None:
    """One run on the budget; nothing to do where it has been finished."""
    command(
        "meta-train", "--preset", PRESETS[arm.trainer], "--run-dir", run, "--seed", seed,
        "--generations", generations(arm, env_steps), "--levels.distribution", "all_vrandlife",
        "--objective.horizon-inputs" if arm.aware else "--objective.no-horizon-inputs",
        "--logging.no-tensorboard",
    )  # fmt: skip


def generations(arm: Arm, env_steps: float) -> int:
    """How many generations cost the budget on average."""
    from envs.registry import distribution
    from meta.presets import find

    config = find(PRESETS[arm.trainer]).config
    low, high = distribution("all_vrandlife").horizon or (1, 1)
    numbers = np.arange(low, high + 1)
    shares = np.log((numbers + 1) / numbers) / np.log((high + 1) / low)
    per_lane = float(numbers @ shares)
    if arm.trainer == "meta_gradient":
        # K updates and the rollout of the meta-loss; a lifetime's last meta-step has what is left of it.
        K = config.meta_gradient.updates
        steps = np.ceil(numbers / K)
        per_lane = float((numbers + steps) @ shares / (steps @ shares))
    return round(env_steps / (config.lanes * per_lane * config.agent.steps_per_update))


def evaluate(run: Path) -> None:
    """Scores on unseen levels, once."""
    if not (run / "evaluation" / "results.json").exists():
        command(
            "evaluate", run, "--suite", "unseen", "--horizons", *HORIZONS, "--seeds", AGENT_SEEDS,
            "--baselines", BASELINE, "--out", run / "evaluation",
        )  # fmt: skip


def scores(run: Path) -> np.ndarray:
    """Mean score of the run's objective at each horizon."""
    cells = json.loads((run / "evaluation" / "results.json").read_text())["cells"]
    cells = [cell for cell in cells if cell["objective"] != BASELINE]
    return np.array([np.mean([cell["score"] for cell in cells if cell["horizon"] == n]) for n in HORIZONS])


def report(out: Path, arms: Sequence[Arm], seeds: int) -> None:
    """The table, the differences and the figure."""
    found = {
        arm: np.stack([scores(out / "runs" / f"{arm.name}-{seed}") for seed in range(seeds)]) for arm in arms
    }
    rows = [f"| trainer | objective | {' | '.join(map(str, HORIZONS))} | mean |", "|---" * 7 + "|"]
    for arm, matrix in found.items():
        columns = [*matrix.T, matrix.mean(axis=1)]
        estimates = " | ".join(str(Estimate.of(column)) for column in columns)
        rows.append(f"| {TRAINERS[arm.trainer]} | {'TA-LPG' if arm.aware else 'LPG'} | {estimates} |")
    gains = {
        trainer: Estimate.of(
            found[Arm(trainer, True)].mean(axis=1), found[Arm(trainer, False)].mean(axis=1), sign=(1, -1)
        )
        for trainer in TRAINERS
    }
    rows += ["", "What the horizon inputs bring, mean over horizons (TA-LPG minus LPG):", ""]
    rows += [f"- {TRAINERS[trainer]}: {gain}" for trainer, gain in gains.items()]
    (out / "results.md").write_text("\n".join(rows) + "\n")
    document = {
        "horizons": HORIZONS,
        "scores": {arm.name: matrix.tolist() for arm, matrix in found.items()},
        "gains": {trainer: dataclasses.asdict(gain) for trainer, gain in gains.items()},
    }
    (out / "results.json").write_text(json.dumps(document, indent=2) + "\n")
    draw(out / "scores.png", found)
    print("\n".join(rows))


def draw(path: Path, found: dict[Arm, np.ndarray]) -> None:
    """Score over horizon, one panel per trainer; faint lines are single runs."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2, sharey=True)
    for ax, trainer in zip(panels, TRAINERS, strict=True):
        for aware, colour, label in ((False, "#D55E00", "LPG"), (True, "#0072B2", "TA-LPG")):
            matrix = found[Arm(trainer, aware)]
            x = np.arange(len(HORIZONS))
            ax.plot(x, matrix.T, color=colour, alpha=0.25, linewidth=1)
            ax.plot(x, matrix.mean(axis=0), color=colour, marker="o", linewidth=2.2, label=label)
        ax.set_xticks(x, [str(n) for n in HORIZONS])
        ax.set_title(TRAINERS[trainer].capitalize(), loc="left", fontweight="bold")
        ax.set_xlabel("Lifetime (agent updates)")
        ax.grid(axis="y", color="#E8E8E8")
        ax.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("Normalised return on unseen levels")
    panels[0].legend(frameon=False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
