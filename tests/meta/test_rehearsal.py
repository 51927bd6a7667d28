import dataclasses
import functools
import io

import jax
import numpy as np
import pytest
from matplotlib.image import imread

from rl_discovery.checkpoints import load_objective
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.meta.errors import ConfigError
from rl_discovery.meta.rehearsal import make_rehearsal
from rl_discovery.meta.runs.gallery import make_gallery
from tests.meta.tiny import tiny

REPLAY = {"score": "algorithmic_regret", "buffer_size": 12, "minimum_fill": 0.2, "replay_probability": 0.9}
CONFIG = tiny(curriculum=REPLAY, es={"pairs": 4})


@pytest.fixture(scope="module")
def rehearsal():
    rule = CONFIG.build_objective()
    return make_rehearsal(TrainedObjective(rule, rule.init(jax.random.key(1))), CONFIG)


@pytest.fixture(scope="module")
def played(rehearsal):
    """State and record after each of six generations."""
    step, state, found = jax.jit(rehearsal.play), rehearsal.init(), []
    for _ in range(6):
        state, generation = step(state)
        found.append((state, generation))
    return found


def test_scores_are_regrets_of_the_objective_against_the_antagonist(played):
    for _, (level_batch, outcome, metrics) in played:
        regret = level_batch.reference_return - outcome.agent_return
        np.testing.assert_allclose(outcome.score, regret, atol=1e-6)
        np.testing.assert_allclose(metrics["regret_mean"], np.mean(regret), atol=1e-6)


def test_levels_come_back_and_the_objective_stays(rehearsal, played):
    assert any(generation.level_batch.replayed.any() for _, generation in played)
    state = played[-1][0]
    assert int(state.generation) == 6
    assert state.curriculum.seen.any()
    before, after = (rehearsal.meta_params(s) for s in (rehearsal.init(), state))
    assert jax.tree.all(jax.tree.map(lambda x, y: x is y, before, after))


def test_the_objective_decides_what_agents_reach(played):
    # All else is equal: levels, first agents, random numbers.
    other = load_objective("ta-lpg")
    rehearsal = make_rehearsal(other, CONFIG)
    _, generation = jax.jit(rehearsal.play)(rehearsal.init())
    first = played[0][1]
    same = functools.partial(jax.tree.map, np.testing.assert_array_equal)
    same(generation.level_batch.levels, first.level_batch.levels)
    same(generation.level_batch.reference_return, first.level_batch.reference_return)
    assert np.any(generation.played.agent_return != first.played.agent_return)


def test_a_rehearsal_has_a_gallery(rehearsal, played):
    picture = make_gallery(CONFIG, rehearsal).draw(played[-1][0])
    assert imread(io.BytesIO(picture)).ndim == 3


@pytest.mark.parametrize("score", ["random", "frozen"])
def test_nothing_is_rehearsed_where_nothing_is_replayed(score):
    curriculum = dataclasses.replace(CONFIG.curriculum, score=score)
    with pytest.raises(ConfigError, match=score):
        make_rehearsal(load_objective("ta-lpg"), dataclasses.replace(CONFIG, curriculum=curriculum))
