"""Pictures: the right colours in the right cells."""

import numpy as np
import pytest

from rl_discovery.envs.gridworld.env import GridState, GridWorld
from rl_discovery.envs.gridworld.render import AGENT, FLOOR, GRID_LINE, NEGATIVE, POSITIVE, WALL, render
from tests.envs.gridworld.random_levels import hand_made_level

ENV = GridWorld(6, 3)
ROWS = ["A.0.", ".#..", "1.2.", "...."]
REWARDS = {"object_rewards": [1.0, -1.0, 0.2], "end_probs": [0.0, 1.0, 0.0]}


def cell_of(image, row, column, pixels=24):
    return image[row * pixels : (row + 1) * pixels, column * pixels : (column + 1) * pixels].astype(int)


def middle(image, row, column, pixels=24):
    return cell_of(image, row, column, pixels)[pixels // 2, pixels // 2]


def coloured(cell):
    """Pixels that are clearly no shade of grey."""
    return (cell.max(-1) - cell.min(-1) > 40).sum()


@pytest.fixture
def level():
    return hand_made_level(ENV, ROWS, **REWARDS)


@pytest.mark.parametrize("pixels", [4, 9, 24, 40])
def test_only_the_levels_own_part_is_drawn(level, pixels):
    image = render(ENV, level, cell_pixels=pixels)
    assert image.shape == (4 * pixels, 4 * pixels, 3)
    assert image.dtype == np.uint8


def test_walls_are_dark_and_the_floor_is_light(level):
    image = render(ENV, level)
    assert (cell_of(image, 1, 1) == WALL).all()
    assert (cell_of(image, 3, 3)[1:, 1:] == FLOOR).all()
    assert (cell_of(image, 3, 3)[0] == GRID_LINE).all()


def test_objects_are_coloured_by_the_sign_and_size_of_their_reward(level):
    image = render(ENV, level)
    assert tuple(middle(image, 0, 2)) == POSITIVE
    assert tuple(middle(image, 2, 0)) == NEGATIVE
    weak = middle(image, 2, 2)
    assert weak[1] > weak[0]
    assert weak.sum() > sum(POSITIVE)
    assert coloured(cell_of(image, 2, 2)) < coloured(cell_of(image, 0, 2))


def test_an_object_that_ends_the_episode_wears_a_ring(level):
    plain = render(ENV, level.replace(end_probs=np.zeros(3, np.float32)))
    ringed = render(ENV, level)
    # The ring reaches further out than the disc.
    assert (cell_of(plain, 2, 0)[12, 21:23] == FLOOR).all()
    assert (cell_of(ringed, 2, 0)[12, 21:23] != FLOOR).any()
    assert (cell_of(plain, 0, 2) == cell_of(ringed, 0, 2)).all()


def test_the_agent_is_blue_and_where_the_state_has_it(level):
    assert tuple(middle(render(ENV, level), 0, 0)) == AGENT
    state = GridState(time=np.int32(1), cell=np.int32(3 * 6 + 1), present=np.int32(0b111), object_cells=None)
    image = render(ENV, level, state)
    assert tuple(middle(image, 3, 1)) == AGENT
    assert tuple(middle(image, 0, 0)) == FLOOR


def test_a_collected_object_leaves_a_faint_dot(level):
    state = GridState(time=np.int32(1), cell=np.int32(0), present=np.int32(0b110), object_cells=None)
    image = render(ENV, level, state)
    assert 0 < coloured(cell_of(image, 0, 2)) < coloured(cell_of(render(ENV, level), 0, 2)) / 4
    assert middle(image, 0, 2).sum() > sum(POSITIVE)


def test_with_random_placement_objects_are_where_the_state_has_them(level):
    env = GridWorld(6, 3, random_placement=True, observation="planes")
    assert coloured(render(env, level).astype(int)) == 0
    places = np.array([3 * 6, 3 * 6 + 1, 3 * 6 + 2], np.int32)
    state = GridState(time=np.int32(1), cell=np.int32(1), present=np.int32(0b001), object_cells=places)
    image = render(env, level, state)
    assert tuple(middle(image, 0, 1)) == AGENT
    assert tuple(middle(image, 3, 0)) == POSITIVE
    assert coloured(cell_of(image, 3, 1)) == coloured(cell_of(image, 0, 2)) == 0


def test_a_path_is_a_line_that_fades_from_its_start(level):
    path = [3 * 6 + column for column in (0, 1, 2, 3)]
    image, bare = render(ENV, level, path=path), render(ENV, level)
    darkness = [765 - middle(image, 3, column).sum() for column in (1, 2, 3)]
    assert darkness[0] > darkness[1] > darkness[2] > 100
    assert (cell_of(image, 1, 2) == cell_of(bare, 1, 2)).all()
    assert (cell_of(image, 3, 0)[1:6] == cell_of(bare, 3, 0)[1:6]).all()


def test_a_path_does_not_cross_the_picture_where_an_episode_begins_anew(level):
    image = render(ENV, level, path=[3 * 6, 3 * 6 + 3])
    assert (cell_of(image, 3, 1)[1:, 1:] == FLOOR).all()
    assert tuple(middle(image, 3, 3)) != FLOOR


@pytest.mark.parametrize("path", [[], [18], [18, 18, 18]])
def test_a_path_without_movement_is_at_most_a_dot(level, path):
    image, bare = render(ENV, level, path=path), render(ENV, level)
    assert (image != bare).any() == bool(path)
    assert (cell_of(image, 3, 1) == cell_of(bare, 3, 1)).all()


def test_cells_too_small_to_draw_in_are_refused(level):
    with pytest.raises(ValueError, match="not 3"):
        render(ENV, level, cell_pixels=3)
