"""Do the hand-written baselines reach the published figures? With seeds, intervals and learning curves.

Agents are trained one per core, each in a process of its own, on gymnax or on Brax; on Brax beside rejax
with the same settings. Finished agents are kept: stop and start the script as you like.

    python docs/studies/baselines.py --suite gymnax --out runs/baselines
    python docs/studies/baselines.py --suite brax --out runs/baselines --rejax-env .venv-rejax
"""

import argparse
import concurrent.futures
import csv
import dataclasses
import json
import os
import queue
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

PUBLISHED = {
    "CartPole-v1": 475.0,
    "Breakout-MinAtar": 50.1,
    "SpaceInvaders-MinAtar": 167.1,
    "Freeway-MinAtar": 61.8,
    "Asterix-MinAtar": 15.0,
}
"""Mean return of PPO: gymnax's threshold for CartPole, else OPEN (Goldie et al. 2024, arXiv 2407.07082)."""

BUDGETS = {
    "gymnax": {name: 500_000 if name == "CartPole-v1" else 10_000_000 for name in PUBLISHED},
    "brax": {
        "brax/inverted_pendulum": 1_000_000,
        "brax/reacher": 2_000_000,
        "brax/hopper": 2_000_000,
        "brax/ant": 2_000_000,
    },
}
"""Environment steps of each agent."""

ONCE = ("brax/ant",)
"""Too slow for more than one seed."""

EVALUATIONS = {"gymnax": 20, "brax": 10}
"""Points of a curve; on Brax each costs W whole episodes of up to 1,000 steps."""

COLOURS = {"ppo": "#0072B2", "dpo": "#009E73", "no-drift": "#CC79A7", "a2c": "#E69F00", "rejax": "#D55E00"}


@dataclasses.dataclass(frozen=True)
class Job:
    """One agent."""

    environment: str
    rule: str
    """A hand-written objective, or `rejax` for that package's PPO."""
    seed: int
    env_steps: int

    @property
    def file(self) -> str:
        """Where its curve is kept."""
        name = self.environment.replace("/", "-")
        return f"{name}-{self.rule}-{self.env_steps}-{self.seed}.json"


def main() -> None:
    """Trains the agents that are missing, then writes the table and the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the study")
    parser.add_argument("--suite", choices=sorted(BUDGETS), required=True, help="which environments")
    parser.add_argument("--environments", nargs="+", help="only these of them")
    parser.add_argument(
        "--rules",
        nargs="+",
        choices=[name for name in COLOURS if name != "rejax"],
        default=["ppo"],
        help="hand-written objectives (default: ppo)",
    )
    parser.add_argument("--seeds", type=int, default=5, help="agents of each rule (default: 5)")
    parser.add_argument("--share", type=float, default=1.0, help="share of the step budgets (default: 1)")
    parser.add_argument("--rejax-env", type=Path, help="rejax's environment (tools.rejax_speed makes it)")
    arguments = parser.parse_args()
    budgets = BUDGETS[arguments.suite]
    chosen = arguments.environments or list(budgets)
    if unknown := set(chosen) - set(budgets):
        parser.error(f"not in suite {arguments.suite}: {', '.join(sorted(unknown))}")
    rules = [*arguments.rules, *(["rejax"] if arguments.rejax_env else [])]
    jobs = [
        Job(environment, rule, seed, round(budgets[environment] * arguments.share))
        for seed in range(arguments.seeds)  # so that an unfinished study is a balanced one
        for environment in chosen
        for rule in rules
        if seed == 0 or environment not in ONCE
    ]
    folder = arguments.out / "curves"
    folder.mkdir(parents=True, exist_ok=True)
    run_all([job for job in jobs if not (folder / job.file).exists()], folder, arguments.rejax_env)
    report(arguments.out / arguments.suite, folder, jobs)


def run_all(jobs: Sequence[Job], folder: Path, rejax_env: Path | None) -> None:
    """One agent per core at a time."""
    cores = sorted(os.sched_getaffinity(0))
    free: queue.Queue[int] = queue.Queue()
    for core in cores:
        free.put(core)
    with concurrent.futures.ThreadPoolExecutor(len(cores)) as pool:
        started = [pool.submit(run, job, folder, rejax_env, free) for job in jobs]
        for done in concurrent.futures.as_completed(started):
            print(done.result(), flush=True)


def run(job: Job, folder: Path, rejax_env: Path | None, free: queue.Queue[int]) -> str:
    """One agent in a process of its own, on a core of its own."""
    core = free.get()
    task = {"job": dataclasses.asdict(job), "core": core}
    python = sys.executable
    environment = dict(os.environ)
    if job.rule == "rejax":
        assert rejax_env is not None
        python = str((rejax_env / "bin" / "python").absolute())
        task["settings"] = settings_for_rejax(job)
        # Compiling takes minutes, and seeds share the program.
        environment["JAX_COMPILATION_CACHE_DIR"] = str((rejax_env / "compiled").absolute())
    try:
        done = subprocess.run(
            [python, __file__, "--agent", json.dumps(task)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            env=environment,
        )
    finally:
        free.put(core)
    curve = json.loads(done.stdout.splitlines()[-1])
    part = folder / f"{job.file}.part"
    part.write_text(json.dumps(curve) + "\n")
    part.replace(folder / job.file)
    return f"{job.environment} {job.rule} seed {job.seed}: {curve['return'][-1]:.2f}"


def settings_for_rejax(job: Job) -> dict[str, Any]:
    """Our settings in rejax's terms.

    Some differences remain: rejax clips every entry of a gradient where we clip the norm, treats a time limit
    as a terminal state, and begins each episode in a new initial state.
    """
    from rl_discovery import envs
    from rl_discovery.discovery.learning.settings import default_config
    from rl_discovery.discovery.objectives.ppo import PPO

    env, level = envs.make(job.environment)
    rule = PPO()
    config = default_config(env, level, rule)
    between, evaluations = _plan(job, config.steps_per_update)
    return {
        "env": job.environment,
        "env_params": {"episode_length": level.max_steps_in_episode},
        "agent_kwargs": {"activation": config.activation, "hidden_layer_sizes": config.hidden},
        "num_envs": config.workers,
        "num_steps": config.rollout_steps,
        "num_epochs": config.epochs,
        "num_minibatches": config.minibatches,
        "learning_rate": config.policy_learning_rate,
        "max_grad_norm": config.max_grad_norm,
        "normalize_observations": config.scale_observations,
        "gamma": config.discount or rule.discount,
        "gae_lambda": config.gae_lambda or rule.gae_lambda,
        "clip_eps": rule.clip,
        "ent_coef": rule.entropy_coef,
        "total_timesteps": evaluations * between * config.steps_per_update,
        "eval_freq": between * config.steps_per_update,
    }


def _plan(job: Job, steps_per_update: int) -> tuple[int, int]:
    """Updates between evaluations, and the number of evaluations; rejax has them at equal distances only."""
    evaluations = EVALUATIONS["brax" if job.environment.startswith("brax/") else "gymnax"]
    updates = job.env_steps // steps_per_update
    between = max(1, updates // evaluations)
    return between, updates // between


def train_ours(job: Job) -> dict[str, list[float]]:
    """The learning curve of one of our agents: mean return of W episodes, with the stochastic policy."""
    from rl_discovery.scripts import runtime

    runtime.configure()
    from rl_discovery import discovery, envs
    from rl_discovery.discovery.learning.settings import default_config

    env, level = envs.make(job.environment)
    rule = discovery.make_objective(job.rule)
    config = default_config(env, level, rule)
    between, evaluations = _plan(job, config.steps_per_update)
    _, history = discovery.train(rule, env, level, between * evaluations, job.seed, evaluations=evaluations)
    return {name: history[name].tolist() for name in ("env_steps", "return")}


def train_rejax(job: Job, settings: dict[str, Any]) -> dict[str, list[float]]:
    """The same for one of rejax's agents, with as many episodes per evaluation as ours."""
    import jax
    from rejax import PPO
    from rejax.evaluate import evaluate

    def episodes(algorithm: Any, state: Any, key: Any) -> Any:
        params = algorithm.env_params
        act = algorithm.make_act(state)
        return evaluate(act, key, algorithm.env, params, settings["num_envs"], params.max_steps_in_episode)

    algorithm = PPO.create(**settings, skip_initial_evaluation=True).replace(eval_callback=episodes)
    _, (_, returns) = jax.jit(algorithm.train)(jax.random.PRNGKey(job.seed))
    means = np.asarray(returns).mean(axis=-1)
    steps = settings["eval_freq"] * np.arange(1, len(means) + 1)
    return {"env_steps": steps.tolist(), "return": means.tolist()}


def interval(values: np.ndarray) -> str:
    """Mean over seeds with its 95 % bootstrap interval; without one for fewer than three seeds."""
    from rl_discovery.evaluation.statistics import mean_estimate

    mean, low, high = mean_estimate(values)
    return f"{mean:.1f}" if low is None else f"{mean:.1f} [{low:.1f}, {high:.1f}]"


def report(out: Path, folder: Path, jobs: Sequence[Job]) -> None:
    """The table of final returns, the curves as numbers, and their figure."""
    curves: dict[str, dict[str, list[dict[str, list[float]]]]] = {}
    for job in jobs:
        curve = json.loads((folder / job.file).read_text())
        curves.setdefault(job.environment, {}).setdefault(job.rule, []).append(curve)
    write_numbers(out.with_suffix(".csv"), folder, jobs)
    rules = list(dict.fromkeys(job.rule for job in jobs))
    rows = [
        f"| environment | steps | published | {' | '.join(rules)} | seeds |",
        "|---" * (4 + len(rules)) + "|",
    ]
    for environment, found in curves.items():
        last = {rule: np.array([curve["return"][-1] for curve in found[rule]]) for rule in rules}
        steps = next(job.env_steps for job in jobs if job.environment == environment)
        known = PUBLISHED.get(environment)
        cells = " | ".join(interval(values) for values in last.values())
        published = "-" if known is None else f"{known:g}"
        rows.append(f"| {environment} | {steps:,} | {published} | {cells} | {len(last[rules[0]])} |")
    out.with_suffix(".md").write_text("\n".join(rows) + "\n")
    draw(out.with_suffix(".png"), curves)
    print("\n".join(rows))


def write_numbers(path: Path, folder: Path, jobs: Sequence[Job]) -> None:
    """Every point of every curve."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("environment", "rule", "seed", "env_steps", "return"))
        for job in jobs:
            curve = json.loads((folder / job.file).read_text())
            for env_steps, value in zip(curve["env_steps"], curve["return"], strict=True):
                writer.writerow((job.environment, job.rule, job.seed, int(env_steps), round(value, 3)))


def draw(path: Path, curves: dict[str, dict[str, list[dict[str, list[float]]]]]) -> None:
    """Return over environment steps, a panel per environment; faint lines are single agents."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.4 * len(curves), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    for ax, (environment, found) in zip(panels, curves.items(), strict=True):
        for rule, agents in found.items():
            for agent in agents:
                x = np.array(agent["env_steps"]) / 1e6
                ax.plot(x, agent["return"], color=COLOURS[rule], alpha=0.25, linewidth=1)
            mean = np.mean([agent["return"] for agent in agents], axis=0)
            ax.plot(x, mean, color=COLOURS[rule], linewidth=2.2, label=rule)
        if environment in PUBLISHED:
            ax.axhline(
                PUBLISHED[environment], color="#666666", linestyle="--", linewidth=1, label="published"
            )
        ax.set_title(environment, loc="left", fontsize=10, fontweight="bold")
        ax.set_xlabel("Environment steps (millions)")
        ax.grid(axis="y", color="#E8E8E8")
        ax.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("Return")
    panels[0].legend(frameon=False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--agent"]:
        task = json.loads(sys.argv[2])
        os.sched_setaffinity(0, {task["core"]})  # before JAX counts its threads
        job = Job(**task["job"])
        print(json.dumps(train_rejax(job, task["settings"]) if job.rule == "rejax" else train_ours(job)))
    else:
        main()
