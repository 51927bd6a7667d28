"""Discovered reinforcement-learning objectives: train with them, evaluate them, evolve new ones.

    import rl_discovery as rld

    objective = rld.load_objective("ta-lpg")         # shipped name, path or run directory
    env, level = rld.make_env("gridworld/dense")     # or "CartPole-v1", "brax/ant", "my_module:Env"
    agent, history = rld.train(objective, env, level, horizon=500, seeds=range(8))

These names are what most people need. What is behind them lives in the packages `discovery` (objectives
and agents), `envs`, `checkpoints`, `meta` (meta-training), `evaluation` and `scripts` (the command line).
Everything is imported when it is first used.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_discovery.discovery.lazy import lazy

if TYPE_CHECKING:
    from gymnax.environments.environment import Environment

    from rl_discovery.checkpoints.loading import load_objective
    from rl_discovery.discovery.learning.train import train
    from rl_discovery.discovery.objectives.base import TrainedObjective
    from rl_discovery.envs.levels import EnvParams
    from rl_discovery.envs.suites import Suite
    from rl_discovery.evaluation.analysis import Findings
    from rl_discovery.evaluation.results import Results
    from rl_discovery.meta.config import RunConfig
    from rl_discovery.meta.runs.loop import RunOutcome

__all__ = ["analyse", "evaluate", "load_objective", "make_env", "meta_train", "train"]

SUBPACKAGES = ("checkpoints", "discovery", "envs", "evaluation", "meta", "scripts")


def make_env(name: str, seed: int = 0, **options: Any) -> "tuple[Environment, EnvParams]":
    """An environment and one level of it.

    Args:
        name: `rl-discovery list envs` shows them: "gridworld/dense", "CartPole-v1", "brax/ant"; or a class
            of your own, "my_module:Env", or of a family of yours, "my_module:FAMILY/short". Options may
            follow: "brax/ant,backend=spring".
        seed: which level, where the name stands for a distribution of them.
        options: of the environment, in place of those in the name.

    Returns:
        The environment and its parameters, as `gymnax.make` does.

    Raises:
        UnknownNameError, UnusableEnvironmentError, BrokenPluginError: there is none, or it cannot be used.
    """
    from rl_discovery.discovery.registry import load_place
    from rl_discovery.envs import make

    load_place(name.partition(",")[0])
    return make(name, seed, **options)


def evaluate(
    objectives: Sequence[str] | Mapping[str, "TrainedObjective"],
    suites: "str | Suite | Sequence[str | Suite]",
    horizons: Sequence[int] = (),
    seeds: Sequence[int] = range(5),
    *,
    devices: int | None = None,
    **options: Any,
) -> "Results":
    """Trains agents from scratch with each objective and measures what they reach.

    Args:
        objectives: names, paths or run directories; or loaded objectives by the label to give them.
        suites: one or several, themselves or their names (`rl-discovery list suites`).
        horizons: lifetimes in the suites' unit (default: each suite's own).
        seeds: one agent per seed and level.
        devices: how many to use (default: all); results do not depend on it.
        options: `baselines`, `tune`, `workers` and more, as for `rl_discovery.evaluation.evaluate`; agents
            have as many workers as the first learned objective was evolved with, unless told otherwise.

    Returns:
        Every seed, and aggregates over seeds and environments.

    Raises:
        EvaluationError: nothing to do, or something that cannot be done; named.
        UnknownObjectiveError, UnknownNameError: there is no such objective or suite.
    """
    from rl_discovery import checkpoints, discovery, envs, evaluation
    from rl_discovery.discovery.registry import load_place

    if not isinstance(objectives, Mapping):
        objectives = {name: checkpoints.load_objective(name) for name in objectives}
    chosen = [suites] if isinstance(suites, str | envs.Suite) else suites
    for suite in chosen:
        if isinstance(suite, str):
            load_place(suite.partition(",")[0])
    known = [envs.suite(suite) if isinstance(suite, str) else suite for suite in chosen]
    if options.get("workers") is None:
        trained = objectives.values()
        options["workers"] = {suite.name: evaluation.trained_workers(trained, suite) for suite in known}
    return evaluation.evaluate(
        objectives, known, horizons, seeds, mesh=discovery.make_mesh(devices), **options
    )


def meta_train(preset: "str | RunConfig", run_dir: str | Path, **changes: Any) -> "RunOutcome":
    """Evolves an objective; called again with the same run directory, it resumes.

    Args:
        preset: its name (`rl-discovery list presets`), the path of a TOML file (it ends in `.toml`), or a
            configuration.
        run_dir: where everything goes.
        changes: fields of the configuration, `generations=100`.

    Returns:
        How many generations are done, and which signal stopped the run early, if one did.

    Raises:
        ConfigError: a configuration that cannot work.
        RunError: a run directory that cannot be used.
        DivergedError: nothing was left to learn from.
    """
    import dataclasses

    from rich.console import Console

    from rl_discovery.meta import config_file
    from rl_discovery.meta.presets import PRESETS
    from rl_discovery.meta.runs.meta_train import meta_train as run

    if not isinstance(preset, str):
        config = preset
    elif preset.endswith(".toml"):
        config = config_file.load(Path(preset))
    else:
        config = PRESETS.find(preset).config
    config = dataclasses.replace(config, **changes)
    return run(config, Path(run_dir), Console(stderr=True))


def analyse(
    objective: str,
    *,
    suite: str = "unseen",
    levels: int = 16,
    lifetime: int = 100,
    seeds: int = 8,
    horizons: Sequence[int] = (),
    workers: int | None = None,
) -> "Findings":
    """What an objective does over an agent's lifetime: response or drift, ablations, schedule, formula.

    Args:
        objective: shipped name, path or run directory.
        suite: agents are trained on its first environment.
        levels: that they are trained on.
        lifetime: N of these agents, in updates.
        seeds: agents per level.
        horizons: N at which the objective itself is looked at (default: those it was evolved with).
        workers: W of these agents (default: what the objective was evolved with, else the published number).

    Raises:
        AnalysisError: an objective with nothing to analyse.
        UnknownObjectiveError, UnknownNameError: there is no such objective or suite.
    """
    import dataclasses

    from rl_discovery import checkpoints, discovery, envs, evaluation
    from rl_discovery.evaluation import analysis

    loaded = checkpoints.load_objective(objective)
    chosen = dataclasses.replace(envs.suite(suite), levels_per_environment=levels)
    workers = workers or evaluation.trained_workers([loaded], chosen)
    setting = analysis.Setting(chosen, lifetime, seeds, discovery.make_mesh(), workers)
    return analysis.analyse(loaded, objective, setting, horizons or analysis.trained_horizons(loaded.card))


__getattr__ = lazy(
    __name__,
    {"load_objective": "checkpoints.loading", "train": "discovery.learning.train"}
    | dict.fromkeys(SUBPACKAGES, ""),
)


def __dir__() -> list[str]:
    return sorted([*__all__, *SUBPACKAGES])
