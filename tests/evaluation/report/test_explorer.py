"""The slider's states are the analysis' surfaces and responses."""

import json

import numpy as np
import pytest

from rl_discovery.evaluation.analysis.record import Schedule
from rl_discovery.evaluation.report.analysis import analysis_part, drift_explorer, response_explorer
from tests.evaluation.report import tiny_run


@pytest.fixture(scope="module")
def drift():
    return tiny_run.analysis("lpo")


@pytest.fixture(scope="module")
def response():
    return tiny_run.analysis("lpg")


def test_each_stop_shows_the_surface_of_its_moment(drift):
    found = drift_explorer("a", drift.drift, "ta-lpo")
    assert (found.horizons, found.shares) == (("2", "8"), (0.0, 0.25, 0.5, 0.75, 1.0))
    row = drift.drift.advantage.index(-1.0)
    for h, horizon in enumerate(tiny_run.HORIZONS):
        for s, share in enumerate(found.shares):
            (surface,) = [x for x in drift.drift.surfaces if (x.horizon, x.progress) == (horizon, share)]
            state = found.states[h][s]
            (shown,) = state["figures"]["a-map"]
            np.testing.assert_allclose(shown["z"], surface.slope, rtol=1e-3)
            assert state["figures"]["a-drift-0"][-1]["y"] == list(surface.drift[row])
            assert state["facts"][4] == f"{100 * surface.rollback.all:.1f} %"
    assert found.states[0][0]["figures"] != found.states[0][4]["figures"]
    assert found.states[0][2]["figures"] != found.states[1][2]["figures"]


@pytest.mark.slow
def test_every_change_belongs_to_a_trace(drift, response):
    for found in (drift_explorer("a", drift.drift, "ta-lpo"), response_explorer("b", response.response)):
        specs = {figure.name: figure.spec for figure in found.figures}
        for states in found.states:
            for state in states:
                assert len(state["facts"]) == len(found.facts)
                for name, changes in state["figures"].items():
                    assert len(changes) <= len(specs[name]["data"])
                    for change, trace in zip(changes, specs[name]["data"], strict=False):
                        for key, values in change.items():
                            assert np.shape(values) == np.shape(trace[key])


def test_the_response_moves_with_the_moment(response):
    found = response_explorer("b", response.response)
    sweep = response.response.sweeps[0]
    curve = next(c for c in sweep.curves if (c.horizon, c.progress) == (8, 0.75))
    assert found.states[1][3]["figures"]["b-0"][-1]["y"] == list(curve.pihat)
    middle = list(sweep.values).index(0.0)
    assert float(found.states[1][3]["facts"][1].replace("−", "-")) == pytest.approx(
        curve.pihat[middle], abs=0.005
    )


def test_a_drift_that_does_not_see_the_horizon_has_one_state():
    analysis = tiny_run.analysis("lpo")
    one = analysis.drift.surfaces[0].model_copy(update={"horizon": None, "progress": None})
    references = analysis.drift.surfaces[-2:]
    drift = analysis.drift.model_copy(update={"surfaces": (one, *references)})
    found = drift_explorer("a", drift, "ta-lpo")
    assert (found.horizons, len(found.shares), len(found.states)) == (("any",), 1, 1)


def test_the_rest_of_the_analysis_is_there(drift):
    part = analysis_part("a", drift)
    assert part.formula == "f = ReLU(x <b>)"
    views, fit = part.tables
    assert views.rows[1] == ("n/N shuffled", *["0.250 [0.200, 0.300]"] * 3)
    assert views.rows[0][2] == "–"
    assert fit.rows[0] == ("drift on points that agents met", "0.9877", "0.0100")
    assert len(part.figures) == 4
    json.dumps([figure.spec for figure in (*part.figures, *part.explorer.figures)], allow_nan=False)


def test_a_rule_that_is_a_schedule_and_nothing_else_shows_it_beside_the_rule_without(drift):
    curves = (
        {"constant": "step size", "horizon": 10, "values": (1.0, 2.0)},
        {"constant": "step size", "horizon": 250, "values": (0.5, 1.0)},
        {"constant": "entropy bonus", "horizon": 10, "values": (0.02, 0.0)},
    )
    plain = {"step size": (1.0, 1.0), "entropy bonus": (0.02, 0.02)}
    schedule = Schedule.model_validate({"progress": (0.0, 1.0), "curves": curves, "plain": plain})
    part = analysis_part(
        "a", drift.model_copy(update={"drift": None, "response": None, "schedule": schedule})
    )
    assert part.explorer is None
    assert "hand-written rule with a schedule" in part.note
    step_size, entropy = part.schedule
    assert (step_size.name, entropy.name) == ("a-schedule-step-size", "a-schedule-entropy-bonus")
    assert [trace["name"] for trace in step_size.spec["data"]] == [
        "without the schedule",
        "N = 10",
        "N = 250",
    ]
    assert [list(trace["y"]) for trace in step_size.spec["data"]] == [[1.0, 1.0], [1.0, 2.0], [0.5, 1.0]]
    assert "0.02 to 0.02 without the schedule; 0.02 to 0 with N = 10" in entropy.alt
