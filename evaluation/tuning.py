"""A fair budget for hand-written baselines: each gets the same small search before it is evaluated.

Step sizes (policy and second head together) and the entropy bonus are multiplied by the factors below, and
gamma is the rule's own or the one below; the published settings are one of the candidates. The search is per
environment and horizon, with other seeds than the evaluation's, and on other levels wherever the environment
draws levels. `protocol` calls it.
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
"""Every candidate; the published settings are the first."""

PUBLISHED = GRID[0]


def refusal(objectives: Mapping[str, TrainedObjective], labels: Sequence[str]) -> str | None:
    """Why these cannot be tuned, or None."""
    for label in labels:
        if label not in objectives:
            return f"cannot tune {label!r}: it is not evaluated"
        if not tunable(objectives[label]):
            return f"cannot tune {label!r}: only hand-written objectives with an entropy bonus are tuned"
    return None


def tunable(objective: TrainedObjective) -> bool:
    """Whether it is hand-written, with an entropy bonus and gamma: not what was evolved, and not `random`."""
    searched = ("entropy_coef", "discount")
    return not objective.meta_params and all(hasattr(objective.rule, name) for name in searched)


def cost(part: Work) -> int:
    """Environment steps that choosing the settings of a part takes."""
    return len(GRID) * part._replace(seeds=SEEDS).env_steps


def with_settings(experiment: Experiment, settings: Settings) -> Experiment:
    """The experiment with other settings; the published ones are its own."""
    if settings == PUBLISHED:
        return experiment
    rule: Any = experiment.objective.rule
    agent = dataclasses.replace(
        experiment.agent,
        policy_learning_rate=settings.steps * experiment.agent.policy_learning_rate,
        head_learning_rate=settings.steps * experiment.agent.head_learning_rate,
    )
    rule = dataclasses.replace(
        rule,
        entropy_coef=settings.entropy * rule.entropy_coef,
        discount=rule.discount if settings.discount is None else settings.discount,
    )
    return dataclasses.replace(
        experiment, agent=agent, objective=dataclasses.replace(experiment.objective, rule=rule)
    )


def tuned(
    parts: Sequence[Work],
    task: EvaluationTask,
    runner: Runner,
    report: Callable[[Work], Callable[[float, float], None]],
) -> Iterator[tuple[Work, Tuned]]:
    """Each part with the settings that suit it best, and what they are.

    Args:
        parts: one experiment at its horizons.
        task: the same environment with the levels for tuning.
        runner: how the evaluation is run.
        report: from an attempt to what is called with the shares of it that are done and will be next.
    """
    # Of its own, so that the candidates' programs go when the choice is made.
    runner = dataclasses.replace(runner, trainers={})
    experiment = parts[0].experiment
    elsewhere = dataclasses.replace(experiment, task=task)
    candidates = [with_settings(elsewhere, settings) for settings in GRID]
    chosen: dict[Settings, Experiment] = {}
    for part in parts:
        outcomes = []
        for candidate in candidates:
            attempt = part._replace(experiment=candidate, seeds=SEEDS)
            outcomes.append(runner.outcomes(attempt, report(attempt)))
        settings = GRID[best(outcomes)]
        # One experiment for all horizons that chose it: an experiment is compiled once.
        chosen.setdefault(settings, with_settings(experiment, settings))
        yield part._replace(experiment=chosen[settings]), _record(part, settings)


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


def _record(part: Work, settings: Settings) -> Tuned:
    chosen = with_settings(part.experiment, settings)
    rule: Any = chosen.objective.rule
    return Tuned(
        objective=part.experiment.label,
        suite=part.experiment.suite,
        environment=part.experiment.task.name,
        horizon=part.horizon,
        step_factor=settings.steps,
        policy_learning_rate=chosen.agent.policy_learning_rate,
        entropy_coef=rule.entropy_coef,
        discount=rule.discount,
        candidates=len(GRID),
        seeds=len(SEEDS),
    )
