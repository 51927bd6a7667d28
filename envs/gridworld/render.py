"""Pictures of gridworld levels, and of an agent's way through them, as RGB arrays.

Everything is drawn from signed distances to simple shapes in plain numpy, with smooth edges, so
that reports and notebooks need no graphics library. A path fades from its start to its end.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from rl_discovery.envs.gridworld.env import GridLevel, GridState, GridWorld

Picture: TypeAlias = npt.NDArray[np.float64]
Colour: TypeAlias = tuple[float, float, float]
# Distance in pixels to a shape's edge (negative inside) from pixels at (row, column) offsets.
Shape: TypeAlias = Callable[[npt.NDArray[np.float64], npt.NDArray[np.float64]], npt.NDArray[np.float64]]

FLOOR: Colour = (248, 248, 246)
GRID_LINE: Colour = (228, 229, 231)
WALL: Colour = (52, 58, 70)
AGENT: Colour = (37, 99, 235)
PATH: Colour = (79, 70, 190)
POSITIVE: Colour = (22, 140, 74)
NEGATIVE: Colour = (205, 45, 50)
OUTLINE: Colour = (255, 255, 255)
# From this probability on to end the episode, an object wears a ring.
RING_FROM = 0.5


def render(
    env: GridWorld,
    level: GridLevel,
    state: GridState | None = None,
    path: Sequence[int] | None = None,
    *,
    cell_pixels: int = 24,
) -> npt.NDArray[np.uint8]:
    """Draws a level: its walls, objects, agent and, if given, a path.

    Objects are discs, green for a positive and red for a negative reward, larger and stronger the
    larger the reward; one that probably ends the episode wears a ring of its colour. The agent is
    a blue diamond.

    Args:
        env: the environment of the level.
        level: one level; only its own `size x size` part is drawn.
        state: agent and objects as in this state; objects that are away leave a faint dot. Without
            it they are shown as an episode begins (not at all, where placement is random).
        path: cells in the order of visits; strongest at its start. Cells that do not touch, as
            after a reset, are not connected.
        cell_pixels: side of a cell in pixels.

    Returns:
        An image `(size * cell_pixels, size * cell_pixels, 3)`.

    Raises:
        ValueError: `cell_pixels` is less than 4.
    """
    if cell_pixels < 4:
        raise ValueError(f"cell_pixels must be at least 4, not {cell_pixels}")
    picture = _floor_and_walls(env, level, cell_pixels)
    if path is not None:
        _draw_path(picture, env, path, cell_pixels)
    if state is None and env.random_placement:
        return _to_bytes(picture)
    _draw_objects(picture, env, level, state, cell_pixels)
    agent = level.start if state is None else state.cell
    centre = _centre(env, int(agent), cell_pixels)
    _draw(picture, centre, _diamond(0.40 * cell_pixels), OUTLINE)
    _draw(picture, centre, _diamond(0.32 * cell_pixels), AGENT)
    return _to_bytes(picture)


def _floor_and_walls(env: GridWorld, level: GridLevel, cell_pixels: int) -> Picture:
    """The empty level, with thin lines between open cells."""
    size = int(level.size)
    walls = np.asarray(level.walls).reshape(env.max_size, env.max_size)[:size, :size]
    blocked = walls.repeat(cell_pixels, 0).repeat(cell_pixels, 1)
    on_line = np.zeros(size * cell_pixels, bool)
    on_line[cell_pixels::cell_pixels] = True
    lines = on_line[:, None] | on_line[None]
    picture = np.where(lines[..., None], np.array(GRID_LINE), np.array(FLOOR))
    return np.where(blocked[..., None], np.array(WALL), picture).astype(float)


def _draw_objects(
    picture: Picture, env: GridWorld, level: GridLevel, state: GridState | None, cell_pixels: int
) -> None:
    """A disc for each object, or a faint dot for one that is away."""
    active = np.asarray(level.object_active)
    rewards = np.asarray(level.object_rewards, float)
    moved = None if state is None else state.object_cells
    cells = np.asarray(level.object_cells if moved is None else moved)
    largest = max(1.0, float(np.abs(rewards[active]).max(initial=0.0)))
    for i in np.flatnonzero(active):
        strength = abs(rewards[i]) / largest
        colour = _tint(POSITIVE if rewards[i] >= 0 else NEGATIVE, 0.35 + 0.65 * strength)
        centre = _centre(env, int(cells[i]), cell_pixels)
        if state is not None and not (int(state.present) >> int(i)) & 1:
            if moved is None:  # with random placement nobody knows where it will be
                _draw(picture, centre, _disc(0.1 * cell_pixels), _tint(colour, 0.6))
            continue
        _draw(picture, centre, _disc((0.16 + 0.14 * strength) * cell_pixels), colour)
        if level.end_probs[i] >= RING_FROM:
            _draw(picture, centre, _ring(0.41 * cell_pixels, 0.07 * cell_pixels), colour)


def _draw_path(picture: Picture, env: GridWorld, path: Sequence[int], cell_pixels: int) -> None:
    """A line through the cells. Where it crosses itself, the strongest passage counts."""
    opacity = np.zeros(picture.shape[:2])
    steps = list(itertools.pairwise(path)) or [(cell, cell) for cell in path]
    for index, (before, after) in enumerate(steps):
        begin, end = (np.array(_centre(env, int(cell), cell_pixels)) for cell in (before, after))
        if np.abs(end - begin).max() > cell_pixels:
            begin = end
        box, offsets = _window(opacity.shape, (begin + end) / 2, 1.2 * cell_pixels)
        shape = _segment((end - begin) / 2, 0.07 * cell_pixels)
        strength = 1.0 - 0.75 * index / max(1, len(steps) - 1)
        opacity[box] = np.maximum(opacity[box], strength * _coverage(shape(*offsets)))
    picture += opacity[..., None] * (np.array(PATH) - picture)


def _draw(picture: Picture, centre: tuple[float, float], shape: Shape, colour: Colour) -> None:
    """Lays a shape over the picture, in place."""
    box, offsets = _window(picture.shape[:2], centre, reach=picture.shape[0])
    cover = _coverage(shape(*offsets))
    picture[box] += cover[..., None] * (np.array(colour) - picture[box])


def _window(shape, centre, reach):
    """The part of a picture within `reach` pixels of `centre`, and its pixels' offsets from there."""
    bounds = [
        (max(0, int(middle - reach)), min(length, int(middle + reach) + 1))
        for middle, length in zip(centre, shape, strict=True)
    ]
    rows, columns = (np.arange(low, high) + 0.5 for low, high in bounds)
    box = tuple(slice(low, high) for low, high in bounds)
    return box, ((rows - centre[0])[:, None], (columns - centre[1])[None])


def _centre(env: GridWorld, cell: int, cell_pixels: int) -> tuple[float, float]:
    """Pixel row and column of a cell's middle; half a pixel of grid line lies above and left of it."""
    row, column = divmod(cell, env.max_size)
    return (row + 0.5) * cell_pixels + 0.5, (column + 0.5) * cell_pixels + 0.5


def _tint(colour: Colour, strength: float) -> Colour:
    """A paler colour, as if it lay thinly on the floor (0: the floor's own)."""
    red, green, blue = (floor + strength * (own - floor) for own, floor in zip(colour, FLOOR, strict=True))
    return red, green, blue


def _coverage(distance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """How much of each pixel a shape covers: the edge is one pixel wide."""
    return np.clip(0.5 - distance, 0.0, 1.0)


def _disc(radius: float) -> Shape:
    return lambda rows, columns: np.hypot(rows, columns) - radius


def _ring(radius: float, width: float) -> Shape:
    return lambda rows, columns: np.abs(np.hypot(rows, columns) - radius) - width / 2


def _diamond(radius: float) -> Shape:
    return lambda rows, columns: (np.abs(rows) + np.abs(columns) - radius) / np.sqrt(2)


def _segment(half: npt.NDArray[np.float64], radius: float) -> Shape:
    """A line with round ends from `-half` to `half`."""
    length = max(float(half @ half), 1e-9)

    def distance(rows, columns):
        along = np.clip((rows * half[0] + columns * half[1]) / length, -1.0, 1.0)
        return np.hypot(rows - along * half[0], columns - along * half[1]) - radius

    return distance


def _to_bytes(picture: Picture) -> npt.NDArray[np.uint8]:
    return np.round(picture).astype(np.uint8)
