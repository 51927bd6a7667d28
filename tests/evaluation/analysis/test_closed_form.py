"""Planted formulas are found again; what is fitted to a learned drift is an objective of its own."""

import jax
import numpy as np
import pytest

from rl_discovery import checkpoints
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.objectives.closed_form import ClosedFormDrift
from rl_discovery.discovery.objectives.lpo import LPO
from rl_discovery.discovery.objectives.registry import make_objective
from rl_discovery.evaluation.analysis import closed_form
from rl_discovery.evaluation.analysis.rollout_samples import RolloutSamples
from tests.discovery.experience import progress, randomised

PLANTED = [
    {"tanh(log r)^2": -0.4, "tanh(A (r-1))": 0.5, "tanh(2 log r) n/N": 0.3},
    {"tanh(2 log r)^2": -0.4, "tanh(log r) A n/N": 0.6, "tanh(log r)": 0.3},
]


def planted(form="ppo_residual", terms=PLANTED[0]):
    rule = ClosedFormDrift(terms=tuple(terms), form=form, discount=0.9)
    return TrainedObjective(rule, {"coefficients": np.array(list(terms.values()), np.float32)}, {"seed": 3})


def some_samples(count=1200, spread=0.3):
    rng = np.random.default_rng(0)
    return RolloutSamples(
        spread * rng.standard_normal(count),
        rng.standard_normal(count),
        rng.random(count),
        np.arange(count) % 4,
    )


@pytest.mark.parametrize(("form", "terms"), [("plain", PLANTED[0]), ("ppo_residual", PLANTED[1])])
def test_a_planted_formula_is_found_with_its_coefficients(form, terms):
    record, formula = closed_form.fit(planted(form, terms), some_samples(), 10, (10, 100), most_terms=6)
    assert {term.name: term.coefficient for term in record.terms} == pytest.approx(terms, rel=1e-4)
    assert {error.r2 for error in record.errors} == {1.0}
    assert max(error.rms for error in record.errors) < 1e-5
    assert [step.terms for step in record.path] == [1, 2, 3, 4, 5, 6]
    assert record.path[1].r2 < 0.999
    assert not any("log N" in name for name in record.basis)
    assert (formula.rule.form, formula.rule.discount, formula.rule.longest_horizon) == (form, 0.9, 10_000)
    assert formula.card["closed_form_of"] == "closed-form-drift"


def test_a_formula_of_a_drift_with_a_schedule_has_the_same_schedule():
    rule = LPO(width=6, progress_inputs=True, schedule=True, longest_horizon=250)
    subject = TrainedObjective(
        rule, randomised(np.random.default_rng(2), jax.eval_shape(rule.init, jax.random.key(0)), 0.3)
    )
    record, formula = closed_form.fit(subject, some_samples(), 10, (10, 100), most_terms=3)
    now = progress(3, 40)
    np.testing.assert_array_equal(formula.schedule(now), subject.schedule(now))
    assert np.isfinite(formula.drift(np.array([0.7, 1.3]), np.array([1.0, -1.0]), now)).all()
    assert "clip(r, 1 - 0.2 below, 1 + 0.2 above)" in record.formula


def test_a_formula_is_an_exported_objective_that_drifts_as_it_was_written(tmp_path):
    subject = checkpoints.load_objective("lpo")
    record, formula = closed_form.fit(subject, some_samples(), 10, (10, 100), most_terms=4)
    checkpoints.save_objective(tmp_path / "formula.safetensors", formula)
    loaded = checkpoints.load_objective(tmp_path / "formula.safetensors")
    assert loaded.rule == formula.rule
    assert len(record.terms) <= 4
    assert not loaded.rule.uses_progress
    assert "n/N" not in record.formula
    ratio, advantage = np.exp(np.linspace(-1, 1, 50)), np.linspace(-3, 3, 50)
    np.testing.assert_array_equal(loaded.drift(ratio, advantage), formula.drift(ratio, advantage))
    # The errors in the record are those of what was saved.
    grid = closed_form.grid((10, 100))
    truth, found = (np.asarray(o.rule.drift(o.meta_params, *grid.arguments)) for o in (subject, loaded))
    error = next(e for e in record.errors if (e.points, e.of) == ("grid", "drift"))
    np.testing.assert_allclose(error.rms, np.sqrt(np.mean((truth - found) ** 2)), rtol=1e-4)
    np.testing.assert_allclose(error.r2, 1 - np.mean((truth - found) ** 2) / np.var(truth), rtol=1e-4)


def test_points_off_the_grid_are_left_out_and_counted():
    met = some_samples()
    far = met._replace(log_ratio=np.where(np.arange(1200) % 8 == 0, 5.0, met.log_ratio * 0.1))
    far = far._replace(advantage=np.clip(far.advantage, -3, 3))
    record, _ = closed_form.fit(planted(), far, 10, (10,), most_terms=3)
    assert record.outside == 0.125
    # Half of the agents are fitted, with as many uniform points; the agents that lost points are fitted ones.
    assert (record.fitted_points, record.held_out_points) == (900, 600)


@pytest.mark.slow
def test_a_network_that_gives_nothing_has_a_formula_of_nothing():
    rule = LPO(width=4)
    record, formula = closed_form.fit(
        TrainedObjective(rule, rule.init(jax.random.key(0))), some_samples(200), 10, (10,), most_terms=3
    )
    assert record.terms == ()
    assert record.formula == "f = ReLU(ReLU((r - clip(r, 0.8, 1.2)) A) - 0.0001)"
    assert formula.rule.uses_progress is False
    assert {error.rms for error in record.errors} == {0.0}


def test_a_formula_is_written_largest_first():
    text = closed_form.write(ClosedFormDrift(form="plain"), {"log r": -0.5, "(r-1)^2 A": 1.25})
    assert text == "f = ReLU(1.25 (r-1)^2 A - 0.5 log r - 0.0001)"


def test_the_network_is_what_stands_before_the_relu():
    rule = LPO(form="plain", width=4, progress_inputs=True)
    theta = randomised(np.random.default_rng(0), rule.init(jax.random.key(0)))
    arguments = (np.float32([0.3, -0.4]), np.float32([1.0, -2.0]), progress(1, 4))
    before = rule.before_relu(theta, *arguments)
    np.testing.assert_allclose(rule.drift(theta, *arguments), np.maximum(before - 1e-4, 0), rtol=1e-6)


@pytest.mark.parametrize("agents", [[0] * 8, [1] * 8, [0, 0, 1, 1]])
def test_too_few_points_are_told_in_one_line(agents):
    met = some_samples(len(agents))._replace(agent=np.array(agents))
    with pytest.raises(closed_form.TooFewPointsError, match="no formula: agents met") as caught:
        closed_form.fit(planted(), met, 10, (10,), most_terms=3)
    assert "\n" not in str(caught.value)


def test_hand_written_drifts_have_no_fit():
    subject = TrainedObjective(make_objective("ppo"), {})
    assert not closed_form.can_fit(subject)
    with pytest.raises(ValueError, match="ppo is no learned drift"):
        closed_form.fit(subject, some_samples(100), 10, (10,), most_terms=3)
