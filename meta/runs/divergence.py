"""Whether a run has diverged, judged only by its held-out fitness: a fold over the evaluations so far.

An evaluation has *fallen* when its fitness is below the best one so far by more than `drop` times what the
best gained over the first, and by more than two standard errors of the best; or when it is not finite. A run
has *diverged* at every `patience`-th evaluation in a row that has fallen. The trainer folds the rows of
metrics.jsonl, so that a resumed run knows the same as an undisturbed one.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from rl_discovery.meta.config import HeldOutConfig

STANDARD_ERRORS = 2.0
"""How far below the best an evaluation may be by chance."""


@dataclasses.dataclass(frozen=True)
class HeldOutEvaluation:
    """One evaluation on held-out levels.

    Attributes:
        generations: that were done before it.
        fitness: mean over the levels; None where an agent's parameters were not finite.
        error: standard error of that mean over the levels.
    """

    generations: int
    fitness: float | None
    error: float = 0.0


@dataclasses.dataclass(frozen=True)
class Trend:
    """Summary of the evaluations so far.

    Attributes:
        first: the first with a finite fitness.
        best: the one of highest fitness; of equal ones the first.
        falls: evaluations in a row, up to the last one, that have fallen.
    """

    first: HeldOutEvaluation | None = None
    best: HeldOutEvaluation | None = None
    falls: int = 0

    def after(self, evaluation: HeldOutEvaluation, config: HeldOutConfig) -> "Trend":
        """The trend with one more evaluation."""
        if evaluation.fitness is None:
            return dataclasses.replace(self, falls=self.falls + 1)
        best = self.best
        if best is None or best.fitness is None or evaluation.fitness > best.fitness:
            return Trend(first=self.first or evaluation, best=evaluation)
        fallen = evaluation.fitness < best.fitness - self.margin(config)
        return dataclasses.replace(self, falls=self.falls + 1 if fallen else 0)

    def margin(self, config: HeldOutConfig) -> float:
        """How far below the best one fitness may be without having fallen."""
        if self.first is None or self.best is None:
            return 0.0
        assert self.first.fitness is not None and self.best.fitness is not None  # noqa: PT018 - by `after`
        gained = self.best.fitness - self.first.fitness
        return max(config.drop * gained, STANDARD_ERRORS * self.best.error)

    def describe(self, last: HeldOutEvaluation) -> str:
        """In words, after `last` has fallen."""
        now = "is not finite" if last.fitness is None else f"is {last.fitness:.4g}"
        best = "none was ever finite"
        if self.best is not None:
            best = f"the best was {self.best.fitness:.4g} after {self.best.generations} generations"
        return f"held-out fitness {now}, and has fallen for {self.falls} evaluation(s) in a row ({best})"

    def diverged(self, config: HeldOutConfig) -> bool:
        """Whether the last evaluation is a `patience`-th one in a row that has fallen."""
        return self.falls > 0 and self.falls % config.patience == 0


def trend_of(rows: Iterable[Mapping[str, Any]], config: HeldOutConfig) -> Trend:
    """The trend of a run's metrics."""
    trend = Trend()
    for row in rows:
        if (evaluation := evaluation_of(row)) is not None:
            trend = trend.after(evaluation, config)
    return trend


def evaluation_of(row: Mapping[str, Any]) -> HeldOutEvaluation | None:
    """The evaluation after a generation; None where there was none."""
    if "held_out_fitness" not in row:
        return None
    return HeldOutEvaluation(
        generations=row["generation"] + 1,
        fitness=row["held_out_fitness"],
        error=row.get("held_out_error") or 0.0,
    )
