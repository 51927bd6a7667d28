"""The evaluation protocol: train agents from scratch with an objective, on levels it never saw.

Every seed trains one agent on every level of every environment of a suite, at every horizon. The
lanes of an environment run through the same blocks as in meta-training (`evaluation.lanes`), a few seeds
at a time, and what is finished is kept (`evaluation.store`). `scripts.evaluate` calls it.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from jax.sharding import Mesh

from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.envs.suites import Suite
from rl_discovery.evaluation import tuning
from rl_discovery.evaluation.errors import EvaluationError
from rl_discovery.evaluation.results import Cell, Outcome, Results, Tuned
from rl_discovery.evaluation.runner import Runner, Work
from rl_discovery.evaluation.store import Store
from rl_discovery.evaluation.tasks import Experiment, prepare, updates_of
from rl_discovery.evaluation.tuning import Settings

LEVELS_SEED = 0
"""Seed of the suite's levels. All agents meet the same levels, so that seeds differ by learning alone."""

CURVE_POINTS = 10
"""Points of a learning curve, the end included."""


NO_STORE = Store(None)
"""Keeps nothing."""


class Stage(NamedTuple):
    """What the protocol is about to do.

    Attributes:
        objective, environment, horizon: of the agents that are trained.
        done: the share of all environment steps behind it, in [0, 1].
        end: that share once it is over.
        tuning: whether it is a search for settings.
    """

    objective: str
    environment: str
    horizon: int
    done: float
    end: float = 1.0
    tuning: bool = False


def evaluate(
    objectives: Mapping[str, TrainedObjective],
    suites: Suite | Sequence[Suite],
    horizons: Sequence[int] = (),
    seeds: Sequence[int] = range(5),
    *,
    mesh: Mesh,
    baselines: Sequence[str] = (),
    tune: Sequence[str] = (),
    grid: Sequence[Settings] = tuning.GRID,
    workers: int | Mapping[str, int | None] | None = None,
    hidden: Sequence[int] = (),
    block_size: int | None = None,
    points: int = CURVE_POINTS,
    store: Store = NO_STORE,
    progress: Callable[[Stage], None] = lambda stage: None,
) -> Results:
    """Trains agents from scratch with each objective and measures what they reach.

    Args:
        objectives: by the label that the results give them.
        suites: the environments.
        horizons: lifetimes in the suites' unit (default: each suite's own).
        seeds: one agent per seed and level.
        mesh: the devices; results do not depend on it.
        baselines: labels of the objectives that the others are to beat.
        tune: labels of the objectives whose settings are searched for first, on seeds and levels of their
            own.
        grid: what is tried: `tuning.GRID`, for hand-written objectives, or `tuning.STEP_SIZES`, for all.
        workers: W of every agent, or that of each suite by its name (default: the published number for
            environment and rule).
        hidden: widths of the hidden layers of agents with an MLP (default: those of environment and rule).
        block_size: lanes that run side by side; results depend on it in the last bits, which sampled
            actions amplify (default: `lanes.WORKERS_PER_BLOCK` environments).
        points: of the learning curves, the end included.
        store: where finished outcomes are looked up, and kept as soon as they are there.
        progress: called before each group of seeds of each (environment, objective, horizon), and once at
            the end.

    Returns:
        Every seed, and aggregates over seeds and environments.

    Raises:
        EvaluationError: nothing to do, a number that makes no sense, hidden layers where no agent has any,
            continuous actions with a rule for discrete ones, or an objective that cannot be tuned; named.
        UnknownNameError: a suite names an environment that does not exist.
    """
    suites = [suites] if isinstance(suites, Suite) else list(suites)
    _check(objectives, suites, horizons, seeds, workers, hidden, block_size, points)
    if why := tuning.refusal(objectives, tune, grid):
        raise EvaluationError(why)
    runner = Runner(mesh, block_size, points, store)
    work = _all_work(objectives, suites, horizons, seeds, workers, hidden)
    # All of them first: what cannot be trained is refused before anything is.
    for part in work:
        runner.ready(part.experiment)
    to_tune = [part for part in work if part.experiment.label in tune]
    total = sum(part.env_steps for part in work) + sum(tuning.cost(part, grid) for part in to_tune)
    report = _Reporter(progress, total)
    settings: list[Tuned] = []
    if to_tune:
        work, settings = _tuned(work, tune, suites, runner, grid, report)
    cells: list[Cell] = []
    for part in work:
        outcomes = zip(seeds, runner.outcomes(part, report.of(part)), strict=True)
        cells += [_cell(part, seed, outcome) for seed, outcome in outcomes]
    progress(_stage(work[-1], 1.0))
    return Results.of(cells, baselines, settings)


def trained_workers(objectives: Iterable[TrainedObjective], suite: Suite) -> int | None:
    """W of the agents that the first learned objective was trained on, for `workers` of `evaluate`.

    None where no card says so, and on control suites, which have published numbers of their own.
    """
    if suite.unit == "env_steps":
        return None
    for objective in objectives:
        value: Any = objective.card
        for name in ("config", "agent", "workers"):
            value = value.get(name) if isinstance(value, Mapping) else None
        if isinstance(value, int) and value > 0:
            return value
    return None


def _all_work(
    objectives: Mapping[str, TrainedObjective],
    suites: Sequence[Suite],
    horizons: Sequence[int],
    seeds: Sequence[int],
    workers: int | Mapping[str, int | None] | None,
    hidden: Sequence[int],
) -> list[Work]:
    work = [
        Work(experiment, horizon, updates_of(horizon, suite.unit, experiment.agent), seeds)
        for suite in suites
        for experiment in _experiments(objectives, suite, _workers_on(suite, workers), hidden)
        for horizon in horizons or suite.horizons
    ]
    if hidden and not any(part.experiment.agent.network == "mlp" for part in work):
        raise EvaluationError("hidden layers have no effect here: no agent has an MLP")
    return work


def _workers_on(suite: Suite, workers: int | Mapping[str, int | None] | None) -> int | None:
    return workers.get(suite.name) if isinstance(workers, Mapping) else workers


def _experiments(
    objectives: Mapping[str, TrainedObjective], suite: Suite, workers: int | None, hidden: Sequence[int]
) -> Iterator[Experiment]:
    for environment in suite.levels(LEVELS_SEED):
        task = prepare(*environment)
        for label, objective in objectives.items():
            agent = task.agent_for(objective, workers, hidden)
            yield Experiment(suite.name, task, label, objective, agent)


class _Reporter:
    """Reports progress as a share of `total` environment steps, over all parts of the work."""

    def __init__(self, progress: Callable[[Stage], None], total: int) -> None:
        self._progress, self._total, self._behind = progress, total, 0

    def of(self, part: Work) -> Callable[[float, float], None]:
        """What to call with the shares of this part that are done and will be next."""
        behind = self._behind
        self._behind += part.env_steps

        def report(*shares: float) -> None:
            done, end = ((behind + share * part.env_steps) / self._total for share in shares)
            self._progress(_stage(part, done, end))

        return report


def _stage(part: Work, done: float, end: float = 1.0) -> Stage:
    experiment, tuned = part.experiment, part.seeds is tuning.SEEDS
    return Stage(experiment.label, experiment.task.name, part.horizon, done, end, tuned)


def _tuned(
    work: Sequence[Work],
    labels: Sequence[str],
    suites: Sequence[Suite],
    runner: Runner,
    grid: Sequence[Settings],
    report: "_Reporter",
) -> tuple[list[Work], list[Tuned]]:
    levels = [(suite, environment) for suite in suites for environment in suite.levels(tuning.LEVELS_SEED)]
    tasks = {(suite.name, environment[0]): prepare(*environment) for suite, environment in levels}
    parts: list[Work] = []
    settings: list[Tuned] = []
    for _, same in itertools.groupby(work, key=lambda part: id(part.experiment)):
        group = list(same)
        experiment = group[0].experiment
        if experiment.label not in labels:
            parts += group
            continue
        for part, chosen in tuning.tuned(
            group, tasks[experiment.suite, experiment.task.name], runner, grid, report.of
        ):
            parts.append(part)
            settings.append(chosen)
    return parts, settings


def _cell(work: Work, seed: int, outcome: Outcome) -> Cell:
    return Cell(
        **dict(outcome),
        objective=work.experiment.label,
        suite=work.experiment.suite,
        environment=work.experiment.task.name,
        horizon=work.horizon,
        seed=seed,
    )


def _check(
    objectives: Mapping[str, TrainedObjective],
    suites: Sequence[Suite],
    horizons: Sequence[int],
    seeds: Sequence[int],
    workers: int | Mapping[str, int | None] | None,
    hidden: Sequence[int],
    block_size: int | None,
    points: int,
) -> None:
    for name, values in (("objectives", objectives), ("suites", suites), ("seeds", seeds)):
        if len(values) == 0:
            raise EvaluationError(f"{name} must not be empty")
    for name, numbers in (("horizons", horizons), ("seeds", seeds)):
        if len(set(numbers)) < len(numbers):
            raise EvaluationError(f"{name} must differ from each other, not {tuple(numbers)}")
    if horizons and min(horizons) < 1:
        raise EvaluationError(f"horizons must be at least 1, not {min(horizons)}")
    if horizons and len({suite.unit for suite in suites}) > 1:
        raise EvaluationError(
            "horizons of these suites count different things, updates and environment steps: evaluate one "
            "kind at a time, or leave the horizons to the suites"
        )
    if hidden and min(hidden) < 1:
        raise EvaluationError(f"hidden layers must have at least 1 unit, not {tuple(hidden)}")
    if min(seeds) < 0:
        raise EvaluationError(f"seeds must not be negative, not {min(seeds)}")
    sizes: list[tuple[str, int | None]] = [("block_size", block_size), ("points", points)]
    sizes += [("workers", n) for n in (workers.values() if isinstance(workers, Mapping) else [workers])]
    for name, number in sizes:
        if number is not None and number < 1:
            raise EvaluationError(f"{name} must be at least 1, not {number}")
