"""Run checkpoints, exported objectives, and the objectives that are shipped with the package.

    objective = checkpoints.load_objective("ta-lpg")    # shipped name, path or run directory

`checkpoints.runs` is not imported here: it needs Orbax, which only a run does.
"""

from checkpoints.errors import (
    CheckpointError,
    ObjectiveFileError,
    RunCheckpointError,
    UnknownObjectiveError,
)
from checkpoints.loading import load_objective, shipped
from checkpoints.objective_file import read_card, read_objective, save_objective

__all__ = [
    "CheckpointError",
    "ObjectiveFileError",
    "RunCheckpointError",
    "UnknownObjectiveError",
    "load_objective",
    "read_card",
    "read_objective",
    "save_objective",
    "shipped",
]
