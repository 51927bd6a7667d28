"""Navix: the tasks of MiniGrid in JAX (Pignatelli et al. 2024, arXiv 2407.19396) under gymnax's interface.

`navix/DoorKey-5x5-v0` is Navix's `Navix-DoorKey-5x5-v0`, made as `navix.make` does: episodes of 100 steps,
and the whole grid observed. Navix comes with the extra `navix`.
"""

import functools
from typing import Any, Literal, get_args

import jax.numpy as jnp
from gymnax.environments import spaces
from jaxtyping import Array, Bool, Float, Int, Key

from rl_discovery.discovery.extras import Extra
from rl_discovery.envs.adapter import NO_LIMIT, AdaptedEnvironment, refuse_missing, silent, without_levels
from rl_discovery.envs.levels import EnvParams, Family, UnusableEnvironmentError

Observation = Literal["symbolic", "symbolic_first_person"]

EXTRA = Extra("navix", module="navix")

TIME_LIMIT = 100
"""Steps of an episode, as `navix.make` has it. MiniGrid's own limits depend on the task."""

LARGEST = 10
"""The largest number in a symbolic observation: the player's tag."""

SIZES = {
    "SimpleCrossing{}": ("a way through walls to a goal", ("S9N1", "S9N2", "S9N3", "S11N5")),
    "DistShift{}": ("a goal, and lava in one of two places", ("1", "2")),
    "DoorKey-{}": ("a key, a locked door and a goal", ("5x5", "6x6", "8x8", "16x16")),
    "DoorKey-Random-{}": ("the same from random places", ("5x5", "6x6", "8x8", "16x16")),
    "Dynamic-Obstacles-{}": ("a goal among moving balls", ("5x5", "6x6", "8x8", "16x16")),
    "Dynamic-Obstacles-{}-Random": ("the same from random places", ("5x5", "6x6")),
    "Empty-{}": ("a goal in an empty room", ("5x5", "6x6", "8x8", "16x16")),
    "Empty-Random-{}": ("the same from random places", ("5x5", "6x6", "8x8", "16x16")),
    "FourRooms{}": ("a goal in one of four rooms", ("",)),
    "GoToDoor-{}": ("the door of a colour that is not observed", ("5x5", "6x6", "8x8")),
    "KeyCorridor{}": ("a key, a locked door and a ball", ("S3R1", "S3R2", "S3R3", "S4R3", "S5R3", "S6R3")),
    "LavaGap{}": ("a gap in a wall of lava", ("S5", "S6", "S7")),
}
"""Names of tasks, what there is to do, and the sizes."""

TASKS = {
    f"{name.format(size)}-v0": description for name, (description, sizes) in SIZES.items() for size in sizes
}


class NavixEnvironment(AdaptedEnvironment):
    """One of Navix's environments.

    Observations are Navix's grid of (object, colour, state), divided by LARGEST: shape (H, W, 3), or (7, 7,
    3) in first person. What the agent carries is not among them. `terminated` is Navix's own, and `truncated`
    the time limit.

    Args:
        task: one of TASKS.
        observation: the whole grid, or what the agent has before it.

    Raises:
        UnusableEnvironmentError: the observation is none of these, or Navix is not installed.
    """

    def __init__(self, task: str, observation: Observation = "symbolic") -> None:
        super().__init__(f"navix/{task}", TIME_LIMIT)
        if observation not in get_args(Observation):
            kinds = ", ".join(get_args(Observation))
            raise UnusableEnvironmentError(f"observation must be one of {kinds}, not {observation!r}")
        self.task = task
        refuse_missing(EXTRA, self.name, "Navix")
        with silent():
            import navix

        seen = getattr(navix.observations, observation)
        self._inner = navix.make(f"Navix-{task}", max_steps=NO_LIMIT, observation_fn=seen)

    def with_options(self, observation: Observation = "symbolic") -> "NavixEnvironment":
        """The same task with another observation.

        Raises:
            UnusableEnvironmentError: see above.
        """
        return load(self.task, observation)

    def begin(self, key: Key[Array, ""]) -> tuple[Float[Array, "H W 3"], Any]:
        """A new episode. Navix's cache for pictures, most of its state, is left out."""
        first = self._inner.reset(key)
        return _scaled(first.observation), first.replace(state=first.state.replace(cache=None))

    def advance(
        self, key: Key[Array, ""], inner: Any, action: Int[Array, ""]
    ) -> tuple[Float[Array, "H W 3"], Any, Float[Array, ""], Bool[Array, ""]]:
        """One step, by keys of Navix's own."""
        del key
        moved = self._inner._step(inner, action)  # its `step` computes a reset as well
        return _scaled(moved.observation), moved, moved.reward, moved.is_termination()

    def action_space(self, params: EnvParams = None) -> spaces.Discrete:
        """MiniGrid's actions."""
        return spaces.Discrete(len(self._inner.action_set))

    def observation_space(self, params: EnvParams = None) -> spaces.Box:
        """The grid."""
        return spaces.Box(0.0, 1.0, self._inner.observation_space.shape)


def _scaled(observation: Array) -> Float[Array, "H W 3"]:
    return observation.astype(jnp.float32) / LARGEST


load = functools.cache(NavixEnvironment)
"""Makes an environment once: by name and options."""

FAMILY = Family(
    name="navix",
    description="the tasks of MiniGrid in JAX",
    distributions={},
    make=without_levels(load),
    tasks=TASKS,
    extra=EXTRA,
)
