"""LPG's response against the equations in numpy, at rollouts that are made up here once more."""

import jax
import numpy as np
import pytest

from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.objectives.registry import make_objective
from rl_discovery.evaluation.analysis.moments import horizon_blind, moments
from rl_discovery.evaluation.analysis.response import NEUTRAL_PROB, STEPS, analyse_response
from tests.discovery import naive_lpg
from tests.discovery.experience import randomised

HORIZONS = (10, 250)


def objective(name, seed=0):
    rule = make_objective(name, width=6, bins=4)
    start = jax.eval_shape(rule.init, jax.random.key(0))
    return TrainedObjective(rule, randomised(np.random.default_rng(seed), start, 0.5))


def naive(theta, progress, *, reward=None, done=None, prob=None, prediction):
    """pihat and yhat at the first step of one rollout; dictionaries say which steps differ from neutral."""
    rewards, ends, probs = np.zeros((STEPS, 1)), np.zeros((STEPS, 1), bool), np.full((STEPS, 1), NEUTRAL_PROB)
    for array, changes in ((rewards, reward), (ends, done), (probs, prob)):
        for step, value in (changes or {}).items():
            array[step] = value
    logits = np.log(np.stack([probs, 1 - probs], -1))
    heads = np.log(np.array(prediction))[:, None]
    never = np.zeros_like(ends)
    action = np.zeros((STEPS, 1), int)
    found = naive_lpg.targets(theta, (logits, heads[:-1]), heads[-1], action, rewards, ends, never, progress)
    return found[0][0, 0], found[1][0, 0]


@pytest.fixture(scope="module")
def aware():
    subject = objective("ta-lpg")
    return subject, analyse_response(subject, moments(HORIZONS))


def ends_of(theta, N):
    uniform = [np.full(4, 0.25)] * (STEPS + 1)
    every = range(STEPS)
    return [
        naive(theta, (N / 2, N), reward=dict.fromkeys(every, r), prediction=uniform)[1] for r in (-1.0, 1.0)
    ]


@pytest.mark.parametrize(("moment", "N", "share"), [(1, 10, 0.25), (9, 250, 1.0)])
@pytest.mark.parametrize(
    "name", ["reward", "pi(a|s)", "prediction difference", "steps to the end", "steps to a reward"]
)
def test_the_response_is_that_of_the_equations(aware, name, moment, N, share):
    subject, (record, _) = aware
    theta, sweep = subject.meta_params, next(s for s in record.sweeps if s.input == name)
    low, high = ends_of(theta, N)
    middle = [(low + high) / 2] * (STEPS + 1)
    rollouts = {
        "reward": lambda v: {"reward": {0: v}},
        "pi(a|s)": lambda v: {"prob": {0: v}},
        "prediction difference": lambda v: {
            "prediction": [low + w * (high - low) for w in [(1 - v) / 2] + [(1 + v) / 2] * STEPS]
        },
        "steps to the end": lambda v: {"done": {int(v): True}},
        "steps to a reward": lambda v: {"done": {int(v): True}, "reward": {int(v): 1.0}},
    }
    curve = sweep.curves[moment]
    assert (curve.horizon, curve.progress) == (N, share)
    for k in (0, len(sweep.values) // 3, len(sweep.values) - 1):
        made_up = {"prediction": middle} | rollouts[name](sweep.values[k])
        expected, _ = naive(theta, (share * N, N), **made_up)
        np.testing.assert_allclose(curve.pihat[k], expected, rtol=2e-4, atol=2e-5)
    assert np.ptp(curve.pihat) > 1e-3


def test_the_span_of_predictions_is_reported(aware):
    subject, (record, _) = aware
    expected = [np.abs(np.subtract(*ends_of(subject.meta_params, N))).sum() / 2 for N in HORIZONS]
    np.testing.assert_allclose(record.prediction_span, expected, rtol=1e-4)


def test_without_horizon_inputs_there_is_one_curve_and_no_distance():
    record, outputs = analyse_response(objective("lpg"), moments(HORIZONS))
    assert all([c.horizon for c in sweep.curves] == [None] for sweep in record.sweeps)
    assert horizon_blind(outputs, HORIZONS, "pihat").overall == 0


def test_with_them_there_is_a_distance(aware):
    _, (record, outputs) = aware
    assert outputs.shape == (10, sum(len(sweep.values) for sweep in record.sweeps))
    assert horizon_blind(outputs, HORIZONS, "pihat").overall > 0


def test_a_drift_has_no_response():
    with pytest.raises(ValueError, match="ppo has no pihat"):
        analyse_response(TrainedObjective(make_objective("ppo"), {}), moments((10,)))
