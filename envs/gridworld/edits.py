"""Small random changes of gridworld levels, as in ACCEL (Parker-Holder et al. 2022).

Every function here changes a level within the ranges of the `GridSpec` that it was sampled from, except for
the number of walls, which has no bounds. Where a change is impossible (no free cell, no object), the level
stays as it is. The curriculum calls `edit` through its level distribution.
"""

import functools
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from rl_discovery.envs.gridworld.env import GridLevel
from rl_discovery.envs.gridworld.spec import GridSpec, choose_cells, log_uniform, uniform
from rl_discovery.envs.levels import log_uniform_int

Edit: TypeAlias = Callable[[GridSpec, Key[Array, ""], GridLevel], GridLevel]


def edit(spec: GridSpec, key: Key[Array, ""], level: GridLevel) -> GridLevel:
    """One change, of a kind chosen uniformly among those that the ranges of `spec` allow.

    Args:
        spec: what the level was sampled from.
        key: decides what changes, and to what.
        level: one level; `vmap` for a batch of them.

    Returns:
        The changed level.

    Raises:
        ValueError: the ranges allow no change.
    """
    choices = kinds(spec)
    if not choices:
        raise ValueError("every range of this specification is a single value: there is nothing to edit")
    kind_key, edit_key = jax.random.split(key)
    kind = jax.random.randint(kind_key, (), 0, len(choices))
    branches = [functools.partial(choice, spec) for choice in choices]
    return jax.lax.switch(kind, branches, edit_key, jax.tree.map(jnp.asarray, level))


def kinds(spec: GridSpec) -> tuple[Edit, ...]:
    """The kinds of edits that the ranges of `spec` allow."""
    ranges = [(slot.reward, slot.end_prob, slot.respawn_prob) for slot in spec.objects]
    allowed = {
        toggle_wall: isinstance(spec.walls, int) and spec.walls > 0,
        # With random placement, every episode places agent and objects anew.
        move_start: not spec.random_placement,
        move_object: not spec.random_placement and spec.count[1] > 0,
        redraw_object: any(low < high for slot in ranges for low, high in slot),
        add_or_remove_object: spec.count[0] < spec.count[1],
        redraw_steps: spec.steps[0] < spec.steps[1],
    }
    return tuple(kind for kind, possible in allowed.items() if possible)


def toggle_wall(spec: GridSpec, key: Key[Array, ""], level: GridLevel) -> GridLevel:
    """Adds a wall on a random free cell or removes one, equally likely where both are possible.

    Whether to add or to remove is drawn before the cell: toggling random cells would in time fill half of
    every level with walls.
    """
    coin_key, cell_key = jax.random.split(key)
    inside = spec.inside(level.size)
    can_remove, can_add = inside & level.walls, _free(level)
    remove = _coin(coin_key, jnp.any(can_remove), jnp.any(can_add))
    cell, exists = _random_cell(cell_key, jnp.where(remove, can_remove, can_add))
    return level.replace(walls=level.walls.at[cell].set(level.walls[cell] ^ exists))


def move_start(spec: GridSpec, key: Key[Array, ""], level: GridLevel) -> GridLevel:
    """Moves the agent's start to another free cell."""
    del spec
    cell, exists = _random_cell(key, _free(level))
    return level.replace(start=jnp.where(exists, cell, level.start))


def move_object(spec: GridSpec, key: Key[Array, ""], level: GridLevel) -> GridLevel:
    """Moves one object to another free cell."""
    slot_key, cell_key = jax.random.split(key)
    slot = _random_object(spec, slot_key, level)
    cell, exists = _random_cell(cell_key, _free(level))
    return level.replace(object_cells=jnp.where(slot & exists, cell, level.object_cells))


def redraw_object(spec: GridSpec, key: Key[Array, ""], level: GridLevel) -> GridLevel:
    """Redraws reward and probabilities of one object, from its slot's ranges."""
    slot_key, draw_key = jax.random.split(key)
    return _with_properties(spec, draw_key, level, _random_object(spec, slot_key, level))


def add_or_remove_object(spec: GridSpec, key: Key[Array, ""], level: GridLevel) -> GridLevel:
    """Adds an object after the last one or removes the last one, equally likely where both are possible."""
    coin_key, cell_key, draw_key = jax.random.split(key, 3)
    count = jnp.sum(level.object_active)
    cell, exists = _random_cell(cell_key, _free(level))
    can_remove, can_add = count > spec.count[0], exists & (count < spec.count[1])
    remove = _coin(coin_key, can_remove, can_add)
    slots = jnp.arange(len(spec.objects))
    added = (slots == count) & can_add & ~remove
    removed = (slots == count - 1) & can_remove & remove
    level = _with_properties(spec, draw_key, level, added)
    return level.replace(
        object_active=(level.object_active | added) & ~removed,
        object_cells=jnp.where(removed, 0, jnp.where(added, cell, level.object_cells)),
        object_rewards=jnp.where(removed, 0, level.object_rewards),
        end_probs=jnp.where(removed, 0, level.end_probs),
        respawn_probs=jnp.where(removed, 0, level.respawn_probs),
    )


def redraw_steps(spec: GridSpec, key: Key[Array, ""], level: GridLevel) -> GridLevel:
    """Redraws the time limit of an episode."""
    draw = jax.random.uniform(key, (), jnp.float32)
    return level.replace(max_steps_in_episode=log_uniform_int(draw, *spec.steps))


def _free(level: GridLevel) -> Bool[Array, " cells"]:
    """The cells without a wall, the agent's start or an object."""
    slots = jnp.where(level.object_active, level.object_cells, level.walls.size)
    return (~level.walls).at[level.start].set(False).at[slots].set(False, mode="drop")


def _random_cell(
    key: Key[Array, ""], allowed: Bool[Array, " cells"]
) -> tuple[Int[Array, ""], Bool[Array, ""]]:
    """An allowed cell, uniformly at random, and whether there is any."""
    cells, exists = choose_cells(jax.random.uniform(key, allowed.shape, jnp.float32), allowed, 1)
    return cells[0], exists[0]


def _random_object(spec: GridSpec, key: Key[Array, ""], level: GridLevel) -> Bool[Array, " objects"]:
    """True for the slot of one of the objects in use; False everywhere where there are none."""
    chosen = jax.random.randint(key, (), 0, jnp.maximum(1, jnp.sum(level.object_active)))
    return (jnp.arange(len(spec.objects)) == chosen) & level.object_active


def _coin(key: Key[Array, ""], heads: Bool[Array, ""], tails: Bool[Array, ""]) -> Bool[Array, ""]:
    """True for heads. A fair coin where both sides are possible, otherwise the possible one."""
    return heads & (jax.random.bernoulli(key) | ~tails)


def _with_properties(
    spec: GridSpec, key: Key[Array, ""], level: GridLevel, slots: Bool[Array, " objects"]
) -> GridLevel:
    """The level with new rewards and probabilities in some of its slots."""
    draws: Float[Array, "3 objects"] = jax.random.uniform(key, (3, len(spec.objects)), jnp.float32)
    rewards = uniform(draws[0], [slot.reward for slot in spec.objects])
    end_probs = log_uniform(draws[1], [slot.end_prob for slot in spec.objects])
    respawn_probs = log_uniform(draws[2], [slot.respawn_prob for slot in spec.objects])
    return level.replace(
        object_rewards=jnp.where(slots, rewards, level.object_rewards),
        end_probs=jnp.where(slots, end_probs, level.end_probs),
        respawn_probs=jnp.where(slots, respawn_probs, level.respawn_probs),
    )
