"""The critic: its gradient, what it learns on a chain whose values are known, and that it only watches."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.discovery.learning.build import make_learner
from rl_discovery.discovery.learning.critic import make_critic
from rl_discovery.discovery.learning.lifetime import LAST_ROLLOUT, train_block
from rl_discovery.discovery.objectives.a2c import A2C
from rl_discovery.discovery.objectives.lpg import LPG
from rl_discovery.discovery.objectives.random import Random
from rl_discovery.discovery.types import Progress, Rollout
from rl_discovery.envs.chains import ChainLevel, DelayedChain
from tests.discovery import naive_networks
from tests.discovery.experience import (
    CARTPOLE,
    PLANES,
    assert_is_gradient,
    assert_same,
    float64,
    is_same,
    lane,
    random_rollout,
    random_states,
    random_vectors,
    randomised,
    small_grid,
    stack,
)
from tests.discovery.objectives.test_gae import naive_advantages

KEY = jax.random.key(0)


def some_critic(rng, kind):
    """A critic of the kind with random parameters, and what makes observations for it."""
    if kind == "tabular":
        (env, level), settings, observe = small_grid(), {}, random_states(rng, 36)
    elif kind == "mlp":
        env, settings, observe = CARTPOLE, {"hidden": (6, 5)}, random_vectors(rng, 4)
        level = env.default_params
    else:
        env, settings, observe = PLANES, {"hidden": (5,)}, random_vectors(rng, 3, 3, 4)
        level = env.default_params
    critic = make_critic(AgentConfig(network=kind, **settings), env, level)
    return critic, randomised(rng, jax.eval_shape(critic.init, KEY).params, 0.5), observe


def naive_values(kind, params, observation):
    return naive_networks.apply(kind, {"policy": params, "head": params}, observation, 2)[1][..., 0]


@pytest.mark.parametrize("kind", ["tabular", "mlp", "cnn"])
def test_the_gradient_is_that_of_the_squared_error_to_fixed_targets(kind):
    rng = np.random.default_rng(1)
    critic, params, observe = some_critic(rng, kind)
    rollout = random_rollout(rng, 6, 3, 2, observe)
    loss, grads = jax.jit(jax.value_and_grad(critic.loss))(params, rollout)

    values, following = (
        naive_values(kind, float64(params), x) for x in (rollout.observation, rollout.next_observation)
    )
    targets = values + naive_advantages(rollout, values, following, 0.99, 0.95)

    def naive_loss(params):
        return 0.5 * np.mean((naive_values(kind, params, rollout.observation) - targets) ** 2)

    assert loss == pytest.approx(naive_loss(float64(params)), rel=1e-4)
    assert_is_gradient(grads, naive_loss, params, rng)


def test_time_limits_bootstrap_from_before_the_reset_and_terminations_do_not():
    env, level = small_grid()
    critic = make_critic(AgentConfig(), env, level)
    # One step from state 0 to state 1; the next episode begins in state 2, which must not matter.
    rollout = Rollout(
        observation=np.zeros((1, 3), np.int32),
        action=np.zeros((1, 3), np.int32),
        reward=np.ones((1, 3), np.float32),
        terminated=np.array([[True, False, False]]),
        truncated=np.array([[False, True, False]]),
        next_observation=np.ones((1, 3), np.int32),
        last_observation=np.full(3, 2, np.int32),
    )
    rows = jnp.zeros((36, 1)).at[:3, 0].set(jnp.array([3.0, 5.0, 100.0]))
    found = critic.assess({"rows": rows}, rollout)
    np.testing.assert_array_equal(found.values, 3.0)
    np.testing.assert_allclose(found.advantages[0], [1 - 3, 1 + 0.99 * 5 - 3, 1 + 0.99 * 5 - 3], rtol=1e-6)


# ---- learning


STEPS = 80


def chain_of_three():
    """Three steps, +1 or -1 at the end; rollouts of 5 steps end in the middle of episodes."""
    env = DelayedChain(3)
    level = ChainLevel(max_steps_in_episode=jnp.int32(3), good_action=jnp.int32(1))
    config = AgentConfig(workers=32, rollout_steps=5, head_learning_rate=2.0)
    return level, make_learner(env, level, config, Random(), critic=True)


def test_the_loss_falls_and_values_become_the_known_ones_of_a_chain():
    level, learner = chain_of_three()
    critic = learner.critic

    def advance(train_state, n):
        _, rollout = learner.collect(level, jax.random.fold_in(KEY, n), train_state)
        loss = critic.loss(train_state.critic.params, rollout)
        return learner.update({}, level, KEY, Progress(done=n, horizon=jnp.int32(STEPS)), train_state)[
            0
        ], loss

    @jax.jit
    def train():
        return jax.lax.scan(advance, learner.begin(KEY, level), jnp.arange(STEPS))

    train_state, losses = train()
    values = np.asarray(train_state.critic.params["rows"][:, 0])
    # The uniformly random agent does not know at the start whether it will be paid; afterwards it does.
    expected = {0: 0.0, 1: -0.99, 2: -1.0, 3 + 1: 0.99, 3 + 2: 1.0}
    for state, value in expected.items():
        assert values[state] == pytest.approx(value, abs=0.3 if state == 0 else 2e-3), state
    # What is left is the coin at the start.
    assert np.mean(losses[-20:]) < 0.7 * losses[0]


# ---- beside an agent


ENV, LEVEL = small_grid()
_, OTHER = small_grid(object_rewards=[-1.0, 0.8], max_steps_in_episode=11)
CONFIG = AgentConfig(workers=4, rollout_steps=3)
train = jax.jit(train_block, static_argnums=0)
# The same agent, so that nothing is compiled twice.
A2C_ALONE = make_learner(ENV, LEVEL, CONFIG, A2C())
A2C_WATCHED = dataclasses.replace(A2C_ALONE, critic=make_critic(CONFIG, ENV, LEVEL))


LPG_ALONE = make_learner(ENV, LEVEL, CONFIG, LPG(bins=3, width=4))
LPG_WATCHED = dataclasses.replace(LPG_ALONE, critic=A2C_WATCHED.critic)


@pytest.mark.slow
@pytest.mark.parametrize("learners", [(LPG_ALONE, LPG_WATCHED), (A2C_ALONE, A2C_WATCHED)], ids=["lpg", "a2c"])
def test_an_agent_is_bit_for_bit_the_same_with_a_critic_beside_it(learners):
    meta_params = learners[0].objective.init(KEY)
    levels, keys = stack(LEVEL, OTHER), jax.random.split(KEY, 2)
    theta = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), meta_params)
    alone, watched = (train(learner, theta, levels, jnp.array([12, 7]), keys) for learner in learners)
    assert_same(alone.agent, watched.agent)
    assert_same(lane(alone.workers, 0), lane(watched.workers, 0))
    assert np.any(alone.agent.params["policy"]["rows"] != 0)
    assert np.any(watched.critic.params["rows"] != 0)


def test_a_critic_and_its_workers_stay_as_they_are_past_their_lanes_horizon():
    # Otherwise the last rollout, and with it the level's score, would depend on the lanes beside.
    levels, keys = stack(LEVEL, OTHER), jax.random.split(KEY, 2)
    short, long = (train(A2C_WATCHED, {}, levels, jnp.array([2, N]), keys) for N in (2, 9))
    assert_same(lane(short, 0), lane(long, 0))
    assert not is_same(lane(short.critic.params, 1), lane(long.critic.params, 1))


@pytest.mark.slow
def test_beside_an_agent_that_scales_it_learns_from_what_the_agent_sees():
    level = CARTPOLE.default_params
    config = AgentConfig(
        network="mlp", hidden=(6,), workers=3, rollout_steps=40, scale_observations=True, scale_rewards=True
    )
    learner = make_learner(CARTPOLE, level, config, LPG(bins=3, width=4), critic=True)
    theta = learner.objective.init(KEY)
    collect, step = jax.jit(learner.collect), jax.jit(learner.critic.step)
    update = jax.jit(learner.update_with)
    train_state = learner.begin(KEY, level)
    seen, totals, running = np.zeros((0, 4)), np.zeros(0), np.zeros(3)
    for n in range(3):
        key = jax.random.fold_in(KEY, n)
        _, rollout = collect(level, key, train_state)
        for reward, done in zip(np.asarray(rollout.reward, float), rollout.done, strict=True):
            running = reward + 0.99 * running
            totals = np.append(totals, running)
            running = np.where(done, 0.0, running)
        # Observations by what was known before the rollout, rewards by what is known after it.
        mean, deviation = (seen.mean(0), seen.std(0)) if n else (0.0, 1.0)
        looks = {
            name: np.clip((np.asarray(getattr(rollout, name)) - mean) / deviation, -10, 10).astype(np.float32)
            for name in ("observation", "next_observation", "last_observation")
        }
        seen = np.concatenate([seen, np.asarray(rollout.observation).reshape(-1, 4)])
        reward = np.asarray(rollout.reward / totals.std(), np.float32)
        expected = step(train_state.critic, dataclasses.replace(rollout, reward=reward, **looks))
        train_state, _ = update(
            theta, level, key, Progress(done=jnp.int32(n), horizon=jnp.int32(3)), train_state
        )
        for found, wanted in zip(
            *map(jax.tree.leaves, (train_state.critic.params, expected.params)), strict=True
        ):
            np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=1e-4)


@pytest.mark.parametrize(
    "settings", [{"scale_rewards": True}, {"reward_range": 10.0}], ids=lambda x: next(iter(x))
)
def test_advantages_are_in_units_of_the_rewards_whatever_the_agent_sees(settings):
    env, level = small_grid()
    config = AgentConfig(workers=3, rollout_steps=12, **settings)
    learner = make_learner(env, level, config, A2C(), critic=True)
    train_state = learner.begin(KEY, level)
    assert not any(leaf.any() for leaf in jax.tree.leaves(train_state.critic.params)), "all values are 0"
    assessed = jax.jit(learner.assess)(level, KEY, train_state)
    _, rollout = jax.jit(learner.collect)(level, jax.random.fold_in(KEY, LAST_ROLLOUT), train_state)
    zeros = np.zeros((12, 3))
    expected = naive_advantages(rollout, zeros, zeros, learner.critic.discount, learner.critic.gae_lambda)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(assessed.advantages, expected, rtol=1e-4, atol=1e-6)


def test_the_tasks_gamma_and_lambda_are_the_critics_too():
    env, level = small_grid()
    critic = make_critic(AgentConfig(discount=0.9, gae_lambda=0.8), env, level)
    assert (critic.discount, critic.gae_lambda) == (0.9, 0.8)


def test_a_learner_without_a_critic_says_so_when_asked_for_values():
    train_state = A2C_ALONE.begin(KEY, LEVEL)
    assert train_state.critic is None
    with pytest.raises(ValueError, match="critic=True"):
        A2C_ALONE.assess(LEVEL, KEY, train_state)
