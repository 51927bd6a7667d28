import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_discovery.envs.gridworld import maps
from rl_discovery.envs.gridworld.levels import DISTRIBUTIONS
from rl_discovery.envs.gridworld.spec import GridSpec, ObjectSpec, choose_cells, log_uniform, uniform

LEVELS = 3000

# The tables of the LPG paper and of GROOVE, written out once more.
# name: size, objects (count, reward, P end, P respawn), steps, horizon
FIXED = {
    "dense": (11, [(2, 1, 0, 0.05), (1, -1, 0.5, 0.1), (1, -1, 0, 0.5)], 500, 2500),
    "sparse": (13, [(1, 1, 1, 0), (1, -1, 1, 0)], 50, 2500),
    "long": (11, [(2, 1, 0, 0.01), (2, -1, 0.5, 1)], 1000, 2500),
    "longer": (9, [(2, 1, 0.1, 0.01), (5, -1, 0.8, 1)], 2000, 2500),
    "long_dense": (11, [(4, 1, 0, 0.005)], 2000, 2500),
    "rand_dense": (11, [(2, 1, 0, 0.05), (1, -1, 0.5, 0.1), (1, -1, 0, 0.5)], 500, 25000),
    "rand_long": (11, [(2, 1, 0, 0.01), (2, -1, 0.5, 1)], 1000, 25000),
    "rand_small": (7, [(2, 1, 0, 0.05), (2, -1, 0.5, 0.1)], 500, 25000),
    "rand_sparse": (7, [(1, 1, 1, 1), (2, -1, 1, 1)], 50, 25000),
    "rand_very_dense": (11, [(1, 1, 0, 1)], 2000, 25000),
}
FIXED_MAPS = {"longer": maps.LONGER, "long_dense": maps.LONG_DENSE, "rand_small": maps.RAND_SMALL}
# name: steps, objects, size, walls, horizon
SAMPLED = {
    "small": ((20, 100), (1, 3), (4, 6), 7, (250, 250)),
    "medium": ((100, 250), (2, 4), (6, 8), 10, (1000, 1000)),
    "large": ((250, 750), (2, 5), (8, 10), 15, (2500, 2500)),
    "all": ((20, 750), (1, 5), (4, 10), 15, (1000, 1000)),
    "all_shortlife": ((20, 750), (1, 5), (4, 10), 15, (250, 250)),
    "all_randlife": ((20, 750), (1, 5), (4, 10), 15, (50, 250)),
    "all_vrandlife": ((20, 750), (1, 5), (4, 10), 15, (10, 250)),
}
MAZES = ("mazes", *maps.MAZES, "perfect_mazes")
SAMPLED |= dict.fromkeys(MAZES, ((25, 50), (3, 3), (13, 13), None, (2500, 2500)))


choose_eleven = jax.jit(functools.partial(choose_cells, count=11))


@functools.cache
def sampled(name):
    """A few thousand levels with their horizons, as numpy arrays."""
    keys = jax.random.split(jax.random.key(0), LEVELS)
    # Without optimisation, which would take most of the time.
    sample = jax.jit(
        jax.vmap(DISTRIBUTIONS[name].sample), compiler_options={"xla_backend_optimization_level": 0}
    )
    return jax.tree.map(np.asarray, sample(keys))


def assert_spans(values, low, high, slack=0.0):
    assert values.min() >= low
    assert values.max() <= high
    assert values.min() <= low + slack
    assert values.max() >= high - slack


def test_the_tables_cover_every_distribution():
    assert set(DISTRIBUTIONS) == {*FIXED, *SAMPLED}


@pytest.mark.slow
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_agent_and_objects_are_on_distinct_free_cells(name):
    levels = sampled(name).params
    rows = np.arange(LEVELS)
    assert not levels.walls[rows, levels.start].any()
    taken = levels.walls.copy()
    taken[rows, levels.start] = True
    for i in range(levels.object_cells.shape[1]):
        cells, active = levels.object_cells[:, i], levels.object_active[:, i]
        assert not (taken[rows, cells] & active).any()
        taken[rows, cells] |= active


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_levels_fit_their_environment(name):
    distribution, levels = DISTRIBUTIONS[name], sampled(name).params
    default = distribution.env.default_params
    assert jax.tree.structure(levels) == jax.tree.structure(default)
    for sample, one in zip(jax.tree.leaves(levels), jax.tree.leaves(default), strict=True):
        assert (sample.shape, sample.dtype) == ((LEVELS, *one.shape), one.dtype)
    random = name.startswith("rand_")
    assert distribution.env.random_placement == random
    assert distribution.env.observation == ("planes" if random else "tabular")


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_unused_slots_have_no_reward_and_no_probability(name):
    levels = sampled(name).params
    for values in (levels.object_rewards, levels.end_probs, levels.respawn_probs, levels.object_cells):
        assert not values[~levels.object_active].any()


@pytest.mark.parametrize("name", FIXED)
def test_a_fixed_level_is_its_row_of_the_table(name):
    size, objects, steps, horizon = FIXED[name]
    level = sampled(name)
    slots = np.array([row[1:] for row in objects for _ in range(row[0])], np.float32)
    assert DISTRIBUTIONS[name].env.max_size == size
    assert np.all(level.params.size == size)
    assert np.all(level.params.max_steps_in_episode == steps)
    assert np.all(level.horizon == horizon)
    assert level.params.object_active.all()
    assert np.all(level.params.object_rewards == slots[:, 0])
    assert np.all(level.params.end_probs == slots[:, 1])
    assert np.all(level.params.respawn_probs == slots[:, 2])


@pytest.mark.parametrize("name", FIXED)
def test_a_fixed_level_has_its_walls_and_positions_everywhere_else(name):
    level = sampled(name).params
    walls = np.zeros(FIXED[name][0] ** 2, bool)
    if name in FIXED_MAPS:
        walls = maps.parse(FIXED_MAPS[name]).ravel()
    assert np.all(level.walls == walls)
    starts = np.bincount(level.start, minlength=len(walls))
    expected = LEVELS / np.sum(~walls)
    assert not starts[walls].any()
    assert np.all(np.abs(starts[~walls] - expected) < 6 * np.sqrt(expected))


@pytest.mark.parametrize("name", SAMPLED)
def test_a_distribution_fills_the_ranges_of_its_row(name):
    steps, objects, size, _, horizon = SAMPLED[name]
    level = sampled(name)
    params, active = level.params, level.params.object_active
    assert_spans(params.max_steps_in_episode, *steps, slack=0.02 * steps[1])
    assert_spans(params.size, *size)
    assert_spans(level.horizon, *horizon, slack=0.02 * horizon[1])
    assert_spans(params.end_probs[active], 0.01, 1, slack=0.02)
    assert_spans(params.respawn_probs[active], 0.001, 0.1, slack=0.002)
    assert_spans(params.object_rewards[active[:, 0], 0], 0, 1, slack=0.02)
    others = params.object_rewards[:, 1:][active[:, 1:]]
    assert_spans(others, 0 if name in MAZES else -1, 1, slack=0.02)
    # Objects can only be missing where there is no cell for them.
    free = np.sum(~params.walls, axis=1)
    assert active.sum(1).max() == objects[1]
    assert np.all(active.sum(1) >= np.minimum(objects[0], free - 1))
    assert abs(np.median(np.log10(params.end_probs[active])) + 1) < 0.1
    assert abs(np.median(np.log10(params.respawn_probs[active])) + 2) < 0.1


@pytest.mark.parametrize("name", [name for name in SAMPLED if name not in MAZES])
def test_random_walls_are_distinct_cells_of_the_largest_square(name):
    _, _, (_, largest), walls, _ = SAMPLED[name]
    params = sampled(name).params
    square = np.arange(largest) < params.size[:, None]
    inside = (square[:, :, None] & square[:, None]).reshape(LEVELS, -1)
    assert params.walls[~inside].all()
    placed = np.sum(params.walls & inside, axis=1)
    assert np.all(placed[params.size == largest] == walls)
    assert placed.max() <= walls
    assert abs(np.mean(placed / inside.sum(1)) - walls / largest**2) < 0.01


def test_mazes_are_chosen_uniformly():
    walls = sampled("mazes").params.walls
    counts = [np.all(walls == maps.parse(text).ravel(), axis=1).sum() for text in maps.MAZES.values()]
    assert sum(counts) == LEVELS
    assert min(counts) > 0.7 * LEVELS / len(counts)


@pytest.mark.parametrize("text", [*FIXED_MAPS.values(), *maps.MAZES.values()], ids=[*FIXED_MAPS, *maps.MAZES])
def test_all_free_cells_of_a_map_are_connected(text):
    walls = maps.parse(text)
    reached = np.zeros_like(walls)
    reached.flat[np.argmin(walls)] = True
    for _ in range(walls.size):
        grown = np.pad(reached, 1)
        reached = (grown[1:-1, 1:-1] | grown[2:, 1:-1] | grown[:-2, 1:-1] | grown[1:-1, 2:]) & ~walls
        reached |= grown[1:-1, :-2] & ~walls
    assert np.array_equal(reached, ~walls)


@pytest.mark.parametrize("name", maps.MAZES)
def test_a_design_by_its_name_is_that_design(name):
    assert np.all(sampled(name).params.walls == maps.parse(maps.MAZES[name]).ravel())


def test_mazes_are_different_designs_of_the_same_size():
    shapes = {maps.parse(text).shape for text in maps.MAZES.values()}
    designs = {maps.parse(text).tobytes() for text in maps.MAZES.values()}
    assert shapes == {(13, 13)}
    assert len(designs) == len(maps.MAZES) >= 10
    labyrinth = maps.parse(maps.MAZES["labyrinth"])
    assert np.array_equal(maps.parse(maps.MAZES["labyrinth_flipped"]), labyrinth[:, ::-1])


@pytest.mark.parametrize(("text", "problem"), [("..\n.", "square"), (".x\n..", "'x'"), ("#", "free cell")])
def test_a_wrong_map_is_refused(text, problem):
    with pytest.raises(ValueError, match=problem):
        maps.parse(text)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.booleans(), min_size=9, max_size=9), st.integers(0, 2**32 - 1))
def test_choose_cells_returns_every_free_cell_before_it_says_there_is_none(free, seed):
    noise = np.random.default_rng(seed).random(9, np.float32)
    cells, exists = map(np.asarray, choose_eleven(jnp.array(noise), jnp.array(free)))
    assert sorted(cells[exists]) == list(np.flatnonzero(free))
    assert list(exists) == sorted(exists, reverse=True)


def test_an_object_without_a_free_cell_is_not_there():
    thing = ObjectSpec(reward=(1.0, 1.0), end_prob=(0.5, 0.5), respawn_prob=(0.5, 0.5))
    spec = GridSpec(size=(2, 2), objects=(thing,) * 6, count=(6, 6), steps=(9, 9), walls=1)
    level = jax.jit(spec.sample)(jax.random.key(0))
    assert level.object_active.tolist() == [True] * 2 + [False] * 4
    assert level.respawn_probs.tolist() == [0.5] * 2 + [0] * 4


def test_constants_are_exact_and_zero_is_a_probability():
    draws = jnp.array([0.0, 0.3, 0.999])
    constants = [(0.0, 0.0), (0.05, 0.05), (1.0, 1.0)]
    for sampler in (uniform, log_uniform):
        assert sampler(draws, constants).tolist() == [float(np.float32(c)) for c, _ in constants]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"size": (0, 3)}, "size must"),
        ({"steps": (5, 4)}, "steps must"),
        ({"count": (0, 2)}, "count must"),
        ({"walls": 9}, "walls must be 0 to 8, not 9"),
        ({"walls": (maps.RAND_SMALL,)}, "maps must all be of size 4"),
        ({"walls": jnp.zeros_like}, r"fixed size, not \(3, 4\)"),
    ],
)
def test_an_impossible_specification_names_the_field(change, problem):
    thing = ObjectSpec(reward=(0.0, 1.0), end_prob=(0.0, 0.0), respawn_prob=(0.1, 1.0))
    spec = GridSpec(size=(3, 4), objects=(thing,), count=(0, 1), steps=(4, 5))
    with pytest.raises(ValueError, match=problem):
        dataclasses.replace(spec, **change)


@pytest.mark.parametrize("field", ["reward", "end_prob", "respawn_prob"])
@pytest.mark.parametrize("bounds", [(0.5, 0.1), (0.0, 1.0), (0.5, 1.5)])
def test_an_impossible_object_names_the_field(field, bounds):
    values = {"reward": (0.0, 1.0), "end_prob": (1.0, 1.0), "respawn_prob": (0.0, 0.0)} | {field: bounds}
    if field == "reward" and bounds[0] < bounds[1]:
        assert ObjectSpec(**values).reward == bounds
        return
    with pytest.raises(ValueError, match=field):
        ObjectSpec(**values)


def test_the_variants_of_all_share_its_environment_and_levels():
    assert jax.tree.all(jax.tree.map(np.array_equal, sampled("all").params, sampled("all_vrandlife").params))
    assert DISTRIBUTIONS["all_vrandlife"].env is DISTRIBUTIONS["all"].env
