"""Files that anybody may have made: whatever is in them, only the documented error leaves a loader.

`RL_DISCOVERY_FUZZ=10 pytest tests/test_untrusted_files.py` tries ten times as many, with new random numbers.
docs/security.md says what is tried.
"""

import dataclasses
import functools
import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from gymnax.environments.classic_control.cartpole import CartPole
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rl_discovery.checkpoints import (
    AgentFileError,
    ObjectiveFileError,
    load_agent,
    load_objective,
    read_card,
    read_objective,
    save_agent,
    save_objective,
)
from rl_discovery.checkpoints.errors import RunCheckpointError
from rl_discovery.checkpoints.run_directory import intact_metrics, read_metrics
from rl_discovery.checkpoints.runs import RunCheckpoints
from rl_discovery.discovery import AgentConfig, TrainedAgent
from rl_discovery.discovery.agents.agent import make_agent
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.objectives.registry import make_objective
from rl_discovery.evaluation.errors import ReportError, ResultsError
from rl_discovery.evaluation.report.files import read_run
from rl_discovery.evaluation.results import Cell, Outcome, Results
from rl_discovery.evaluation.store import Store
from rl_discovery.meta.config import to_json
from rl_discovery.meta.errors import RunError
from rl_discovery.meta.runs.directory import read_config
from rl_discovery.meta.runs.status import read_status
from rl_discovery.meta.runs.sweep import read_plan
from tests.meta.tiny import TINY
from tests.mutations import EDITS, mutated

TIMES = int(os.environ.get("RL_DISCOVERY_FUZZ", "1"))

INPUTS = {
    **{"config": 1500, "metrics": 1200, "intact_metrics": 700, "results": 1500, "outcome": 1300},
    **{"report_config": 500, "report_metrics": 700, "report_results": 500, "report_analysis": 900},
    **{"objective": 500, "card": 700, "run_objective": 500},
    **{"status_config": 300, "status_metrics": 500, "sweep": 500},
    **{"agent": 300, "agent_card": 300},
}
"""Files that are tried on each loader."""

STEPS = 60
"""Checkpoints that are tried; Orbax is slow."""


@dataclasses.dataclass(frozen=True)
class Loader:
    """What reads a file.

    Attributes:
        name: of the file, below a folder of its own.
        intact: a whole file's contents.
        load: reads the file of that path; asserts about what comes out.
        error: all that it may raise.
    """

    name: str
    intact: bytes
    load: Callable[[Path], object]
    error: tuple[type[Exception], ...] = ()


ROW = {
    **{"generation": 0, "env_steps": 10, "wall_s": 0.5, "generation_s": 0.5, "env_steps_per_s": 20.0},
    **{"fitness_mean": 0.5, "fitness_best": None},
}

SWEEP = json.dumps(
    {
        **{"format": 1, "preset": "ta-lpg-cpu", "fixed": {"seed": 1}},
        "trials": [{"name": "0-sigma=1", "overrides": {"es.sigma": 1.0}, "run_dir": "0-sigma=1"}],
    }
).encode()

CELL = {
    **{"objective": "a2c", "suite": "s", "environment": "e", "horizon": 10, "seed": 0, "updates": 10},
    **{"env_steps": 40, "levels": 2, "unscored_levels": 0, "return": 0.5, "score": 0.25},
    "curve": [{"env_steps": 20, "return": 0.1}, {"env_steps": 40, "return": 0.5}],
}

ANALYSIS = {
    "format": 1,
    "objective": {"name": "lpg", "source": "x", "learned": True, "sees_horizon": False, "inputs": ["r"]},
    "definitions": {"a": "b"},
    "drift": None,
    "response": {
        "steps": 2,
        "prediction_span": [0.5],
        "sweeps": [
            {
                **{"input": "reward", "meaning": "m", "values": [0.0, 1.0]},
                "curves": [{"horizon": 2, "progress": 0.5, "pihat": [0.0, -1.0]}],
            }
        ],
    },
    "horizon_blind": {"over": "pihat", "overall": 0.0, "distances": []},
    "lifetimes": {
        **{"suite": "s", "environment": "e", "levels": 1, "seeds": 1, "horizon": 2, "workers": 2},
        "views": [],
    },
    "closed_form": None,
    "versions": {"jax": "0"},
}


@functools.cache
def objective() -> TrainedObjective:
    rule = make_objective("lpo", width=2)
    shapes = jax.eval_shape(rule.init, jax.eval_shape(lambda: jax.random.key(0)))
    return TrainedObjective(rule, jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes), {})


def outcome(path: Path) -> None:
    found = Store(path.parent.parent).get("name")
    assert found is None or isinstance(found, Outcome)


def check_rows(rows: Iterable[dict]) -> None:
    for row in rows:
        assert type(row["generation"]) is int
        assert all(value is None or isinstance(value, int | float) for value in row.values())


def card_with(text: bytes) -> bytes:
    """A file with this card, which need be no card."""
    tensors = {name: np.asarray(leaf) for name, leaf in named(objective().meta_params).items()}
    return safetensors.numpy.save(tensors, {"card": text.decode("utf-8", "replace")})


def named(tree) -> dict:
    paths = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in paths}


def with_card(path: Path) -> None:
    """The mutated bytes are the card's."""
    path.write_bytes(card_with(path.read_bytes()))
    read_card(path)
    read_objective(path)


@functools.cache
def agent() -> TrainedAgent:
    env = CartPole()
    made = make_agent(AgentConfig(network="mlp", hidden=(2,), workers=2), env, env.default_params, 1)
    return TrainedAgent(made, made.init(jax.random.key(0)))


@pytest.fixture(scope="module")
def loaders(tmp_path_factory) -> dict[str, Loader]:
    file = tmp_path_factory.mktemp("intact") / "objective.safetensors"
    save_objective(file, objective())
    with safetensors.safe_open(file, "numpy") as opened:
        card = opened.metadata()["card"].encode()
    agent_file = file.with_name("agent.safetensors")
    save_agent(agent_file, agent())
    with safetensors.safe_open(agent_file, "numpy") as opened:
        agent_card = opened.metadata()["agent"].encode()
    agent_tensors = safetensors.numpy.load_file(agent_file)

    def with_agent_card(path: Path) -> None:
        text = path.read_bytes().decode("utf-8", "replace")
        path.write_bytes(safetensors.numpy.save(agent_tensors, {"agent": text}))
        load_agent(path)

    config = json.dumps({"format": 1, "config": to_json(TINY), "versions": {"jax": "0"}}).encode()
    metrics = b"".join(json.dumps(ROW | {"generation": i}).encode() + b"\n" for i in range(3))
    cells = [Cell.model_validate(CELL | {"seed": seed}) for seed in range(3)]
    results = Results.of(cells).model_copy(update={"versions": {}}).to_json().encode()
    kept = Outcome.model_validate(CELL).model_dump_json(by_alias=True).encode()
    analysis = json.dumps(ANALYSIS).encode()
    report = {"config.json": config, "metrics.jsonl": metrics, "results.json": results}
    report["analysis.json"] = analysis

    def of_report(name: str) -> Loader:
        def load(path: Path) -> None:
            for other, data in report.items():
                if other != name:
                    (path.parent / other).write_bytes(data)
            read_run(path.parent)

        return Loader(name, report[name], load, (ReportError,))

    def status(name: str) -> Loader:
        def load(path: Path) -> None:
            for other in ("config.json", "metrics.jsonl"):
                if other != name:
                    (path.parent / other).write_bytes(report[other])
            read_status(path.parent)

        return Loader(name, report[name], load, (RunError,))

    def run_objective(path: Path) -> None:
        load_objective(path.parent)

    damaged = (ObjectiveFileError,)
    return {
        "config": Loader("config.json", config, lambda path: read_config(path.parent), (RunError,)),
        "metrics": Loader(
            "metrics.jsonl", metrics, lambda path: check_rows(read_metrics(path.parent)), (RunError,)
        ),
        "intact_metrics": Loader(
            "metrics.jsonl",
            metrics,
            lambda path: check_rows(line.row for line in intact_metrics(path.parent)),
        ),
        "results": Loader("results.json", results, Results.load, (ResultsError,)),
        "outcome": Loader("na/name.json", kept, outcome),
        "report_config": of_report("config.json"),
        "report_metrics": of_report("metrics.jsonl"),
        "report_results": of_report("results.json"),
        "report_analysis": of_report("analysis.json"),
        "status_config": status("config.json"),
        "status_metrics": status("metrics.jsonl"),
        "sweep": Loader("sweep.json", SWEEP, lambda path: read_plan(path.parent), (RunError,)),
        "objective": Loader("any.safetensors", file.read_bytes(), read_objective, damaged),
        "card": Loader("any.safetensors", card, with_card, damaged),
        "agent": Loader("any.safetensors", agent_file.read_bytes(), load_agent, (AgentFileError,)),
        "agent_card": Loader("any.safetensors", agent_card, with_agent_card, (AgentFileError,)),
        "run_objective": Loader("objective.safetensors", file.read_bytes(), run_objective, damaged),
    }


def fuzz(strategy, count: int):
    """Settings under which `count` inputs are tried; the same ones each time, unless more were asked for."""
    return lambda test: settings(
        max_examples=count * TIMES,
        deadline=None,
        derandomize=TIMES == 1,
        database=None,
        suppress_health_check=list(HealthCheck),
    )(given(strategy)(test))


def test_enough_is_tried():
    assert sum(INPUTS.values()) + STEPS >= 10_000


@pytest.mark.slow
@pytest.mark.parametrize("name", INPUTS)
def test_only_the_documented_error_leaves_a_loader(name, loaders, tmp_path):
    loader, tried, read = loaders[name], 0, 0
    messages = set()
    path = tmp_path / loader.name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(loader.intact)
    loader.load(path)

    @fuzz(EDITS, INPUTS[name])
    def attempt(edits):
        nonlocal tried, read
        path.write_bytes(mutated(loader.intact, edits))
        tried += 1
        try:
            loader.load(path)
            read += 1
        except loader.error as error:
            messages.add(str(error))

    attempt()
    assert tried >= INPUTS[name] * TIMES
    assert read > 0, "the loader refuses everything: nothing behind the first check was tried"
    assert not loader.error or messages, "the loader takes everything"
    assert all(message.isprintable() for message in messages), "more than one line"
    assert {entry.name for entry in tmp_path.iterdir()} <= {
        *("config.json", "metrics.jsonl", "results.json", "analysis.json"),
        *("na", "sweep.json", "any.safetensors", "objective.safetensors"),
    }


STATE = {"x": np.arange(5, dtype=np.float32), "y": np.ones((30, 3), np.float32)}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Checkpoints 1 and 2 of a run, the values of both the same."""
    folder = tmp_path_factory.mktemp("run")
    checkpoints = RunCheckpoints(folder)
    for step in (1, 2):
        checkpoints.save(step, STATE, {})
    checkpoints.close()
    return folder


def test_only_the_documented_error_leaves_a_damaged_checkpoint(run, tmp_path):
    files = sorted(path.relative_to(run) for path in (run / "2").rglob("*") if path.is_file())
    tried, found, messages = 0, set(), set()

    @fuzz(st.tuples(st.sampled_from(files), EDITS), STEPS)
    def attempt(drawn):
        nonlocal tried
        file, edits = drawn
        folder = tmp_path / "copy"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(run, folder)
        (folder / file).write_bytes(mutated((run / file).read_bytes(), edits))
        tried += 1
        checkpoints = RunCheckpoints(folder)
        try:
            restored = checkpoints.restore(STATE)
            found.add(restored.generation)
            jax.tree.map(np.testing.assert_array_equal, restored.state, STATE)
        except RunCheckpointError as error:
            messages.add(str(error))
        finally:
            checkpoints.close()

    attempt()
    assert tried >= STEPS * TIMES
    assert found == {1, 2}
    assert all(message.isprintable() for message in messages), "more than one line"
