"""Closed-form drifts against their terms written out; `test_mirror` asks whether they are drifts."""

import numpy as np
import pytest

from rl_discovery.discovery.objectives.closed_form import BASIS, ClosedFormDrift, evaluate_terms
from tests.discovery.experience import progress

R = np.exp(np.linspace(-1, 1, 21))
A = np.linspace(-3, 3, 21)


def test_every_term_of_the_basis_is_0_at_ratio_1():
    values = evaluate_terms(tuple(BASIS), np.zeros(3), np.array([-2.0, 0.0, 3.0]), progress(3, 7), 100)
    assert values.shape == (3, len(BASIS))
    assert not np.any(values)


def test_a_drift_is_the_sum_that_its_terms_say():
    terms = ("(log r)^2", "(r-1) A", "tanh(A log r) |A| n/N", "(r-1)^2 A^2 log N / log N_max")
    rule = ClosedFormDrift(terms=terms, form="plain", longest_horizon=100)
    theta = {"coefficients": np.array([0.5, -0.3, 0.2, 0.1], np.float32)}
    found = rule.drift(theta, np.log(R).astype(np.float32), A.astype(np.float32), progress(3, 10))
    expected = 0.5 * np.log(R) ** 2 - 0.3 * (R - 1) * A + 0.2 * np.tanh(A * np.log(R)) * np.abs(A) * 0.3
    expected += 0.1 * (R - 1) ** 2 * A**2 * 0.5
    np.testing.assert_allclose(found, np.maximum(expected - 1e-4, 0), rtol=1e-4, atol=1e-5)
    assert np.any(expected > 0.1)
    assert np.any(expected < 0)


def test_in_the_residual_form_the_sum_is_added_to_ppos():
    rule = ClosedFormDrift(terms=("(log r)^2",))
    theta = {"coefficients": np.array([0.5], np.float32)}
    found = rule.drift(theta, np.log(R).astype(np.float32), A.astype(np.float32), progress(0, 1))
    ppo = np.maximum((R - np.clip(R, 0.8, 1.2)) * A, 0)
    np.testing.assert_allclose(found, np.maximum(ppo + 0.5 * np.log(R) ** 2 - 1e-4, 0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("terms", "sees", "sees_length"),
    [
        (("log r",), False, False),
        (("log r", "(r-1) A n/N"), True, False),
        (("log r log N / log N_max",), True, True),
    ],
)
def test_what_a_drift_sees_stands_in_its_terms(terms, sees, sees_length):
    rule = ClosedFormDrift(terms=terms)
    assert (rule.uses_progress, rule.horizon_inputs) == (sees, sees_length)
    assert rule.inputs == terms


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"terms": ()}, "must not be empty"),
        ({"terms": ("sin r",)}, "'sin r' is not"),
        ({"terms": ("log r", "log r")}, "must differ"),
        ({"longest_horizon": 1}, "longest_horizon must be at least 2"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ClosedFormDrift(**settings)
