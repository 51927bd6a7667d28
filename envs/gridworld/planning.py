"""Exact expected returns of gridworld levels by finite-horizon dynamic programming.

`expected_returns` gives the two ends of the scale on which evaluation normalises scores: the expected
return of the best policy on a level, and that of the uniformly random one. It works on levels with
fixed placement, whose states (cell, mask of present objects) are few enough to enumerate.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from rl_discovery.envs.gridworld.env import GridLevel, GridWorld

# Stands for the value of a wall cell. Finite, because probability zero times infinity is not a number.
UNREACHABLE = -1e30
# The rows of the value tensor.
OPTIMAL, RANDOM = 0, 1


def expected_returns(
    env: GridWorld, levels: GridLevel, *, chunk: int = 16
) -> tuple[Float[Array, " levels"], Float[Array, " levels"]]:
    """Expected undiscounted return of one episode under the best and under the random policy.

    The optimal policy knows how many steps are left, so no agent has a higher expectation. Levels
    are solved in chunks of similar step limit; a chunk takes as many steps as its longest level.

    Args:
        env: the environment, with fixed placement.
        levels: a batch of levels, leading axis first; agents start on an open cell.
        chunk: levels solved at a time. More need more memory: a chunk of 16 levels of 11 x 11
            cells and 5 objects takes about 4 MB, of 9 x 9 cells and 7 objects 15 MB.

    Returns:
        The optimal and the uniformly random policy's return, one number per level.

    Raises:
        ValueError: objects are placed at random, or `chunk` is not positive.
    """
    if env.random_placement:
        raise ValueError("exact planning needs fixed placement: this environment places objects at random")
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1, not {chunk}")
    returns = _solve(env, levels, chunk)
    return returns[:, OPTIMAL], returns[:, RANDOM]


@functools.partial(jax.jit, static_argnums=(0, 2))
def _solve(env: GridWorld, levels: GridLevel, chunk: int) -> Float[Array, "levels 2"]:
    return in_chunks(functools.partial(_solve_chunk, env), levels, chunk)


def in_chunks(solve: Callable[..., Array], levels: GridLevel, chunk: int, *tables: Any) -> Array:
    """Solves chunk by chunk in order of the step limit, so that short levels do not wait for long ones.

    Args:
        solve: from a chunk of levels, and of each table, to an array with leading axis `chunk`.
        levels: a batch of levels.
        chunk: levels at a time, or all where there are fewer.
        tables: more of each level, leading axis first; None stays None.
    """
    count = levels.start.shape[0]
    chunk = min(chunk, count)
    order = jnp.argsort(levels.max_steps_in_episode)
    # The last chunk is filled up with copies of the longest level, which cost no further steps.
    filled = jnp.pad(order, (0, -count % chunk), mode="edge").reshape(-1, chunk)
    chunks = jax.tree.map(lambda leaf: leaf[filled], (levels, *tables))
    solutions = jax.lax.map(lambda mine: solve(*mine), chunks)
    solutions = solutions.reshape(-1, *solutions.shape[2:])[:count]
    return jnp.zeros_like(solutions).at[order].set(solutions)


class Model(NamedTuple):
    """What the recursion needs to know of a level. A mask's bit i says that object i is present.

    Attributes:
        object_cells: cell of each object; past the end for unused slots.
        respawn: probability of each next mask (row: mask before) on a cell without objects.
        collect: the same for arriving on each object's cell.
        reward: of arriving on an object's cell with a mask.
        goes_on: probability that the episode goes on after that.
        walls: True where nobody can stand.
        staying: number of actions that leave the agent where it is.
    """

    object_cells: Int[Array, " objects"]
    respawn: Float[Array, "masks masks"]
    collect: Float[Array, "objects masks masks"]
    reward: Float[Array, "objects masks"]
    goes_on: Float[Array, "objects masks"]
    walls: Bool[Array, " cells"]
    staying: Float[Array, " cells"]


def _solve_chunk(env: GridWorld, levels: GridLevel) -> Float[Array, "chunk 2"]:
    models = jax.vmap(functools.partial(model_of, env))(levels)
    back_up = jax.vmap(functools.partial(_backup, env))
    return count_steps(env, levels, 2, lambda values: back_up(models, values))


def count_steps(
    env: GridWorld,
    levels: GridLevel,
    quantities: int,
    back_up: Callable[[Float[Array, "chunk Q cells masks"]], Float[Array, "chunk Q cells masks"]],
) -> Float[Array, "chunk Q"]:
    """Backward recursion over the number of steps left, for all levels of a chunk together.

    Args:
        env: the environment.
        levels: the chunk.
        quantities: Q, rows of the value tensor.
        back_up: from all values to those with one more step left.

    Returns:
        The values of the first state, with as many steps left as a level's episode may have.
    """
    limits = levels.max_steps_in_episode
    bits = 1 << jnp.arange(env.max_objects)
    first_mask = jnp.sum(jnp.where(levels.object_active, bits[None], 0), axis=1)

    def add_step(carry):
        steps_left, values, answers = carry
        values = back_up(values)
        first = jax.vmap(lambda value, cell, mask: value[:, cell, mask])(values, levels.start, first_mask)
        # A level shorter than the chunk's longest has its answer as soon as its own limit is reached.
        answers = jnp.where((limits == steps_left + 1)[:, None], first, answers)
        return steps_left + 1, values, answers

    count = limits.shape[0]
    values = jnp.zeros((count, quantities, env.cells, 1 << env.max_objects))
    carry = (jnp.int32(0), values, jnp.zeros((count, quantities)))
    return jax.lax.while_loop(lambda carry: carry[0] < jnp.max(limits), add_step, carry)[2]


def _backup(
    env: GridWorld, model: Model, values: Float[Array, "2 cells masks"]
) -> Float[Array, "2 cells masks"]:
    """Values with one more step left, of the optimal policy and of the random one."""
    # First the value of arriving on each cell. What returns does not depend on the cell, so one
    # matrix product covers all cells; those of objects, where something is collected, replace theirs.
    exact = functools.partial(jnp.einsum, precision="highest")  # no reduced precision on accelerators
    arriving = exact("pcn,mn->pcm", values, model.respawn)
    at_objects = values.at[:, model.object_cells].get(mode="clip")
    after = exact("pkn,kmn->pkm", at_objects, model.collect)
    collecting = model.reward[None] + model.goes_on[None] * after
    arriving = arriving.at[:, model.object_cells].set(collecting, mode="drop")
    # Then the choice of the action. Staying is always possible, and bumping into a wall is staying.
    walls = model.walls[:, None]
    best = jnp.where(walls, UNREACHABLE, arriving[OPTIMAL])
    for target in move_targets(env, best, UNREACHABLE):
        best = jnp.maximum(best, target)
    open_values = jnp.where(walls, 0.0, arriving[RANDOM])
    total = model.staying[:, None] * open_values
    for target in move_targets(env, open_values, 0.0):
        total += target
    return jnp.stack([best, total / env.num_actions])


def move_targets(
    env: GridWorld, table: Float[Array, "cells x"], outside: float
) -> Iterator[Float[Array, "cells x"]]:
    """For each action that moves, the table's row at the cell it leads to (`outside` past the border)."""
    size = env.max_size
    bordered = jnp.pad(
        table.reshape(size, size, -1), ((1, 1), (1, 1), (0, 0)), constant_values=jnp.float32(outside)
    )
    for down, right in env.moves:
        if (down, right) != (0, 0):
            shifted = bordered[1 + down : 1 + down + size, 1 + right : 1 + right + size]
            yield shifted.reshape(table.shape)


def model_of(env: GridWorld, level: GridLevel) -> Model:
    """Tables of one level: what arriving on a cell pays, and what exists after it."""
    slots = range(env.max_objects)
    masks = jnp.arange(1 << env.max_objects)
    exists = [(masks >> i) & 1 == 1 for i in slots]
    respawn_probs = jnp.where(level.object_active, level.respawn_probs, 0.0)

    def next_mask_probs(collected: Bool[Array, " objects"]) -> Float[Array, "masks masks"]:
        """The objects on the agent's cell are taken if present; each missing one may return."""
        probs = jnp.ones((masks.size, masks.size))
        for i in slots:
            returns = jnp.where(exists[i], respawn_probs[i], 1 - respawn_probs[i])
            remains = jnp.where(exists[i] == collected[i], 0.0, 1.0)
            probs *= jnp.where(exists[i][:, None], remains[None], returns[None])
        return probs

    same_cell = level.object_cells[:, None] == level.object_cells[None]
    reward = jnp.zeros((env.max_objects, masks.size))
    end_prob = jnp.zeros_like(reward)
    for i in slots:
        collected = same_cell[:, i, None] & exists[i][None]
        reward += jnp.where(collected, level.object_rewards[i], 0.0)
        end_prob = jnp.where(collected, level.end_probs[i], end_prob)
    open_cells = jnp.where(level.walls, 0.0, 1.0)[:, None]
    leaving = functools.reduce(jnp.add, move_targets(env, open_cells, 0.0))[:, 0]
    return Model(
        # Past the end for unused slots: whatever cell they name, nothing lies there.
        object_cells=jnp.where(level.object_active, level.object_cells, env.cells),
        respawn=next_mask_probs(jnp.zeros(env.max_objects, bool)),
        collect=jax.vmap(next_mask_probs)(same_cell),
        reward=reward,
        goes_on=1 - end_prob,
        walls=level.walls,
        staying=env.num_actions - leaving,
    )
