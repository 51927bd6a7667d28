"""The level buffer beside a naive one, and its sampling against the stated distribution."""

import copy
import dataclasses
import itertools
import math

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from scipy import stats

from rl_discovery.envs.levels import Level
from rl_discovery.envs.registry import distribution
from rl_discovery.meta.curriculum import buffer as level_buffer
from rl_discovery.meta.curriculum.buffer import Prioritisation

B, C = 8, 4
NAN, INF = float("nan"), float("inf")
MEASURES = ("score", "reference_return", "agent_return", "best_return")

activate, refresh, insert = map(jax.jit, (level_buffer.activate, level_buffer.refresh, level_buffer.insert))
probabilities_of = jax.jit(level_buffer.replay_probabilities, static_argnames="settings")


def level(number):
    """A level that is known by its number."""
    return Level(params={"x": jnp.float32(number), "odd": jnp.bool_(number % 2)}, horizon=jnp.int32(7))


def batch(numbers):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(level, numbers))


# ---- a naive buffer: one dict per slot, one level at a time


class Naive:
    def __init__(self):
        self.slots = [None] * B

    def activate(self, slots, generation):
        for slot in slots:
            self.slots[slot] |= {"active": True, "played": generation}

    def refresh(self, plays):
        for slot, score, agent_return, best_return in plays:
            entry = self.slots[slot]
            entry["active"] = False
            entry["plays"] += 1
            if math.isfinite(score):
                entry |= {"score": score, "agent_return": agent_return}
                entry["best_return"] = max(entry["best_return"], best_return)

    def insert(self, candidates, generation):
        known = {entry["number"] for entry in self.slots if entry}
        remaining = []
        for candidate in candidates:
            if math.isfinite(candidate["score"]) and candidate["number"] not in known:
                known.add(candidate["number"])
                remaining.append(candidate)
        for candidate in sorted(remaining, key=lambda candidate: -candidate["score"]):
            slot = self.slot_for(candidate["score"])
            if slot is not None:
                new = {"inserted": generation, "played": generation, "plays": 1, "active": False}
                self.slots[slot] = candidate | new

    def slot_for(self, score):
        if None in self.slots:
            return self.slots.index(None)
        inactive = [slot for slot in range(B) if not self.slots[slot]["active"]]
        lowest = min(inactive, key=lambda slot: self.slots[slot]["score"], default=None)
        return lowest if inactive and score > self.slots[lowest]["score"] else None


def contents(buffer):
    """The same dicts from the real buffer."""
    buffer = jax.device_get(buffer)
    columns = {
        field: getattr(buffer, field) for field in (*MEASURES, "inserted", "played", "plays", "active")
    }
    columns["number"] = buffer.levels.params["x"]
    entries = [{name: column[slot].item() for name, column in columns.items()} for slot in range(B)]
    return [entry if entry["plays"] else None for entry in entries]


values = st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0, 2.0])
scores = st.one_of(values, st.sampled_from([NAN, INF, -INF, 0.75, 3.0]))
candidate = st.fixed_dictionaries(
    {"number": st.integers(0, 30), "score": scores} | dict.fromkeys(MEASURES[1:], values)
)
candidates, masks = (st.lists(what, min_size=C, max_size=C) for what in (candidate, st.booleans()))
operations = st.one_of(
    st.tuples(st.just("insert"), candidates, masks),
    st.tuples(st.just("activate"), st.permutations(range(B)), masks),
    st.tuples(st.just("refresh"), st.permutations(range(B)), masks, candidates),
)


def measures(candidates, names):
    return {name: jnp.array([c[name] for c in candidates], jnp.float32) for name in names}


def play(buffer, naive, generation, operation):
    """One operation on both; slots are served only if they may be, and recorded only if they were served."""
    name, first, mask, *rest = operation
    now = jnp.int32(generation)
    if name == "insert":
        naive.insert(list(itertools.compress(first, mask)), generation)
        levels = batch([c["number"] for c in first])
        return insert(buffer, levels, jnp.array(mask), now, **measures(first, MEASURES))
    slots = first[:C]
    allowed = [entry is not None and entry["active"] == (name == "refresh") for entry in naive.slots]
    mask = [wanted and allowed[slot] for wanted, slot in zip(mask, slots, strict=True)]
    if name == "activate":
        naive.activate(list(itertools.compress(slots, mask)), generation)
        return activate(buffer, jnp.array(slots), jnp.array(mask), now)
    names = ("score", "agent_return", "best_return")
    plays = [(s, *(c[n] for n in names)) for s, c in zip(slots, rest[0], strict=True)]
    naive.refresh(itertools.compress(plays, mask))
    return refresh(buffer, jnp.array(slots), jnp.array(mask), **measures(rest[0], names))


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(candidates, candidates), max_size=1), st.lists(operations, min_size=1, max_size=20))
def test_any_sequence_of_operations_leaves_what_a_naive_buffer_holds(first, sequence):
    buffer, naive = level_buffer.empty(level(0), B), Naive()
    # Half of the examples begin with all but full slots, because chance seldom fills them.
    filling = [("insert", candidates, [True] * C) for both in first for candidates in both]
    for generation, operation in enumerate([*filling, *sequence], start=3):
        before = copy.deepcopy(naive.slots)
        buffer = play(buffer, naive, generation, operation)
        after = contents(buffer)
        assert after == naive.slots
        check_invariants(before, after, operation)
    expected = jax.vmap(level_buffer.fingerprint)(buffer.levels)
    np.testing.assert_array_equal(buffer.fingerprints[buffer.filled], expected[buffer.filled])


def check_invariants(before, after, operation):
    """What must hold whatever the naive buffer says."""
    pairs = list(zip(before, after, strict=True))
    assert all(new for old, new in pairs if old), "a slot was emptied"
    numbers = [entry["number"] for entry in after if entry]
    assert len(set(numbers)) == len(numbers), "duplicates"
    evicted = [(old, new) for old, new in pairs if old and old["number"] != new["number"]]
    stayed = [old for old, new in pairs if old and old["number"] == new["number"] and not old["active"]]
    for old, new in evicted:
        assert operation[0] == "insert"
        assert all(after), "a level was evicted while a slot was empty"
        assert not old["active"]
        assert old["score"] < new["score"]
        assert all(old["score"] <= other["score"] for other in stayed), "not the lowest score went"


def filled(score, **changes):
    """A buffer whose slots have these scores and were inserted in generation 0."""
    size = len(score)
    buffer = level_buffer.empty(level(0), size)
    changes = {name: jnp.asarray(value) for name, value in changes.items()}
    full = {"score": jnp.array(score, jnp.float32), "plays": jnp.ones(size, jnp.int32)}
    return dataclasses.replace(buffer, **(full | changes))


def test_more_candidates_than_slots_leave_the_best():
    buffer = level_buffer.empty(level(0), 2)
    score = jnp.array([1.0, 3.0, 2.0, 0.0])
    blank = dict.fromkeys(MEASURES[1:], jnp.zeros(4))
    buffer = insert(buffer, batch([1, 2, 3, 4]), jnp.ones(4, bool), jnp.int32(0), score=score, **blank)
    np.testing.assert_array_equal(buffer.score, [3.0, 2.0])
    np.testing.assert_array_equal(buffer.levels.params["x"], [2.0, 3.0])


def test_an_active_level_is_not_evicted_however_low_its_score():
    buffer = filled([-5.0, 1.0, -4.0, 2.0], active=[True, False, True, False])
    blank = dict.fromkeys(MEASURES[1:], jnp.zeros(C))
    score = jnp.array([3.0, 0.5, 1.5, 1.25])
    buffer = insert(buffer, batch([1, 2, 3, 4]), jnp.ones(C, bool), jnp.int32(0), score=score, **blank)
    np.testing.assert_array_equal(buffer.score, [-5.0, 3.0, -4.0, 2.0])
    np.testing.assert_array_equal(buffer.active, [True, False, True, False])


def test_a_best_return_that_is_not_a_number_replaces_none():
    buffer = filled([1.0], best_return=jnp.array([0.5]), active=jnp.array([True]))
    play = {"score": jnp.ones(1), "agent_return": jnp.ones(1), "best_return": jnp.array([NAN])}
    assert refresh(buffer, jnp.array([0]), jnp.array([True]), **play).best_return == 0.5


def test_empty_fresh_and_seen_levels_are_told_apart():
    buffer = filled([0.0, 0.0, 0.0], plays=[0, 1, 2])
    np.testing.assert_array_equal(buffer.filled, [False, True, True])
    np.testing.assert_array_equal(buffer.fresh, [False, True, False])
    np.testing.assert_array_equal(buffer.seen, [False, False, True])


def test_a_buffer_is_made_of_abstract_levels_and_of_python_numbers():
    abstract = jax.eval_shape(distribution("gridworld/small").sample, jax.random.key(0))
    buffer = level_buffer.empty(abstract, 5)
    assert buffer.levels.params.walls.shape == (5, 36)
    assert buffer.levels.horizon.dtype == jnp.int32
    _, params = gymnax.make("CartPole-v1")
    assert level_buffer.empty(Level(params=params, horizon=5), 3).levels.params.gravity.shape == (3,)
    with pytest.raises(ValueError, match="at least one slot, not 0"):
        level_buffer.empty(abstract, 0)


# ---- which levels are replayed


def naive_probabilities(buffer, generation, chosen):
    """The definition, in double precision."""
    eligible = np.flatnonzero(np.asarray(buffer.filled & ~buffer.active))
    score = np.asarray(buffer.score, float)
    if chosen.prioritisation == "rank":
        order = sorted(eligible, key=lambda slot: (-score[slot], slot))
        weight = {slot: (1 + rank) ** (-1 / chosen.temperature) for rank, slot in enumerate(order)}
    else:
        weight = {slot: max(score[slot], 0.0) ** (1 / chosen.temperature) for slot in eligible}
    stale = {slot: float(generation - buffer.played[slot]) for slot in eligible}
    result = np.zeros(score.size)
    for share, part in ((1 - chosen.staleness_weight, weight), (chosen.staleness_weight, stale)):
        total = sum(part.values())
        for slot in eligible:
            result[slot] += share * (part[slot] / total if total > 0 else 1 / eligible.size)
    return result


SETTINGS = [
    Prioritisation(),
    Prioritisation(temperature=0.3, staleness_weight=0.25),
    Prioritisation(prioritisation="proportional"),
    Prioritisation(prioritisation="proportional", temperature=2.0, staleness_weight=0.5),
    Prioritisation(staleness_weight=1.0),
]


@pytest.mark.parametrize("chosen", SETTINGS, ids=str)
@pytest.mark.parametrize(
    "score",
    [[3.0, 1.0, -2.0, 3.0, 0.5, 0.0], [-1.0, -2.0, 0.0, -3.0, -1.0, 0.0]],
    ids=["mixed", "nothing left"],
)
def test_probabilities_are_those_of_the_definition(chosen, score):
    changes = {"played": [9, 2, 5, 9, 0, 7], "plays": [1, 2, 1, 3, 1, 0]}
    for active in ([False] * 6, [True, False, False, False, True, False], [True] * 6):
        buffer = filled(score, active=active, **changes)
        for generation in (9, 12):
            found = np.asarray(probabilities_of(buffer, jnp.int32(generation), settings=chosen))
            np.testing.assert_allclose(found, naive_probabilities(buffer, generation, chosen), rtol=1e-5)
            assert (found[~np.asarray(buffer.filled & ~buffer.active)] == 0).all()


def test_staleness_is_uniform_where_everything_was_just_played():
    buffer = filled([1.0, 2.0, 3.0, 4.0], played=[6, 6, 6, 6])
    found = probabilities_of(buffer, jnp.int32(6), settings=Prioritisation(staleness_weight=1.0))
    np.testing.assert_allclose(found, 0.25)


@pytest.mark.parametrize("prioritisation", ["rank", "proportional"])
@pytest.mark.parametrize("temperature", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_neither_scores_nor_temperatures_overflow(prioritisation, temperature, scale):
    # The official code takes exp(score / temperature), infinite at a score of 89.
    buffer = filled([scale, -scale, 0.5 * scale, 0.0])
    chosen = Prioritisation(prioritisation=prioritisation, temperature=temperature)
    found = np.asarray(probabilities_of(buffer, jnp.int32(0), settings=chosen))
    assert np.isfinite(found).all()
    assert found.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(found[2] / found[0], 0.5 ** (1 / temperature), rtol=1e-2)


def test_rank_replay_heeds_temperature_and_staleness():
    # The official code replays the levels of highest score, whatever the temperature.
    buffer = filled([4.0, 3.0, 2.0, 1.0], played=[9, 9, 9, 0])

    def probabilities(**changes):
        return probabilities_of(buffer, jnp.int32(9), settings=Prioritisation(**changes))

    cold, warm, stale = probabilities(temperature=0.1), probabilities(), probabilities(staleness_weight=0.9)
    assert cold[0] > warm[0] > warm[3] > cold[3]
    assert stale[3] > 0.9
    slots, _ = jax.vmap(lambda key: level_buffer.sample(warm, key, 1))(
        jax.random.split(jax.random.key(0), 200)
    )
    assert len(np.unique(slots)) == 4, "the same levels each time"


def test_levels_that_nobody_evaluated_are_never_replayed():
    # In the official code a level is replayable with score 0 before anyone played it.
    blank = dict.fromkeys(MEASURES[1:], jnp.zeros(C))
    dead = jnp.array([-1.0, NAN, INF, -2.0])
    buffer = level_buffer.empty(level(0), B)
    assert not probabilities_of(buffer, jnp.int32(1), settings=Prioritisation()).any()
    _, valid = level_buffer.sample(jnp.zeros(B), jax.random.key(0), C)
    assert not valid.any()
    buffer = insert(buffer, batch([1, 2, 3, 4]), jnp.ones(C, bool), jnp.int32(0), score=dead, **blank)
    for chosen in SETTINGS:
        found = probabilities_of(buffer, jnp.int32(1), settings=chosen)
        np.testing.assert_array_equal(found > 0, [True, True, *[False] * 6])
    np.testing.assert_array_equal(buffer.levels.params["x"][:2], [1.0, 4.0])


# ---- sampling


@pytest.fixture(scope="module")
def draws():
    """From probabilities and a count to many samples."""

    def many(probabilities, count, repeats=20_000):
        keys = jax.random.split(jax.random.key(11), repeats)
        draw = jax.vmap(lambda key: level_buffer.sample(probabilities, key, count))
        return jax.device_get(jax.jit(draw)(keys))

    return many


@pytest.mark.parametrize("chosen", SETTINGS, ids=str)
def test_the_first_of_a_sample_has_the_stated_distribution(draws, chosen):
    active = jnp.zeros(12, bool).at[3].set(True)
    buffer = filled(np.linspace(-1, 3, 12), played=np.arange(12), active=active)
    probabilities = probabilities_of(buffer, jnp.int32(20), settings=chosen)
    slots, valid = draws(probabilities, 4)
    possible = np.asarray(probabilities) > 0
    assert valid.all()
    assert possible[slots].all()
    assert (np.diff(np.sort(slots, axis=1), axis=1) > 0).all(), "a slot was drawn twice"
    counts = np.bincount(slots[:, 0], minlength=12)[possible]
    expected = np.asarray(probabilities, float)[possible]
    assert stats.chisquare(counts, expected / expected.sum() * counts.sum()).pvalue > 1e-3


def test_two_slots_have_the_joint_distribution_of_drawing_one_after_the_other(draws):
    p = np.array([0.5, 0.3, 0.2])
    slots, _ = draws(jnp.array(p, jnp.float32), 2)
    orders = list(itertools.permutations(range(3), 2))
    counts = [np.sum((slots == order).all(axis=1)) for order in orders]
    expected = [p[i] * p[j] / (1 - p[i]) for i, j in orders]
    assert stats.chisquare(counts, np.array(expected) * len(slots)).pvalue > 1e-3


def test_what_cannot_be_drawn_is_marked():
    p = jnp.array([0.0, 0.75, 0.0, 0.25])
    for count in (3, 6):  # the latter is more than there are slots
        slots, valid = level_buffer.sample(p, jax.random.key(2), count)
        np.testing.assert_array_equal(valid, [True, True, *[False] * (count - 2)])
        assert set(slots[:2].tolist()) == {1, 3}
        assert not slots[2:].any()


# ---- configuration


@pytest.mark.parametrize(
    "changes",
    [{"temperature": 0.0}, {"temperature": INF}, {"staleness_weight": 1.1}, {"prioritisation": "softmax"}],
)
def test_settings_that_cannot_work_are_refused(changes):
    with pytest.raises(ValidationError, match=next(iter(changes))):
        TypeAdapter(Prioritisation).validate_python(changes)
