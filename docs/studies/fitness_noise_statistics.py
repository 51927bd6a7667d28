"""What repeated measurements of antithetic pairs say about the noise of fitness."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from fitness_noise_lab import Found, Repetition
from harness import Estimate

from rl_discovery.envs.levels import MIN_SPAN

TODAY = "sign, 16 episodes (today)"
EXACT = "sign, exact evaluation"
MEASURES = {
    TODAY: "episodes_16",
    "sign, 64 episodes": "episodes_64",
    EXACT: "exact",
    "sign, reward while learning": "reward_per_step",
}
"""Measurements of one training with 16 workers."""
TWICE = "sign, two trainings on the level"
WORKERS_64 = "sign, 64 workers (and episodes)"
APART = "sign, no common random numbers"
SCORES_16 = "difference in score, 16 episodes"
SCORES_EXACT = "difference in score, exact"
RESAMPLES = 2000


def signs(found: Found, part: Repetition, measure: str) -> np.ndarray:
    """1, -1 or 0 (a tie) of each pair."""
    fitness = found[part][measure]
    return np.sign(fitness[:, 0] - fitness[:, 1])


def by_levels(found: Found, workers: int = 16) -> dict[int, list[Repetition]]:
    """Trainings by the levels they were on."""
    groups: dict[int, list[Repetition]] = {}
    for part in found:
        if part.workers == workers:
            groups.setdefault(part.levels, []).append(part)
    return groups


def variant_signs(found: Found) -> dict[str, dict[int, list[np.ndarray]]]:
    """Signs of each way of measuring, by levels: one array per independent measurement."""
    groups = by_levels(found)
    table = {
        name: {g: [signs(found, part, measure) for part in same] for g, same in groups.items()}
        for name, measure in MEASURES.items()
    }
    table[TWICE], table[APART] = {}, {}
    for g, same in groups.items():
        halves = list(zip(same[::2], same[1::2], strict=True))
        fitness = [[found[part]["episodes_16"] for part in both] for both in halves]
        table[TWICE][g] = [np.sign((a + b)[:, 0] - (a + b)[:, 1]) for a, b in fitness]
        table[APART][g] = [np.sign(a[:, 0] - b[:, 1]) for a, b in fitness]
    if many := by_levels(found, 64):
        table[WORKERS_64] = {
            g: [signs(found, part, "episodes_64") for part in same] for g, same in many.items()
        }
    return table


def costs(found: Found) -> dict[str, float]:
    """CPU time of a generation by each way of measuring, as a multiple of today's."""

    def seconds(workers: int, *names: str) -> float:
        parts = [values for part, values in found.items() if part.workers == workers]
        return sum(float(np.median([part[f"seconds_{name}"] for part in parts])) for name in names)

    today = seconds(16, "train", "episodes_16")
    absolute = {
        TODAY: today,
        "sign, 64 episodes": seconds(16, "train", "episodes_64"),
        EXACT: seconds(16, "train", "exact"),
        "sign, reward while learning": seconds(16, "train"),
        TWICE: 2 * today,
        APART: today,
        SCORES_16: today,
        SCORES_EXACT: seconds(16, "train", "exact"),
    }
    if by_levels(found, 64):
        absolute[WORKERS_64] = seconds(64, "train", "episodes_64")
    return {name: value / today for name, value in absolute.items()}


def resampled(statistic: Callable[[np.ndarray], np.ndarray], pairs: np.ndarray) -> Estimate:
    """A statistic of columns [pairs, k], with an interval over pairs, which are resampled whole."""
    drawn = np.random.default_rng(0).integers(len(pairs), size=(RESAMPLES, len(pairs)))
    low, high = np.nanquantile(statistic(pairs[drawn]), [0.025, 0.975])
    return Estimate(float(statistic(pairs)), float(low), float(high))


def ratio(columns: np.ndarray) -> np.ndarray:
    """Ratio of the sums of two columns."""
    above, below = np.moveaxis(columns.sum(axis=-2), -1, 0)
    return above / np.where(below > 0, below, np.nan)


Compared = list[tuple[np.ndarray, np.ndarray, np.ndarray]]
"""Signs of the same pairs twice, and the horizons of the first."""


def comparisons(found: Found) -> dict[str, Compared]:
    """Pairs measured twice, by what differs between the two."""
    groups = by_levels(found)
    today = {part: signs(found, part, "episodes_16") for same in groups.values() for part in same}
    horizon = {part: found[part]["horizon"] for part in today}
    twice = [both for same in groups.values() for both in zip(same[::2], same[1::2], strict=True)]
    elsewhere = [both for both in itertools.combinations(today, 2) if both[0].levels != both[1].levels]
    return {
        "evaluated again": [(today[part], signs(found, part, "again_16"), horizon[part]) for part in today],
        "trained again": [(today[a], today[b], horizon[a]) for a, b in twice],
        "trained again, evaluated exactly": [
            (signs(found, a, "exact"), signs(found, b, "exact"), horizon[a]) for a, b in twice
        ],
        "trained on another level": [(today[a], today[b], horizon[a]) for a, b in elsewhere],
    }


def retrained(found: Found) -> dict[str, Compared]:
    """The same pairs trained twice on a level, by way of measuring."""
    horizons = {part.levels: values["horizon"] for part, values in found.items()}
    return {
        name: [
            (first, second, horizons[g])
            for g, values in rows.items()
            for first, second in zip(values[::2], values[1::2], strict=False)
        ]
        for name, rows in variant_signs(found).items()
    }


def outcomes(compared: Compared, band: tuple[int, int] = (1, 1000)) -> dict[str, Estimate]:
    """How signs of the same pairs compare, on levels with a horizon within the band.

    Returns:
        Share of ties in the first; share of opposite signs where both are decided; shares of the same sign
        and of opposite ones in all comparisons.
    """
    first, second, horizon = (np.stack(arrays, axis=1) for arrays in zip(*compared, strict=True))
    within = (horizon >= band[0]) & (horizon <= band[1])
    product = first * second

    def share(event: np.ndarray, among: np.ndarray) -> Estimate:
        return resampled(ratio, np.stack([(event & among).sum(axis=1), among.sum(axis=1)], axis=1))

    return {
        "ties": share(first == 0, within),
        "flips": share(product < 0, within & (product != 0)),
        "same": share(product > 0, within),
        "opposite": share(product < 0, within),
    }


def true_signs(found: Found, without: Sequence[Repetition]) -> np.ndarray:
    """Signs of the mean exact difference over the trainings on the levels of generation 0, some left out."""
    parts = [part for part in by_levels(found)[0] if part not in without]
    difference = np.mean([found[part]["exact"][:, 0] - found[part]["exact"][:, 1] for part in parts], axis=0)
    return np.sign(difference)


def correlation_with_truth(found: Found) -> dict[str, np.ndarray]:
    """Correlation of each way's signs with the true signs on the same levels: columns for `ratio`."""
    same = by_levels(found)[0]
    pairs: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for name, measure in MEASURES.items():
        pairs[name] = [(signs(found, part, measure), true_signs(found, [part])) for part in same]
    both = list(zip(same[::2], same[1::2], strict=True))
    table = variant_signs(found)
    for name in (TWICE, APART):
        pairs[name] = [
            (mine, true_signs(found, parts)) for mine, parts in zip(table[name][0], both, strict=True)
        ]
    if WORKERS_64 in table:
        pairs[WORKERS_64] = [(mine, true_signs(found, [])) for mine in table[WORKERS_64][0]]
    columns = {}
    for name, rows in pairs.items():
        mine, truth = (np.stack(arrays, axis=1) for arrays in zip(*rows, strict=True))
        scale = np.sqrt(np.mean(mine**2) * np.mean(truth**2))
        columns[name] = np.stack([(mine * truth).mean(axis=1) / scale, np.ones(len(mine))], axis=1)
    return columns


def score_differences(
    found: Found, scales: Mapping[int, np.ndarray], measure: str
) -> dict[int, list[np.ndarray]]:
    """By how much `+eps` beats `-eps` in normalised return, by levels; 0 on levels without a scale."""
    differences: dict[int, list[np.ndarray]] = {}
    for g, same in by_levels(found).items():
        optimal, random = scales[g]
        span = np.where(optimal - random > MIN_SPAN, optimal - random, np.inf)
        differences[g] = [(found[part][measure] @ [1.0, -1.0]) / span for part in same]
    return differences


def correlations_elsewhere(
    found: Found, scales: Mapping[int, np.ndarray]
) -> dict[str, dict[str, tuple[np.ndarray, float]]]:
    """How a pair's result on one level correlates with its results on others.

    Returns:
        By reference (who wins elsewhere, and by how much) and by way of measuring: for each pair the mean
        product with the reference on other levels and the mean square [pairs, 2]; the reference's deviation.
    """
    table = variant_signs(found)
    exact = score_differences(found, scales, "exact")
    table[SCORES_16] = score_differences(found, scales, "episodes_16")
    table[SCORES_EXACT] = exact
    references = {"who wins": table[EXACT], "by how much": exact}
    result: dict[str, dict[str, tuple[np.ndarray, float]]] = {}
    for reference, rows in references.items():
        theirs = {g: np.mean(values, axis=0) for g, values in rows.items()}
        deviation = float(np.sqrt(np.mean(np.square(list(theirs.values())))))
        result[reference] = {}
        for name, mine in table.items():
            products = [
                np.mean(values, axis=0) * theirs[other]
                for g, values in mine.items()
                for other in theirs
                if other != g
            ]
            squares = [np.mean(np.square(values), axis=0) for values in mine.values()]
            columns = np.stack([np.mean(products, axis=0), np.mean(squares, axis=0)], axis=1)
            result[reference][name] = columns, deviation
    return result


def correlation(columns: np.ndarray, deviation: float) -> Estimate:
    """From mean products and mean squares of pairs [pairs, 2], which are resampled whole."""
    return resampled(
        lambda c: c[..., 0].mean(axis=-1) / np.sqrt(c[..., 1].mean(axis=-1)) / deviation, columns
    )


def share_of_candidates(columns: np.ndarray) -> np.ndarray:
    """The share of the variance of a pair's result on a level that is due to the candidates.

    With s a pair's result on one level and e its exact sign on another, it is E[s e]^2 / (E[s^2] E[e e']):
    evolution's squared signal-to-noise ratio along the true direction grows by it with every pair.

    Args:
        columns: s e, s^2 and e e' of pairs, [..., pairs, 3].
    """
    mine, square, exact = np.moveaxis(columns.mean(axis=-2), -1, 0)
    return np.maximum(mine, 0.0) ** 2 / (square * np.where(exact > 0, exact, np.nan))


def times_today(columns: np.ndarray) -> np.ndarray:
    """Information of a pair about its candidates per cost, as a multiple of today's.

    Args:
        columns: s e and s^2 of pairs, the same of today's way, and the cost, [..., pairs, 5].
    """
    mine, square, today, today_square, price = np.moveaxis(columns.mean(axis=-2), -1, 0)
    ratio_of_squares = np.maximum(mine, 0.0) ** 2 / np.maximum(today, 1e-6) ** 2
    return ratio_of_squares * today_square / square / price


WAYS = (
    *(TODAY, "sign, 64 episodes", EXACT, TWICE, WORKERS_64, APART, "sign, reward while learning"),
    *(SCORES_16, SCORES_EXACT),
)
"""Ways of measuring, in the order of the tables."""


def summary(settings: Sequence[Found], scales: Mapping[int, np.ndarray]) -> dict[str, dict[str, Any]]:
    """A row per way of measuring, the pairs of several settings taken together."""
    elsewhere = [correlations_elsewhere(found, scales) for found in settings]
    truths = [correlation_with_truth(found) for found in settings]
    again = [retrained(found) for found in settings]
    rows: dict[str, dict[str, Any]] = {}
    for name in WAYS:
        having = [i for i, found in enumerate(elsewhere) if name in found["who wins"]]
        row: dict[str, Any] = {"cost": float(np.mean([costs(settings[i])[name] for i in having]))}
        if name in again[having[0]]:
            row |= outcomes(_together([again[i][name] for i in having]))
            row["truth"] = resampled(ratio, np.concatenate([truths[i][name] for i in having]))
        for reference in ("who wins", "by how much"):
            columns, deviations = zip(*(elsewhere[i][reference][name] for i in having), strict=True)
            # Each setting in its own units.
            scaled = [c / [d, 1.0] for c, d in zip(columns, deviations, strict=True)]
            row[reference] = correlation(np.concatenate(scaled), 1.0)
        wins = [elsewhere[i]["who wins"] for i in having]
        price = np.full((sum(len(found[name][0]) for found in wins), 1), row["cost"])
        mine, today, exact = (
            np.concatenate([found[key][0] for found in wins]) for key in (name, TODAY, EXACT)
        )
        columns = np.concatenate([mine, exact[:, :1]], axis=1)
        row["information"] = resampled(share_of_candidates, columns)
        row["times today"] = resampled(times_today, np.concatenate([mine, today, price], axis=1))
        rows[name] = row
    return rows


def _together(compared: Sequence[Compared]) -> Compared:
    """The pairs of several settings side by side, as often as each was measured twice."""
    together = []
    for measured in zip(*compared, strict=False):
        first, second, horizons = map(np.concatenate, zip(*measured, strict=True))
        together.append((first, second, horizons))
    return together


def agreement_of_truths(found: Found) -> float:
    """Share of the pairs whose true sign is the same by either half of the trainings."""
    same = by_levels(found)[0]
    return float(np.mean(true_signs(found, same[::2]) == true_signs(found, same[1::2])))
