"""Aggregate statistics of few noisy runs, as Agarwal et al. 2021 (arXiv 2108.13264, `rliable`) define them.

Scores form a matrix of runs (seeds) x tasks (environments). The interquartile mean is robust to
outliers, unlike the mean, and wastes less than the median. `results` calls these.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats

MIN_RUNS = 3
"""Fewer runs than this say nothing about their spread: no interval is given."""

INTERQUARTILE = 0.25
"""What the interquartile mean leaves out at either end."""

CHUNK = 1_000_000
"""Resampled scores held in memory at a time."""


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


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


def bootstrap_interval(
    scores: np.ndarray,
    *,
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
        trim: share of the scores that the mean leaves out at either end; 0: the plain mean.
        confidence: probability that the interval is to cover.
        resamples: number of bootstrap samples.
        seed: of the resampling; the same scores give the same interval.

    Returns:
        The interval, or None with fewer than `MIN_RUNS` runs.

    Raises:
        ValueError: not a matrix, no scores, or one that is not finite.
    """
    scores = _checked(scores)
    if scores.ndim != 2:
        raise ValueError(f"scores must be runs x tasks, not of shape {scores.shape}")
    if scores.shape[0] < MIN_RUNS:
        return None
    generator = np.random.default_rng(seed)
    chunk = max(1, CHUNK // scores.size)
    sizes = [min(chunk, resamples - start) for start in range(0, resamples, chunk)]
    means = np.concatenate([_resampled_means(scores, size, trim, generator) for size in sizes])
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(low), float(high))


def mean_estimate(values: np.ndarray) -> Estimate:
    """The plain mean of one number per run, and its interval.

    Raises:
        ValueError: no values, or one that is not finite.
    """
    interval = bootstrap_interval(values[:, None], trim=0.0)
    return Estimate(float(values.mean()), *(interval or (None, None)))


def _resampled_means(
    scores: np.ndarray, count: int, trim: float, generator: np.random.Generator
) -> np.ndarray:
    """Trimmed means of `count` stratified resamples."""
    runs, tasks = scores.shape
    drawn = generator.integers(runs, size=(count, runs, tasks))
    resampled = np.take_along_axis(scores[None], drawn, axis=1)
    return stats.trim_mean(resampled.reshape(count, -1), trim, axis=1)


def _checked(scores: np.ndarray) -> np.ndarray:
    """Scores as float64: an average that hides a missing run would flatter whoever failed."""
    scores = np.asarray(scores, np.float64)
    if scores.size == 0 or not np.isfinite(scores).all():
        raise ValueError("scores must be finite and at least one")
    return scores
