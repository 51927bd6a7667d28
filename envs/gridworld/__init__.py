"""Gridworlds with collectable objects, from the LPG paper: one family of environments."""

from rl_discovery.envs.gridworld import planning, render
from rl_discovery.envs.gridworld.env import GridLevel, GridState, GridWorld
from rl_discovery.envs.gridworld.levels import DISTRIBUTIONS
from rl_discovery.envs.levels import Family, sample_one

__all__ = ["DISTRIBUTIONS", "FAMILY", "GridLevel", "GridState", "GridWorld"]

FAMILY = Family(
    name="gridworld",
    description="gridworlds with walls and collectable objects (Oh et al. 2020)",
    distributions=DISTRIBUTIONS,
    make=lambda name, seed: sample_one(DISTRIBUTIONS[name], seed),
    expected_returns=planning.expected_returns,
    render=render.render,
    path=lambda states: states.cell,
)
