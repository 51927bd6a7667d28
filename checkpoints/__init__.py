"""Run checkpoints, exported objectives, and the objectives that are shipped with the package.

    objective = checkpoints.load_objective("ta-lpg")    # shipped name, path or run directory

`checkpoints.runs` is not imported here: it needs Orbax, which only a run does. What needs JAX is imported
when it is first asked for, so that commands that only read files start at once.
"""

import importlib
from typing import TYPE_CHECKING, Any

from checkpoints.errors import (
    AmbiguousObjectiveError,
    CheckpointError,
    ObjectiveFileError,
    RunCheckpointError,
    UnknownObjectiveError,
)

if TYPE_CHECKING:
    from checkpoints.loading import load_objective, shipped
    from checkpoints.objective_file import read_card, read_objective, save_objective

__all__ = [
    "AmbiguousObjectiveError",
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


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "loading" if name in ("load_objective", "shipped") else "objective_file"
    return getattr(importlib.import_module(f"checkpoints.{module}"), name)
