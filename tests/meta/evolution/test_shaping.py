import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rl_discovery.meta.evolution.shaping import centred_ranks, pair_ranks

NAN, INF = np.nan, np.inf

# Multiples of 1/8, so that scaling and shifting below are exact in float32.
RETURNS = st.integers(-800, 800).map(lambda n: n / 8)
BROKEN = st.sampled_from([NAN, INF, -INF])


def fitness_of(shape, values=RETURNS | BROKEN):
    return hnp.arrays(np.float32, shape, elements=values.map(np.float32))


@pytest.mark.parametrize(
    ("pair", "ranks"),
    [
        ((3.0, 1.0), (1.0, 0.0)),
        ((-1.0, 0.0), (0.0, 1.0)),
        ((2.0, 2.0), (0.5, 0.5)),
        ((NAN, -5.0), (0.0, 1.0)),
        ((-5.0, INF), (1.0, 0.0)),
        ((-INF, -5.0), (0.0, 1.0)),
        ((NAN, NAN), (0.5, 0.5)),
        ((INF, NAN), (0.5, 0.5)),
    ],
)
def test_the_better_member_of_a_pair_gets_1_and_a_tie_favours_nobody(pair, ranks):
    np.testing.assert_array_equal(pair_ranks(jnp.array([pair])), [ranks])


@settings(max_examples=50, deadline=None)
@given(fitness_of((5, 2)))
def test_pair_ranks_are_halves_that_sum_to_one_and_swap_with_the_members(fitness):
    ranks = np.asarray(pair_ranks(jnp.asarray(fitness)))
    assert set(ranks.ravel()) <= {0.0, 0.5, 1.0}
    np.testing.assert_array_equal(ranks.sum(axis=1), 1.0)
    np.testing.assert_array_equal(pair_ranks(jnp.asarray(fitness[:, ::-1])), ranks[:, ::-1])


@settings(max_examples=50, deadline=None)
@given(
    fitness_of((5, 2)), fitness_of((5, 1), st.sampled_from([0.25, 1.0, 64.0])), fitness_of((5, 1), RETURNS)
)
def test_pair_ranks_do_not_depend_on_a_levels_scale_or_offset(fitness, scale, offset):
    moved = jnp.asarray(fitness * scale + offset)
    np.testing.assert_array_equal(pair_ranks(moved), pair_ranks(jnp.asarray(fitness)))


def test_centred_ranks_of_one_level_run_from_minus_half_to_half():
    np.testing.assert_allclose(
        centred_ranks(jnp.array([[10.0, -3.0, 4.0, 5.0, 0.0]])), [[0.5, -0.5, 0.0, 0.25, -0.25]]
    )


def test_centred_ranks_share_the_mean_rank_where_candidates_tie():
    np.testing.assert_allclose(centred_ranks(jnp.array([[1.0, 2.0, 2.0, 3.0]])), [[-0.5, 0.0, 0.0, 0.5]])
    np.testing.assert_allclose(centred_ranks(jnp.array([[7.0, 7.0]])), [[0.0, 0.0]])


def test_centred_ranks_put_candidates_that_are_not_finite_last_and_leave_the_rest_alone():
    ranks = np.asarray(centred_ranks(jnp.array([[1.0, NAN, 3.0], [INF, 20.0, 10.0]])))
    dead, alive = ranks[[0, 1], [1, 0]], ranks[[0, 0, 1, 1], [0, 2, 1, 2]]
    np.testing.assert_allclose(dead, -0.4)  # ranks 0 and 1 shared
    assert alive.min() > dead.max()
    assert ranks[0, 2] == ranks[1, 1] > ranks[0, 0] == ranks[1, 2]


def test_centred_ranks_do_not_let_a_level_of_large_returns_dominate():
    # In raw returns the second level's worst would beat the first level's best.
    ranks = np.asarray(centred_ranks(jnp.array([[0.0, 0.1, 0.2], [1000.0, 2000.0, 3000.0]])))
    assert ranks[:, 0].max() < ranks[:, 1].min() <= ranks[:, 1].max() < ranks[:, 2].min()


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(
    value=st.floats(-1e6, 1e6, width=32),
    size=st.integers(2, 9),
    lost=st.integers(0, 3),
    broken=BROKEN,
)
def test_a_level_on_which_all_candidates_tie_is_in_the_middle_of_a_level_that_tells_them_apart(
    value, size, lost, broken
):
    # What is lost comes last and leaves the others' order alone.
    tied = np.float32([value] * size + [broken] * lost)
    spread = np.float32([*range(size), *[broken] * lost])
    ranks = np.asarray(centred_ranks(jnp.asarray([tied, spread])))
    middle = (lost * 2 + (2 * size - 1) / 2) / (2 * (size + lost) - 1) - 0.5
    np.testing.assert_allclose(ranks[0, :size], middle, atol=1e-6)
    assert (np.diff(ranks[1, :size]) > 0).all()


def test_centred_ranks_of_six_times_100_3_are_zero():
    ranks = centred_ranks(jnp.array([[100.3] * 6, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]]))
    np.testing.assert_array_equal(ranks[0], 0.0)


@settings(max_examples=50, deadline=None)
@given(fitness_of((4, 3)), fitness_of((4, 1), RETURNS))
def test_centred_ranks_do_not_depend_on_a_levels_offset(fitness, offset):
    moved = centred_ranks(jnp.asarray(fitness + offset))
    np.testing.assert_array_equal(moved, centred_ranks(jnp.asarray(fitness)))


@settings(max_examples=50, deadline=None)
@given(fitness_of((4, 3)))
def test_centred_ranks_are_finite_and_sum_to_zero(fitness):
    ranks = np.asarray(centred_ranks(jnp.asarray(fitness)))
    assert np.isfinite(ranks).all()
    assert np.abs(ranks).max() <= 0.5
    np.testing.assert_allclose(ranks.sum(), 0.0, atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(fitness_of((3, 4)), st.sampled_from([0.25, 2.0, 64.0]))
def test_centred_ranks_keep_the_order_within_a_level(fitness, scale):
    ranks = np.asarray(centred_ranks(jnp.asarray(fitness * np.array([[1.0], [scale], [1.0]], np.float32))))
    comparable = np.where(np.isfinite(fitness), fitness, -INF)
    for values, ranked in zip(comparable, ranks, strict=True):
        assert (ranked[:, None] > ranked)[values[:, None] > values].all()
        assert (ranked[:, None] == ranked)[values[:, None] == values].all()
