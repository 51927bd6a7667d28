"""Craftax (Matthews et al. 2024, arXiv 2402.16801) under gymnax's interface.

`craftax/Craftax-Classic-Symbolic-v1` is Crafter's game, `craftax/Craftax-Symbolic-v1` the larger one with
dungeons. Craftax comes with the extra `craftax`. Its environments with pictures are left out: their
observations are too large for the networks here.
"""

import functools
from typing import Any

import jax.numpy as jnp
from flax import struct
from gymnax.environments import spaces
from jaxtyping import Array, Bool, Float, Int, Key

from rl_discovery.discovery.extras import Extra
from rl_discovery.envs.adapter import (
    NO_LIMIT,
    AdaptedEnvironment,
    AdaptedState,
    refuse_missing,
    silent,
    step_back_to,
    without_levels,
)
from rl_discovery.envs.levels import EnvParams, Family

EXTRA = Extra("craftax", module="craftax")

TASKS = {
    "Craftax-Classic-Symbolic-v1": "Crafter: gather, craft, survive",
    "Craftax-Symbolic-v1": "Crafter with dungeons, magic and a last boss",
}


@struct.dataclass
class World:
    """Where an episode stands.

    Attributes:
        now: Craftax's state.
        first: observation and state at the beginning of this worker's first episode.
    """

    now: Any
    first: tuple[Array, Any]


class CraftaxEnvironment(AdaptedEnvironment):
    """One of Craftax's environments.

    Observations are Craftax's vector. Its `done` does not tell the time limit from death: the limit is
    switched off there, so that what is left is `terminated`, and is `truncated` here.

    Args:
        task: one of TASKS.
        new_worlds: whether each episode has a world of its own, as in Craftax, although making worlds then
            takes most of the time. Otherwise a worker's episodes are all in the world of its first one.

    Raises:
        UnusableEnvironmentError: Craftax is not installed.
    """

    def __init__(self, task: str, new_worlds: bool = False) -> None:
        self.task, self.new_worlds = task, new_worlds
        name = f"craftax/{task}"
        refuse_missing(EXTRA, name, "Craftax")
        with silent():
            from craftax.craftax_env import make_craftax_env_from_name

            self._inner = make_craftax_env_from_name(task, auto_reset=False)
        params = self._inner.default_params
        super().__init__(name, params.max_timesteps)
        self._params = params.replace(max_timesteps=NO_LIMIT)

    def with_options(self, new_worlds: bool = False) -> "CraftaxEnvironment":
        """The same game with or without new worlds."""
        return load(self.task, new_worlds)

    def begin(self, key: Key[Array, ""]) -> tuple[Float[Array, " size"], Any]:
        """A new world."""
        first = self._inner.reset_env(key, self._params)
        return first[0], World(now=first[1], first=first)

    def advance(
        self, key: Key[Array, ""], inner: Any, action: Int[Array, ""]
    ) -> tuple[Float[Array, " size"], Any, Float[Array, ""], Bool[Array, ""]]:
        """One step."""
        observation, now, reward, terminated, _ = self._inner.step_env(key, inner.now, action, self._params)
        return observation, inner.replace(now=now), reward, terminated

    def step(
        self, key: Key[Array, ""], state: AdaptedState, action: Int[Array, ""], params: EnvParams = None
    ) -> tuple[Any, AdaptedState, Array, Array, Array, dict[str, Any]]:
        """`step_env`, then a new world or the worker's first one where the episode ends."""
        if self.new_worlds:
            return super().step(key, state, action, params)
        observation, first = state.inner.first
        again = AdaptedState(time=jnp.int32(0), inner=state.inner.replace(now=first))
        return step_back_to((observation, again), self, key, state, action, params)

    def action_space(self, params: EnvParams = None) -> spaces.Discrete:
        """Craftax's actions."""
        return spaces.Discrete(self._inner.num_actions)

    def observation_space(self, params: EnvParams = None) -> spaces.Box:
        """A vector."""
        return spaces.Box(0.0, 1.0, self._inner.observation_space(self._params).shape)


load = functools.cache(CraftaxEnvironment)
"""Makes an environment once: by name and options."""

FAMILY = Family(
    name="craftax",
    description="Crafter's worlds in JAX",
    distributions={},
    make=without_levels(load),
    tasks=TASKS,
    extra=EXTRA,
)
