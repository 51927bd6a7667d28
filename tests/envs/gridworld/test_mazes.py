"""Random perfect mazes are trees of cells."""

import jax
import numpy as np
import pytest

from rl_discovery import envs
from rl_discovery.envs.gridworld import maps, mazes

COUNT = 300


def perfect(side, count=COUNT):
    noise = np.random.default_rng(side).random((count, side * side), np.float32)
    # Equal weights must not make a way too many.
    noise[: count // 3] = noise[: count // 3].round(1)
    walls = jax.jit(jax.vmap(mazes.perfect))(noise)
    return np.asarray(walls).reshape(count, side, side)


def connected(walls):
    """Whether every free cell can be reached from every other, by flooding."""
    free = {(int(row), int(column)) for row, column in np.argwhere(~walls)}
    reached, border = set(), [min(free)]
    while border:
        row, column = border.pop()
        reached.add((row, column))
        near = {(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)}
        border += near & free - reached
    return reached == free


@pytest.mark.parametrize("side", [3, 5, 13])
def test_a_perfect_maze_is_a_tree_of_its_free_cells(side):
    for walls in perfect(side):
        free = ~walls
        neighbours = np.sum(free[1:] & free[:-1]) + np.sum(free[:, 1:] & free[:, :-1])
        assert neighbours == np.sum(free) - 1
        assert connected(walls)


def test_a_perfect_maze_has_all_rooms_and_no_other_open_corners():
    walls = perfect(13)
    assert not walls[:, ::2, ::2].any()
    assert walls[:, 1::2, 1::2].all()


def test_perfect_mazes_differ_and_open_every_door_in_some():
    walls = perfect(13)
    assert len({maze.tobytes() for maze in walls}) == COUNT
    open_doors = (~walls).mean(0)
    doors = np.add.outer(np.arange(13), np.arange(13)) % 2 == 1
    assert open_doors[doors].min() > 0.2
    assert open_doors[doors].max() < 0.95


def test_the_distribution_of_perfect_mazes_draws_new_ones():
    distribution = envs.distribution("gridworld/perfect_mazes")
    levels = jax.jit(jax.vmap(distribution.sample))(jax.random.split(jax.random.key(0), 20)).params
    walls = np.asarray(levels.walls).reshape(20, 13, 13)
    assert len({maze.tobytes() for maze in walls}) == 20
    assert all(connected(maze) for maze in walls)
    assert np.all(np.sum(~walls, axis=(1, 2)) == 2 * 49 - 1)


@pytest.mark.parametrize("cells", [168, 144, 1])
def test_cells_of_no_odd_square_are_refused(cells):
    with pytest.raises(ValueError, match=f"not {cells}"):
        mazes.perfect(np.zeros(cells, np.float32))


def test_the_designs_share_the_environment_of_mazes():
    # So that what is compiled for one design serves all of them.
    names = (*maps.MAZES, "perfect_mazes")
    found = {envs.distribution(f"gridworld/{name}").env for name in names}
    assert found == {envs.distribution("gridworld/mazes").env}
