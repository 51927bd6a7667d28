"""Learned and hand-written objectives, and the agents that learn with them.

It imports no other package of this project, so that a discovered objective can be used anywhere. Start with
`train`. Names are imported at first use.
"""

from typing import TYPE_CHECKING

from rl_discovery.discovery.lazy import lazy

if TYPE_CHECKING:
    from rl_discovery.discovery.agents.agent import AgentState
    from rl_discovery.discovery.agents.config import AgentConfig
    from rl_discovery.discovery.learning.train import TrainedAgent, train
    from rl_discovery.discovery.objectives.base import Objective, TrainedObjective
    from rl_discovery.discovery.objectives.registry import make_objective
    from rl_discovery.discovery.sharding import make_mesh
    from rl_discovery.discovery.types import Progress

__all__ = [
    "AgentConfig",
    "AgentState",
    "Objective",
    "Progress",
    "TrainedAgent",
    "TrainedObjective",
    "make_mesh",
    "make_objective",
    "train",
]

__getattr__ = lazy(
    __name__,
    {
        "AgentConfig": "agents.config",
        "AgentState": "agents.agent",
        "Objective": "objectives.base",
        "Progress": "types",
        "TrainedAgent": "learning.train",
        "TrainedObjective": "objectives.base",
        "make_mesh": "sharding",
        "make_objective": "objectives.registry",
        "train": "learning.train",
    },
)
