"""Curricula without memory: fresh levels and fixed sets; and which curriculum a configuration means."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from rl_discovery.meta.config import CurriculumConfig
from rl_discovery.meta.curriculum import SCORES, make_curriculum
from rl_discovery.meta.curriculum.fresh import FrozenLevels, RandomLevels
from rl_discovery.meta.curriculum.replay import Replay
from tests.meta.curriculum.numbers import NUMBERS, contents, names, played

NOW = jnp.int32(0)
SIZE, C = 10, 6


@functools.partial(jax.jit, static_argnums=(0, 2))
def serve(curriculum, keys, count):
    return jax.vmap(lambda key: curriculum.serve((), key, NOW, jnp.ones(count, bool))[1])(keys)


def served_by(curriculum, keys, count=C):
    """What many generations are served; nothing of it is known from before."""
    level_batch = serve(curriculum, keys, count)
    assert not level_batch.replayed.any()
    assert np.all(level_batch.best_return == -np.inf)
    return level_batch.levels


def generations(levels):
    """Names of the levels, a row per generation."""
    return np.array(names(levels))


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def test_random_levels_depend_on_key_and_index_alone():
    found = generations(served_by(RandomLevels(NUMBERS), keys(50)))
    assert len(np.unique(found)) == found.size
    fewer = generations(served_by(RandomLevels(NUMBERS), keys(50), count=2))
    np.testing.assert_array_equal(fewer, found[:, :2])


def test_frozen_levels_are_always_of_one_set_and_distinct_within_a_generation():
    found = generations(served_by(FrozenLevels(NUMBERS, SIZE, seed=3), keys(500)))
    assert len(np.unique(found)) == SIZE
    assert all(len(set(row)) == C for row in found.tolist())
    # The name alone would hide a level that changes.
    levels = served_by(FrozenLevels(NUMBERS, SIZE, seed=3), keys(500, seed=1))
    flat = jax.tree.map(jnp.ravel, levels)
    assert len(set(contents(flat))) == SIZE
    assert set(names(flat)) == set(found.ravel().tolist()), "another set at another time"
    other = generations(served_by(FrozenLevels(NUMBERS, SIZE, seed=4), keys(500)))
    assert not np.isin(other, found).any(), "two seeds share levels"


def test_frozen_levels_are_drawn_uniformly():
    found = generations(served_by(FrozenLevels(NUMBERS, SIZE, seed=3), keys(500)))
    _, counts = np.unique(found[:, 0], return_counts=True)
    assert stats.chisquare(counts).pvalue > 1e-3
    _, counts = np.unique(found[:, -1], return_counts=True)
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("curriculum", [RandomLevels(NUMBERS), FrozenLevels(NUMBERS, SIZE, 0)])
def test_metrics_are_means_over_what_finished(curriculum):
    _, level_batch = curriculum.serve(curriculum.init(), jax.random.key(0), NOW, jnp.ones(3, bool))
    horizons = jnp.array([2, 4, 9])
    level_batch = dataclasses.replace(
        level_batch, levels=dataclasses.replace(level_batch.levels, horizon=horizons)
    )
    results = played(jnp.full(3, jnp.nan))
    found = curriculum.metrics((), level_batch, results, jnp.array([True, True, False]), NOW)
    assert set(found) == {"level_horizon", "level_x"}
    assert found["level_horizon"] == 3.0
    np.testing.assert_allclose(found["level_x"], np.mean(level_batch.levels.params["x"][:2]), rtol=1e-6)
    nothing = curriculum.metrics((), level_batch, results, jnp.zeros(3, bool), NOW)
    assert np.isnan(list(nothing.values())).all()


# ---- which curriculum a configuration means


def make(levels=C, distribution=NUMBERS, **config):
    return make_curriculum(CurriculumConfig(**config), distribution, levels, seed=0)


@pytest.mark.parametrize("name", SCORES)
def test_every_score_has_its_curriculum_whose_size_and_score_are_the_configured_ones(name):
    curriculum = make(score=name, buffer_size=SIZE)
    kinds = {"random": RandomLevels, "frozen": FrozenLevels}
    assert type(curriculum) is kinds.get(name, Replay)
    assert curriculum.score is SCORES[name]
    if name == "frozen":
        assert curriculum.size == SIZE
    elif name != "random":
        assert curriculum.init().score.shape == (SIZE,)


RIGID = dataclasses.replace(NUMBERS, name="rigid", edit=None, horizon=(5, 5))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"score": "algorithmic_regrets"}, "unknown score 'algorithmic_regrets': did you mean"),
        ({"score": "learnability", "buffer_size": 5}, r"buffer_size \(5\) is smaller than the 6 levels"),
        ({"score": "frozen", "buffer_size": 5}, r"buffer_size \(5\) is smaller than the 6 levels"),
        (
            {"score": "learnability", "edit_probability": 0.5, "distribution": RIGID},
            "edit_probability is 0.5, but levels of 'rigid' cannot be edited",
        ),
    ],
)
def test_a_curriculum_that_cannot_work_is_one_line(changes, words):
    with pytest.raises(ValueError, match=words) as error:
        make(**changes)
    assert "\n" not in str(error.value)


def test_a_curriculum_that_can_work_is_not_refused():
    make(score="random", buffer_size=5)  # there is no buffer
    make(score="learnability", buffer_size=6, distribution=RIGID)
    make(score="learnability", edit_probability=1.0, distribution=RIGID.with_horizon(2, 9))
