"""The results of an evaluation: one JSON document with every seed, the aggregates and the versions.

The format is `results.json` and the output of `evaluate --json` (docs: "contracts"). A number that
is not finite is null in the file and None here. Written by `protocol`, read by `plots` and reports;
needs no JAX.
"""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from rl_discovery.checkpoints import untrusted
from rl_discovery.checkpoints.atomic import replace_file
from rl_discovery.checkpoints.errors import one_line, reason
from rl_discovery.checkpoints.provenance import versions
from rl_discovery.evaluation.errors import RaggedError, ResultsError
from rl_discovery.evaluation.matrices import (
    environments_with_scores,
    group_name,
    groups_of,
    paired_scores,
    same_seeds,
    score_matrix,
)
from rl_discovery.evaluation.statistics import (
    Difference,
    Estimate,
    bootstrap_interval,
    gap_interval,
    improvement_interval,
    interquartile_mean,
    mean_estimate,
    optimality_gap,
    paired_difference,
    probability_of_improvement,
)

FORMAT = 1

COLUMNS = (
    *("objective", "suite", "environment", "horizon", "seed", "return", "score", "efficiency"),
    *("updates", "env_steps", "levels", "unscored_levels"),
)
"""Columns of `results.csv`."""


def _finite(value: Any) -> Any:
    """None in place of NaN and infinities, which JSON does not know."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


Number = Annotated[float | None, BeforeValidator(_finite)]
Count = Annotated[int, Field(ge=0)]


def first_problem(error: ValidationError) -> str:
    """The first error in a document, and the field if it is not the whole."""
    first = error.errors()[0]
    return one_line(": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"]))))


class Record(BaseModel):
    """A frozen part of the document. Unknown fields are kept out, so that later additions can be read."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, use_attribute_docstrings=True)


class Point(Record):
    """A point of a learning curve."""

    env_steps: Count
    """Environment steps of each agent so far."""
    return_: Number = Field(alias="return")
    """Mean undiscounted return; of fewer episodes than the cell's, but for the last point."""


class Outcome(Record):
    """What the agents of one seed reached on one environment: means over its levels."""

    return_: Number = Field(alias="return")
    """Mean undiscounted episode return at the end of the lifetime; None if an agent's was not finite."""
    score: Number
    """Mean of (return - random) / (best - random); None without both ends."""
    efficiency: Number = None
    """Mean over the lifetime in place of its end: the area under the learning curve, between its points
    by trapezoids and before the first flat, over its length. A score where there is one, else a return."""
    curve: tuple[Point, ...] = ()
    """The learning curve."""
    updates: Count
    """The horizon in agent updates."""
    env_steps: Count
    """The horizon in environment steps, all workers together."""
    levels: Annotated[int, Field(ge=1)]
    """Levels that the return is a mean over."""
    unscored_levels: Count
    """Levels that the score leaves out: without both ends, or nothing to gain over the random policy."""

    @property
    def failed(self) -> bool:
        """Whether an agent's return was not finite."""
        return self.return_ is None


class Placed(Record):
    """The objective, suite and horizon of a record."""

    objective: str
    """Label of the objective, unique within the document."""
    suite: str
    """Name of the suite."""
    horizon: Annotated[int, Field(ge=1)]
    """Lifetime in the suite's unit."""


class Cell(Placed, Outcome):
    """One seed of one objective on one environment at one horizon."""

    environment: str
    """Name of the environment or level distribution."""
    seed: Count
    """Seed of the agents and of everything random in their lifetimes."""


class Aggregate(Placed):
    """One objective on a whole suite at one horizon."""

    iqm: Number
    """Interquartile mean of the scores over seeds x environments; None without scores or if a run failed."""
    ci_low: Number
    """Lower end of the 95 % bootstrap interval; None with fewer than three seeds."""
    ci_high: Number
    """Upper end."""
    seeds: Count
    """Number of seeds."""
    optimality_gap: Number = None
    """Mean shortfall of the scores from 1; None where `iqm` is."""
    gap_low: Number = None
    """Lower end of its 95 % bootstrap interval."""
    gap_high: Number = None
    """Upper end."""
    efficiency: Number = None
    """Interquartile mean of the cells' efficiency; None where `iqm` is."""
    scored: Count = 0
    """Environments that have scores."""
    failures: Count = 0
    """Runs whose return was not finite."""


class Improvement(Placed):
    """How likely a run of one objective beats one of another on an environment drawn at random."""

    over: str
    """The objective to beat."""
    probability: Number
    """Ties count half."""
    ci_low: Number
    """Lower end of the 95 % bootstrap interval; None with fewer than three seeds."""
    ci_high: Number
    """Upper end."""
    difference: Number = None
    """Mean difference of the scores, seed by seed; None where the seeds are not the same."""
    standard_error: Number = None
    """Standard error of the difference over seeds; None with fewer than three."""

    @property
    def paired(self) -> Difference | None:
        """Difference and standard error; None without a difference."""
        return None if self.difference is None else Difference(self.difference, self.standard_error)


class Tuned(Placed):
    """What a search chose for an objective before it was evaluated (`evaluation.tuning`)."""

    environment: str
    """Name of the environment."""
    step_factor: float
    """The published step sizes, of policy and second head, times this."""
    policy_learning_rate: float
    """The policy's step size that follows."""
    entropy_coef: Number = None
    """Weight of the entropy bonus; None where it was not searched for."""
    discount: Number = None
    """gamma; None where it was not searched for."""
    candidates: Count
    """Settings that were tried."""
    seeds: Count
    """Agents per level and candidate, none of which is among the cells."""


class Results(Record):
    """The whole document."""

    format: Literal[1] = 1
    """Version of this format."""
    cells: tuple[Cell, ...]
    """Every seed."""
    aggregate: tuple[Aggregate, ...]
    """What the table and the figures show."""
    improvement: tuple[Improvement, ...] = ()
    """Every objective over every baseline, where both have scores."""
    tuned: tuple[Tuned, ...] = ()
    """Settings of hand-written objectives that were searched for; the published ones everywhere else."""
    versions: dict[str, str]
    """Packages that produced it."""

    @model_validator(mode="after")
    def _check_whole(self) -> "Results":
        groups = groups_of(self.cells)
        for aggregate in self.aggregate:
            name = (aggregate.objective, aggregate.suite, aggregate.horizon)
            if name not in groups:
                raise ValueError(f"{group_name(*name)} has an aggregate but no cells")
            if aggregate.seeds != len({cell.seed for cell in groups[name]}):
                raise ValueError(f"{group_name(*name)} has cells of other seeds than its aggregate")
        return self

    @classmethod
    def of(
        cls, cells: Sequence[Cell], baselines: Sequence[str] = (), tuned: Sequence[Tuned] = ()
    ) -> "Results":
        """The document of these cells, with what follows from them and this installation's versions.

        Args:
            cells: every seed.
            baselines: labels of the objectives that the others are to beat.
            tuned: settings that were searched for.

        Raises:
            ResultsError: runs are missing, in one line.
        """
        return cls(
            cells=tuple(cells),
            aggregate=summarise(cells),
            improvement=improvements(cells, baselines),
            tuned=tuple(tuned),
            versions=versions(),
        )

    def scored(self, suite: str) -> bool:
        """Whether a suite has a common scale; without one, returns are told per environment."""
        return any(cell.score is not None for cell in self.cells if cell.suite == suite)

    def environments(self, suite: str) -> list[str]:
        """The environments of a suite, in order."""
        return list(dict.fromkeys(cell.environment for cell in self.cells if cell.suite == suite))

    def environment_return(self, aggregate: Aggregate, environment: str) -> Estimate | None:
        """Mean return over seeds on one environment of the aggregate's suite; None where a run failed."""
        name = (aggregate.objective, aggregate.suite, aggregate.horizon, environment)
        returns = [
            cell.return_
            for cell in self.cells
            if (cell.objective, cell.suite, cell.horizon, cell.environment) == name
        ]
        known = [value for value in returns if value is not None]
        return mean_estimate(np.array(known)) if known and len(known) == len(returns) else None

    def mean_difference(self, objective: str, over: str, suite: str) -> Difference | None:
        """Paired difference of the mean over all horizons; None where scores are missing or not paired."""
        groups = groups_of([cell for cell in self.cells if cell.suite == suite])
        horizons = dict.fromkeys(horizon for _, _, horizon in groups)
        pairs = []
        for horizon in horizons:
            pair = paired_scores(*(groups.get((label, suite, horizon), []) for label in (objective, over)))
            if pair is None:
                return None
            pairs.append(pair)
        return paired_difference(*(np.concatenate(side, axis=1) for side in zip(*pairs, strict=True)))

    def to_json(self) -> str:
        """The document as JSON text."""
        return self.model_dump_json(by_alias=True, indent=2)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Results":
        """Reads the document back.

        Raises:
            ResultsError: the text is no such document, in one line.
        """
        try:
            document = untrusted.parse_json(text)
            untrusted.check_version(document, FORMAT)
            return cls.model_validate(document)
        except untrusted.RefusedError as error:
            raise ResultsError(f"no results document: it {one_line(str(error))}") from error
        except ValidationError as error:
            raise ResultsError(f"damaged results: {first_problem(error)}") from error

    def to_csv(self) -> str:
        """The cells as a table, without their curves."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for cell in self.cells:
            document = cell.model_dump(by_alias=True)
            writer.writerow(document[name] for name in COLUMNS)
        return text.getvalue()

    def save(self, path: Path) -> None:
        """Writes `results.json` so that the file is whole or not there."""
        replace_file(path, f"{self.to_json()}\n".encode())

    @classmethod
    def load(cls, path: Path) -> "Results":
        """Reads a file that `save` wrote.

        Raises:
            ResultsError: unreadable, damaged or of another format; the message names the file.
        """
        try:
            return cls.from_json(untrusted.read_bytes(path, untrusted.RESULTS))
        except OSError as error:
            raise ResultsError(f"cannot read {path}: {reason(error)}") from error
        except untrusted.RefusedError as error:
            raise ResultsError(f"{path} {error}") from error
        except ResultsError as error:
            raise ResultsError(f"{path}: {error}") from error


def summarise(cells: Sequence[Cell]) -> tuple[Aggregate, ...]:
    """Aggregates per objective, suite and horizon, in the order in which they first appear.

    Environments without scores are left out. A run that failed (its return is not finite) leaves no
    aggregate: a mean over the others would flatter the objective.
    """
    return tuple(_aggregate(*name, group) for name, group in groups_of(cells).items())


def improvements(cells: Sequence[Cell], baselines: Sequence[str]) -> tuple[Improvement, ...]:
    """Every objective over every baseline on each suite at each horizon, where both have scores.

    Raises:
        RaggedError: on different environments.
    """
    groups = groups_of(cells)
    matrices = {name: score_matrix(group) for name, group in groups.items()}
    entries = []
    for (objective, suite, horizon), scores in matrices.items():
        for baseline in baselines:
            others = matrices.get((baseline, suite, horizon))
            if objective in baselines or scores is None or others is None:
                continue
            ours, theirs = (groups[label, suite, horizon] for label in (objective, baseline))
            if environments_with_scores(ours) != environments_with_scores(theirs):
                here = group_name(objective, suite, horizon)
                raise RaggedError(f"{here} and {baseline} there have scores on different environments")
            interval = improvement_interval(scores, others)
            difference = paired_difference(scores, others) if same_seeds(ours, theirs) else None
            entries.append(
                Improvement(
                    objective=objective,
                    over=baseline,
                    suite=suite,
                    horizon=horizon,
                    probability=probability_of_improvement(scores, others),
                    ci_low=interval and interval.low,
                    ci_high=interval and interval.high,
                    difference=difference and difference.mean,
                    standard_error=difference and difference.standard_error,
                )
            )
    return tuple(entries)


def _aggregate(objective: str, suite: str, horizon: int, cells: Sequence[Cell]) -> Aggregate:
    scores = score_matrix(cells)
    interval = None if scores is None else bootstrap_interval(scores)
    gap = None if scores is None else gap_interval(scores)
    rates = score_matrix(cells, "efficiency")
    return Aggregate(
        objective=objective,
        suite=suite,
        horizon=horizon,
        iqm=None if scores is None else interquartile_mean(scores),
        ci_low=interval and interval.low,
        ci_high=interval and interval.high,
        seeds=len({cell.seed for cell in cells}),
        optimality_gap=None if scores is None else optimality_gap(scores),
        gap_low=gap and gap.low,
        gap_high=gap and gap.high,
        efficiency=None if rates is None else interquartile_mean(rates),
        scored=0 if scores is None else scores.shape[1],
        failures=sum(cell.failed for cell in cells),
    )
