"""Environments, level distributions and evaluation suites.

    env, level = rl_discovery.make_env("gridworld/dense")       # or a gymnax id: "CartPole-v1"
    observation, state = env.reset(key, level)

Importing this package registers the families with gymnax, so that `gymnax.make` knows them as well.
"""

from rl_discovery.discovery.registry import UnknownNameError
from rl_discovery.envs.five_values import FiveValues
from rl_discovery.envs.levels import Family, Level, LevelDistribution
from rl_discovery.envs.registry import (
    FAMILIES,
    broken_modules,
    distribution,
    distributions,
    family_at,
    family_of,
    make,
    names,
    register_with_gymnax,
)
from rl_discovery.envs.suites import SUITES, Suite, suite

__all__ = [
    "FAMILIES",
    "SUITES",
    "Family",
    "FiveValues",
    "Level",
    "LevelDistribution",
    "Suite",
    "UnknownNameError",
    "broken_modules",
    "distribution",
    "distributions",
    "family_at",
    "family_of",
    "make",
    "names",
    "suite",
]

register_with_gymnax()
