"""Headroom above A2C and PPO on the suite `unseen`: which levels hold it, and why.

Every level is solved exactly and every trained agent evaluated exactly (`envs.gridworld.policy_evaluation`).
The gap to the optimum is split into four: what only a policy that knows the time left can reach, what the
discount costs, what the agent never tried, and what it tried and did not learn. Finished parts are kept:
stop and start the script as you like.

    python docs/studies/headroom.py --out runs/headroom
"""

import argparse
import csv
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from harness import Estimate, kept
from headroom_agents import DISCOUNT, DISCOUNTS, solve, study_agents

from rl_discovery.envs.suites import suite
from rl_discovery.evaluation.protocol import LEVELS_SEED
from rl_discovery.evaluation.tasks import EvaluationTask, prepare

SUITE = "unseen"
Run = tuple[str, int]
"""A rule and a lifetime in updates."""
Arrays = dict[str, np.ndarray]
RUNS: dict[Run, int] = {("a2c", 250): 8, ("ppo", 250): 8, ("a2c", 1000): 4, ("ppo", 1000): 4}
"""Agents per level."""


def main() -> None:
    """Computes what is missing, then writes the table, the numbers and the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the study")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    task = prepare(*suite(SUITE).levels(LEVELS_SEED)[0])
    solved = kept(arguments.out / "levels.npz", lambda: solve(task))
    agents: dict[Run, Arrays] = {}
    for (rule, updates), seeds in RUNS.items():
        seeds_of_run = [
            kept(
                arguments.out / f"{rule}-{updates}-{seed}.npz",
                functools.partial(study_agents, task, rule, updates, seed),
            )
            for seed in range(seeds)
        ]
        agents[rule, updates] = {
            name: np.stack([found[name] for found in seeds_of_run]) for name in seeds_of_run[0]
        }
    report(arguments.out, task, solved, agents)


STEPS = {
    "clock": "needs to know the time left",
    "discount": "discount of 0.99",
    "never tried": "never tried",
    "tried 1 to 9 times": "tried 1 to 9 times",
    "tried, not learned": "tried 10 times or more, not learned",
}
"""Parts of the gap, from the optimum down."""


def ladder(task: EvaluationTask, solved: Arrays, agents: Arrays) -> dict[str, np.ndarray]:
    """Scores [seeds, levels] from the optimum down to the agents; each step down is a part of the gap."""
    without_clock = np.max([solved[f"{discount}_returns"] for discount in DISCOUNTS], axis=0)
    shape = agents["returns"].shape
    rungs = {
        "optimum": task.optimal,
        "clock": without_clock,
        "discount": solved[f"{DISCOUNT}_returns"],
        "never tried": agents["tried_1_returns"],
        "tried 1 to 9 times": agents["tried_10_returns"],
        "tried, not learned": agents["returns"],
    }
    return {name: np.broadcast_to(task.scores(returns), shape) for name, returns in rungs.items()}


def parts(task: EvaluationTask, solved: Arrays, agents: Arrays) -> dict[str, np.ndarray]:
    """The gap of every agent in its parts, [seeds, levels] each."""
    rungs = list(ladder(task, solved, agents).items())
    return {name: above - below for (_, above), (name, below) in itertools.pairwise(rungs)}


def report(out: Path, task: EvaluationTask, solved: Arrays, agents: Mapping[Run, Arrays]) -> None:
    """The tables, the numbers and the figure."""
    scored = task.scored
    lines = [
        f"| | {' | '.join(f'{rule} {updates}' for rule, updates in agents)} |",
        "|---" * (len(agents) + 1) + "|",
    ]
    gaps = {run: parts(task, solved, found) for run, found in agents.items()}
    final = {run: task.scores(found["returns"])[:, scored].mean(axis=1) for run, found in agents.items()}
    lines.append(f"| score | {' | '.join(str(Estimate.of(score)) for score in final.values())} |")
    for name in STEPS:
        row = [str(Estimate.of(gap[name][:, scored].mean(axis=1))) for gap in gaps.values()]
        lines.append(f"| {name} | {' | '.join(row)} |")
    for name in ("greedy", "tried_1", "tried_10"):
        row = [f"{task.scores(found[f'{name}_returns'])[:, scored].mean():.3f}" for found in agents.values()]
        lines.append(f"| score, {name} | {' | '.join(row)} |")
    row = [f"{task.scores(found['returns'])[:, scored].max(axis=0).mean():.3f}" for found in agents.values()]
    lines.append(f"| score, best seed of each level | {' | '.join(row)} |")
    lines += [
        "",
        *(f"- gamma {d}: {task.scores(solved[f'{d}_returns'])[scored].mean():.3f}" for d in DISCOUNTS),
    ]
    rows = [describe(task, solved, agents, level) for level in range(task.count)]
    with (out / "headroom.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    lines += ["", *kinds(task, solved, agents, [("a2c", 250), ("ppo", 250)])]
    lines += ["", *tables(rows)]
    (out / "results.md").write_text("\n".join(lines) + "\n")
    draw(out / "headroom.png", task, solved, agents)
    print("\n".join(lines))


def distances(task: EvaluationTask, level: int) -> np.ndarray:
    """Steps from the start to each object, by breadth-first search; infinite where there is no way."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf[level]), task.levels)
    side = task.env.max_size
    walls = np.pad(params.walls.reshape(side, side), 1, constant_values=True)
    steps = np.full(walls.shape, np.inf)
    frontier = [tuple(np.add(divmod(params.start, side), 1))]
    count = 0
    while frontier:
        for cell in frontier:
            steps[cell] = count
        moved = {(row + down, column + right) for row, column in frontier for down, right in task.env.moves}
        frontier = [cell for cell in moved if not walls[cell] and steps[cell] == np.inf]
        count += 1
    return steps[1:-1, 1:-1].reshape(-1)[params.object_cells]


def describe(
    task: EvaluationTask, solved: Arrays, agents: Mapping[Run, Arrays], level: int
) -> dict[str, Any]:
    """One level: what it is, what the best policies do on it, and what the agents do."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf[level]), task.levels)
    active = params.object_active

    def score(returns: np.ndarray) -> float:
        """Mean score on the level; NaN where it has none."""
        padded = np.zeros((*np.shape(returns), task.count))
        padded[..., level] = returns
        return round(float(np.mean(task.scores(padded)[..., level])), 4)

    def numbers(values: np.ndarray, digits: int = 3) -> str:
        return " ".join(f"{value:.{digits}g}" for value in values[active])

    row: dict[str, Any] = {
        "level": level,
        "scored": bool(task.scored[level]),
        "size": int(params.size),
        "steps": int(params.max_steps_in_episode),
        "rewards": numbers(params.object_rewards),
        "end_probs": numbers(params.end_probs),
        "respawn_probs": numbers(params.respawn_probs),
        "distances": numbers(distances(task, level)),
        "optimal_return": round(float(task.optimal[level]), 4),
        "random_return": round(float(task.random[level]), 4),
    }
    for name in ("optimal", *DISCOUNTS):
        row |= {
            f"{name}_score": score(solved[f"{name}_returns"][level]),
            f"{name}_ends": round(float(solved[f"{name}_terminated"][level]), 3),
            f"{name}_length": round(float(solved[f"{name}_steps"][level]), 1),
            f"{name}_collected": numbers(solved[f"{name}_collected"][level]),
        }
    for (rule, updates), found in agents.items():
        name, mine = f"{rule}_{updates}", {key: value[:, level] for key, value in found.items()}
        row |= {
            f"{name}_score": score(mine["returns"]),
            f"{name}_deviation": round(float(np.std(task.scores(found["returns"])[:, level])), 4),
            f"{name}_ends": round(float(mine["terminated"].mean()), 3),
            f"{name}_length": round(float(mine["steps"].mean()), 1),
            f"{name}_collected": numbers(mine["collected"].mean(axis=0)),
            f"{name}_collected_in_training": numbers(mine["collected_in_training"].mean(axis=0), 4),
        }
        row |= {
            f"{name}_{part.replace(' ', '_').replace(',', '')}": round(float(gap[:, level].mean()), 4)
            for part, gap in parts(task, solved, found).items()
        }
    return row


TEMPTING = 0.2
"""An object that pays and ends the episode with more than this probability is a tempting end."""
LARGE = 0.1
"""Levels on which A2C lacks more than this are shown one by one."""


def kinds(
    task: EvaluationTask, solved: Arrays, agents: Mapping[Run, Arrays], runs: Sequence[Run]
) -> list[str]:
    """Where the gap is: tables over kinds of levels."""
    levels = jax.tree.map(np.asarray, task.levels)
    pays = levels.object_active & (levels.object_rewards > 0)
    paying = pays.sum(axis=1)
    tempting = (paying > 1) & (pays & (levels.end_probs > TEMPTING)).any(axis=1)
    best_length = solved["optimal_steps"]
    groups = {f"{n} objects pay": paying == n for n in range(1, 6)}
    groups |= {"several pay, one of them a tempting end": tempting, "all others": ~tempting}
    limits = levels.max_steps_in_episode
    edges = ((20, 49), (50, 149), (150, 299), (300, 750))
    groups |= {f"{low} to {high} steps": (limits >= low) & (limits <= high) for low, high in edges}
    names = [f"{rule} {part}" for rule, _ in runs for part in ("score", "share of gap", "ends", "length")]
    lines = [f"| levels | number | {' | '.join(names)} | ends, best | length, best |"]
    lines.append("|---" * (len(names) + 4) + "|")
    for name, group in groups.items():
        group = group & task.scored
        cells = []
        for run in runs:
            found = agents[run]
            score = task.scores(found["returns"]).mean(axis=0)
            share = (1 - score[group]).sum() / (1 - score[task.scored]).sum()
            ends, length = (found[key].mean(axis=0)[group].mean() for key in ("terminated", "steps"))
            cells.append(f"{score[group].mean():.2f} | {share:.0%} | {ends:.2f} | {length:.0f}")
        best = f"{solved['optimal_terminated'][group].mean():.2f} | {best_length[group].mean():.0f}"
        lines.append(f"| {name} | {group.sum()} | {' | '.join(cells)} | {best} |")
    lines += ["", "Share of the gap by what the agents do differently:", ""]
    lines += [
        "| episodes are short | an object is missed | " + " | ".join(f"{r} {u}" for r, u in runs) + " |"
    ]
    lines += ["|---" * (2 + len(runs)) + "|"]
    table: dict[tuple[bool, bool], list[str]] = {}
    for run in runs:
        found = agents[run]
        gap = np.where(task.scored, 1 - task.scores(found["returns"]).mean(axis=0), 0.0)
        early = found["steps"].mean(axis=0) < 0.8 * best_length
        wanted = solved[f"{DISCOUNT}_collected"]
        missed = (pays & (wanted > 0.5) & (found["collected"].mean(axis=0) < 0.5 * wanted)).any(axis=1)
        for short, lacking in itertools.product((True, False), repeat=2):
            group = task.scored & (early == short) & (missed == lacking)
            share = gap[group].sum() / gap.sum()
            table.setdefault((short, lacking), []).append(f"{share:.0%} ({group.sum()} levels)")
    lines += [
        f"| {'yes' if early else 'no'} | {'yes' if missed else 'no'} | {' | '.join(cells)} |"
        for (early, missed), cells in table.items()
    ]
    score = task.scores(agents[runs[0]]["returns"]).mean(axis=0)
    large = np.flatnonzero(task.scored & (score < 1 - LARGE))
    excess = agents[runs[0]]["collected"].mean(axis=0) - solved[f"{DISCOUNT}_collected"]
    steps = np.stack([distances(task, int(level)) for level in large])
    nearest = np.where(pays[large], steps, np.inf).min(axis=1)
    favourite = np.argmax(np.where(pays[large], excess[large], -np.inf), axis=1)
    near = int((steps[np.arange(len(large)), favourite] == nearest).sum())
    return [
        *lines,
        "",
        f"On {near} of {len(large)} levels the object that A2C collects most beyond the best policy at γ = "
        f"{DISCOUNT} is the nearest that pays.",
    ]


def tables(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The levels that hold most of the gap, the worst first: scores, then episodes."""
    worst = [row for row in rows if row["scored"] and row["a2c_250_score"] < 1 - LARGE]
    worst.sort(key=lambda row: row["a2c_250_score"])

    def listed(row: dict[str, Any], name: str, digits: int = 1) -> str:
        return ", ".join(f"{float(value):.{digits}f}" for value in row[name].split())

    def markdown(head: Sequence[str], cells: Callable[[dict[str, Any]], Sequence[object]]) -> list[str]:
        body = [f"| {' | '.join(map(str, cells(row)))} |" for row in worst]
        return [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *body]

    def scores(row: dict[str, Any]) -> Sequence[object]:
        objects = zip(row["rewards"].split(), row["end_probs"].split(), strict=True)
        named = ("a2c_250_score", "ppo_250_score", f"{DISCOUNT}_score", "0.997_score")
        left = [f"a2c_250_{part}".replace(" ", "_").replace(",", "") for part in list(STEPS)[2:]]
        return [
            row["level"], row["size"], row["steps"],
            ", ".join(f"{float(reward):.2f} ({float(end):.2f})" for reward, end in objects),
            listed(row, "distances", 0),
            f"{row['optimal_return']:.2f}", f"{row['random_return']:.2f}",
            *(f"{row[name]:.2f}" for name in named),
            f"{max(row[f'{discount}_score'] for discount in DISCOUNTS):.2f}",
            *(f"{row[name]:.2f}" for name in left),
        ]  # fmt: skip

    def episodes(row: dict[str, Any]) -> Sequence[object]:
        sources = ("optimal", DISCOUNT, "a2c_250", "ppo_250")
        return [
            row["level"],
            ", ".join(f"{row[f'{name}_ends']:.2f}" for name in sources),
            ", ".join(f"{row[f'{name}_length']:.0f}" for name in sources),
            *(listed(row, f"{name}_collected") for name in sources),
            listed(row, "a2c_250_collected_in_training", 0),
        ]

    first = [
        "level",
        "size",
        "steps",
        "objects: reward (P end)",
        "steps to them",
        "optimal return",
        "random return",
        "A2C",
        "PPO",
    ]
    first += ["γ .99", "γ .997", "best γ", *(STEPS[part] for part in list(STEPS)[2:])]
    second = [
        "level",
        "ends: best, γ .99, A2C, PPO",
        "length: the same",
        "collected: best",
        "γ .99",
        "A2C",
        "PPO",
    ]
    second += ["A2C in training"]
    return [*markdown(first, scores), "", *markdown(second, episodes)]


COLOURS = {
    "clock": "#BBBBBB",
    "discount": "#56B4E9",
    "never tried": "#D55E00",
    "tried 1 to 9 times": "#E69F00",
    "tried, not learned": "#009E73",
}


def draw(path: Path, task: EvaluationTask, solved: Arrays, agents: Mapping[Run, Arrays]) -> None:
    """The mean gap in its parts, and the levels that hold most of it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.0, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.35))
    for y, found in enumerate(agents.values()):
        start = 0.0
        for name, gap in parts(task, solved, found).items():
            mean = float(gap[:, task.scored].mean())
            left.barh(
                y, mean, left=start, color=COLOURS[name], height=0.62, label=STEPS[name] if y == 0 else None
            )
            if mean > 0.008:
                left.text(start + mean / 2, y, f"{mean:.3f}"[1:], ha="center", va="center", fontsize=9)
            start += mean
        left.text(start + 0.003, y, f"{start:.3f}"[1:], va="center", fontsize=10, fontweight="bold")
    left.set_yticks(range(len(agents)), [f"{rule.upper()}\n{updates:,} updates" for rule, updates in agents])
    left.set_xlim(0, 0.205)
    left.invert_yaxis()
    left.set_xlabel("score below the optimum, mean of the levels")
    left.set_title("What the gap is made of", loc="left", fontweight="bold")
    left.legend(frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.42, -0.13), ncols=2)
    scores = {run: task.scores(agents[run]["returns"]) for run in (("a2c", 250), ("ppo", 250))}
    mean = scores["a2c", 250].mean(axis=0)
    order = np.argsort(np.where(task.scored, mean, np.inf))
    order = order[mean[order] < 1 - LARGE]
    at = np.arange(len(order))
    for (rule, _), colour, shift, marker in zip(
        scores, ("#0072B2", "#CC79A7"), (-0.14, 0.14), "os", strict=True
    ):
        score = scores[rule, 250][:, order]
        right.plot(score.T, at + shift, ".", color=colour, alpha=0.3, markersize=5)
        right.plot(score.mean(axis=0), at + shift, marker, color=colour, markersize=5.5, label=rule.upper())
    discounted = task.scores(solved[f"{DISCOUNT}_returns"])[order]
    clockless = task.scores(np.max([solved[f"{d}_returns"] for d in DISCOUNTS], axis=0))[order]
    right.plot(
        discounted,
        at,
        "|",
        color="#111111",
        markersize=11,
        markeredgewidth=2,
        label=f"best at γ = {DISCOUNT}",
    )
    right.plot(clockless, at, "d", color="#999999", markersize=4.5, label="best γ of four", zorder=1)
    right.axvline(1.0, color="#444444", linewidth=0.8)
    right.set_yticks(
        at, [f"{level}: {int(task.levels.max_steps_in_episode[level])} steps" for level in order], fontsize=8
    )
    right.invert_yaxis()
    right.set_xlabel("score (0: random policy, 1: optimum); small dots are single agents")
    right.set_title("Levels with the largest gaps at 250 updates", loc="left", fontweight="bold")
    right.legend(frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.09), ncols=4)
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="x", color="#E8E8E8")
        ax.set_axisbelow(True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
