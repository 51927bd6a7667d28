"""Jumanji's single-agent environments (Bonnet et al. 2024, arXiv 2306.09884) under gymnax's interface.

`jumanji/Snake-v1` is the environment as `jumanji.make` has it, without the resets of Jumanji's wrappers.
Jumanji comes with the extra `jumanji`.

Left out: environments of several agents; FlatPack and JobShop, whose actions are more combinations than
LARGEST_ACTION_SPACE; and Sokoban, which downloads its levels.
"""

import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import spaces
from jaxtyping import Array, Bool, Float, Int, Key

from rl_discovery.discovery.extras import Extra
from rl_discovery.envs.adapter import NO_LIMIT, AdaptedEnvironment, refuse_missing, silent, without_levels
from rl_discovery.envs.levels import EnvParams, Family, UnusableEnvironmentError

EXTRA = Extra("jumanji", module="jumanji")

TASKS = {
    "BinPack-v2": "boxes into a container",
    "CVRP-v1": "a vehicle of limited capacity visits customers",
    "Game2048-v1": "the game 2048",
    "GraphColoring-v1": "few colours for the nodes of a graph",
    "Knapsack-v1": "items of the highest value into a sack",
    "Maze-v0": "the way through a random maze",
    "Minesweeper-v0": "a board with 10 mines",
    "PacMan-v1": "Pac-Man",
    "RubiksCube-partly-scrambled-v0": "a cube, seven turns from solved",
    "RubiksCube-v0": "Rubik's cube",
    "SlidingTilePuzzle-v0": "tiles of a 5x5 board in order",
    "Snake-v1": "the game Snake",
    "Sudoku-v0": "Sudokus of all difficulties",
    "Sudoku-very-easy-v0": "Sudokus with many clues",
    "TSP-v1": "a short tour of 20 cities",
    "Tetris-v0": "the game Tetris",
}

REFUSED = {"Sokoban-v0": "it downloads its levels, and nothing here may download"}
"""What cannot be used here, and why."""

LARGEST_ACTION_SPACE = 1000
"""Most combinations of a vector of discrete actions; each is an output of the policy."""

UNSEEN = ("step_count",)
"""Parts of observations that are left out: time limits truncate, so time is no part of the state."""


class JumanjiEnvironment(AdaptedEnvironment):
    """One of Jumanji's environments.

    Observations are all fields of Jumanji's in one vector; those with bounds are scaled to [0, 1]. They
    include the mask of valid actions, which agents here do not use otherwise. A vector of discrete actions is
    one number: its index among all combinations.

    Jumanji ends an episode at its time limit as if it terminated, and shows the agent the time. Here time
    limits truncate, as everywhere in gymnax, and the time is not shown. `terminated` is every other end.

    Args:
        task: one of TASKS.

    Raises:
        UnusableEnvironmentError: the task is one of REFUSED, or Jumanji is not installed.
    """

    def __init__(self, task: str) -> None:
        name = f"jumanji/{task}"
        if task in REFUSED:
            raise UnusableEnvironmentError(f"{name} cannot be used: {REFUSED[task]}")
        refuse_missing(EXTRA, name, "Jumanji")
        with silent():
            import jumanji

            self._inner = jumanji.make(task)
            limit = getattr(self._inner, "time_limit", None)
            if limit is not None:
                self._inner = jumanji.make(task, time_limit=NO_LIMIT)
        super().__init__(name, NO_LIMIT if limit is None else limit)
        # Now, because Jumanji computes these once, and a tracer must not be what it keeps.
        actions, self._observed = self._inner.action_spec, self._inner.observation_spec
        self._sizes = tuple(np.atleast_1d(actions.num_values).tolist())
        self._one_action = not actions.shape

    def begin(self, key: Key[Array, ""]) -> tuple[Float[Array, " size"], Any]:
        """A new episode."""
        inner, first = self._inner.reset(key)
        return self._flat(first.observation), inner

    def advance(
        self, key: Key[Array, ""], inner: Any, action: Int[Array, ""]
    ) -> tuple[Float[Array, " size"], Any, Float[Array, ""], Bool[Array, ""]]:
        """One step, by keys of Jumanji's own."""
        del key
        if not self._one_action:
            action = jnp.stack(jnp.unravel_index(action, self._sizes))
        moved, result = self._inner.step(inner, action)
        return self._flat(result.observation), moved, result.reward, result.last()

    def action_space(self, params: EnvParams = None) -> spaces.Discrete:
        """All combinations of a vector of actions, or the actions themselves."""
        return spaces.Discrete(math.prod(self._sizes))

    def observation_space(self, params: EnvParams = None) -> spaces.Box:
        """A vector; see the class."""
        observation, _ = jax.eval_shape(self.begin, jax.random.key(0))
        return spaces.Box(-jnp.inf, jnp.inf, observation.shape)

    def _flat(self, observation: Any) -> Float[Array, " size"]:
        parts = _scaled(self._observed, observation)
        return jnp.concatenate([part.reshape(-1) for part in parts])


def _scaled(spec: Any, observation: Any) -> Iterator[Float[Array, "..."]]:
    """Arrays of an observation, in the order of its specification."""
    if not hasattr(spec, "shape"):  # of several fields
        for name, field in vars(spec).items():
            if not name.startswith("_") and name not in UNSEEN:
                yield from _scaled(field, getattr(observation, name))
        return
    values = jnp.asarray(observation, jnp.float32)
    if hasattr(spec, "minimum"):
        low, high = (np.asarray(bound, np.float32) for bound in (spec.minimum, spec.maximum))
        values = (values - low) / np.maximum(high - low, 1)
    yield values


load = functools.cache(JumanjiEnvironment)
"""Makes an environment once: by name."""

FAMILY = Family(
    name="jumanji",
    description="games, puzzles, packing and routing in JAX",
    distributions={},
    make=without_levels(load),
    tasks=TASKS | {task: f"cannot be used: {reason}" for task, reason in REFUSED.items()},
    extra=EXTRA,
)
