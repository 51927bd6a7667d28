"""Fair settings: each rule gets the same small search before it is evaluated.

`GRID` is for hand-written baselines: step sizes (policy and second head together) and the entropy bonus are
multiplied by the factors below, and gamma is the rule's own or the one below. `STEP_SIZES` is for every
rule, learned ones too, and leaves all but the step sizes alone. The published settings are one of the
candidates. The search is per environment and horizon, with other seeds than the evaluation's, and on other
levels wherever the environment draws levels. `protocol` calls it.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.evaluation.results import Outcome, Tuned
from rl_discovery.evaluation.runner import Runner, Work
from rl_discovery.evaluation.tasks import EvaluationTask, Experiment

STEP_FACTORS = (1.0, 1 / 3, 3.0)
"""Factors on the step sizes."""

ENTROPY_FACTORS = (1.0, 0.0, 4.0)
"""Factors on the weight of the entropy bonus."""

DISCOUNTS = (None, 0.997)
"""gamma; None is the rule's own."""

LEVELS_SEED = 1
"""Seed of the levels that settings are chosen on; the evaluation has other levels."""

SEEDS = range(1 << 20, (1 << 20) + 2)
"""Seeds of the agents that settings are chosen by; the evaluation has other seeds."""


class Settings(NamedTuple):
    """A candidate: factors on the published settings, and gamma."""

    steps: float
    entropy: float
    discount: float | None = None


GRID = tuple(
    Settings(steps, entropy, discount)
    for discount, steps, entropy in itertools.product(DISCOUNTS, STEP_FACTORS, ENTROPY_FACTORS)
)
"""Every candidate for a hand-written rule; the published settings are the first."""

STEP_SIZES = tuple(Settings(steps, 1.0) for steps in (1.0, 0.1, 0.3, 3.0, 10.0))
"""Every candidate where step sizes alone are searched for; the published ones are the first."""

PUBLISHED = GRID[0]


def tuning_flag(tuned: Sequence[Tuned]) -> str:
    """The option of `evaluate` that made these choices."""
    return "--tune-step-size" if tuned[0].candidates == len(STEP_SIZES) else "--tune"


def refusal(
    objectives: Mapping[str, TrainedObjective], labels: Sequence[str], grid: Sequence[Settings]
) -> str | None:
    """Why these cannot be tuned, or None."""
    for label in labels:
        if label not in objectives:
            return f"cannot tune {label!r}: it is not evaluated"
        if not tunable(objectives[label], grid):
            why = (
                "it has no step size"
                if _steps_only(grid)
                else "only hand-written objectives with an entropy bonus are tuned so"
            )
            return f"cannot tune {label!r}: {why}"
    return None


def tunable(objective: TrainedObjective, grid: Sequence[Settings]) -> bool:
    """Whether the grid's settings are the rule's.

    All have step sizes but `random`; an entropy bonus and gamma are constants of hand-written ones alone.
    """
    if _steps_only(grid):
        return objective.name != "random"
    searched = ("entropy_coef", "discount")
    return not objective.meta_params and all(hasattr(objective.rule, name) for name in searched)


def _steps_only(grid: Sequence[Settings]) -> bool:
    return all(settings == Settings(settings.steps, 1.0) for settings in grid)


def cost(part: Work, grid: Sequence[Settings]) -> int:
    """Environment steps that choosing the settings of a part takes."""
    return len(grid) * part._replace(seeds=SEEDS).env_steps


def with_settings(experiment: Experiment, settings: Settings) -> Experiment:
    """The experiment with other settings; the published ones are its own."""
    if settings == PUBLISHED:
        return experiment
    agent = dataclasses.replace(
        experiment.agent,
        policy_learning_rate=settings.steps * experiment.agent.policy_learning_rate,
        head_learning_rate=settings.steps * experiment.agent.head_learning_rate,
    )
    rule: Any = experiment.objective.rule
    changes: dict[str, Any] = {}
    if settings.entropy != 1.0:
        changes["entropy_coef"] = settings.entropy * rule.entropy_coef
    if settings.discount is not None:
        changes["discount"] = settings.discount
        if agent.discount is not None:  # it comes before the rule's
            agent = dataclasses.replace(agent, discount=settings.discount)
    objective = dataclasses.replace(experiment.objective, rule=dataclasses.replace(rule, **changes))
    return dataclasses.replace(experiment, agent=agent, objective=objective)


def tuned(
    parts: Sequence[Work],
    task: EvaluationTask,
    runner: Runner,
    grid: Sequence[Settings],
    report: Callable[[Work], Callable[[float, float], None]],
) -> Iterator[tuple[Work, Tuned]]:
    """Each part with the settings that suit it best, and what they are.

    Args:
        parts: one experiment at its horizons.
        task: the same environment with the levels for tuning.
        runner: how the evaluation is run.
        grid: the candidates.
        report: from an attempt to what is called with the shares of it that are done and will be next.
    """
    # Of its own, so that the candidates' programs go when the choice is made.
    runner = dataclasses.replace(runner, trainers={})
    experiment = parts[0].experiment
    elsewhere = dataclasses.replace(experiment, task=task)
    candidates = [with_settings(elsewhere, settings) for settings in grid]
    chosen: dict[Settings, Experiment] = {}
    for part in parts:
        outcomes = []
        for candidate in candidates:
            attempt = part._replace(experiment=candidate, seeds=SEEDS)
            outcomes.append(runner.outcomes(attempt, report(attempt)))
        settings = grid[best(outcomes)]
        # One experiment for all horizons that chose it: an experiment is compiled once.
        chosen.setdefault(settings, with_settings(experiment, settings))
        yield part._replace(experiment=chosen[settings]), _record(part, settings, grid)


def best(outcomes: Sequence[Sequence[Outcome]]) -> int:
    """Which candidate has the highest mean score over its seeds, or return where there are no scores.

    The first of equal ones; a candidate with a run that failed is the last choice.
    """
    return int(np.argmax([_merit(of_candidate) for of_candidate in outcomes]))


def _merit(outcomes: Sequence[Outcome]) -> float:
    if any(outcome.failed for outcome in outcomes):
        return -np.inf
    values = [outcome.return_ if outcome.score is None else outcome.score for outcome in outcomes]
    return float(np.mean(np.array(values, np.float64)))


def _record(part: Work, settings: Settings, grid: Sequence[Settings]) -> Tuned:
    chosen = with_settings(part.experiment, settings)
    rule: Any = chosen.objective.rule
    of_task = chosen.agent.of_task
    return Tuned(
        objective=part.experiment.label,
        suite=part.experiment.suite,
        environment=part.experiment.task.name,
        horizon=part.horizon,
        step_factor=settings.steps,
        policy_learning_rate=chosen.agent.policy_learning_rate,
        entropy_coef=None if _steps_only(grid) else rule.entropy_coef,
        discount=None if _steps_only(grid) else of_task.get("discount", rule.discount),
        candidates=len(grid),
        seeds=len(SEEDS),
    )
