"""Meta-training that begins at another objective: what fits, what is widened, what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_discovery.checkpoints import load_objective
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.objectives.closed_form import ClosedFormDrift
from rl_discovery.discovery.objectives.lpg import LPG
from rl_discovery.discovery.objectives.lpo import LPO
from rl_discovery.discovery.objectives.registry import make_objective
from rl_discovery.meta.errors import ConfigError
from rl_discovery.meta.warm_start import earlier_env_steps, first_stage, fitted, starting_point
from tests.discovery.experience import progress, random_experience, randomised

BLIND = LPG(width=4, bins=3, embedding_width=2, horizon_inputs=False)
AWARE = LPG(width=4, bins=3, embedding_width=2, horizon_inputs=True, encoding="scaled")


def trained(rule):
    shapes = jax.eval_shape(rule.init, jax.random.key(0))
    return TrainedObjective(rule, randomised(np.random.default_rng(0), shapes))


def test_the_same_rule_starts_where_the_other_ended():
    found = trained(AWARE)
    started = fitted(found, AWARE, "x")
    jax.tree.map(np.testing.assert_array_equal, started, found.meta_params)


def test_a_rule_without_horizon_inputs_is_widened_to_one_that_does_the_same_at_first():
    blind = trained(BLIND)
    widened = fitted(blind, AWARE, "x")
    assert widened["gru"]["kernel"].shape[0] == blind.meta_params["gru"]["kernel"].shape[0] + 2
    experience = random_experience(np.random.default_rng(1), 5, 2, 4, 3)
    before = BLIND.targets(blind.meta_params, experience, progress(3, 40))
    after = AWARE.targets(widened, experience, progress(3, 40))
    np.testing.assert_allclose(after.pihat, before.pihat, rtol=1e-5, atol=1e-6)


def test_lpo_is_widened_to_ta_lpo():
    lpo, ta_lpo = LPO(width=5), LPO(width=5, progress_inputs=True, horizon_inputs=True, schedule=True)
    found = trained(lpo)
    widened = fitted(found, ta_lpo, "x")
    ratios, advantage = jnp.linspace(-0.5, 0.5, 7), jnp.ones(7)
    before = lpo.drift(found.meta_params, ratios, advantage, progress(3, 40))
    after = ta_lpo.drift(widened, ratios, advantage, progress(3, 40))
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)
    assert not widened["schedule"].any()


INPUTS = ("progress_inputs", "horizon_inputs")


@pytest.mark.parametrize("had", [(), INPUTS[:1], INPUTS[1:]])
@pytest.mark.parametrize("bent", [(), ("schedule_discount",)])
def test_a_drift_with_fewer_inputs_becomes_one_with_all_that_does_the_same_at_first(had, bent):
    old = LPO(width=5, encoding="scaled", schedule=True, **dict.fromkeys((*had, *bent), True))
    new = dataclasses.replace(old, schedule_discount=True, **dict.fromkeys(INPUTS, True))
    assert_same(old, new, progress(3, 40))


@pytest.mark.parametrize("more", ["schedule_clip", "schedule_v_squared"])
def test_a_schedule_learns_to_bend_more_or_by_more_and_keeps_the_rest(more):
    old = dataclasses.replace(AWARE, form="a2c_residual", schedule=True, schedule_discount=True)
    found = trained(old)
    new = dataclasses.replace(old, **{more: True})
    before, after = (
        rule.scales(params, progress(3, 40))
        for rule, params in ((old, found.meta_params), (new, fitted(found, new, "x")))
    )
    np.testing.assert_allclose(after, before, rtol=1e-6)


# Of a factor of two at least: over a narrower range, the square of the scaled log N far outside it is a
# difference of large numbers in single precision.
ranges = st.tuples(st.integers(2, 20), st.integers(41, 2_000))


@pytest.mark.parametrize(
    "rule",
    [
        dataclasses.replace(AWARE, schedule=True),
        LPG(width=4, bins=3, embedding_width=2),
        LPO(width=5, schedule=True, **dict.fromkeys(INPUTS, True)),
        LPO(width=5, encoding="scaled", **dict.fromkeys(INPUTS, True)),
        ClosedFormDrift(terms=("(r-1)^2", "log r A log N / log N_max")),
        make_objective("ta-ppo"),
        make_objective("ta-ppo", schedule_v_squared=True),
    ],
    ids=lambda rule: rule.name,
)
@given(before=ranges, after=ranges, share=st.floats(0, 1))
@settings(max_examples=10, deadline=None)
def test_on_levels_of_other_lifetimes_a_rule_starts_as_what_it_was(rule, before, after, share):
    old, new = (
        dataclasses.replace(rule, shortest_horizon=low, longest_horizon=high) for low, high in (before, after)
    )
    shortest, longest = max(before[0], after[0]), min(before[1], after[1])
    assert_same(old, new, progress(1, round(shortest + share * (longest - shortest))))


def assert_same(old, new, at):
    """Both rules have the same schedule and targets, or drift, where the new one is fitted to the old one."""
    found = trained(old)
    started = fitted(found, new, "x")
    cases = [(old, found.meta_params), (new, started)]
    scales = [rule.scales(params, at) for rule, params in cases]
    np.testing.assert_allclose(scales[1], scales[0], rtol=2e-4)
    if isinstance(old, LPG):
        experience = random_experience(np.random.default_rng(1), 5, 2, 4, 3)
        outputs = [rule.targets(params, experience, at).pihat for rule, params in cases]
    else:
        ratios, advantage = jnp.linspace(-0.5, 0.5, 7), jnp.linspace(-2, 2, 7)
        outputs = [rule.drift(params, ratios, advantage, at) for rule, params in cases]
    np.testing.assert_allclose(outputs[1], outputs[0], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        (LPG(width=4), LPG(width=8), r"width is 4 there and 8 here"),
        (AWARE, BLIND, r"horizon_inputs is True there and False here"),
        (LPG(width=4), LPG(width=4, form="a2c_residual"), r"form is free there and a2c_residual here"),
        (LPG(width=4, encoding="scaled"), LPG(width=4), r"encoding is scaled there and paper here"),
        (LPO(width=4), LPG(width=4), r"lpo cannot become ta-lpg"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(old, new, match):
    with pytest.raises(ConfigError, match=match) as caught:
        fitted(trained(old), new, "there")
    assert "\n" not in str(caught.value)


def test_a_hand_written_rule_has_nothing_to_start_from():
    with pytest.raises(ConfigError, match="start_from ppo: ppo is not learned"):
        starting_point("ppo", make_objective("ta-ppo"))


def test_a_name_of_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"^start_from: unknown objective 'nothing'"):
        starting_point("nothing", AWARE)


def test_environment_steps_of_all_runs_are_counted():
    card = load_objective("ta-lpg-a2c").card
    assert earlier_env_steps("ta-lpg-a2c") == card["env_steps"] + card["earlier_env_steps"] > 1.4e10
    assert earlier_env_steps("lpg") == load_objective("lpg").card["env_steps"]
    assert earlier_env_steps("ppo") is None
    assert earlier_env_steps("nothing") is None


def test_a_preset_to_run_first_is_told_from_an_objective():
    assert first_stage("preset:ta-lpg-meta-gradient-cpu") == "ta-lpg-meta-gradient-cpu"
    assert first_stage("ta-lpg") is None
    assert first_stage(None) is None
