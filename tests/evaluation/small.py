"""Small evaluations."""

import jax

from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.objectives.registry import make_objective
from rl_discovery.discovery.sharding import make_mesh
from rl_discovery.envs.suites import Suite
from rl_discovery.evaluation.protocol import evaluate


def objective(name):
    rule = make_objective(name)
    return TrainedObjective(rule, rule.init(jax.random.key(0)))


def suite(*environments, levels=4, unit="updates"):
    return Suite(
        name="test", description="", environments=environments, horizons=(1,), levels_per_environment=levels,
        unit=unit,
    )  # fmt: skip


def run(suite, names=("random",), horizons=(5,), seeds=(0, 1), **settings):
    objectives = {name: objective(name) for name in names}
    return evaluate(objectives, suite, horizons, seeds, mesh=make_mesh(1), **({"workers": 4} | settings))
