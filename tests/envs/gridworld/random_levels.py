"""Random gridworld levels for tests, made with numpy alone."""

import jax
import numpy as np

from rl_discovery.envs.gridworld.env import GridLevel
from tests.envs.gridworld import naive


def random_level(rng, env, *, longest=12, probs=(0.0, 0.1, 0.5, 0.9, 1.0)):
    """One level: any size, random walls, any of the object slots in use; one in ten walls the agent in."""
    size = int(rng.integers(2, env.max_size + 1))
    wall_share = 1.0 if rng.random() < 0.1 else rng.uniform(0.0, 0.5)
    walls = np.ones((env.max_size, env.max_size), bool)
    walls[:size, :size] = rng.random((size, size)) < wall_share
    inside = np.arange(env.cells).reshape(walls.shape)[:size, :size].reshape(-1)
    slots = env.max_objects
    count = int(rng.integers(0, min(slots, inside.size - 1) + 1))
    start, *cells = rng.permutation(inside)[: count + 1]
    active = rng.permutation(np.arange(slots) < count)
    object_cells = np.zeros(slots, np.int32)
    object_cells[active] = cells
    walls = walls.reshape(-1)
    walls[[start, *cells]] = False
    return GridLevel(
        max_steps_in_episode=np.int32(rng.integers(1, longest + 1)),
        size=np.int32(size),
        walls=walls,
        start=np.int32(start),
        object_cells=object_cells,
        object_rewards=rng.uniform(-1, 1, slots).astype(np.float32),
        end_probs=rng.choice(probs, slots).astype(np.float32),
        respawn_probs=rng.choice(probs, slots).astype(np.float32),
        object_active=active,
    )


def hand_made_level(env, rows, **objects):
    """A level from a drawing: `#` wall, `A` agent, digits objects, `.` floor, the rest wall."""
    size = max(len(rows), *map(len, rows))
    found = {
        symbol: row * env.max_size + column
        for row, line in enumerate(rows)
        for column, symbol in enumerate(line)
    }
    walls = np.ones((env.max_size, env.max_size), bool)
    for row, line in enumerate(rows):
        walls[row, : len(line)] = [symbol == "#" for symbol in line]
    slots = range(env.max_objects)
    level = GridLevel(
        max_steps_in_episode=np.int32(10),
        size=np.int32(size),
        walls=walls.reshape(-1),
        start=np.int32(found["A"]),
        object_cells=np.array([found.get(str(i), 0) for i in slots], np.int32),
        object_rewards=np.ones(env.max_objects, np.float32),
        end_probs=np.zeros(env.max_objects, np.float32),
        respawn_probs=np.zeros(env.max_objects, np.float32),
        object_active=np.array([str(i) in found for i in slots]),
    )
    return level.replace(
        **{name: np.asarray(value, np.asarray(getattr(level, name)).dtype) for name, value in objects.items()}
    )


def stack(levels):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *levels)


def naive_world(env, level):
    """The same level for the naive simulator."""

    def pair(cell):
        return divmod(int(cell), env.max_size)

    active = [i for i in range(env.max_objects) if level.object_active[i]]
    return naive.World(
        side=env.max_size,
        slots=env.max_objects,
        limit=int(level.max_steps_in_episode),
        open_cells={pair(cell) for cell in range(env.cells) if not level.walls[cell]},
        start=pair(level.start),
        homes={i: pair(level.object_cells[i]) for i in active},
        things={
            i: naive.Thing(
                float(level.object_rewards[i]), float(level.end_probs[i]), float(level.respawn_probs[i])
            )
            for i in active
        },
        random_placement=env.random_placement,
    )
