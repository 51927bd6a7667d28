"""Results that are finished are kept, and not computed again."""

import copy
import dataclasses

import jax.numpy as jnp
import pytest

from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.discovery.objectives.a2c import A2C
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.sharding import make_mesh
from rl_discovery.evaluation import store as store_module
from rl_discovery.evaluation.protocol import evaluate
from rl_discovery.evaluation.store import Store
from rl_discovery.evaluation.tasks import Experiment, prepare
from tests.evaluation.small import objective, run, suite


def test_what_is_finished_is_not_trained_again(untrained, tmp_path):
    store = Store(tmp_path)
    few = run(suite("gridworld/small"), ("a2c",), (3,), (0, 1), store=store)
    assert len(untrained) == 1
    again = run(suite("gridworld/small"), ("a2c",), (3,), (0, 1), store=store)
    assert again == few
    assert len(untrained) == 1
    run(suite("gridworld/small"), ("a2c", "random"), (3,), (0, 1, 2), store=store)
    assert [(learner.objective.name, keys.shape[0]) for learner, _, keys, _ in untrained] == [
        ("a2c", 8), ("a2c", 4), ("random", 8)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "changed", [{"workers": 5}, {"horizons": (4,)}, {"points": 2}, {"block_size": 3}, {"names": ("ppo",)}]
)
def test_what_would_come_out_otherwise_is_trained(untrained, tmp_path, changed):
    settings = {"names": ("a2c",), "horizons": (3,), "store": Store(tmp_path)}
    run(suite("gridworld/small"), **settings)
    before = len(untrained)
    run(suite("gridworld/small"), **(settings | changed))
    assert len(untrained) > before


@pytest.mark.parametrize(
    "change",
    [
        lambda patch: patch.setattr(store_module, "SOURCE", "other"),
        lambda patch: patch.setattr("importlib.metadata.version", lambda name: "0"),
        lambda patch: patch.setattr("platform.processor", lambda: "other"),
        lambda patch: patch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true"),
    ],
)
def test_another_installation_has_other_names(change, monkeypatch):
    experiment = Experiment(
        "test", prepare(*suite("gridworld/small").levels(0)[0]), "a2c", objective("a2c"), AgentConfig()
    )
    before = store_module.names_of(experiment, 5, [0], {})[0]
    assert store_module.names_of(experiment, 5, [0], {})[0] == before
    change(monkeypatch)
    assert store_module.names_of(experiment, 5, [0], {})[0] != before


def test_an_environment_with_other_settings_has_another_name():
    name, env, levels = suite("CartPole-v1", levels=1).levels(0)[0]
    task = prepare(name, env, levels)
    experiments = [Experiment("test", task, "a2c", objective("a2c"), AgentConfig())]
    other = copy.copy(env)
    other.extra = 2
    experiments.append(dataclasses.replace(experiments[0], task=dataclasses.replace(task, env=other)))
    assert len({store_module.names_of(experiment, 5, [0], {})[0] for experiment in experiments}) == 2


def test_a_rule_that_json_cannot_write_is_evaluated(untrained, tmp_path):
    rule = dataclasses.make_dataclass("Odd", [("dtype", object, jnp.float32)], bases=(A2C,), frozen=True)()
    objectives = {"odd": TrainedObjective(rule, {})}
    for store in (Store(None), Store(tmp_path)):
        evaluate(objectives, suite("gridworld/small"), (2,), (0,), mesh=make_mesh(1), workers=4, store=store)
    assert len(untrained) == 2


def test_an_evaluation_that_stops_goes_on_where_it_was(untrained, tmp_path, monkeypatch):
    class StoppedError(Exception):
        pass

    def stop(stage):
        if stage.horizon == 2 and stage.objective == "random":
            raise StoppedError

    settings = {"names": ("a2c", "random"), "horizons": (1, 2), "store": Store(tmp_path)}
    with pytest.raises(StoppedError):
        run(suite("gridworld/small"), progress=stop, **settings)
    before = len(untrained)
    results = run(suite("gridworld/small"), **settings)
    assert len(untrained) == before + 1
    assert len(results.cells) == 8


@pytest.mark.parametrize("damage", [b"", b"{", b"{}", b"\xff", b'{"return": "x"}'])
def test_an_entry_that_cannot_be_read_is_as_good_as_none(untrained, tmp_path, damage):
    run(suite("gridworld/small"), store=Store(tmp_path))
    for path in tmp_path.rglob("*.json"):
        path.write_bytes(damage)
    results = run(suite("gridworld/small"), store=Store(tmp_path))
    assert len(untrained) == 2
    assert len(results.cells) == 2


def test_a_store_that_cannot_be_written_is_no_reason_to_stop(untrained, tmp_path):
    (tmp_path / "file").write_text("")
    assert len(run(suite("gridworld/small"), store=Store(tmp_path / "file")).cells) == 2
