"""Aggregate statistics of few noisy runs, as Agarwal et al. 2021 (arXiv 2108.13264, `rliable`) define them.

Scores form a matrix of runs (seeds) x tasks (environments). The interquartile mean is robust to
outliers, unlike the mean, and wastes less than the median. `results` calls these.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import stats

MIN_RUNS = 3
"""Fewer runs than this say nothing about their spread: no interval is given."""

NO_INTERVAL = f"no interval with fewer than {MIN_RUNS} seeds"
"""Said where there could have been one."""

INTERQUARTILE = 0.25
"""Share of the scores that the interquartile mean leaves out at either end."""

CHUNK = 1_000_000
"""Resampled scores held in memory at a time."""


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


class Difference(NamedTuple):
    """A mean difference of paired runs and its standard error; None with fewer than `MIN_RUNS`."""

    mean: float
    standard_error: float | None


class Estimate(NamedTuple):
    """A mean over runs with the ends of its 95 % bootstrap interval; None with fewer than `MIN_RUNS`."""

    mean: float
    low: float | None
    high: float | None


def interquartile_mean(scores: np.ndarray) -> float:
    """Mean of the middle half of all scores, runs and tasks together.

    Args:
        scores: any shape, at least one entry, all finite.

    Returns:
        The mean without the lowest and the highest quarter (each rounded down to whole scores).

    Raises:
        ValueError: no scores, or one that is not finite.
    """
    return float(stats.trim_mean(_checked(scores), INTERQUARTILE, axis=None))


def optimality_gap(scores: np.ndarray, target: float = 1.0) -> float:
    """How far scores fall short of a target on average; scores above it count as the target.

    Args:
        scores: as for `interquartile_mean`.
        target: the score that is good enough.

    Raises:
        ValueError: no scores, or one that is not finite.
    """
    return float(np.mean(np.maximum(target - _checked(scores), 0.0)))


def performance_profile(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Share of all runs whose score exceeds each threshold, the mean over tasks.

    Args:
        scores: runs x tasks, all finite.
        thresholds: ascending scores.

    Raises:
        ValueError: no scores, or one that is not finite.
    """
    return np.mean(_checked(scores)[..., None] > thresholds, axis=(-3, -2))


def probability_of_improvement(scores: np.ndarray, others: np.ndarray) -> float:
    """Probability that a run beats another objective's on a task drawn at random; a tie counts half.

    Args:
        scores: runs x tasks.
        others: runs x the same tasks, of the objective to beat.

    Raises:
        ValueError: no scores, one that is not finite, or other tasks.
    """
    return float(_improvement(_matrix(scores), _matrix(others)))


def improvement_interval(
    scores: np.ndarray, others: np.ndarray, *, resamples: int = 2_000, seed: int = 0
) -> Interval | None:
    """95 % interval of `probability_of_improvement`, both sides resampled independently of each other.

    Args:
        scores: as there.
        others: as there.
        resamples: number of bootstrap samples.
        seed: of the resampling.

    Returns:
        The interval, or None where either side has fewer than `MIN_RUNS` runs.
    """
    scores, others = _matrix(scores), _matrix(others)
    if min(len(scores), len(others)) < MIN_RUNS:
        return None
    generator = np.random.default_rng(seed)
    size = scores.shape[0] * others.size
    probabilities = [
        _improvement(_resampled(scores, count, generator), _resampled(others, count, generator))
        for count in _chunks(resamples, size)
    ]
    return _percentiles(np.concatenate(probabilities), 0.95)


def paired_difference(scores: np.ndarray, others: np.ndarray) -> Difference:
    """Mean of `scores - others` where run i of both met the same levels and random numbers.

    Args:
        scores: runs x tasks.
        others: the same runs x the same tasks, of the objective to compare with.

    Returns:
        The mean over runs and tasks, with the standard error over runs.

    Raises:
        ValueError: no scores, one that is not finite, or other runs or tasks.
    """
    scores, others = _matrix(scores), _matrix(others)
    if scores.shape != others.shape:
        raise ValueError(f"scores are of {scores.shape} runs x tasks and of {others.shape}")
    runs = (scores - others).mean(axis=1)
    enough = len(runs) >= MIN_RUNS
    return Difference(float(runs.mean()), float(stats.sem(runs)) if enough else None)


def bootstrap_interval(
    scores: np.ndarray,
    *,
    statistic: Callable[[np.ndarray], np.ndarray] | None = None,
    trim: float = INTERQUARTILE,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval | None:
    """Stratified bootstrap interval of a trimmed mean, the interquartile one by default, by percentiles.

    Runs are drawn with replacement within each task, independently of the other tasks, so that
    every resample holds every task as often as the original.

    Args:
        scores: runs x tasks, all finite.
        statistic: in place of the trimmed mean: from resamples x runs x tasks to one number each.
        trim: share of the scores that the mean leaves out at either end; 0: the plain mean.
        confidence: probability that the interval is to cover.
        resamples: number of bootstrap samples.
        seed: of the resampling; the same scores give the same interval.

    Returns:
        The interval, or None with fewer than `MIN_RUNS` runs.

    Raises:
        ValueError: not a matrix, no scores, or one that is not finite.
    """
    scores = _matrix(scores)
    if scores.shape[0] < MIN_RUNS:
        return None
    generator = np.random.default_rng(seed)
    measure = statistic or (lambda drawn: stats.trim_mean(drawn.reshape(len(drawn), -1), trim, axis=1))
    statistics = [measure(_resampled(scores, count, generator)) for count in _chunks(resamples, scores.size)]
    return _percentiles(np.concatenate(statistics), confidence)


def gap_interval(scores: np.ndarray, target: float = 1.0) -> Interval | None:
    """95 % interval of `optimality_gap`; None with fewer than `MIN_RUNS` runs."""
    return bootstrap_interval(
        scores, statistic=lambda drawn: np.mean(np.maximum(target - drawn, 0.0), axis=(1, 2))
    )


def profile_band(
    scores: np.ndarray, thresholds: np.ndarray, *, resamples: int = 2_000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray] | None:
    """95 % interval of `performance_profile` at each threshold; None with fewer than `MIN_RUNS` runs."""
    scores = _matrix(scores)
    if scores.shape[0] < MIN_RUNS:
        return None
    generator = np.random.default_rng(seed)
    sizes = _chunks(resamples, scores.size * len(thresholds))
    profiles = [performance_profile(_resampled(scores, count, generator), thresholds) for count in sizes]
    low, high = np.quantile(np.concatenate(profiles), [0.025, 0.975], axis=0)
    return low, high


def mean_estimate(values: np.ndarray) -> Estimate:
    """The plain mean of one number per run, and its interval.

    Raises:
        ValueError: no values, or one that is not finite.
    """
    interval = bootstrap_interval(values[:, None], trim=0.0)
    return Estimate(float(values.mean()), *(interval or (None, None)))


def _improvement(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Mann and Whitney's statistic over its maximum, mean over tasks; any leading axes."""
    if scores.shape[-1] != others.shape[-1]:
        raise ValueError(f"scores are of {scores.shape[-1]} tasks and of {others.shape[-1]}")
    ours, theirs = scores[..., :, None, :], others[..., None, :, :]
    return np.mean((ours > theirs) + 0.5 * (ours == theirs), axis=(-3, -2, -1))


def _resampled(scores: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    drawn = generator.integers(scores.shape[0], size=(count, *scores.shape))
    return np.take_along_axis(scores[None], drawn, axis=1)


def _chunks(resamples: int, size: int) -> list[int]:
    """Numbers of resamples at a time, so that no more than `CHUNK` numbers are in memory."""
    chunk = max(1, CHUNK // size)
    return [min(chunk, resamples - start) for start in range(0, resamples, chunk)]


def _percentiles(values: np.ndarray, confidence: float) -> Interval:
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(float(low), float(high))


def _matrix(scores: np.ndarray) -> np.ndarray:
    scores = _checked(scores)
    if scores.ndim != 2:
        raise ValueError(f"scores must be runs x tasks, not of shape {scores.shape}")
    return scores


def _checked(scores: np.ndarray) -> np.ndarray:
    """Scores as float64: an average that hides a missing run would flatter whoever failed."""
    scores = np.asarray(scores, np.float64)
    if scores.size == 0 or not np.isfinite(scores).all():
        raise ValueError("scores must be finite and at least one")
    return scores
