"""Run checkpoints, exported objectives, saved agents, and the objectives that are shipped with the package.

    objective = rl_discovery.load_objective("ta-lpg")    # shipped name, path or run directory
    agent = checkpoints.load_agent("agent.safetensors")

`checkpoints.runs` is not imported here: it needs Orbax, which only a run does. What needs JAX is imported
when it is first asked for, so that commands that only read files start at once.
"""

from typing import TYPE_CHECKING

from rl_discovery.checkpoints.errors import (
    AgentFileError,
    AmbiguousObjectiveError,
    CheckpointError,
    DriftFileError,
    ObjectiveFileError,
    RunCheckpointError,
    UnknownObjectiveError,
)
from rl_discovery.discovery.lazy import lazy

if TYPE_CHECKING:
    from rl_discovery.checkpoints.agent_file import load_agent, save_agent
    from rl_discovery.checkpoints.loading import load_objective, shipped
    from rl_discovery.checkpoints.objective_card import read_card
    from rl_discovery.checkpoints.objective_file import read_objective, save_objective
    from rl_discovery.checkpoints.published_drift import import_drift
    from rl_discovery.checkpoints.python_file import save_python

__all__ = [
    "AgentFileError",
    "AmbiguousObjectiveError",
    "CheckpointError",
    "DriftFileError",
    "ObjectiveFileError",
    "RunCheckpointError",
    "UnknownObjectiveError",
    "import_drift",
    "load_agent",
    "load_objective",
    "read_card",
    "read_objective",
    "save_agent",
    "save_objective",
    "save_python",
    "shipped",
]

__getattr__ = lazy(
    __name__,
    {
        "import_drift": "published_drift",
        "load_agent": "agent_file",
        "load_objective": "loading",
        "read_card": "objective_card",
        "read_objective": "objective_file",
        "save_agent": "agent_file",
        "save_objective": "objective_file",
        "save_python": "python_file",
        "shipped": "loading",
    },
)
