"""Agents in files: whatever an agent is made of comes back, and nothing else is believed."""

import copy
import dataclasses
import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from gymnax.environments.classic_control.cartpole import CartPole
from gymnax.environments.classic_control.pendulum import Pendulum

from rl_discovery.checkpoints import (
    AgentFileError,
    ObjectiveFileError,
    load_agent,
    load_objective,
    read_objective,
    save_agent,
    save_objective,
)
from rl_discovery.discovery import AgentConfig, TrainedAgent
from rl_discovery.discovery.agents.agent import make_agent
from rl_discovery.envs.gridworld.env import GridWorld

PPO = {"optimiser": "adam", "clip_together": True, "epochs": 2, "minibatches": 2, "anneal": True}
AGENTS = {
    "table": (GridWorld(3, 2), {}, 8),
    "one-hot": (GridWorld(3, 2), {"network": "mlp", "hidden": (3,), "shared": True}, 1),
    "planes": (GridWorld(3, 2, observation="planes"), {"network": "cnn", "hidden": (3,)}, 1),
    "vectors": (CartPole(), {"network": "mlp", "hidden": (4, 3), "activation": "tanh", **PPO}, 1),
    "continuous": (
        Pendulum(),
        {"network": "mlp", "action_bounds": "tanh", "scale_observations": True, "scale_rewards": True, **PPO},
        1,
    ),
}


def agent_of(name, seeds=None):
    env, settings, head_size = AGENTS[name]
    agent = make_agent(AgentConfig(workers=3, **settings), env, env.default_params, head_size)
    if seeds is None:
        return TrainedAgent(agent, agent.init(jax.random.key(1)))
    return TrainedAgent(agent, jax.vmap(agent.init)(jax.random.split(jax.random.key(1), len(seeds))), seeds)


def through_a_file(trained, path):
    save_agent(path / "agent.safetensors", trained, {"environment": "some"})
    return load_agent(path / "agent.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("seeds", [None, (3, 5)])
@pytest.mark.parametrize(
    "way",
    [through_a_file, lambda trained, _: pickle.loads(pickle.dumps(trained)), lambda t, _: copy.deepcopy(t)],
    ids=["file", "pickle", "deepcopy"],
)
def test_an_agent_comes_back_as_it_was(name, seeds, way, tmp_path):
    trained = agent_of(name, seeds)
    found = way(trained, tmp_path)
    assert found.agent == trained.agent
    assert found.seeds == trained.seeds
    assert jax.tree.structure(found.state) == jax.tree.structure(trained.state)
    for one, other in zip(jax.tree.leaves(found.state), jax.tree.leaves(trained.state), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    observations = jnp.zeros((2, *trained.agent.observations.shape), trained.agent.observations.dtype)
    actions = (agent.act(jax.random.key(0), observations) for agent in (found, trained))
    np.testing.assert_array_equal(*actions)


@pytest.fixture
def file(tmp_path):
    save_agent(tmp_path / "agent.safetensors", agent_of("vectors"), {"environment": "CartPole-v1"})
    return tmp_path / "agent.safetensors"


def rewritten(path, change=lambda card: None, tensors=lambda tensors: None):
    """The file with another card or other tensors."""
    with safetensors.safe_open(path, "numpy") as opened:
        card = json.loads(opened.metadata()["agent"])
    arrays = safetensors.numpy.load_file(path)
    change(card)
    tensors(arrays)
    path.write_bytes(safetensors.numpy.save(arrays, {"agent": json.dumps(card)}))
    return path


def test_the_card_says_what_it_is_an_agent_of(file):
    with safetensors.safe_open(file, "numpy") as opened:
        card = json.loads(opened.metadata()["agent"])
    assert (card["format"], card["environment"], card["config"]["hidden"]) == (1, "CartPole-v1", [4, 3])
    assert card["policy"] == {"size": 2}
    assert "jax" in card["versions"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda card: card.update(format=2), "has format 2, newer than 1: install a newer"),
        (lambda card: card.pop("format"), "has no field 'format'"),
        (lambda card: card["config"].update(hidden=[4, 10**30]), "a number of more than 20 digits"),
        (lambda card: card["config"].update(hidden=[4, 10**19]), "is damaged: config|impossible settings"),
        (lambda card: card["config"].update(hidden=[4] * 100), "more than 64 hidden layers"),
        (lambda card: card["config"].update(network="pickle"), r"is damaged: config\.network"),
        (lambda card: card["config"].update(hidden=[5, 3]), r"needs float32\[5\]"),
        (lambda card: card["observations"].update(dtype="nonsense"), "impossible settings"),
        (lambda card: card.update(policy={}), "is damaged: policy"),
        (lambda card: card.update(seeds=[1]), r"needs float32\[1, "),
    ],
)
def test_a_card_that_does_not_fit_is_refused(file, change, message):
    with pytest.raises(AgentFileError, match=message):
        load_agent(rewritten(file, change))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (lambda arrays: arrays.pop("optimiser/0"), "lacks the tensor 'optimiser/0'"),
        (lambda arrays: arrays.update(more=np.zeros(1)), "has a tensor 'more' that its card's agent"),
        (lambda arrays: arrays["params/head/Dense_0/bias"].fill(np.nan), "values that are not finite"),
    ],
)
def test_tensors_that_are_not_the_agents_are_refused(file, tensors, message):
    with pytest.raises(AgentFileError, match=message):
        load_agent(rewritten(file, tensors=tensors))


def test_files_of_other_things_are_told_apart(file, tmp_path):
    save_objective(tmp_path / "objective.safetensors", load_objective("lpo"))
    with pytest.raises(AgentFileError, match="is not a saved agent: it has no card of one"):
        load_agent(tmp_path / "objective.safetensors")
    with pytest.raises(ObjectiveFileError, match="is not an exported objective"):
        read_objective(file)
    with pytest.raises(AgentFileError, match=r"cannot read .*: No such file"):
        load_agent(tmp_path / "nothing")


def test_an_agent_that_is_not_finite_or_a_card_that_is_no_json_leaves_the_file_that_was_there(file):
    before, trained = file.read_bytes(), agent_of("vectors")
    dead = dataclasses.replace(
        trained.state, params=jax.tree.map(lambda leaf: leaf * np.nan, trained.state.params)
    )
    with pytest.raises(AgentFileError, match="not finite"):
        save_agent(file, TrainedAgent(trained.agent, dead))
    with pytest.raises(AgentFileError, match="its card is no JSON"):
        save_agent(file, trained, {"environment": CartPole()})
    assert file.read_bytes() == before
