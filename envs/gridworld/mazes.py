"""Random perfect mazes: between any two free cells there is exactly one way.

Rooms are the cells in even rows and even columns. Any two neighbouring rooms have a cell between
them, and the cells that are opened make a spanning tree of the rooms: the one of least weight, by
Prim's algorithm, where every such cell has a random weight.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int


def perfect(noise: Float[Array, " cells"]) -> Bool[Array, " cells"]:
    """The walls of a perfect maze, under `jit` and `vmap`.

    Args:
        noise: a uniform draw for each cell of a square with an odd side, 3 or more.

    Returns:
        True where there is a wall.

    Raises:
        ValueError: the cells are not those of such a square.
    """
    side = math.isqrt(noise.size)
    if side**2 != noise.size or side % 2 == 0 or side < 3:
        raise ValueError(f"a perfect maze needs 9, 25, 49 ... cells (an odd side), not {noise.size}")
    rooms, doors, ends = _layout(side)
    weights = noise[doors]

    def open_one_door(_, maze):
        """Opens the lightest door that leads from a room that is reached to one that is not."""
        reached, walls = maze
        leads_on = reached[ends[:, 0]] != reached[ends[:, 1]]
        door = jnp.argmin(jnp.where(leads_on, weights, jnp.inf))
        return reached.at[ends[door]].set(True), walls.at[doors[door]].set(False)

    reached = jnp.zeros(noise.size, bool).at[0].set(True)
    walls = jnp.ones(noise.size, bool).at[rooms].set(False)
    return jax.lax.fori_loop(0, rooms.size - 1, open_one_door, (reached, walls))[1]


def _layout(side: int) -> tuple[Int[Array, " rooms"], Int[Array, " doors"], Int[Array, "doors 2"]]:
    """The rooms' cells, the cells between two rooms, and which two."""
    cells = np.arange(side * side, dtype=np.int32).reshape(side, side)
    rooms = cells[::2, ::2].ravel()
    between_columns, between_rows = cells[::2, 1::2].ravel(), cells[1::2, ::2].ravel()
    doors = np.concatenate([between_columns, between_rows])
    step = np.where(np.arange(doors.size) < between_columns.size, 1, side).astype(np.int32)
    return jnp.array(rooms), jnp.array(doors), jnp.array(np.stack([doors - step, doors + step], axis=1))
