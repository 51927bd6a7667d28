"""The gridworld once more, in plain Python: the yardstick for the one in JAX.

Written from the rules, with sets, dictionaries and loops, and no code
shared with `envs.gridworld`. Only two conventions are taken over from there, so that both can be
driven by the same uniform numbers and compared number by number: which draw decides what, and how a
draw picks one of the free cells (the free cells in order, each as likely as the others).

Draws of a step: [0] the episode's end; [1 + i] the return of object i; with random placement also
[1 + objects + i] the new cell of object i. Draws of a reset with random placement: [0] the agent's
cell, [1 + i] that of object i.
"""

from dataclasses import dataclass

UP, DOWN, LEFT, RIGHT, STAY = (-1, 0), (1, 0), (0, -1), (0, 1), (0, 0)
ACTIONS = [UP, DOWN, LEFT, RIGHT, STAY, (-1, -1), (-1, 1), (1, -1), (1, 1)]


@dataclass
class Thing:
    """One object of a level."""

    reward: float
    end_prob: float
    respawn_prob: float


@dataclass
class World:
    """A level: `side` is that of the whole grid; cells are (row, column) pairs."""

    side: int
    slots: int
    limit: int
    open_cells: set
    start: tuple
    homes: dict  # object -> its own cell
    things: dict  # object -> Thing; objects are numbered, unused numbers are missing
    random_placement: bool = False


@dataclass
class Situation:
    """A moment of an episode: `places` has the objects that exist now."""

    time: int
    agent: tuple
    places: dict


def pick_cell(world, draw, occupied):
    free = sorted(world.open_cells - set(occupied))
    if not free:
        return (0, 0)
    return free[int(draw * len(free))]


def reset(world, noise):
    if not world.random_placement:
        return Situation(0, world.start, dict(world.homes))
    agent = pick_cell(world, noise[0], [])
    places = {}
    for i in sorted(world.things):
        places[i] = pick_cell(world, noise[1 + i], [agent, *places.values()])
    return Situation(0, agent, places)


def step(world, situation, action, noise):
    """The next situation, the reward, and whether the episode terminated and was truncated."""
    row, column = situation.agent
    target = (row + ACTIONS[action][0], column + ACTIONS[action][1])
    agent = target if target in world.open_cells else situation.agent

    collected = [i for i, cell in situation.places.items() if cell == agent]
    places = {i: cell for i, cell in situation.places.items() if i not in collected}
    reward = sum(world.things[i].reward for i in collected)

    for i, thing in sorted(world.things.items()):
        was_missing = i not in situation.places
        if was_missing and noise[1 + i] < thing.respawn_prob:
            if world.random_placement:
                draw = noise[1 + world.slots + i]
                places[i] = pick_cell(world, draw, [agent, *places.values()])
            else:
                places[i] = world.homes[i]

    terminated = any(noise[0] < world.things[i].end_prob for i in collected)
    time = situation.time + 1
    return Situation(time, agent, places), reward, terminated, time >= world.limit


def tabular_observation(world, situation):
    row, column = situation.agent
    mask = sum(2**i for i in situation.places)
    return row * world.side + column + world.side * world.side * mask


def planes_observation(world, situation):
    """Nested lists: row, column, plane (agent, walls, one for each object slot)."""
    image = []
    for row in range(world.side):
        line = []
        for column in range(world.side):
            cell = (row, column)
            here = [situation.places.get(i) == cell for i in range(world.slots)]
            line.append([float(x) for x in (situation.agent == cell, cell not in world.open_cells, *here)])
        image.append(line)
    return image
