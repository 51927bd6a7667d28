"""Learned and hand-written objectives, and the agents that learn with them.

This package imports none of the others of this project, so a discovered objective can be used from
anywhere. Start with `train`.
"""

from discovery.agents.agent import AgentConfig, AgentState
from discovery.blocks import make_mesh
from discovery.objectives.base import Objective, TrainedObjective
from discovery.objectives.registry import make_objective
from discovery.training import TrainedAgent, train
from discovery.types import Progress

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
