"""Replay by score: what is served, what comes back, and that levels being played are left alone."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rl_discovery.meta.config import CurriculumConfig
from rl_discovery.meta.curriculum.base import not_replayed
from rl_discovery.meta.curriculum.replay import Replay
from rl_discovery.meta.curriculum.scores import SCORES
from tests.meta.curriculum.numbers import HORIZONS, NUMBERS, contents, names, played

B, C = 40, 8
NOW = jnp.int32(7)
EVERYWHERE = jnp.ones(C, bool)
NAN, INF = float("nan"), float("inf")

serve, record, metrics_of = (
    jax.jit(method, static_argnums=0) for method in (Replay.serve, Replay.record, Replay.metrics)
)


@functools.partial(jax.jit, static_argnums=(0, 3))
def serve_often(curriculum, state, keys, count):
    """What each key alone would be served, `count` levels."""
    return jax.vmap(lambda key: curriculum.serve(state, key, NOW, jnp.ones(count, bool))[1])(keys)


def replay(score="algorithmic_regret", **changes):
    config = CurriculumConfig(**({"score": score, "buffer_size": B} | changes))
    return Replay(NUMBERS, SCORES[score], config)


@functools.cache
def buffer_of(size=B, filled=B):
    """A buffer whose first slots hold levels with numbers of their own, inserted in generation 0."""
    state = replay(buffer_size=size).init()
    level_batch = not_replayed(jax.vmap(NUMBERS.sample)(jax.random.split(jax.random.key(99), size)), size)
    level_batch = dataclasses.replace(level_batch, reference_return=10.0 + jnp.arange(size))
    mask = jnp.arange(size) < filled
    # The highest score first, because that is the order in which empty slots are taken.
    return record(replay(buffer_size=size), state, level_batch, played(-jnp.arange(size)), mask, jnp.int32(0))


def lane(tree, i):
    return jax.tree.map(lambda leaf: leaf[i], tree)


# ---- what is served


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("filled", [7, 8, B])
def test_the_replayed_share_is_the_replay_probability_from_the_minimum_fill_on(probability, filled):
    curriculum = replay(replay_probability=probability, minimum_fill=0.2)  # 8 of 40 slots
    keys = jax.random.split(jax.random.key(0), 500)
    replayed = np.asarray(serve_often(curriculum, buffer_of(filled=filled), keys, C).replayed)
    expected = probability if filled >= 8 else 0.0
    assert stats.binomtest(int(replayed.sum()), replayed.size, expected).pvalue > 1e-3


def test_replayed_levels_are_the_buffers_own_distinct_and_marked_as_being_played():
    state = buffer_of()
    for seed in range(5):
        after, level_batch = serve(replay(), state, jax.random.key(seed), NOW, EVERYWHERE)
        again = np.asarray(level_batch.replayed)
        assert 0 < again.sum() < C
        slots = np.asarray(level_batch.slots)[again]
        assert len(set(slots.tolist())) == len(slots)
        assert contents(lane(level_batch.levels, again)) == contents(lane(state.levels, slots))
        for name in ("reference_return", "best_return"):
            np.testing.assert_array_equal(getattr(level_batch, name)[again], getattr(state, name)[slots])
        assert np.all(level_batch.best_return[~again] == -INF), "something is known of a level never played"
        assert np.flatnonzero(after.active).tolist() == sorted(slots.tolist())
        assert np.all(after.played[slots] == NOW)


def test_what_is_replayed_follows_score_and_staleness():
    keys = jax.random.split(jax.random.key(1), 200)

    def slots(state, **settings):
        curriculum = replay(replay_probability=1.0, **settings)
        return np.asarray(serve_often(curriculum, state, keys, 1).slots)

    state = buffer_of()
    assert np.mean(slots(state, temperature=0.1) == 0) > 0.97  # 1 - 2^-10 - 3^-10 - ...
    stale = dataclasses.replace(state, played=jnp.full(B, NOW).at[29].set(0))
    assert np.all(slots(stale, staleness_weight=1.0) == 29)


def test_nothing_is_replayed_where_no_level_is_wanted():
    wanted = jnp.arange(C) % 2 == 0
    after, level_batch = serve(replay(replay_probability=1.0), buffer_of(), jax.random.key(0), NOW, wanted)
    np.testing.assert_array_equal(level_batch.replayed, wanted)
    assert after.active.sum() == C // 2


def test_levels_are_new_where_the_buffer_has_no_more_to_replay():
    curriculum = replay(replay_probability=1.0, minimum_fill=0.0)
    state = buffer_of(filled=3)
    _, level_batch = serve(curriculum, state, jax.random.key(0), NOW, EVERYWHERE)
    assert level_batch.replayed.sum() == 3
    assert len(set(contents(level_batch.levels))) == C


def test_new_levels_depend_on_key_and_index_alone():
    key = jax.random.key(4)
    _, alone = serve(replay(), replay().init(), key, NOW, EVERYWHERE)
    assert not alone.replayed.any()
    assert len(set(contents(alone.levels))) == C
    _, fewer = serve(replay(), replay().init(), key, NOW, jnp.ones(3, bool))
    assert contents(fewer.levels) == contents(alone.levels)[:3]
    _, mixed = serve(replay(), buffer_of(), key, NOW + 1, EVERYWHERE)
    new = np.flatnonzero(~np.asarray(mixed.replayed))
    assert 0 < new.size < C
    assert contents(lane(mixed.levels, new)) == contents(lane(alone.levels, new))
    _, other = serve(replay(), replay().init(), jax.random.key(5), NOW, EVERYWHERE)
    assert not set(contents(other.levels)) & set(contents(alone.levels))


EDITING = {"edit_probability": 1.0, "replay_probability": 0.0}


def test_edited_levels_are_changed_copies_of_the_buffers_within_the_distributions_ranges():
    state = buffer_of()
    parents = dict(zip(names(state.levels), contents(state.levels), strict=True))
    chosen, horizons = set(), set()
    for seed in range(5):
        _, level_batch = serve(replay(**EDITING), state, jax.random.key(seed), NOW, EVERYWHERE)
        assert not level_batch.replayed.any()
        for name, content in zip(names(level_batch.levels), contents(level_batch.levels), strict=True):
            assert name in parents, "not a copy"
            assert content != parents[name], "nothing was changed"
            chosen.add(name)
        horizons |= set(np.asarray(level_batch.levels.horizon).tolist())
        x = np.asarray(level_batch.levels.params["x"])
        assert np.all((x >= 0) & (x < 1))
    assert len(chosen) > 10
    assert min(horizons) >= HORIZONS[0]
    assert max(horizons) <= HORIZONS[1]


def test_levels_are_edited_no_sooner_than_others_are_replayed():
    for filled, expected in ((3, 0), (4, C)):  # the minimum is a tenth of 40
        state = buffer_of(filled=filled)
        _, level_batch = serve(replay(**EDITING), state, jax.random.key(0), NOW, EVERYWHERE)
        parents = names(lane(state.levels, slice(filled)))
        assert sum(name in parents for name in names(level_batch.levels)) == expected


def test_levels_are_edited_while_others_are_being_played_but_none_of_these():
    # Where agents live on, some level is active all the time.
    state = dataclasses.replace(buffer_of(), active=jnp.arange(B) != 30)
    curriculum = replay(**EDITING, minimum_fill=1.0)
    _, level_batch = serve(curriculum, state, jax.random.key(0), NOW, EVERYWHERE)
    assert set(names(level_batch.levels)) == {names(state.levels)[30]}
    everything = dataclasses.replace(state, active=jnp.ones(B, bool))
    _, level_batch = serve(curriculum, everything, jax.random.key(0), NOW, EVERYWHERE)
    assert not set(names(level_batch.levels)) & set(names(state.levels))


# ---- what comes back


def test_replayed_levels_are_refreshed_and_new_ones_inserted():
    before = buffer_of(filled=20)
    playing, level_batch = serve(replay(), before, jax.random.key(0), NOW, EVERYWHERE)
    level_batch = dataclasses.replace(
        level_batch, reference_return=level_batch.reference_return + 100 * ~level_batch.replayed
    )
    results = played(5.0 + jnp.arange(C), best_return=jnp.arange(C))
    after = record(replay(), playing, level_batch, results, EVERYWHERE, NOW)
    again = np.asarray(level_batch.replayed)
    slots = np.asarray(level_batch.slots)[again]
    assert np.all(after.plays[slots] == 2)
    np.testing.assert_array_equal(after.score[slots], results.score[again])
    np.testing.assert_array_equal(after.agent_return[slots], results.agent_return[again])
    np.testing.assert_array_equal(after.reference_return[slots], before.reference_return[slots])
    np.testing.assert_array_equal(after.inserted[slots], 0)

    arrived = np.flatnonzero(after.filled & ~before.filled)
    assert arrived.tolist() == list(range(20, 20 + (~again).sum()))
    best_first = np.flatnonzero(~again)[::-1]
    assert contents(lane(after.levels, arrived)) == contents(lane(level_batch.levels, best_first))
    np.testing.assert_array_equal(after.score[arrived], results.score[best_first])
    np.testing.assert_array_equal(after.best_return[arrived], results.best_return[best_first])
    np.testing.assert_array_equal(after.reference_return[arrived], 100.0)
    np.testing.assert_array_equal(after.inserted[arrived], NOW)
    assert not after.active.any()


masks = st.lists(st.booleans(), min_size=4, max_size=4)
scores = st.lists(st.sampled_from([-1.0, 0.0, 1.0, 2.0, 3.0, NAN]), min_size=4, max_size=4)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(masks, masks, scores), min_size=4, max_size=15),
    st.integers(0, 1000),
    st.sampled_from([0, 6]),
)
def test_levels_being_played_are_neither_served_again_nor_evicted_and_no_slot_is_lost(rounds, seed, filled):
    """Four lanes as in meta-gradients: each keeps its level until its agent has finished."""
    # Low scores are replayed as often as high ones, so that some are in play when better levels arrive.
    curriculum = replay(buffer_size=6, replay_probability=0.7, temperature=100.0)
    state, busy = buffer_of(6, filled), np.zeros(4, bool)
    level_batch = not_replayed(jax.tree.map(jnp.zeros_like, lane(buffer_of().levels, slice(4))), 4)
    for now, (wants, ends, score) in enumerate(rounds):
        wanted = ~busy & np.array(wants)
        full, active = np.asarray(state.filled), np.asarray(state.active)
        key = jax.random.fold_in(jax.random.key(seed), now)
        state, found = serve(curriculum, state, key, jnp.int32(now), wanted)
        assert not active[found.slots[np.asarray(found.replayed)]].any(), "served while being played"
        pick = functools.partial(jax.vmap(jnp.where), wanted)
        level_batch = jax.tree.map(pick, found, level_batch)
        busy |= wanted
        check_active(state, level_batch, busy)
        finished = busy & np.array(ends)
        state = record(curriculum, state, level_batch, played(score), finished, jnp.int32(now))
        busy &= ~finished
        check_active(state, level_batch, busy)
        assert np.all(np.asarray(state.filled)[full]), "a slot was lost"


def check_active(state, level_batch, busy):
    """The slots in play are those of the lanes that play, one each, and hold what these play."""
    replaying = busy & np.asarray(level_batch.replayed)
    slots = np.asarray(level_batch.slots)[replaying]
    assert np.flatnonzero(state.active).tolist() == sorted(slots.tolist())
    assert contents(lane(state.levels, slots)) == contents(lane(level_batch.levels, replaying))


# ---- metrics


def case():
    """Two new levels, of which one has no finite result, and two replayed ones, of which one goes on."""
    level_batch = not_replayed(lane(buffer_of().levels, slice(4)), 4)
    level_batch = dataclasses.replace(
        level_batch,
        levels=dataclasses.replace(level_batch.levels, horizon=jnp.array([2, 4, 6, 8])),
        replayed=jnp.array([False, True, False, True]),
        reference_return=jnp.array([3.0, 5.0, 1.0, 9.0]),
    )
    results = played([2.0, 4.0, NAN, 50.0], agent_return=[1.0, -1.0, NAN, 70.0])
    state = dataclasses.replace(
        buffer_of(), plays=jnp.zeros(B, jnp.int32).at[:2].set(1), inserted=jnp.arange(B)
    )
    return state, level_batch, results


def test_metrics_are_those_computed_by_hand():
    state, level_batch, results = case()
    found = metrics_of(replay(), state, level_batch, results, jnp.array([True, True, True, False]), NOW)
    x = np.asarray(level_batch.levels.params["x"])
    expected = {
        "replay_fraction": 1 / 3,
        "score_fresh": 2.0,
        "score_replayed": 4.0,
        "regret_mean": (2.0 + 6.0) / 2,
        "regret_fresh": 2.0,
        "regret_replayed": 6.0,
        "buffer_filled": 2,
        "buffer_age": (7 + 6) / 2,
        "buffer_score_mean": -0.5,
        "buffer_score_max": 0.0,
        "level_horizon": 4.0,
        "level_x": x[:3].mean(),
        "replayed_level_horizon": 4.0,
        "replayed_level_x": x[1],
    }
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)


def test_metrics_are_nan_where_there_is_nothing_to_average():
    _, level_batch, results = case()
    found = metrics_of(replay(), replay().init(), level_batch, results, jnp.zeros(4, bool), NOW)
    assert found.pop("buffer_filled") == 0
    assert [name for name, value in found.items() if not np.isnan(value)] == []


@pytest.mark.parametrize("name", [n for n, score in SCORES.items() if score.reference != "antagonist"])
def test_there_is_no_regret_without_an_antagonist(name):
    found = metrics_of(replay(name), *case(), jnp.ones(4, bool), NOW)
    regrets = {name: value for name, value in found.items() if name.startswith("regret")}
    assert len(regrets) == 3
    assert np.isnan(list(regrets.values())).all()
    assert found["score_fresh"] == 2.0
