"""Run checkpoints, exported objectives, saved agents, and the objectives that are shipped with the package.

    objective = rl_discovery.load_objective("ta-lpg")    # shipped name, path or run directory
    agent = checkpoints.load_agent("agent.safetensors")

`checkpoints.runs` is not imported here: it needs Orbax, which only a run does. What needs JAX is imported
when it is first asked for, so that commands that only read files start at once.
"""

import importlib
from typing import TYPE_CHECKING, Any

from rl_discovery.checkpoints.errors import (
    AgentFileError,
    AmbiguousObjectiveError,
    CheckpointError,
    ObjectiveFileError,
    RunCheckpointError,
    UnknownObjectiveError,
)

if TYPE_CHECKING:
    from rl_discovery.checkpoints.agent_file import load_agent, save_agent
    from rl_discovery.checkpoints.loading import load_objective, shipped
    from rl_discovery.checkpoints.objective_file import read_card, read_objective, save_objective

__all__ = [
    "AgentFileError",
    "AmbiguousObjectiveError",
    "CheckpointError",
    "ObjectiveFileError",
    "RunCheckpointError",
    "UnknownObjectiveError",
    "load_agent",
    "load_objective",
    "read_card",
    "read_objective",
    "save_agent",
    "save_objective",
    "shipped",
]

_MODULES = {
    "load_agent": "agent_file",
    "save_agent": "agent_file",
    "load_objective": "loading",
    "shipped": "loading",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = _MODULES.get(name, "objective_file")
    return getattr(importlib.import_module(f"rl_discovery.checkpoints.{module}"), name)
