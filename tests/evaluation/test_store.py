"""What an outcome is kept under: another name wherever something else would come out."""

import dataclasses
import importlib.util
import sys

import jax
import pytest
from gymnax.wrappers.purerl import GymnaxWrapper

from rl_discovery.checkpoints import numerics
from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.objectives.registry import make_objective
from rl_discovery.envs.suites import Suite
from rl_discovery.evaluation import store
from rl_discovery.evaluation.tasks import Experiment, prepare
from tests.checkpoints.switches import switched


def task_on(name):
    suite = Suite(
        name="test",
        description="",
        environments=(name,),
        horizons=(1,),
        levels_per_environment=1,
        unit="updates",
    )
    return prepare(*suite.levels(0)[0])


def names_on(task):
    experiment = Experiment("test", task, "a2c", TrainedObjective(make_objective("a2c"), {}), AgentConfig())
    return store.names_of(experiment, 5, [0], {})


@pytest.mark.parametrize(
    "switch", [name for name in (*numerics.IDENTITY, *numerics.ROUNDING) if name in jax.config.values]
)
def test_what_another_switch_of_jax_made_is_not_taken(switch):
    task = task_on("gridworld/small")
    before = names_on(task)
    with switched(switch):
        assert names_on(task)[0] != before[0]
    assert names_on(task) == before


def names_with_code(path, code, wrapped):
    """Names of outcomes on an environment of the user's own, in a module that says `code`."""
    path.write_text(f"from gymnax.environments.classic_control.cartpole import CartPole\n{code}")
    spec = importlib.util.spec_from_file_location("mine", path)
    module = sys.modules["mine"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    store.module_hash.cache_clear()  # as in another process
    env = GymnaxWrapper(module.Mine()) if wrapped else module.Mine()
    found = names_on(dataclasses.replace(task_on("CartPole-v1"), env=env))
    del sys.modules["mine"]
    return found


@pytest.mark.parametrize("wrapped", [False, True])
def test_an_environment_whose_code_was_edited_has_another_name(tmp_path, wrapped):
    code = "class Mine(CartPole):\n    reward = {}\n"
    first, again, edited = (
        names_with_code(tmp_path / "mine.py", code.format(reward), wrapped) for reward in (1, 1, 2)
    )
    assert first == again != edited
    assert edited


def test_an_outcome_of_code_that_is_in_no_file_is_not_kept():
    task = task_on("CartPole-v1")
    typed_in = type("Mine", (type(task.env),), {"__module__": "a_notebook"})()
    assert names_on(dataclasses.replace(task, env=typed_in)) == {}


def test_a_rule_of_the_users_own_is_known_by_its_code_too():
    rule = make_objective("a2c")
    own = dataclasses.make_dataclass(
        "Own", [], bases=(type(rule),), frozen=True, namespace={"__module__": "a_notebook"}
    )()
    experiment = Experiment("test", task_on("CartPole-v1"), "a2c", TrainedObjective(own, {}), AgentConfig())
    assert store.names_of(experiment, 5, [0], {}) == {}
