"""Every registered objective, whatever it is: what is registered is tested."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.discovery.learning.build import make_learner
from rl_discovery.discovery.learning.rollout import collect
from rl_discovery.discovery.learning.update import update_agent
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.objectives.lpg import LPG
from rl_discovery.discovery.objectives.registry import RULES, make_objective
from rl_discovery.discovery.registry import UnknownNameError
from tests.discovery.experience import (
    CARTPOLE,
    experience_of,
    is_same,
    progress,
    randomised,
    small_grid,
)

WORLDS = {
    "gridworld": (*small_grid(), AgentConfig(workers=4, rollout_steps=9, epochs=2, minibatches=3)),
    "CartPole-v1": (
        CARTPOLE,
        CARTPOLE.default_params,
        AgentConfig(network="mlp", hidden=(4,), workers=4, rollout_steps=9),
    ),
}
KEY = jax.random.key(0)
EVERY = pytest.mark.parametrize("name", sorted(RULES))


def is_finite(tree):
    return all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(tree))


@functools.cache
def learner_of(name, world):
    env, level, config = WORLDS[world]
    return make_learner(env, level, config, narrow(make_objective(name))), level


def narrow(rule):
    """The rule with a small network, where it has one."""
    return dataclasses.replace(rule, width=8) if hasattr(rule, "width") else rule


def test_the_objectives_of_the_papers_are_registered():
    assert {"lpg", "ta-lpg", "lpo", "ta-lpo", "a2c", "ppo", "dpo", "random"} <= set(RULES)


@EVERY
def test_an_objective_has_what_the_interface_asks_for(name):
    entry = RULES[name]
    rule = make_objective(name)
    assert rule.name == name == TrainedObjective(rule, {}).name
    assert entry.description
    assert "\n" not in entry.description
    assert rule.head_size >= 1
    assert isinstance(rule.uses_progress, bool)
    assert hash(rule) == hash(make_objective(name)), "equal rules must not be compiled twice"
    assert rule == make_objective(name)


@pytest.mark.slow
@EVERY
@pytest.mark.parametrize("world", WORLDS)
def test_an_objective_learns_from_a_real_rollout_with_finite_numbers(name, world):
    learner, level = learner_of(name, world)
    rule, agent, env = learner.objective, learner.agent, learner.env

    @jax.jit
    def first_update(key):
        meta_params = rule.init(key)
        train_state = learner.begin(key, level)
        _, rollout = collect(agent, train_state.agent, env, level, train_state.workers, key, 9)
        after, metrics = update_agent(
            rule, meta_params, agent, train_state.agent, rollout, progress(0, 10), key
        )
        experience = experience_of(agent, train_state.agent.params, rollout)
        targets = rule.targets(meta_params, experience, progress(0, 10))
        loss = rule.loss(meta_params, experience.outputs, rollout.action, targets, progress(0, 10))
        return meta_params, after.params, metrics, targets, loss

    meta_params, params, metrics, targets, (loss, same_metrics) = first_update(jax.random.key(0))
    assert is_finite((meta_params, params, metrics, targets, loss))
    assert np.shape(loss) == ()
    assert metrics.keys() == same_metrics.keys() | {"entropy", "gradient_norm"}
    assert (metrics["gradient_norm"] > 0) == (name != "random")


@pytest.mark.slow
@EVERY
def test_an_objective_uses_progress_if_and_only_if_it_says_so(name):
    learner, level = learner_of(name, "gridworld")
    update = jax.jit(learner.update)
    key = jax.random.key(0)
    # Random numbers, because a learned drift begins with an output layer of zeros.
    theta = randomised(np.random.default_rng(0), jax.jit(learner.objective.init)(key))
    train_state = jax.jit(learner.begin)(key, level)
    # The same n, and so the same random numbers, of lifetimes of another length.
    short, long = (update(theta, level, key, progress(3, N), train_state)[0].agent.params for N in (4, 400))
    assert is_same(short, long) == (not learner.objective.uses_progress)


@EVERY
def test_a_key_determines_the_meta_parameters(name):
    init = jax.jit(narrow(make_objective(name)).init)
    one, same, other = (init(jax.random.key(seed)) for seed in (0, 0, 1))
    assert is_same(one, same)
    assert is_same(one, other) == all(not np.any(leaf) for leaf in jax.tree.leaves(one))


def test_settings_reach_the_rule():
    assert make_objective("ta-lpg", width=32, bins=30) == LPG(width=32, bins=30)
    assert make_objective("lpg", width=32) == LPG(width=32, horizon_inputs=False)
    with pytest.raises(TypeError, match="no_such_setting"):
        make_objective("a2c", no_such_setting=1)


@pytest.mark.parametrize(("wrong", "close"), [("ta_lpg", "ta-lpg"), ("a2", "a2c"), ("Random", "random")])
def test_an_unknown_name_is_answered_with_the_closest_one_in_one_line(wrong, close):
    with pytest.raises(UnknownNameError) as caught:
        make_objective(wrong)
    message = str(caught.value)
    assert repr(wrong) in message
    assert f"did you mean {close!r}?" in message
    assert "\n" not in message


def test_a_name_like_no_other_is_answered_with_where_all_are():
    with pytest.raises(UnknownNameError, match="`rl-discovery list objectives` shows them all") as caught:
        make_objective("quicksort")
    assert "did you mean" not in str(caught.value)


@EVERY
def test_meta_parameters_are_of_32_bits_whatever_jax_is_told(name):
    rule = make_objective(name)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), jax.eval_shape(rule.init, KEY))
    narrow = jax.tree.map(lambda leaf: (leaf.shape, "float32"), jax.eval_shape(rule.init, KEY))
    assert wide == narrow
