"""Exact evaluation of policies against planning, simulated episodes and levels with known answers."""

import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_discovery.envs.gridworld.env import GridWorld
from rl_discovery.envs.gridworld.planning import expected_returns
from rl_discovery.envs.gridworld.policy_evaluation import (
    discounted_policies,
    policy_returns,
    policy_statistics,
)
from tests.envs.gridworld.random_levels import hand_made_level, random_level, stack

WORLDS = {"five actions": GridWorld(4, 3), "nine actions": GridWorld(3, 2, diagonal=True)}
STRIP = GridWorld(5, 2)
UP, DOWN, LEFT, RIGHT, STAY = range(5)


def states(env):
    return env.cells << env.max_objects


def random_levels(env, count, seed, **settings):
    rng = np.random.default_rng(seed)
    return stack([random_level(rng, env, **settings) for _ in range(count)])


def random_policies(env, count, seed):
    logits = np.random.default_rng(seed).normal(size=(count, states(env), env.num_actions))
    return jax.nn.softmax(jnp.asarray(logits, jnp.float32))


def always(env, action, count=1):
    """Whatever is seen."""
    table = jax.nn.one_hot(action, env.num_actions)
    return jnp.broadcast_to(table, (count, states(env), env.num_actions))


@pytest.mark.parametrize("name", WORLDS)
def test_the_uniform_and_the_best_policy_are_those_of_planning(name):
    env = WORLDS[name]
    levels = random_levels(env, 40, seed=0, longest=30)
    optimal, random = expected_returns(env, levels)
    uniform = jnp.full((40, states(env), env.num_actions), 1 / env.num_actions)
    np.testing.assert_allclose(policy_returns(env, levels, uniform), random, atol=2e-5)
    np.testing.assert_allclose(policy_statistics(env, levels, uniform).returns, random, atol=2e-5)
    np.testing.assert_allclose(policy_statistics(env, levels, None).returns, optimal, atol=2e-5)
    assert np.abs(optimal - random).max() > 0.5


def simulated(env, levels, policies, episodes, longest):
    """Return, length, termination and collections of single episodes, from the environment itself."""

    def episode(level, policy, key):
        noise_key, action_key, reset_key = jax.random.split(key, 3)
        noise = jax.random.uniform(noise_key, (longest, env.step_noise_size))
        first = env.reset(reset_key, level)

        def step(carry, inputs):
            observation, state, running, totals = carry
            draws, action_key = inputs
            action = jax.random.categorical(action_key, jnp.log(policy[observation]))
            observation, new, reward, terminated = env.step_from(draws, state, action, level)
            was_there = (state.present >> jnp.arange(env.max_objects)) & 1 == 1
            taken = was_there & (level.object_cells == new.cell)
            gains = jnp.concatenate([jnp.stack([reward, jnp.float32(1), terminated * 1.0]), taken * 1.0])
            running_on = running & ~terminated & ~env.is_truncated(new, level)
            return (observation, new, running_on, totals + running * gains), None

        start = (*first, True, jnp.zeros(3 + env.max_objects))
        keys = jax.random.split(action_key, longest)
        return jax.lax.scan(step, start, (noise, keys))[0][3]

    keys = jax.random.split(jax.random.key(0), episodes)
    over_episodes = jax.vmap(episode, in_axes=(None, None, 0))
    return np.asarray(jax.jit(jax.vmap(over_episodes, in_axes=(0, 0, None)))(levels, policies, keys))


def test_all_statistics_agree_with_simulated_episodes():
    env = GridWorld(4, 3)
    levels = random_levels(env, 16, seed=5, longest=40, probs=(0.02, 0.1, 0.3))
    policies = random_policies(env, 16, seed=6)
    found = policy_statistics(env, levels, policies)
    episodes = simulated(env, levels, policies, 2500, 40)
    exact = np.concatenate([np.stack(found[:3], axis=1), found.collected], axis=1)
    error = episodes.std(axis=1) / np.sqrt(episodes.shape[1])
    assert ((error > 0).sum(axis=0) > 4).all()
    rare = 4 / episodes.shape[1]  # what happens once in a thousand episodes may not happen in these
    assert (np.abs(episodes.mean(axis=1) - exact) <= 4.5 * error + rare).all()
    np.testing.assert_allclose(policy_returns(env, levels, policies), found.returns, atol=1e-5)


def test_company_and_chunks_do_not_matter():
    env = GridWorld(4, 3)
    levels, policies = random_levels(env, 11, seed=2, longest=40), random_policies(env, 11, seed=3)
    together = policy_returns(env, levels, policies, chunk=4)
    for i in range(11):
        level = stack([jax.tree.map(operator.itemgetter(i), levels)])
        alone = policy_returns(env, level, policies[i : i + 1])
        np.testing.assert_allclose(together[i], alone[0], rtol=1e-5, atol=1e-6)


def test_statistics_of_walking_onto_an_object_that_may_end_the_episode():
    level = hand_made_level(STRIP, ["A.0"], max_steps_in_episode=6, end_probs=[0.25, 0], respawn_probs=[1, 0])
    found = policy_statistics(STRIP, stack([level]), always(STRIP, RIGHT))
    # The object is collected at step 2 and, back one step later, by standing there, at steps 4 and 6.
    assert found.collected[0].tolist() == pytest.approx([1 + 0.75 + 0.75**2, 0])
    assert found.returns[0] == pytest.approx(1 + 0.75 + 0.75**2)
    assert found.terminated[0] == pytest.approx(1 - 0.75**3)
    assert found.steps[0] == pytest.approx(2 * (1 + 0.75 + 0.75**2))


def choice(env, level, discount, **settings):
    """First action of the best policy under a discount, and what it collects."""
    levels = stack([level])
    policies = discounted_policies(env, levels, discount, **settings)
    first = int(level.start) + env.cells * sum(int(b) << i for i, b in enumerate(level.object_active))
    return int(np.argmax(policies[0, first])), policy_statistics(env, levels, policies).collected[0]


def test_a_discount_prefers_the_near_reward():
    level = hand_made_level(STRIP, ["0A..1"], object_rewards=[0.5, 1.0], end_probs=[1.0, 1.0])
    assert choice(STRIP, level, 0.9)[0] == RIGHT  # 0.9^2 > 0.5
    assert choice(STRIP, level, 0.6)[0] == LEFT
    assert choice(STRIP, level, 0.0)[0] == LEFT


def test_a_discounted_policy_sees_no_time_limit():
    # The far reward is out of reach, and the policy goes for it all the same.
    level = hand_made_level(
        STRIP, ["0A..1"], object_rewards=[0.5, 1.0], end_probs=[1.0, 1.0], max_steps_in_episode=2
    )
    assert choice(STRIP, level, 0.9)[1].tolist() == [0.0, 0.0]
    assert policy_statistics(STRIP, stack([level]), None).collected[0].tolist() == [1.0, 0.0]


def test_a_discounted_policy_weighs_what_ending_the_episode_costs():
    # An object that pays 0.3 each time it is back, and one that pays 1 and ends everything.
    settings = {"object_rewards": [0.3, 1.0], "end_probs": [0.0, 1.0], "respawn_probs": [1.0, 0.0]}
    level = hand_made_level(STRIP, ["0A1"], max_steps_in_episode=50, **settings)
    # Every second step 0.3 is worth 0.3 / (1 - gamma^2).
    assert choice(STRIP, level, 0.9)[0] == LEFT
    assert choice(STRIP, level, 0.8)[0] == RIGHT


def test_forbidden_actions_are_not_taken_and_states_without_any_do_otherwise():
    level = hand_made_level(STRIP, ["0A..1"], object_rewards=[0.5, 1.0], end_probs=[1.0, 1.0])
    everything = np.ones((1, states(STRIP), 5), bool)
    not_right = everything.copy()
    not_right[:, :, RIGHT] = False
    otherwise = always(STRIP, UP)
    assert choice(STRIP, level, 0.9, allowed=everything, otherwise=otherwise)[0] == RIGHT
    assert choice(STRIP, level, 0.9, allowed=not_right, otherwise=otherwise)[0] == LEFT
    assert choice(STRIP, level, 0.9, allowed=~everything, otherwise=otherwise)[0] == UP


def test_a_patient_policy_is_almost_optimal_where_time_is_long():
    env = GridWorld(4, 3)
    levels = random_levels(env, 8, seed=8, probs=(0.0, 0.1)).replace(max_steps_in_episode=np.full(8, 300))
    patient = policy_returns(env, levels, discounted_policies(env, levels, 0.98))
    optimal, random = expected_returns(env, levels)
    assert (patient <= optimal + 1e-3).all()
    assert (patient - random).sum() > 0.97 * (optimal - random).sum()
    assert (optimal - random).sum() > 5


def test_what_cannot_be_evaluated_is_refused():
    env = GridWorld(3, 1, observation="planes", random_placement=True)
    levels, policies = stack([env.default_params]), jnp.full((1, 18, 5), 0.2)
    for refused in (policy_returns, policy_statistics):
        with pytest.raises(ValueError, match="fixed placement"):
            refused(env, levels, policies)
    with pytest.raises(ValueError, match="fixed placement"):
        discounted_policies(env, levels, 0.9)
    fixed = stack([hand_made_level(STRIP, ["A0"])])
    with pytest.raises(ValueError, match="not 1"):
        discounted_policies(STRIP, fixed, 1.0)
    with pytest.raises(ValueError, match="belong together"):
        discounted_policies(STRIP, fixed, 0.9, otherwise=always(STRIP, UP))
