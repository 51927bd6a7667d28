"""Level scores against cases computed by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_discovery.discovery.registry import UnknownNameError
from rl_discovery.meta.curriculum.scores import SCORES, LaneOutcome
from rl_discovery.meta.scale import Scale

OUTCOME = LaneOutcome(
    returns=jnp.array([0.0, 1.0, 3.0, 4.0]),
    reference_return=jnp.float32(5.0),
    best_return=jnp.float32(2.5),
    values=jnp.array([[0.5, 1.0, -1.0], [2.0, 3.0, 0.5]]),
    advantages=jnp.array([[0.0, -1.0, 2.0], [1.0, -4.0, 4.0]]),
    scale=Scale(optimal=jnp.float32(6.0), random=jnp.float32(-2.0)),
)
SCORED = [name for name, score in SCORES.items() if score.function]


def score_of(name, **changes):
    return float(SCORES[name].function(dataclasses.replace(OUTCOME, **changes)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("algorithmic_regret", 5.0 - 2.0),
        ("positive_value_loss", (2.0 + 1.0 + 4.0) / 6),
        ("max_monte_carlo", 2.5 - 1.0),
        ("l1_value_loss", 12.0 / 6),
        ("learnability", 0.5 * 0.5),  # 3 and 4 are above 2.5
        ("optimality_gap", (6.0 - 2.0) / (6.0 + 2.0)),
    ],
)
def test_scores_are_those_computed_by_hand(name, expected):
    assert score_of(name) == pytest.approx(expected, rel=1e-6)


def test_the_hand_computed_cases_cover_the_registry():
    assert set(SCORED) == {
        "algorithmic_regret",
        "positive_value_loss",
        "max_monte_carlo",
        "l1_value_loss",
        "learnability",
        "optimality_gap",
    }
    assert set(SCORES) - set(SCORED) == {"random", "frozen"}


@pytest.mark.parametrize(
    ("returns", "optimum", "expected"),
    [
        ([1.0, 1.0, 1.0, 1.0], 1.0, 0.0),  # solved
        ([0.0, 0.0, 0.0, 0.0], 1.0, 0.0),  # out of reach
        ([0.6, 0.4, 0.4, 0.4], 1.0, 0.1875),
        ([0.5, 0.5, 0.6, 0.6], 1.0, 0.25),  # half of the optimum is not above it
        ([0.1, 0.0, 0.1, 0.0], 0.0, 0.0),  # nothing to be had
        ([-1.0, -3.0, -1.0, -3.0], -2.0, 0.0),  # half of a negative optimum is better than the optimum
    ],
)
def test_learnability_is_highest_where_half_of_the_episodes_succeed(returns, optimum, expected):
    found = score_of("learnability", returns=jnp.array(returns), reference_return=jnp.float32(optimum))
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("returns", "optimal", "random", "expected"),
    [
        ([-3.0, -1.0, -3.0, -1.0], -1.0, -5.0, 0.25),  # returns may be below 0
        ([1.0, 1.0, 1.0, 1.0], 2.0, 1.0, 1.0),  # as at random
        ([0.0, 0.0, 0.0, 0.0], 2.0, 1.0, 2.0),  # worse
        ([3.0, 3.0, 1.0, 3.0], 2.0, 0.0, -0.25),  # luckier than anybody can expect to be
        ([0.0, 1.0, 0.0, 1.0], 0.0, 0.0, 0.0),  # nothing to be had
        ([0.0, 1.0, 0.0, 1.0], 1.01, 1.0, 0.0),  # next to nothing
    ],
)
def test_the_optimality_gap_is_a_share_of_what_can_be_gained_over_acting_at_random(
    returns, optimal, random, expected
):
    scale = Scale(optimal=jnp.float32(optimal), random=jnp.float32(random))
    found = score_of("optimality_gap", returns=jnp.array(returns), scale=scale)
    assert found == pytest.approx(expected)


def test_regret_is_negative_where_the_agent_beats_the_antagonist():
    assert score_of("algorithmic_regret", reference_return=jnp.float32(1.5)) == -0.5


@pytest.mark.parametrize("name", SCORED)
def test_scores_are_finite_scalars_under_jit_and_vmap(name):
    function = SCORES[name].function
    batch = jax.tree.map(lambda x: jnp.stack([x, 2 * x, 0 * x]), OUTCOME)
    found = jax.jit(jax.vmap(function))(batch)
    assert found.shape == (3,)
    assert found.dtype == jnp.float32
    assert np.isfinite(found).all()
    assert float(found[0]) == pytest.approx(float(function(OUTCOME)))


def reads(name):
    """Fields of the outcome that the registry says a score needs."""
    score = SCORES[name]
    fields = {"reference_return", "returns"} if score.reference else set()
    fields |= {"scale", "returns"} if score.scale else set()
    critic = {"max_monte_carlo": {"values", "best_return"}}.get(name, {"advantages"})
    return fields | (critic if score.critic else set())


@pytest.mark.parametrize("name", SCORED)
@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(LaneOutcome)])
def test_a_dead_agent_has_no_finite_score_and_nothing_else_is_read(name, field):
    # The registry tells the curriculum what to compute: a critic or a reference it forgets is NaN.
    leaves, tree = jax.tree.flatten(getattr(OUTCOME, field))
    for i, leaf in enumerate(leaves):
        broken = [*leaves[:i], leaf.at[(0,) * leaf.ndim].set(jnp.nan), *leaves[i + 1 :]]
        found = score_of(name, **{field: jax.tree.unflatten(tree, broken)})
        assert np.isfinite(found) == (field not in reads(name))


def test_every_score_says_what_it_is():
    for name, score in SCORES.items():
        assert SCORES.find(name) is score
        assert score.description
        assert "\n" not in score.description


def test_an_unknown_score_is_named_with_the_closest_one():
    with pytest.raises(UnknownNameError, match="unknown score 'learnabilty': did you mean 'learnability'"):
        SCORES.find("learnabilty")
