"""Does knowing the horizon help evolution, and does it help meta-gradients (Jackson et al. 2024)?

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

import harness
import numpy as np
from harness import Estimate

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

    @property
    def run(self) -> harness.Arm:
        """As an arm of `harness`. Without a schedule, which would know the horizon as well."""
        switch = "--objective.horizon-inputs" if self.aware else "--objective.no-horizon-inputs"
        levels = ("--levels.distribution", "all_vrandlife")
        return harness.Arm(self.name, PRESETS[self.trainer], (*levels, "--objective.no-schedule", switch))


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
        harness.train(arm.run, seed, run, arguments.env_steps)
        harness.evaluate([run], run / "evaluation", "unseen", HORIZONS, AGENT_SEEDS, "--baselines", BASELINE)
    report(arguments.out, arms, arguments.seeds)


def scores(out: Path, arm: Arm, seed: int) -> np.ndarray:
    """Mean score of a run's objective at each horizon."""
    folder = out / "runs" / f"{arm.name}-{seed}" / "evaluation"
    return harness.scores(folder, HORIZONS).mean(axis=0)


def report(out: Path, arms: Sequence[Arm], seeds: int) -> None:
    """The table, the differences and the figure."""
    found = {arm: np.stack([scores(out, arm, seed) for seed in range(seeds)]) for arm in arms}
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
    rows += ["", "Gain from the horizon inputs, mean over horizons (TA-LPG minus LPG):", ""]
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
