"""Measures of a drift against PPO's and DPO's derivatives by hand."""

import jax
import numpy as np
import pytest

from rl_discovery import checkpoints
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.objectives.closed_form import ClosedFormDrift
from rl_discovery.discovery.objectives.registry import make_objective
from rl_discovery.evaluation.analysis.drift import (
    ADVANTAGE,
    LOG_RATIO,
    analyse_drift,
    probe_of,
    reach,
    rollback,
)
from rl_discovery.evaluation.analysis.moments import Moment, horizon_blind, moments

NOW = Moment(10, 0.5)
L, A = np.meshgrid(LOG_RATIO, ADVANTAGE)
R = np.exp(L)


def hand_written(name):
    return TrainedObjective(make_objective(name), {})


def test_ppos_gain_is_the_advantage_within_the_clip_and_nothing_beyond():
    drift, slope = probe_of(hand_written("ppo"))(L, A, NOW)
    beyond = ((A > 0) & (R > 1.2)) | ((A < 0) & (R < 0.8))
    np.testing.assert_allclose(drift, np.where(beyond, (R - np.clip(R, 0.8, 1.2)) * A, 0), atol=1e-6)
    np.testing.assert_allclose(slope, np.where(beyond, 0, A), atol=1e-6)


def test_dpos_gain_is_its_derivative():
    _, slope = probe_of(hand_written("dpo"))(L, A, NOW)
    above = A * np.cosh((R - 1) * A / 2) ** -2.0
    below = A - A / R * np.tanh(L * A / 0.6) ** 2
    rises = (R - 1) * A > 1e-3  # where the drift is not 0
    np.testing.assert_allclose(slope[rises & (A > 0)], above[rises & (A > 0)], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(slope[rises & (A < 0)], below[rises & (A < 0)], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(slope[~rises], A[~rises], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_ppos_implied_clip_range_is_its_own(share):
    limits = reach(probe_of(hand_written("ppo")), ADVANTAGE, NOW, share)
    np.testing.assert_allclose(limits[ADVANTAGE > 0], 1.2, rtol=1e-6)
    np.testing.assert_allclose(limits[ADVANTAGE < 0], 0.8, rtol=1e-6)
    assert np.isnan(limits[ADVANTAGE == 0]).all()


def test_dpo_is_halved_where_its_derivative_says():
    limits = reach(probe_of(hand_written("dpo")), ADVANTAGE, NOW, 0.5)
    # 1 / cosh^2(x) = 1/2
    expected = 1 + 2 * np.arccosh(np.sqrt(2)) / ADVANTAGE[ADVANTAGE > 0]
    found = limits[ADVANTAGE > 0]
    on_grid = expected < np.e
    np.testing.assert_allclose(found[on_grid], expected[on_grid], rtol=1e-3)
    assert np.isnan(found[~on_grid]).all()
    assert on_grid.any()
    assert not on_grid.all()


def test_without_a_drift_the_agent_never_stops():
    assert np.isnan(reach(probe_of(hand_written("no-drift")), ADVANTAGE, NOW, 0.0)).all()


def test_rollback_counts_slopes_against_the_advantage():
    advantage = np.array([[1.0] * 4, [0.0] * 4, [-1.0] * 4])
    found = rollback(np.array([[-1.0, 0, 1, 1], [-1] * 4, [1, 1, -1, 0]]), advantage)
    assert (found.all, found.positive, found.negative) == (0.375, 0.25, 0.5)


def test_what_moving_costs_at_no_advantage_is_reported():
    rule = ClosedFormDrift(terms=("(log r)^2",), form="plain", offset=0.0)
    planted = TrainedObjective(rule, {"coefficients": np.array([0.5], np.float32)})
    record, _ = analyse_drift(planted, moments((10,)))
    np.testing.assert_allclose(record.surfaces[0].zero_advantage, 0.5 * LOG_RATIO**2, atol=1e-6)
    assert [surface.objective for surface in record.surfaces] == ["closed-form-drift", "ppo", "dpo"]


@pytest.mark.slow
def test_a_drift_that_sees_the_horizon_has_a_surface_per_moment():
    record, outputs = analyse_drift(checkpoints.load_objective("ta-lpo"), moments((10, 100)))
    assert [(s.horizon, s.progress) for s in record.surfaces[:10]] == [
        (N, share) for N in (10, 100) for share in (0, 0.25, 0.5, 0.75, 1)
    ]
    assert outputs.shape == (10, *L.shape)
    assert record.surfaces[0].drift != record.surfaces[4].drift


@pytest.mark.parametrize("name", ["lpo", "ppo"])
def test_who_does_not_see_the_horizon_is_exactly_its_horizon_blind_self(name):
    record, outputs = analyse_drift(checkpoints.load_objective(name), moments((10, 100)))
    found = horizon_blind(outputs, (10, 100), "f")
    assert found.overall == 0
    assert {distance.distance for distance in found.distances} == {0}
    assert record.surfaces[0].horizon is None


def test_the_distance_from_the_horizon_blind_self_is_relative():
    # f = n/N at every point: mean 1/2, and a root mean square of sqrt(mean of 0, 1/16, 1/4, 9/16, 1).
    shares = np.array([0, 0.25, 0.5, 0.75, 1])
    found = horizon_blind(np.repeat(shares[:, None], 7, 1), (10,), "n/N")
    size = np.sqrt(np.mean(shares**2))
    expected = np.abs(shares - 0.5) / size
    np.testing.assert_allclose([d.distance for d in found.distances], expected, rtol=1e-5)
    np.testing.assert_allclose(found.overall, np.sqrt(np.mean(expected**2)), rtol=1e-5)


def test_lpg_has_no_drift():
    rule = make_objective("lpg", width=4)
    with pytest.raises(ValueError, match="lpg has no drift"):
        probe_of(TrainedObjective(rule, rule.init(jax.random.key(0))))
