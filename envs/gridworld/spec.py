"""What a gridworld level is sampled from, and how.

One description, `GridSpec`, covers the LPG paper's fixed levels (every range is a single value and
only positions are sampled) and the distributions that objectives are meta-trained on; `levels` lists
them all, `edits` changes levels within them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from rl_discovery.envs.gridworld import maps
from rl_discovery.envs.gridworld.env import GridLevel, GridWorld
from rl_discovery.envs.levels import log_uniform_int

WallMaker: TypeAlias = Callable[[Float[Array, " cells"]], Bool[Array, " cells"]]
"""Walls of a whole square from one uniform draw per cell."""


@dataclass(frozen=True)
class ObjectSpec:
    """What one object slot is sampled from; a range whose ends are equal is a constant.

    Attributes:
        reward: bounds of the reward, uniform.
        end_prob: bounds of the probability that collecting it ends the episode, log-uniform.
        respawn_prob: bounds of the probability per step that it comes back, log-uniform.

    Raises:
        ValueError: bounds in the wrong order, or probabilities outside [0, 1].
    """

    reward: tuple[float, float]
    end_prob: tuple[float, float]
    respawn_prob: tuple[float, float]

    def __post_init__(self) -> None:
        if self.reward[0] > self.reward[1]:
            raise ValueError(f"reward must be low <= high, not {self.reward}")
        for name in ("end_prob", "respawn_prob"):
            low, high = getattr(self, name)
            if not 0 <= low <= high <= 1 or (low == 0 < high):
                raise ValueError(f"{name} must be 0 < low <= high <= 1 or a constant, not {(low, high)}")


@dataclass(frozen=True)
class GridSpec:
    """What a gridworld level is sampled from.

    Attributes:
        size: bounds of the side of the open square, uniform.
        objects: one entry per object slot.
        count: bounds of the number of slots in use, uniform; the first ones are.
        steps: bounds of the time limit of an episode, log-uniform.
        walls: a number of distinct cells, uniform over the largest square (those outside the
            level's own square change nothing), ASCII maps to choose from uniformly, or a function
            that draws them.
        random_placement: positions are drawn anew in every episode, not once per level.

    Raises:
        ValueError: bounds that allow no level; the message names them.
    """

    size: tuple[int, int]
    objects: tuple[ObjectSpec, ...]
    count: tuple[int, int]
    steps: tuple[int, int]
    walls: int | tuple[str, ...] | WallMaker = 0
    random_placement: bool = False

    def __post_init__(self) -> None:
        for name in ("size", "steps"):
            low, high = getattr(self, name)
            if not 1 <= low <= high:
                raise ValueError(f"{name} must be 1 <= low <= high, not {(low, high)}")
        if not 0 <= self.count[0] <= self.count[1] <= len(self.objects):
            raise ValueError(f"count must be 0 <= low <= high <= {len(self.objects)} slots, not {self.count}")
        if isinstance(self.walls, int):
            # The agent needs a cell, even if all walls fall into the smallest square.
            if not 0 <= self.walls < self.size[0] ** 2:
                raise ValueError(f"walls must be 0 to {self.size[0] ** 2 - 1}, not {self.walls}")
        elif callable(self.walls):
            if self.size[0] != self.size[1]:
                raise ValueError(f"walls drawn by a function need a fixed size, not {self.size}")
        elif {len(maps.parse(text)) for text in self.walls} != set(self.size):
            raise ValueError(f"maps must all be of size {self.size[1]}, and size must be fixed")

    def env(self) -> GridWorld:
        """An environment that fits every level: tabular, or planes with random placement."""
        return GridWorld(
            max_size=self.size[1],
            max_objects=len(self.objects),
            random_placement=self.random_placement,
            observation="planes" if self.random_placement else "tabular",
        )

    def sample(self, key: Key[Array, ""]) -> GridLevel:
        """One level, under `jit` and `vmap`.

        Agent and objects are on distinct free cells, the agent first; an object for which no cell
        is left is missing. Unused slots have rewards and probabilities of 0.
        """
        slots, cells = len(self.objects), self.size[1] ** 2
        # One draw for everything compiles in half the time of one for each.
        noise = jax.random.uniform(key, (3 + 2 * cells + 3 * slots,), jnp.float32)
        numbers, wall_noise, place_noise, object_noise = jnp.split(noise, np.cumsum([3, cells, cells]))
        size = uniform_int(numbers[0], *self.size)
        walls = self._walls(wall_noise, size)
        places, exists = choose_cells(place_noise, ~walls, 1 + slots)
        active = (jnp.arange(slots) < uniform_int(numbers[1], *self.count)) & exists[1:]
        rewards, end_probs, respawn_probs = object_noise.reshape(3, slots)
        rewards = uniform(rewards, [slot.reward for slot in self.objects])
        end_probs = log_uniform(end_probs, [slot.end_prob for slot in self.objects])
        respawn_probs = log_uniform(respawn_probs, [slot.respawn_prob for slot in self.objects])
        return GridLevel(
            max_steps_in_episode=log_uniform_int(numbers[2], *self.steps),
            size=size,
            walls=walls,
            start=places[0],
            object_cells=jnp.where(active, places[1:], 0),
            object_rewards=jnp.where(active, rewards, 0),
            end_probs=jnp.where(active, end_probs, 0),
            respawn_probs=jnp.where(active, respawn_probs, 0),
            object_active=active,
        )

    def inside(self, size: Int[Array, ""]) -> Bool[Array, " cells"]:
        """The cells of a level's own square, in the largest square's numbering."""
        inside = jnp.arange(self.size[1]) < size
        return (inside[:, None] & inside[None]).ravel()

    def _walls(self, noise: Float[Array, " cells"], size: Int[Array, ""]) -> Bool[Array, " cells"]:
        """Random or drawn walls, and everything outside the level's own square."""
        if callable(self.walls):
            return self.walls(noise)
        if not isinstance(self.walls, int):
            drawn = jnp.array(np.stack([maps.parse(text).ravel() for text in self.walls]))
            return drawn[uniform_int(noise[0], 0, len(self.walls) - 1)]
        free = self.inside(size)
        chosen, _ = choose_cells(noise, jnp.ones_like(free), self.walls)
        return ~free.at[chosen].set(False)


# What follows turns uniform draws in [0, 1) into other things.


def choose_cells(
    noise: Float[Array, " cells"], free: Bool[Array, " cells"], count: int
) -> tuple[Int[Array, " count"], Bool[Array, " count"]]:
    """Distinct free cells in random order, uniformly.

    Args:
        noise: one draw per cell.
        free: the cells to choose from.
        count: how many to choose.

    Returns:
        The cells, and whether each exists: False, at the end, where there were fewer free ones.
    """
    ranks = jnp.where(free, noise, -1.0)
    # `top_k` cannot return more cells than there are: missing ones are added, none of them free.
    ranks = jnp.pad(ranks, (0, max(0, count - free.size)), constant_values=-1.0)
    highest, cells = jax.lax.top_k(ranks, count)
    exists = highest >= 0
    return jnp.where(exists, cells, 0).astype(jnp.int32), exists


def uniform_int(draw: Float[Array, ""], low: int, high: int) -> Int[Array, ""]:
    """A uniform integer between `low` and `high`, both included."""
    return low + jnp.floor(draw * (high - low + 1)).astype(jnp.int32)


def uniform(draws: Float[Array, " slots"], bounds: Sequence[tuple[float, float]]) -> Float[Array, " slots"]:
    """One uniform number for each pair of bounds."""
    low, high = np.array(bounds, np.float32).reshape(-1, 2).T
    return draws * (high - low) + low


def log_uniform(
    draws: Float[Array, " slots"], bounds: Sequence[tuple[float, float]]
) -> Float[Array, " slots"]:
    """One log-uniform number for each pair of bounds; exactly the bound where both are equal."""
    low, high = np.array(bounds, np.float32).reshape(-1, 2).T
    # A constant may be 0, which has no logarithm; clipping gives it back.
    logarithms = [(math.log(a), math.log(b)) if a < b else (0.0, 0.0) for a, b in bounds]
    return jnp.clip(jnp.exp(uniform(draws, logarithms)), low, high)
