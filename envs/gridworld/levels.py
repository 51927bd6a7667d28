"""The gridworld levels and level distributions of the LPG paper and its successors.

Horizons are in agent updates, everything else in environment steps. How a level is sampled from a
row of these tables is in `spec`.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import jax.numpy as jnp
from jaxtyping import Array, Key

from rl_discovery.envs.gridworld import edits, maps, mazes
from rl_discovery.envs.gridworld.env import GridLevel
from rl_discovery.envs.gridworld.spec import GridSpec, ObjectSpec
from rl_discovery.envs.levels import LevelDistribution


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
        name=name,
        description=description,
        env=spec.env(),
        sample_params=spec.sample,
        horizon=horizon,
        edit=_edit(spec),
        statistics=statistics,
    )


def _edit(spec: GridSpec) -> Callable[[Key[Array, ""], GridLevel], GridLevel] | None:
    """Edits within the ranges of `spec`; None where they leave nothing to edit."""
    return functools.partial(edits.edit, spec) if edits.kinds(spec) else None


def statistics(level: GridLevel) -> dict[str, Array]:
    """Statistics for metrics: size, wall cells inside the level, objects in use, time limit in steps."""
    outside = level.walls.shape[-1] - level.size**2
    return {
        "size": level.size,
        "walls": jnp.sum(level.walls) - outside,
        "objects": jnp.sum(level.object_active),
        "steps": level.max_steps_in_episode,
    }


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
PERFECT_MAZES = dataclasses.replace(MAZES, walls=mazes.perfect)

_all = _distribution("all", "4x4 to 10x10, 1 to 5 objects", ALL, (1000, 1000))


def _all_with_horizon(name: str, low: int, high: int) -> LevelDistribution:
    """The distribution `all`, and its very environment, with other horizons."""
    horizons = f"{low}" if low == high else f"{low} to {high}"
    description = f"{_all.description}, horizon {horizons}"
    return dataclasses.replace(_all, name=name, description=description).with_horizon(low, high)


_mazes = _distribution("mazes", "13x13 mazes of our own drawing, 25 to 50 steps", MAZES, (2500, 2500))


def _as_mazes(name: str, description: str, spec: GridSpec) -> LevelDistribution:
    """The distribution `mazes`, and its very environment, with other walls."""
    return dataclasses.replace(
        _mazes, name=name, description=description, sample_params=spec.sample, edit=_edit(spec)
    )


def _design(name: str, text: str) -> LevelDistribution:
    """One of the designs of `mazes` alone."""
    spec = dataclasses.replace(MAZES, walls=(text,))
    return _as_mazes(name, f"the 13x13 maze {name.replace('_', ' ')!r} of `mazes`", spec)


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
        _mazes,
        *(_design(name, text) for name, text in maps.MAZES.items()),
        _as_mazes("perfect_mazes", "13x13 random mazes, one way between any two cells", PERFECT_MAZES),
    )
}
"""Every level and distribution of this family, by name."""
