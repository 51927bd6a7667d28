"""The gridworld levels and level distributions of the LPG paper and its successors.

One description, `GridSpec`, covers the paper's fixed levels (every range is a single value and only
positions are sampled) and the distributions that objectives are meta-trained on. Horizons are in
agent updates, everything else in environment steps.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from envs.gridworld import maps
from envs.gridworld.env import GridLevel, GridWorld
from envs.levels import LevelDistribution, log_uniform_int


@dataclass(frozen=True)
class ObjectSpec:
    """What one object slot is sampled from; a range whose ends are equal is a constant.

    Attributes:
        reward: bounds of the reward, uniform.
        end_prob: bounds of the probability that collecting it ends the episode, log-uniform.
        respawn_prob: bounds of the probability per step that it comes back, log-uniform.

    Raises:
        ValueError: bounds in the wrong order, or no probabilities.
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
            level's own square change nothing), or ASCII maps to choose from uniformly.
        random_placement: positions are drawn anew in every episode, not once per level.

    Raises:
        ValueError: bounds that make no level, named.
    """

    size: tuple[int, int]
    objects: tuple[ObjectSpec, ...]
    count: tuple[int, int]
    steps: tuple[int, int]
    walls: int | tuple[str, ...] = 0
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
        is left is not there. Unused slots have rewards and probabilities of 0.
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

    def _walls(self, noise: Float[Array, " cells"], size: Int[Array, ""]) -> Bool[Array, " cells"]:
        """Random or drawn walls, and everything outside the level's own square."""
        if not isinstance(self.walls, int):
            drawn = jnp.array(np.stack([maps.parse(text).ravel() for text in self.walls]))
            return drawn[uniform_int(noise[0], 0, len(self.walls) - 1)]
        inside = jnp.arange(self.size[1]) < size
        free = (inside[:, None] & inside[None]).ravel()
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


def _level(
    name: str,
    description: str,
    size: int,
    objects: list[tuple[int, float, float, float]],
    steps: int,
    walls: tuple[str, ...] | int = 0,
    *,
    random_placement: bool = False,
) -> LevelDistribution:
    """A fixed level from its row in the paper: objects are (count, reward, P end, P respawn)."""
    slots = [
        ObjectSpec(reward=(reward, reward), end_prob=(end, end), respawn_prob=(respawn, respawn))
        for count, reward, end, respawn in objects
        for _ in range(count)
    ]
    spec = GridSpec(
        size=(size, size),
        objects=tuple(slots),
        count=(len(slots), len(slots)),
        steps=(steps, steps),
        walls=walls,
        random_placement=random_placement,
    )
    horizon = 25_000 if random_placement else 2_500
    return _distribution(name, description, spec, (horizon, horizon))


def _distribution(name: str, description: str, spec: GridSpec, horizon: tuple[int, int]) -> LevelDistribution:
    return LevelDistribution(
        name=name, description=description, env=spec.env(), sample_params=spec.sample, horizon=horizon
    )


def _objects(count: int, other_rewards: tuple[float, float] = (-1.0, 1.0)) -> tuple[ObjectSpec, ...]:
    """Object slots of the distributions: only the first is sure to be worth collecting."""
    first = ObjectSpec(reward=(0.0, 1.0), end_prob=(0.01, 1.0), respawn_prob=(0.001, 0.1))
    return (first, *[dataclasses.replace(first, reward=other_rewards)] * (count - 1))


DENSE = [(2, 1.0, 0.0, 0.05), (1, -1.0, 0.5, 0.1), (1, -1.0, 0.0, 0.5)]
SPARSE = [(1, 1.0, 1.0, 0.0), (1, -1.0, 1.0, 0.0)]
LONG = [(2, 1.0, 0.0, 0.01), (2, -1.0, 0.5, 1.0)]
LONGER = [(2, 1.0, 0.1, 0.01), (5, -1.0, 0.8, 1.0)]
LONG_DENSE = [(4, 1.0, 0.0, 0.005)]
RAND_SMALL = [(2, 1.0, 0.0, 0.05), (2, -1.0, 0.5, 0.1)]
RAND_SPARSE = [(1, 1.0, 1.0, 1.0), (2, -1.0, 1.0, 1.0)]
RAND_VERY_DENSE = [(1, 1.0, 0.0, 1.0)]

TABULAR_LEVELS = (
    _level("dense", "11x11, rewards come back fast", 11, DENSE, 500),
    _level("sparse", "13x13, one reward that ends the episode, 50 steps", 13, SPARSE, 50),
    _level("long", "11x11, rewards come back slowly, 1,000 steps", 11, LONG, 1000),
    _level("longer", "9x9, a wall, five traps, 2,000 steps", 9, LONGER, 2000, (maps.LONGER,)),
    _level("long_dense", "11x11, four rooms, 2,000 steps", 11, LONG_DENSE, 2000, (maps.LONG_DENSE,)),
)
RANDOM_LEVELS = (
    _level("rand_dense", "dense, positions drawn anew", 11, DENSE, 500, random_placement=True),
    _level("rand_long", "long, positions drawn anew", 11, LONG, 1000, random_placement=True),
    _level(
        "rand_small", "7x7, positions anew", 7, RAND_SMALL, 500, (maps.RAND_SMALL,), random_placement=True
    ),
    _level("rand_sparse", "7x7, 50 steps, positions drawn anew", 7, RAND_SPARSE, 50, random_placement=True),
    _level(
        "rand_very_dense", "11x11, one reward that jumps", 11, RAND_VERY_DENSE, 2000, random_placement=True
    ),
)

SMALL = GridSpec(size=(4, 6), objects=_objects(3), count=(1, 3), steps=(20, 100), walls=7)
MEDIUM = GridSpec(size=(6, 8), objects=_objects(4), count=(2, 4), steps=(100, 250), walls=10)
LARGE = GridSpec(size=(8, 10), objects=_objects(5), count=(2, 5), steps=(250, 750), walls=15)
ALL = GridSpec(size=(4, 10), objects=_objects(5), count=(1, 5), steps=(20, 750), walls=15)
MAZES = GridSpec(
    size=(13, 13),
    objects=_objects(3, other_rewards=(0.0, 1.0)),
    count=(3, 3),
    steps=(25, 50),
    walls=tuple(maps.MAZES.values()),
)

_all = _distribution("all", "4x4 to 10x10, 1 to 5 objects", ALL, (1000, 1000))


def _all_with_horizon(name: str, low: int, high: int) -> LevelDistribution:
    """The distribution `all`, and its very environment, with other horizons."""
    horizons = f"{low}" if low == high else f"{low} to {high}"
    description = f"{_all.description}, horizon {horizons}"
    return dataclasses.replace(_all, name=name, description=description).with_horizon(low, high)


DISTRIBUTIONS: Mapping[str, LevelDistribution] = {
    distribution.name: distribution
    for distribution in (
        *TABULAR_LEVELS,
        *RANDOM_LEVELS,
        _distribution("small", "4x4 to 6x6, 1 to 3 objects, up to 100 steps", SMALL, (250, 250)),
        _distribution("medium", "6x6 to 8x8, 2 to 4 objects, up to 250 steps", MEDIUM, (1000, 1000)),
        _distribution("large", "8x8 to 10x10, 2 to 5 objects, up to 750 steps", LARGE, (2500, 2500)),
        _all,
        _all_with_horizon("all_shortlife", 250, 250),
        _all_with_horizon("all_randlife", 50, 250),
        _all_with_horizon("all_vrandlife", 10, 250),
        _distribution("mazes", "13x13 mazes of our own drawing, 25 to 50 steps", MAZES, (2500, 2500)),
    )
}
"""Every level and distribution of this family, by name."""
