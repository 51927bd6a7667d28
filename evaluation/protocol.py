"""The evaluation protocol: train agents from scratch with an objective, on levels it never saw.

Every seed trains one agent on every level of every environment of a suite, at every horizon. The
lanes of an environment run through the same blocks as in meta-training (`evaluation.lanes`), a few seeds
at a time, and what is finished is kept (`evaluation.store`). `scripts.evaluate` calls it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh

from discovery.objectives.base import TrainedObjective
from envs.suites import Suite
from evaluation.errors import EvaluationError
from evaluation.lanes import CURVE_EPISODES, EPISODES, Returns, default_block_size, make_trainer
from evaluation.results import Cell, Outcome, Point, Results
from evaluation.store import Store, name_of
from evaluation.tasks import Trial, prepare, updates_of

LEVELS_SEED = 0
"""Of the suite's levels: they are the same for all seeds, so that seeds differ by learning alone."""

CURVE_POINTS = 10
"""Points of a learning curve, the end included."""


NO_STORE = Store(None)
"""Keeps nothing."""


class Stage(NamedTuple):
    """What the protocol is about to do; `done` is the share of all environment steps behind it, in [0, 1]."""

    objective: str
    environment: str
    horizon: int
    done: float


class Work(NamedTuple):
    """One objective on one environment at one horizon, for all seeds."""

    trial: Trial
    horizon: int
    updates: int


def evaluate(
    objectives: Mapping[str, TrainedObjective],
    suites: Suite | Sequence[Suite],
    horizons: Sequence[int] = (),
    seeds: Sequence[int] = range(5),
    *,
    mesh: Mesh,
    baselines: Sequence[str] = (),
    workers: int | None = None,
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
        workers: W of every agent (default: the published number for environment and rule).
        block_size: lanes that run side by side; results depend on it in the last bits, which sampled
            actions amplify (default: `lanes.WORKERS_PER_BLOCK` environments).
        points: of the learning curves, the end included.
        store: where finished outcomes are looked up, and kept as soon as they are there.
        progress: called before each (environment, objective, horizon) and once at the end.

    Returns:
        Every seed, and aggregates over seeds and environments.

    Raises:
        EvaluationError: nothing to do, a number that makes no sense, or continuous actions with a rule for
            discrete ones; named.
        UnknownNameError: a suite names an environment that does not exist.
    """
    suites = [suites] if isinstance(suites, Suite) else list(suites)
    _check(objectives, suites, horizons, seeds, workers, block_size, points)
    work = [
        Work(trial, horizon, updates_of(horizon, suite.unit, trial.agent))
        for suite in suites
        for trial in _trials(objectives, suite, workers)
        for horizon in horizons or suite.horizons
    ]
    steps = np.array([part.trial.env_steps(part.updates) for part in work], np.float64)
    before = np.concatenate([[0.0], np.cumsum(steps)]) / np.sum(steps)
    trainers = {}
    # All of them first: what cannot be trained is refused before anything is.
    for trial, _, _ in work:
        if id(trial) not in trainers:
            size = block_size or default_block_size(trial.agent)
            trainers[id(trial)] = size, make_trainer(trial, mesh, size, points)
    cells: list[Cell] = []
    for part, done in zip(work, before, strict=False):
        progress(Stage(part.trial.label, part.trial.task.name, part.horizon, float(done)))
        size, train = trainers[id(part.trial)]
        setting = {"block_size": size, "points": points, "episodes": (EPISODES, CURVE_EPISODES)}
        names = {seed: name_of(part.trial, part.updates, seed, setting) for seed in seeds}
        found = {seed: outcome for seed, name in names.items() if (outcome := store.get(name))}
        for group in _groups([seed for seed in seeds if seed not in found], part.trial, size, mesh):
            returns = train(part.updates, group)
            for seed, outcome in zip(group, _outcomes(part, returns), strict=True):
                found[seed] = outcome
                store.put(names[seed], outcome)
        cells += [_cell(part, seed, found[seed]) for seed in seeds]
    progress(Stage(work[-1].trial.label, work[-1].trial.task.name, work[-1].horizon, 1.0))
    return Results.of(cells, baselines)


def _trials(objectives: Mapping[str, TrainedObjective], suite: Suite, workers: int | None) -> Iterator[Trial]:
    """Every objective on every environment, environments outermost."""
    for environment in suite.levels(LEVELS_SEED):
        task = prepare(*environment)
        for label, objective in objectives.items():
            yield Trial(suite.name, task, label, objective, task.agent_for(objective.rule, workers))


def _groups(seeds: Sequence[int], trial: Trial, block_size: int, mesh: Mesh) -> Iterator[Sequence[int]]:
    """Seeds that are trained together: no more than fill all devices, so that little is lost to a kill."""
    size = max(1, -(-mesh.size * block_size // trial.task.count))
    for start in range(0, len(seeds), size):
        yield seeds[start : start + size]


def _outcomes(work: Work, returns: Returns) -> Iterator[Outcome]:
    """One outcome per seed: means over its levels."""
    trial, task = work.trial, work.trial.task
    scored = task.scored
    for seed in range(len(returns.final)):
        final, curve = returns.final[seed], returns.curve[:, seed]
        steps = [trial.env_steps(int(n)) for n in returns.updates]
        scores = task.scores(curve)[:, scored].mean(axis=1) if scored.any() else None
        yield Outcome(
            return_=float(np.mean(final)),
            score=None if scores is None else float(scores[-1]),
            efficiency=_efficiency(steps, np.mean(curve, axis=1) if scores is None else scores),
            curve=tuple(
                Point(env_steps=at, return_=float(np.mean(value)))
                for at, value in zip(steps, curve, strict=True)
            ),
            updates=work.updates,
            env_steps=trial.env_steps(work.updates),
            levels=task.count,
            unscored_levels=int(np.sum(~scored)),
        )


def _efficiency(steps: Sequence[int], values: np.ndarray) -> float:
    """Area under a learning curve over its length; before its first point the curve is flat."""
    area = np.trapezoid([values[0], *values], [0, *steps])
    return float(area / steps[-1])


def _cell(work: Work, seed: int, outcome: Outcome) -> Cell:
    """An outcome with its place in the evaluation."""
    return Cell(
        **dict(outcome),
        objective=work.trial.label,
        suite=work.trial.suite,
        environment=work.trial.task.name,
        horizon=work.horizon,
        seed=seed,
    )


def _check(
    objectives: Mapping[str, TrainedObjective],
    suites: Sequence[Suite],
    horizons: Sequence[int],
    seeds: Sequence[int],
    workers: int | None,
    block_size: int | None,
    points: int,
) -> None:
    """Refuses what cannot be evaluated, before anything is computed."""
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
    if min(seeds) < 0:
        raise EvaluationError(f"seeds must not be negative, not {min(seeds)}")
    for name, number in (("workers", workers), ("block_size", block_size), ("points", points)):
        if number is not None and number < 1:
            raise EvaluationError(f"{name} must be at least 1, not {number}")
