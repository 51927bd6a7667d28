"""Edits keep levels within what their distribution might have sampled, and change something."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_discovery.envs.gridworld import edits
from rl_discovery.envs.gridworld.levels import DISTRIBUTIONS, statistics
from rl_discovery.envs.gridworld.spec import GridSpec, ObjectSpec

EDITS, LEVELS = 40, 16
SLOT = ObjectSpec(reward=(-1.0, 1.0), end_prob=(0.01, 1.0), respawn_prob=(0.001, 0.1))
CONSTANT = ObjectSpec(reward=(1.0, 1.0), end_prob=(0.0, 0.0), respawn_prob=(0.5, 0.5))
SPECS = {
    "all": GridSpec(size=(3, 6), objects=(SLOT, SLOT, SLOT), count=(1, 3), steps=(20, 100), walls=5),
    "crowded": GridSpec(size=(2, 3), objects=(SLOT, CONSTANT) * 4, count=(0, 8), steps=(5, 9), walls=3),
    "fixed": GridSpec(size=(4, 4), objects=(CONSTANT,) * 2, count=(2, 2), steps=(9, 9)),
    "map": GridSpec(size=(3, 3), objects=(SLOT,), count=(0, 1), steps=(5, 9), walls=("...\n.#.\n...",)),
    "random": GridSpec(
        size=(4, 4), objects=(SLOT,) * 2, count=(1, 2), steps=(5, 9), walls=3, random_placement=True
    ),
}
EVERY_KIND = (
    edits.toggle_wall,
    edits.move_start,
    edits.move_object,
    edits.redraw_object,
    edits.add_or_remove_object,
    edits.redraw_steps,
)


@functools.partial(jax.jit, static_argnums=0, compiler_options={"xla_backend_optimization_level": 0})
def edited_levels(spec, key):
    """Some levels and what they become, edit by edit: leading axes edits + 1, levels."""
    level_key, edit_key = jax.random.split(key)
    first = jax.vmap(spec.sample)(jax.random.split(level_key, LEVELS))

    def step(levels, key):
        keys = jax.random.split(key, LEVELS)
        levels = jax.vmap(functools.partial(edits.edit, spec))(keys, levels)
        return levels, levels

    later = jax.lax.scan(step, first, jax.random.split(edit_key, EDITS))[1]
    return jax.tree.map(lambda one, more: jax.numpy.concatenate([one[None], more]), first, later)


def naive_check(spec, level):
    """Everything that holds for a level of the specification, in plain Python."""
    side, size = spec.size[1], int(level.size)
    slots = range(len(spec.objects))
    active = [i for i in slots if level.object_active[i]]
    assert spec.size[0] <= size <= spec.size[1]
    assert spec.steps[0] <= level.max_steps_in_episode <= spec.steps[1]
    assert active == list(range(len(active)))
    assert len(active) <= spec.count[1]
    outside = [cell for cell in range(side * side) if max(divmod(cell, side)) >= size]
    assert all(level.walls[cell] for cell in outside)
    taken = [int(level.start), *(int(level.object_cells[i]) for i in active)]
    if not spec.random_placement:
        assert len(set(taken)) == len(taken)
        assert not any(level.walls[cell] for cell in taken)
    values = ("object_rewards", "end_probs", "respawn_probs")
    for i in slots:
        of_slot = [float(getattr(level, name)[i]) for name in values]
        bounds = [(0.0, 0.0)] * 3
        if i in active:
            slot = spec.objects[i]
            bounds = [slot.reward, slot.end_prob, slot.respawn_prob]
        else:
            assert level.object_cells[i] == 0
        for value, (low, high) in zip(of_slot, bounds, strict=True):
            assert np.float32(low) <= value <= np.float32(high)


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_levels_stay_within_their_ranges_after_any_number_of_edits(name, seed):
    spec = SPECS[name]
    levels = jax.tree.map(np.asarray, edited_levels(spec, jax.random.key(seed)))
    for t in range(EDITS + 1):
        for i in range(LEVELS):
            naive_check(spec, jax.tree.map(lambda leaf, t=t, i=i: leaf[t, i], levels))
    # The number of objects stays at or above its bound, unless there was no cell for them to begin with.
    active = levels.object_active.sum(-1)
    assert np.all(active >= np.minimum(spec.count[0], active[0]))
    assert np.all(levels.size == levels.size[0])
    if "map" in name or name == "fixed":
        assert np.all(levels.walls == levels.walls[0, 0])


def changes(levels):
    """Which edits changed something, by field."""
    fields = {field.name: getattr(levels, field.name) for field in dataclasses.fields(levels)}
    changed = {}
    for name, values in fields.items():
        values = np.asarray(values)
        changed[name] = np.any(np.atleast_3d(values[1:] != values[:-1]), axis=-1)
    return changed


@pytest.mark.parametrize("name", ["all", "fixed", "map", "random"])
def test_most_edits_change_something_and_walls_one_cell_at_a_time(name):
    levels = jax.tree.map(np.asarray, edited_levels(SPECS[name], jax.random.key(7)))
    changed = changes(levels)
    assert np.mean(np.any(list(changed.values()), axis=0)) > 0.7
    assert np.sum(levels.walls[1:] != levels.walls[:-1], axis=-1).max() <= 1
    # One kind at a time: walls, start and the time limit never change together with anything else.
    for alone in ("walls", "start", "max_steps_in_episode"):
        others = np.any([values for other, values in changed.items() if other != alone], axis=0)
        assert not np.any(changed[alone] & others)


def test_every_kind_of_edit_happens_about_equally_often():
    changed = changes(edited_levels(SPECS["all"], jax.random.key(3)))
    total = EDITS * LEVELS / 6
    assert changed["walls"].sum() == pytest.approx(total, rel=0.35)
    assert changed["start"].sum() == pytest.approx(total, rel=0.35)
    assert (changed["object_cells"] & ~changed["object_active"]).sum() == pytest.approx(total, rel=0.35)
    assert changed["object_active"].sum() == pytest.approx(total, rel=0.35)
    redrawn = changed["object_rewards"] & changed["end_probs"] & changed["respawn_probs"]
    assert (redrawn & ~changed["object_active"]).sum() == pytest.approx(total, rel=0.35)
    assert changed["max_steps_in_episode"].sum() == pytest.approx(total, rel=0.35)


def test_walls_are_added_and_removed_down_to_none():
    spec = dataclasses.replace(SPECS["all"], size=(3, 3), walls=2)
    levels = edited_levels(spec, jax.random.key(5))
    walls = np.asarray(levels.walls).sum(-1)
    assert walls.min() == 0
    assert walls.max() > 2
    free = 9 - 1 - np.asarray(levels.object_active).sum(-1)
    assert np.all(walls <= free)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["all", "crowded"])
def test_a_compiled_batch_is_edited_as_one_level_at_a_time_is(name):
    spec = SPECS[name]
    edit = functools.partial(edits.edit, spec)
    levels = jax.jit(jax.vmap(spec.sample))(jax.random.split(jax.random.key(0), 3))
    keys = jax.random.split(jax.random.key(1), 3)
    together = jax.jit(jax.vmap(edit))(keys, levels)
    for i in range(3):
        with jax.disable_jit():
            alone = edit(keys[i], jax.tree.map(lambda leaf, i=i: np.asarray(leaf[i]), levels))
        for expected, found in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(found, expected[i], rtol=1e-6)
            assert (found.dtype, found.shape) == (expected.dtype, expected.shape[1:])


def test_where_nothing_can_change_the_level_stays_as_it_is():
    spec = dataclasses.replace(SPECS["all"], size=(1, 1), count=(0, 3), walls=0)
    level = spec.sample(jax.random.key(0))
    for kind in (edits.toggle_wall, edits.move_start, edits.move_object, edits.redraw_object):
        same = kind(spec, jax.random.key(1), level)
        assert jax.tree.all(jax.tree.map(np.array_equal, same, level))
    assert not np.any(edits.add_or_remove_object(spec, jax.random.key(1), level).object_active)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("all", EVERY_KIND),
        ("fixed", EVERY_KIND[1:3]),
        ("map", EVERY_KIND[1:]),
        ("random", (EVERY_KIND[0], *EVERY_KIND[3:])),
    ],
)
def test_kinds_are_those_that_the_ranges_allow(name, expected):
    assert edits.kinds(SPECS[name]) == expected


def test_a_specification_of_constants_says_that_there_is_nothing_to_edit():
    spec = dataclasses.replace(SPECS["fixed"], random_placement=True)
    with pytest.raises(ValueError, match="nothing to edit"):
        edits.edit(spec, jax.random.key(0), spec.sample(jax.random.key(0)))


def test_every_distribution_can_be_edited_but_those_of_random_placement():
    for name, distribution in DISTRIBUTIONS.items():
        assert (distribution.edit is None) == name.startswith("rand_")
        if distribution.edit is not None:
            # The ranges are those that levels are sampled from.
            assert distribution.edit.args == (distribution.sample_params.__self__,)


@pytest.mark.parametrize("name", ["all_vrandlife", "mazes"])
def test_edited_levels_go_through_the_distribution(name):
    distribution = DISTRIBUTIONS[name]

    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def run(key):
        level = distribution.sample(key)
        return level, distribution.edited(key, level)

    before, after = run(jax.random.key(0))
    assert jax.tree.structure(before) == jax.tree.structure(after)
    naive_check(distribution.sample_params.__self__, jax.tree.map(np.asarray, after.params))


def test_statistics_count_what_is_inside_the_level():
    levels = edited_levels(SPECS["all"], jax.random.key(2))
    numbers = jax.vmap(jax.vmap(statistics))(levels)
    assert set(numbers) == {"size", "walls", "objects", "steps"}
    walls = np.asarray(levels.walls).reshape(EDITS + 1, LEVELS, 6, 6)
    for t in (0, EDITS):
        for i in range(LEVELS):
            size = int(levels.size[t, i])
            assert numbers["walls"][t, i] == walls[t, i, :size, :size].sum()
            assert numbers["size"][t, i] == size
    assert np.array_equal(numbers["objects"], np.asarray(levels.object_active).sum(-1))
    assert np.array_equal(numbers["steps"], levels.max_steps_in_episode)
