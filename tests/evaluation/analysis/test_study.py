"""What a study refuses, and what it looks at unless told otherwise."""

import jax
import pytest

from rl_discovery import checkpoints
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.objectives.registry import make_objective
from rl_discovery.discovery.sharding import make_mesh
from rl_discovery.envs.suites import Suite
from rl_discovery.evaluation.analysis import AnalysisError, Setting, check, trained_horizons

CONTINUOUS = Setting(Suite("swing", "up", ("Pendulum-v1",), (1,)), 2, 1, make_mesh(1))


@pytest.mark.parametrize("name", ["a2c", "random"])
def test_there_must_be_something_to_analyse(name):
    with pytest.raises(AnalysisError, match=f"nothing to analyse in {name}"):
        check(TrainedObjective(make_objective(name), {}), CONTINUOUS)


def test_agents_must_be_able_to_learn_there():
    rule = make_objective("lpg", width=4)
    with pytest.raises(AnalysisError, match="lpg needs discrete actions"):
        check(TrainedObjective(rule, rule.init(jax.random.key(0))), CONTINUOUS)
    check(TrainedObjective(make_objective("ppo"), {}), CONTINUOUS)


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ({"horizon": 10, "longest_horizon": 1000}, (10, 100, 1000)),
        ({"horizon": 250, "longest_horizon": None}, (250,)),
        ({"horizon": None, "distribution": "gridworld/all_vrandlife"}, (10, 50, 250)),
        ({"horizon": None, "distribution": "all_randlife"}, (50, 112, 250)),
        ({"horizon": None, "distribution": "nowhere"}, (10, 50, 250)),
        (None, (10, 50, 250)),
    ],
)
def test_the_horizons_are_those_of_the_evolution(levels, expected):
    assert trained_horizons({} if levels is None else {"config": {"levels": levels}}) == expected


def test_the_horizons_of_what_is_shipped_are_found():
    assert trained_horizons(checkpoints.load_objective("ta-lpo").card) == (10, 32, 100)
    assert trained_horizons(checkpoints.load_objective("ta-lpg").card) == (10, 50, 250)
