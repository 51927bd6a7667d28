"""Cells of a results document by what was evaluated, and their scores as matrices of runs x environments.

Cells of which some are missing make no matrix: they are refused here, for documents and in Python alike.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from rl_discovery.evaluation.errors import RaggedError

if TYPE_CHECKING:
    from rl_discovery.evaluation.results import Cell


def group_name(objective: str, suite: str, horizon: int) -> str:
    """Name of a group of cells in messages."""
    return f"{objective} on {suite} at horizon {horizon}"


def groups_of(cells: Sequence["Cell"]) -> dict[tuple[str, str, int], list["Cell"]]:
    """Cells by objective, suite and horizon, in the order in which they first appear.

    Raises:
        RaggedError: cells are missing in a group.
    """
    groups: dict[tuple[str, str, int], list["Cell"]] = {}
    for cell in cells:
        groups.setdefault((cell.objective, cell.suite, cell.horizon), []).append(cell)
    for name, group in groups.items():
        _check_whole(group_name(*name), group)
    return groups


def _check_whole(where: str, cells: Sequence["Cell"]) -> None:
    seeds: dict[str, list[int]] = {}
    curves: dict[str, set[int]] = {}
    for cell in cells:
        seeds.setdefault(cell.environment, []).append(cell.seed)
        curves.setdefault(cell.environment, set()).add(len(cell.curve))
    if len({tuple(sorted(mine)) for mine in seeds.values()}) > 1:
        raise RaggedError(f"{where} has other seeds on one environment than on another")
    if any(len(lengths) > 1 for lengths in curves.values()):
        raise RaggedError(f"{where} has learning curves of several lengths")


def score_matrix(
    cells: Sequence["Cell"], number: Literal["score", "efficiency"] = "score"
) -> np.ndarray | None:
    """Scores as runs x environments, of those that have any; None where there are none or a run failed.

    Args:
        cells: of one objective on one suite at one horizon.
        number: which number of the scored cells.
    """
    if any(cell.failed for cell in cells):
        return None
    ordered = sorted(cells, key=lambda cell: cell.seed)
    columns = [
        [getattr(cell, number) for cell in ordered if cell.environment == environment]
        for environment in environments_with_scores(cells)
    ]
    if any(None in column for column in columns):
        return None
    return np.array(columns, np.float64).T if columns else None


def paired_scores(ours: Sequence["Cell"], theirs: Sequence["Cell"]) -> tuple[np.ndarray, np.ndarray] | None:
    """The scores of both as matrices of the same runs; None where they are not, or one has no scores."""
    first, second = score_matrix(ours), score_matrix(theirs)
    if first is None or second is None or first.shape != second.shape or not same_seeds(ours, theirs):
        return None
    return first, second


def same_seeds(ours: Sequence["Cell"], theirs: Sequence["Cell"]) -> bool:
    """Whether both are of the same runs."""
    return {cell.seed for cell in ours} == {cell.seed for cell in theirs}


def environments_with_scores(cells: Sequence["Cell"]) -> list[str]:
    """Environments on which every run has a score, sorted."""
    unscored = {cell.environment for cell in cells if cell.score is None}
    return sorted({cell.environment for cell in cells} - unscored)
