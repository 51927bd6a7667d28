"""The objectives that ship: each loads by its name, and its card's evaluation can be computed again."""

import shlex

import jax
import numpy as np
import pytest

from rl_discovery import checkpoints, discovery, envs
from rl_discovery.discovery.sharding import make_mesh
from rl_discovery.envs.suites import suite
from rl_discovery.evaluation.protocol import evaluate
from rl_discovery.scripts.cli import COMMANDS

SHIPPED = checkpoints.shipped()


@pytest.mark.parametrize("name", SHIPPED)
def test_card_says_where_it_comes_from(name: str):
    card = SHIPPED[name]
    assert card["preset"]
    assert card["generations"] > 0
    assert card["env_steps"] > 0
    assert card["wall_s"] > 0
    assert card["config"]["preset"] == card["preset"]
    program, command, objective, *_ = shlex.split(card["evaluation"]["command"])
    assert (program, objective) == ("rl-discovery", name)
    assert command in COMMANDS


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_quoted_evaluation_is_computed_again(name: str):
    """One cell of the card: on the machine that made it the same bits, elsewhere the same up to luck."""
    objective = checkpoints.load_objective(name)
    cell = min(objective.card["evaluation"]["cells"], key=lambda cell: cell["horizon"])
    workers = objective.card["config"]["agent"]["workers"]
    results = evaluate(
        {name: objective},
        suite(cell["suite"]),
        [cell["horizon"]],
        [cell["seed"]],
        mesh=make_mesh(len(jax.devices())),
        workers=workers,
    )
    assert results.cells[0].score == pytest.approx(cell["score"], abs=0.15)
    assert results.cells[0].env_steps == cell["env_steps"]


def test_ta_lpg_ships():
    assert "ta-lpg" in SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_shipped_is_the_same_in_64_bits(name: str):
    narrow = checkpoints.load_objective(name)
    with jax.enable_x64(True):
        wide = checkpoints.load_objective(name)
    assert wide.rule == narrow.rule
    jax.tree.map(np.testing.assert_array_equal, wide.meta_params, narrow.meta_params)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(wide.meta_params)} == {"float32"}


def test_agents_learn_with_ta_lpg_in_64_bits():
    env, level = envs.make("gridworld/dense")
    with jax.enable_x64(True):
        _, history = discovery.train(checkpoints.load_objective("ta-lpg"), env, level, horizon=2)
    assert np.isfinite(history["return"]).all()
