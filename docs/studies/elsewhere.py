"""Tests objectives that were evolved on tables on control tasks that they never saw.

Each objective and PPO train the same MLP with the same settings, seed by seed on the same random numbers.
Writes results.json, and a table of returns with the paired differences to PPO.

    python docs/studies/elsewhere.py ta-ppo ta-lpo --out runs/elsewhere
"""

import argparse
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from harness import scores

ENVIRONMENTS = ("CartPole-v1", "Acrobot-v1")
ENV_STEPS = (50_000, 100_000, 250_000, 500_000)
BASELINE = "ppo"


def main() -> None:
    """Evaluates, resuming where it was stopped, and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("objectives", nargs="+", help="names, run directories or files")
    parser.add_argument("--out", type=Path, required=True, help="folder of the study")
    parser.add_argument("--seeds", type=int, default=8, help="agents of each (default: 8)")
    arguments = parser.parse_args()
    from rl_discovery.scripts import runtime

    runtime.configure()
    from rl_discovery import evaluation
    from rl_discovery.checkpoints import load_objective
    from rl_discovery.discovery import make_mesh
    from rl_discovery.envs.suites import Suite

    suite = Suite("elsewhere", "control tasks", ENVIRONMENTS, ENV_STEPS, unit="env_steps")
    results = evaluation.evaluate(
        {name: load_objective(name) for name in (*arguments.objectives, BASELINE)},
        suite,
        seeds=range(arguments.seeds),
        mesh=make_mesh(),
        store=evaluation.Store(arguments.out / "outcomes"),
        progress=lambda stage: print(f"{stage.done:4.0%} {stage.objective} {stage.environment}", flush=True),
    )
    results.save(arguments.out / "results.json")
    print(table(arguments.out, arguments.objectives))


def table(out: Path, objectives: Sequence[str]) -> str:
    """A row per environment and objective, a column per budget."""
    returns = functools.partial(scores, out, ENV_STEPS, number="return")
    rows = [
        f"| environment | objective | {' | '.join(f'{n:,}' for n in ENV_STEPS)} |",
        "|---" * (2 + len(ENV_STEPS)) + "|",
    ]
    for environment in ENVIRONMENTS:
        baseline = returns(BASELINE, environment=environment)
        means = " | ".join(f"{value:.1f}" for value in baseline.mean(axis=0))
        rows.append(f"| {environment} | {BASELINE} | {means} |")
        for name in objectives:
            ahead = returns(name, environment=environment) - baseline
            errors = ahead.std(axis=0, ddof=1) / np.sqrt(len(ahead))
            cells = [
                f"{mean:+.1f} ± {error:.1f}" for mean, error in zip(ahead.mean(axis=0), errors, strict=True)
            ]
            rows.append(f"| {environment} | {Path(name).name} minus {BASELINE} | {' | '.join(cells)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
