"""Agent updates: which steps of a rollout are used how often, and how long the optimiser's steps are."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from rl_discovery.discovery.agents.agent import make_agent
from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.discovery.learning.build import make_learner
from rl_discovery.discovery.learning.update import MOST_POSITION_BITS, shuffled, update_agent
from rl_discovery.discovery.objectives.a2c import A2C
from rl_discovery.discovery.objectives.base import Objective
from rl_discovery.discovery.objectives.ppo import PPO
from tests.discovery.experience import (
    as_arrays,
    assert_same,
    experience_of,
    is_same,
    naive_gradient,
    progress,
    random_rollout,
    random_states,
    randomised,
    small_grid,
)

T, W, STATES, ACTIONS = 6, 4, 36, 5
KEY = jax.random.key(0)
UNIT = AgentConfig(policy_learning_rate=1.0, head_learning_rate=1.0, max_grad_norm=1e9)
RANDOM = np.random.default_rng(0)
ROLLOUT = as_arrays(random_rollout(RANDOM, T, W, ACTIONS, random_states(RANDOM, STATES)))
LONG = as_arrays(random_rollout(RANDOM, 2 * T, W, ACTIONS, random_states(RANDOM, STATES)))
"""With more steps than there are states; minibatches then change whole tables."""


class Linear(Objective):
    """Pushes the head of each visited state against its reward: the gradient does not depend on the agent."""

    name, head_size, uses_progress = "linear", 1, False

    def init(self, key):
        del key
        return {}

    def targets(self, meta_params, experience, progress):
        del meta_params, progress
        return experience.rollout.reward

    def loss(self, meta_params, outputs, action, targets, progress):
        del meta_params, action, progress
        return jnp.mean(outputs.head[..., 0] * targets), {"size": jnp.float32(targets.size)}


def improved(
    rule=Linear(),  # noqa: B008 - immutable
    when=progress(0, 1),  # noqa: B008 - immutable
    key=KEY,
    rollout=ROLLOUT,
    alive=None,
    **changes,
):
    """The parameters before and after an update, and its metrics."""
    config = dataclasses.replace(UNIT, **changes)
    agent = make_agent(config, *small_grid(), rule.head_size)
    state = agent.init(jax.random.key(1))
    params = as_arrays(randomised(np.random.default_rng(5), state.params))
    update = jax.jit(
        lambda state, when, key, alive: update_agent(rule, {}, agent, state, rollout, when, key, alive=alive)
    )
    after, metrics = update(state.replace(params=params), when, key, alive)
    return params, after.params, metrics


def head_change(before, after):
    return np.asarray(after["head"]["rows"] - before["head"]["rows"])[:, 0]


def visits(rollout):
    """The sum of rewards of each state's visits."""
    found = np.zeros(STATES)
    np.add.at(found, rollout.observation, rollout.reward)
    return found


@pytest.mark.parametrize(("epochs", "minibatches"), [(1, 1), (1, 3), (4, 1), (2, 8), (3, 24)])
@pytest.mark.parametrize("rollout", [ROLLOUT, LONG], ids=["short", "long"])
def test_every_step_is_used_once_an_epoch(rollout, epochs, minibatches):
    before, after, metrics = improved(rollout=rollout, epochs=epochs, minibatches=minibatches)
    # Each visit moves its state by the reward over the size of a minibatch, once an epoch.
    size = rollout.reward.size / minibatches
    expected = -epochs * visits(rollout) / size
    np.testing.assert_allclose(head_change(before, after), expected, rtol=1e-4, atol=1e-5)
    assert metrics["size"] == size
    assert_same(before["policy"], after["policy"])


@pytest.mark.parametrize("rollout", [ROLLOUT, LONG], ids=["short", "long"])
@pytest.mark.parametrize("largest", [0.05, 1e9])
def test_one_gradient_is_that_of_whole_tables(rollout, largest):
    rule, when = A2C(), progress(0, 1)
    before, after, metrics = improved(rule, rollout=rollout, max_grad_norm=largest)
    agent = make_agent(UNIT, *small_grid(), 1)
    gradient = naive_gradient(rule, {}, agent, before, rollout, when)
    norms = {name: np.linalg.norm(leaf["rows"]) for name, leaf in gradient.items()}
    for name, leaf in gradient.items():
        expected = before[name]["rows"] - leaf["rows"] * min(1, largest / norms[name])
        np.testing.assert_allclose(after[name]["rows"], expected, rtol=1e-5, atol=1e-6)
    assert metrics["gradient_norm"] == pytest.approx(np.hypot(*norms.values()), rel=1e-5)


@pytest.mark.parametrize("epochs", [1, 3])
@pytest.mark.parametrize("rollout", [ROLLOUT, LONG], ids=["short", "long"])
@pytest.mark.parametrize("alive", [False, True])
def test_an_agent_whose_lifetime_is_over_stays_as_it_is(alive, rollout, epochs):
    before, after, _ = improved(A2C(), rollout=rollout, epochs=epochs, alive=np.bool_(alive))
    assert is_same(before, after) == (not alive)
    if alive:
        assert_same(after, improved(A2C(), rollout=rollout, epochs=epochs)[1])


def test_minibatches_are_drawn_anew_in_every_update():
    rule, plan = A2C(), {"epochs": 2, "minibatches": 3}
    one, same, other = (improved(rule, key=jax.random.key(i), **plan)[1] for i in (0, 0, 1))
    assert is_same(one, same)
    assert not is_same(one, other)


def test_without_minibatches_the_shuffle_does_not_matter():
    one, other = (improved(A2C(), key=jax.random.key(i))[1] for i in (0, 1))
    assert_same(one, other)


def test_epochs_are_steps_towards_targets_that_stay_as_they_were():
    rule = PPO()
    params, after, _ = improved(rule, epochs=3)
    agent = make_agent(UNIT, *small_grid(), 1)
    targets = rule.targets({}, experience_of(agent, params, ROLLOUT), progress(0, 1))

    @jax.jit
    def step(params):
        def loss(params):
            outputs = agent.apply(params, ROLLOUT.observation)
            return rule.loss({}, outputs, ROLLOUT.action, targets, progress(0, 1))[0]

        return jax.tree.map(lambda x, slope: x - slope, params, jax.grad(loss)(params))

    for _ in range(3):
        params = step(params)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), params, after)


@pytest.mark.parametrize("minibatches", [1, 3])
def test_annealed_steps_shrink_with_what_is_left_of_the_lifetime(minibatches):
    full, part, kept = (
        head_change(*improved(when=when, anneal=anneal, minibatches=minibatches)[:2])
        for when, anneal in ((progress(0, 10), True), (progress(7, 10), True), (progress(7, 10), False))
    )
    np.testing.assert_allclose(part, 0.3 * full, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(kept, full, rtol=1e-4, atol=1e-6)


def test_policy_and_head_can_be_clipped_by_their_common_norm():
    limit = 1e-3
    for together in (False, True):
        before, after, _ = improved(PPO(), max_grad_norm=limit, clip_together=together)
        steps = {
            part: np.linalg.norm(np.asarray(after[part]["rows"] - before[part]["rows"])) for part in before
        }
        if together:
            assert np.hypot(*steps.values()) == pytest.approx(limit, rel=1e-2)
        else:
            assert list(steps.values()) == pytest.approx([limit, limit], rel=1e-2)


def test_the_second_epoch_learns_from_what_the_first_one_left():
    # With ratios of 1 a drift has no gradient: only later epochs can tell PPO from a rule without it.
    plan = {"epochs": 3, "policy_learning_rate": 50.0}
    apart = [improved(rule, **plan)[1] for rule in (PPO(clip=0.01), PPO(clip=10.0))]
    assert not is_same(*apart)
    at_once = [improved(rule, policy_learning_rate=50.0)[1] for rule in (PPO(clip=0.01), PPO(clip=10.0))]
    assert is_same(*at_once)


def test_minibatches_that_do_not_divide_a_rollout_are_refused():
    config = AgentConfig(workers=4, rollout_steps=5, minibatches=3)
    with pytest.raises(ValueError, match=r"minibatches \(3\) must divide the 20 steps .* \(4 workers x 5"):
        make_learner(*small_grid(), config, PPO())


def test_an_update_from_what_was_said_is_the_one_that_asks_again():
    env, level = small_grid()
    level = level.replace(max_steps_in_episode=7)
    config = dataclasses.replace(UNIT, epochs=2, minibatches=2, workers=W, rollout_steps=20)
    learner = make_learner(env, level, config, PPO())
    train_state = learner.begin(KEY, level)
    _, rollout = jax.jit(lambda train_state: learner.collect(level, KEY, train_state, keep_outputs=True))(
        train_state
    )
    assert rollout.truncated.any()
    update = jax.jit(
        lambda rollout: update_agent(
            PPO(), {}, learner.agent, train_state.agent, rollout, progress(0, 1), KEY
        )
    )
    for found, expected in zip(
        *(jax.tree.leaves(update(x)[0].params) for x in (rollout, rollout.replace(behaviour=None))),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 5, 512, 1000, 2**MOST_POSITION_BITS, 2**MOST_POSITION_BITS + 1])
def test_shuffles_are_permutations_and_differ_by_key(size):
    orders = [np.asarray(shuffled(jax.random.key(seed), size)) for seed in range(2)]
    for order in orders:
        assert order.dtype == np.int32
        np.testing.assert_array_equal(np.sort(order), np.arange(size))
    assert size <= 5 or not np.array_equal(*orders)


def test_every_order_is_as_likely_as_any_other():
    keys = jax.random.split(jax.random.key(0), 24_000)
    orders = np.asarray(jax.jit(jax.vmap(lambda key: shuffled(key, 4)))(keys))
    counts = np.unique(orders, axis=0, return_counts=True)[1]
    assert len(counts) == 24
    assert scipy.stats.chisquare(counts).pvalue > 1e-3
