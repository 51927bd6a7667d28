"""Transfer beyond gridworlds on equal terms: the shipped objectives on control tasks and games.

Every rule, learned or hand-written, chooses its step size among five on seeds that are not reported, for each
task and lifetime. Layers have 64 and 64 units. Rules with one gradient per rollout have 64 workers, as in the
GROOVE paper (arXiv 2310.02782); those in PPO's loop have the workers of PPO's published settings. One line of
JSON for each rule, task and lifetime is kept in docs/studies/transfer.jsonl; the script goes on with what is
missing, then writes the tables and the figure of docs/results.md; --report only writes.

    python docs/studies/transfer.py --out runs/transfer
"""

import argparse
import itertools
import json
import shutil
from pathlib import Path
from typing import NamedTuple

from harness import append, evaluate, rows_of
from transfer_report import write_up

from rl_discovery.checkpoints.loading import is_named, load_objective
from rl_discovery.discovery.objectives.mirror_learning import MirrorLearning

RECORD = Path(__file__).with_suffix(".jsonl")
SEEDS = 5
RULES = (
    *("a2c", "ta-lpg", "lpg", "ta-lpg-groove", "lpg-meta-gradient", "ta-lpg-many", "ta-lpg-a2c", "ta-a2c"),
    *("ppo", "dpo", "lpo", "ta-lpo", "ta-ppo"),
)
SHOWN = {
    "One gradient per rollout": ("a2c", "ta-lpg", "ta-lpg-groove", "ta-lpg-a2c", "ta-lpg-many", "ta-a2c"),
    "In PPO's loop": ("ppo", "dpo", "lpo", "ta-lpo", "ta-ppo"),
}
"""Panels of the figure."""

MINATAR = ("Asterix-MinAtar", "Breakout-MinAtar", "Freeway-MinAtar", "SpaceInvaders-MinAtar")


class Protocol(NamedTuple):
    """Tasks, budgets in environment steps, and rules."""

    tasks: tuple[str, ...]
    budgets: tuple[int, ...]
    rules: tuple[str, ...]


PROTOCOLS = {
    "control": Protocol(("CartPole-v1", "Acrobot-v1"), (1_280_000,), RULES),
    "games": Protocol(
        MINATAR, (5_000_000,), ("a2c", "ta-lpg", "ta-lpg-a2c", "ta-lpg-many", "ppo", "dpo", "ta-lpo")
    ),
    "budgets": Protocol(
        ("brax/reacher", "brax/hopper", "brax/inverted_pendulum", *MINATAR),
        (100_000, 300_000, 1_000_000, 2_000_000),
        ("ppo", "ta-ppo"),
    ),
}
"""`budgets`: does a PPO that knows its budget learn more in it than PPO with linear annealing?"""


def main() -> None:
    """Runs what is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/transfer"), help="folder of evaluations")
    parser.add_argument("--record", type=Path, default=RECORD, help="file of the results so far")
    parser.add_argument("--protocols", nargs="+", choices=PROTOCOLS, default=list(PROTOCOLS))
    parser.add_argument("--rules", nargs="+", help="these alone")
    parser.add_argument("--report", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    for protocol in () if arguments.report else arguments.protocols:
        what = PROTOCOLS[protocol]
        for task, budget, rule in itertools.product(what.tasks, what.budgets, what.rules):
            known = {(row["rule"], row["task"], row["budget"]) for row in rows_of(arguments.record)}
            if (rule, task, budget) in known or rule not in (arguments.rules or what.rules):
                continue
            if is_named(rule):
                measure(rule, task, budget, arguments.out, arguments.record)
            else:
                print(f"{rule} is not shipped yet: left out", flush=True)
    report(arguments.record)


def report(record: Path = RECORD) -> None:
    """Writes the tables and the figure of what is on record."""
    rows = rows_of(record)
    parts = {
        name: [row for row in rows if row["task"] in what.tasks and row["budget"] in what.budgets]
        for name, what in PROTOCOLS.items()
    }
    write_up(parts, parts.pop("budgets"), SHOWN)


def in_loop(rule: str) -> bool:
    """Whether the rule's agents revisit their rollouts."""
    found = load_objective(rule)
    agent = (found.card.get("config") or {}).get("agent") or {}
    revisits = agent.get("epochs", 1) > 1 or agent.get("minibatches", 1) > 1
    return isinstance(found.rule, MirrorLearning) or revisits


def measure(rule: str, task: str, budget: int, out: Path, record: Path) -> None:
    """Chooses the step size, trains with it, and records the returns by seed."""
    folder = out / f"{rule}-{task.replace('/', '-')}-{budget}"
    workers = () if in_loop(rule) else ("--workers", 64)
    evaluate(
        [rule], folder, task, [budget], SEEDS,
        "--baselines", "--hidden", 64, 64, *workers, "--tune-step-size",
    )  # fmt: skip
    results = json.loads((folder / "results.json").read_text())
    found = {"rule": rule, "task": task, "budget": budget}
    found |= {
        name: [None if cell[name] is None else round(cell[name], 4) for cell in results["cells"]]
        for name in ("return", "score")
    }
    append(record, found | {"step_factor": results["tuned"][0]["step_factor"]})
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
