"""MuJoCo Playground's DeepMind Control Suite (Zakka et al. 2025, arXiv 2502.08844) under gymnax's interface.

`playground/CartpoleBalance` is the environment as Playground makes it, on MJX's implementation in JAX. As in
Playground's own training, and as for Brax, a worker's episodes begin where its first one did: see `brax`.
MuJoCo Playground comes with the extra `playground`.

Its robots (locomotion and manipulation) are left out: making one downloads its model.
"""

import functools
from typing import Any

from gymnax.environments import environment

from rl_discovery.discovery.extras import Extra
from rl_discovery.envs.adapter import refuse_missing, silent, without_levels
from rl_discovery.envs.brax import BraxEnvironment, BraxParams, check_action_repeat
from rl_discovery.envs.levels import Family

EXTRA = Extra("playground", module="mujoco_playground")

TASKS = {
    "AcrobotSwingup": "two poles swing up",
    "AcrobotSwingupSparse": "the same, paid at the top only",
    "BallInCup": "a ball on a string into a cup",
    "CartpoleBalance": "a pole on a cart, upright at first",
    "CartpoleBalanceSparse": "the same, paid near the middle only",
    "CartpoleSwingup": "a pole on a cart, hanging at first",
    "CartpoleSwingupSparse": "the same, paid at the top only",
    "CheetahRun": "a planar runner",
    "FingerSpin": "a finger spins a body",
    "FingerTurnEasy": "a finger turns a body to a large target",
    "FingerTurnHard": "a finger turns a body to a small target",
    "FishSwim": "a fish swims to a target",
    "HopperHop": "a planar one-legged hopper hops",
    "HopperStand": "a planar one-legged hopper stands",
    "HumanoidRun": "a biped runs",
    "HumanoidStand": "a biped stands",
    "HumanoidWalk": "a biped walks",
    "PendulumSwingup": "a pendulum swings up",
    "PointMass": "a point in the plane moves to a target",
    "ReacherEasy": "a two-joint arm reaches a large target",
    "ReacherHard": "a two-joint arm reaches a small target",
    "SwimmerSwimmer6": "a six-link swimmer",
    "WalkerRun": "a planar biped runs",
    "WalkerStand": "a planar biped stands",
    "WalkerWalk": "a planar biped walks",
}


class PlaygroundEnvironment(BraxEnvironment):
    """One of Playground's environments, whose interface is Brax's.

    `terminated` is Playground's own `done`, which only a simulation that fails sets, and `truncated` the time
    limit.

    Args:
        task: one of TASKS.
        action_repeat: steps of the environment with the same action, whose rewards are summed.

    Raises:
        UnusableEnvironmentError: an option's value is impossible, or MuJoCo Playground is not installed.
    """

    def __init__(self, task: str, action_repeat: int = 1) -> None:
        environment.Environment.__init__(self)
        check_action_repeat(action_repeat)
        refuse_missing(EXTRA, f"playground/{task}", "MuJoCo Playground")
        self.task, self.backend, self.action_repeat = task, "mjx", action_repeat
        with silent():
            from mujoco_playground import dm_control_suite

            self._inner = dm_control_suite.load(task, config_overrides={"impl": "jax"})
            self._time_limit = dm_control_suite.get_default_config(task).episode_length

    def with_options(self, **options: Any) -> "PlaygroundEnvironment":
        """The same task with another `action_repeat`.

        Raises:
            UnusableEnvironmentError: the number is impossible.
        """
        return load(self.task, **options)

    @property
    def name(self) -> str:
        """The name that `list envs` shows."""
        return f"playground/{self.task}"

    @property
    def default_params(self) -> BraxParams:
        """The parameters: Playground's time limit."""
        return BraxParams(self._time_limit)


load = functools.cache(PlaygroundEnvironment)
"""Makes an environment once: by name and options."""

FAMILY = Family(
    name="playground",
    description="the DeepMind Control Suite with MuJoCo Playground",
    distributions={},
    make=without_levels(load),
    tasks=TASKS,
    extra=EXTRA,
)
