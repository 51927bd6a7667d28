"""A formula for a learned drift, by sparse regression on a basis of terms that are 0 at r = 1.

Orthogonal matching pursuit (Pati et al. 1993) from scikit-learn: it adds the term that explains most of what
is left and fits all coefficients anew, so that they are not shrunk as the lasso's are. It is greedy: of terms
that are much alike it may take another than the one a person would. `study` calls this; only this module
needs scikit-learn.
"""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from rl_discovery.checkpoints.provenance import versions
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.objectives.closed_form import (
    BASIS,
    PROGRESS,
    SATURATING,
    ClosedFormDrift,
    evaluate_terms,
)
from rl_discovery.discovery.objectives.lpo import LPO
from rl_discovery.discovery.objectives.mirror_learning import MirrorLearning
from rl_discovery.discovery.types import Progress
from rl_discovery.evaluation.analysis.drift import ADVANTAGE, LOG_RATIO, SPAN
from rl_discovery.evaluation.analysis.moments import SHARES
from rl_discovery.evaluation.analysis.record import ClosedForm, FitError, Step, Term
from rl_discovery.evaluation.analysis.rollout_samples import RolloutSamples

SLACK = 0.005
"""A formula may explain this share of the variance less than the best one, if it has fewer terms."""

NEGLIGIBLE = 1e-6
"""Terms whose part is smaller than this share of the largest one's are left out."""

FOLDS = 5
"""Folds of the cross-validation."""

METHOD = (
    "orthogonal matching pursuit (scikit-learn) of what stands before the ReLU, PPO's part left out; the "
    f"fewest terms whose R^2 in {FOLDS}-fold cross-validation is within {SLACK} of the best"
)


class TooFewPointsError(RuntimeError):
    """Agents visited too few points to fit a formula, or to test it."""


@dataclasses.dataclass(frozen=True)
class Points:
    """Points at which a drift is evaluated; arrays of equal length."""

    log_ratio: np.ndarray
    advantage: np.ndarray
    share: np.ndarray
    horizon: np.ndarray

    def __len__(self) -> int:
        return len(self.log_ratio)

    def __add__(self, other: "Points") -> "Points":
        both = ((getattr(x, field.name) for x in (self, other)) for field in dataclasses.fields(Points))
        return Points(*map(np.concatenate, map(list, both)))

    def where(self, chosen: np.ndarray) -> "Points":
        """Some of them."""
        return Points(*(getattr(self, field.name)[chosen] for field in dataclasses.fields(Points)))

    @property
    def arguments(self) -> tuple[Any, Any, Progress]:
        """As a drift takes them."""
        progress = Progress(
            done=jnp.asarray(self.share * self.horizon, jnp.float32),
            horizon=jnp.asarray(self.horizon, jnp.int32),
        )
        return jnp.asarray(self.log_ratio, jnp.float32), jnp.asarray(self.advantage, jnp.float32), progress


def can_fit(objective: TrainedObjective) -> bool:
    """Whether it is a learned drift."""
    return isinstance(objective.rule, LPO | ClosedFormDrift)


def fit(
    objective: TrainedObjective,
    samples: RolloutSamples,
    horizon: int,
    horizons: Sequence[int],
    most_terms: int,
) -> tuple[ClosedForm, TrainedObjective]:
    """Finds a formula.

    Fitted are what half of the agents met, and as many points uniform over the grid's range, so that the
    formula holds where agents are and does not run away elsewhere.

    Args:
        objective: a learned drift.
        samples: what agents samples.
        horizon: their N.
        horizons: N of the grid.
        most_terms: that the formula may have.

    Returns:
        What was found, and the formula as an objective.

    Raises:
        TooFewPointsError: fewer points to fit than folds, or none to test the formula on.
        ValueError: no learned drift.
    """
    rule = objective.rule
    if not isinstance(rule, LPO | ClosedFormDrift):
        raise ValueError(f"{objective.name} is no learned drift")
    points = Points(samples.log_ratio, samples.advantage, samples.share, np.full(len(samples.share), horizon))
    inside = (np.abs(samples.log_ratio) <= SPAN) & (np.abs(samples.advantage) <= ADVANTAGE[-1])
    fitted, held_out = (points.where(inside & (samples.agent % 2 == half)) for half in (0, 1))
    if len(fitted) < FOLDS or not len(held_out):
        raise TooFewPointsError(
            f"no formula: agents met {len(fitted)} points to fit it to and {len(held_out)} to test it on, of "
            f"other levels; it needs {FOLDS} and 1: give more --levels or a longer --lifetime"
        )
    sample = fitted + uniform(len(fitted), horizons)

    basis = available(rule)
    design = np.asarray(evaluate_terms(basis, *sample.arguments, rule.longest_horizon), np.float64)
    target = np.asarray(rule.before_relu(objective.meta_params, *sample.arguments), np.float64)
    coefficients, path = sparse_regression(design, target, most_terms)
    chosen = {basis[k]: float(coefficients[k]) for k in np.flatnonzero(coefficients)}
    formula = as_objective(objective, chosen)

    errors = []
    for name, where in (("met", held_out), ("grid", grid(horizons))):
        for of in ("network", "drift"):
            truth, fitted_values = (_values(o, where, of) for o in (objective, formula))
            errors.append(FitError(points=name, of=of, **_error(truth, fitted_values)))
    record = ClosedForm(
        formula=write(rule, chosen),
        terms=tuple(Term(name=name, coefficient=value) for name, value in chosen.items()),
        method=METHOD,
        basis=basis,
        path=path,
        errors=tuple(errors),
        fitted_points=len(sample),
        held_out_points=len(held_out),
        outside=1 - inside.mean(),
    )
    return record, formula


def sparse_regression(
    design: np.ndarray, target: np.ndarray, most_terms: int
) -> tuple[np.ndarray, tuple[Step, ...]]:
    """Coefficients, most of them 0, and how much each number of them explains.

    Args:
        design: points x terms.
        target: one number per point.
        most_terms: coefficients that may differ from 0.
    """
    from sklearn.linear_model import OrthogonalMatchingPursuit
    from sklearn.model_selection import GridSearchCV, KFold

    if not np.any(target):  # a network that gives 0 everywhere
        return np.zeros(design.shape[1]), ()
    counts = range(1, min(most_terms, design.shape[1]) + 1)
    scale = np.sqrt(np.mean(design**2, axis=0))  # the pursuit compares columns of equal length
    search = GridSearchCV(
        OrthogonalMatchingPursuit(fit_intercept=False),
        {"n_nonzero_coefs": list(counts)},
        scoring="r2",
        cv=KFold(FOLDS, shuffle=True, random_state=0),
        refit=_fewest,
    )
    with warnings.catch_warnings():
        # Nothing is left to explain once a formula is exact, of which the pursuit warns.
        warnings.filterwarnings("ignore", message=".*Orthogonal matching pursuit ended prematurely")
        search.fit(design / scale, target)
    scores = search.cv_results_["mean_test_score"]
    path = tuple(Step(terms=count, r2=score) for count, score in zip(counts, scores, strict=True))
    coefficients = search.best_estimator_.coef_
    # A wrong term that the right ones, taken later, have made superfluous.
    coefficients = np.where(np.abs(coefficients) > NEGLIGIBLE * np.abs(coefficients).max(), coefficients, 0.0)
    return coefficients / scale, path


def _fewest(results: Mapping[str, Any]) -> int:
    scores = np.asarray(results["mean_test_score"])
    return int(np.argmax(scores >= scores.max() - SLACK))


def available(rule: LPO | ClosedFormDrift) -> tuple[str, ...]:
    """The terms of the rule's inputs that do not grow with the ratio.

    Ratios beyond the grid are rare but met, and there the network saturates; a formula with terms that
    grow would drop the drift, or multiply it, where agents run away (measured in docs/analysis.md).
    """
    stages = {"": True, PROGRESS[1]: rule.uses_progress, PROGRESS[2]: rule.horizon_inputs}
    return tuple(name for name, (ratio, _, stage) in BASIS.items() if ratio in SATURATING and stages[stage])


def uniform(count: int, horizons: Sequence[int], seed: int = 0) -> Points:
    """Points spread over the grid's range and the lifetimes."""
    generator = np.random.default_rng(seed)
    return Points(
        generator.uniform(-SPAN, SPAN, count),
        generator.uniform(ADVANTAGE[0], ADVANTAGE[-1], count),
        generator.uniform(0, 1, count),
        generator.choice(horizons, count),
    )


def grid(horizons: Sequence[int]) -> Points:
    """The surfaces' points, at every moment."""
    axes = np.meshgrid(LOG_RATIO, ADVANTAGE, SHARES, np.asarray(horizons), indexing="ij")
    return Points(*(axis.ravel() for axis in axes))


def as_objective(objective: TrainedObjective, terms: Mapping[str, float]) -> TrainedObjective:
    """The formula as an objective; everything else is as in the learned one.

    A network that gives 0 everywhere has a formula without terms, which is one term times 0.
    """
    rule: Any = objective.rule
    shared = [field.name for field in dataclasses.fields(MirrorLearning)]
    settings = {name: getattr(rule, name) for name in (*shared, "form", "offset", "clip", "longest_horizon")}
    terms = terms or {"tanh(log r)": 0.0}
    meta_params: Any = {"coefficients": jnp.asarray(list(terms.values()), jnp.float32)}
    if rule.schedule:
        meta_params["schedule"] = objective.meta_params["schedule"]
    kept = {name: objective.card[name] for name in ("preset", "config", "seed") if name in objective.card}
    return TrainedObjective(
        ClosedFormDrift(terms=tuple(terms), **settings),
        meta_params,
        {**kept, "versions": versions(), "closed_form_of": objective.name},
    )


def write(rule: LPO | ClosedFormDrift, terms: Mapping[str, float]) -> str:
    """The formula as text, largest coefficients first."""
    ordered = sorted(terms.items(), key=lambda term: -abs(term[1]))
    signed = [f"{'-' if value < 0 else '+'} {abs(value):.3g} {name}" for name, value in ordered]
    if rule.form == "ppo_residual":
        low, high = f"{1 - rule.clip:.3g}", f"{1 + rule.clip:.3g}"
        if rule.schedule:  # with its factors on both sides
            low, high = f"1 - {rule.clip:.3g} below", f"1 + {rule.clip:.3g} above"
        signed.insert(0, f"+ ReLU((r - clip(r, {low}, {high})) A)")
    return f"f = ReLU({' '.join([*signed, f'- {rule.offset:g}']).removeprefix('+ ')})"


def _values(objective: TrainedObjective, where: Points, of: str) -> np.ndarray:
    rule: Any = objective.rule
    function = rule.before_relu if of == "network" else rule.drift
    return np.asarray(function(objective.meta_params, *where.arguments), np.float64)


def _error(truth: np.ndarray, fitted: np.ndarray) -> dict[str, float]:
    """R^2 and RMS; no R^2 where there is no variance to explain."""
    rms = float(np.sqrt(np.mean((fitted - truth) ** 2)))
    spread = float(np.std(truth))
    return {"r2": 1 - (rms / spread) ** 2 if spread > 0 else float("nan"), "rms": rms}
