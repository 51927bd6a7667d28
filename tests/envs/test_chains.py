"""Delayed chains against a naive simulator and dynamic programming, and what they ask of an agent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_discovery import discovery, envs
from rl_discovery.discovery.agents.agent import make_agent
from rl_discovery.discovery.learning import rollout, vector_env
from rl_discovery.discovery.learning.settings import default_config
from rl_discovery.envs.chains import DISTRIBUTIONS, ChainLevel, DelayedChain, expected_returns

STEPS = 20
ENVS = {
    "tabular": DelayedChain(8),
    "noisy": DelayedChain(8, noisy=True),
    "bits": DelayedChain(8, distraction=True),
    "noisy bits": DelayedChain(8, noisy=True, distraction=True),
}


def chain(length, good_action=1):
    return ChainLevel(max_steps_in_episode=jnp.int32(length), good_action=jnp.int32(good_action))


def walk(env, level, noise, actions):
    """Transitions of one worker with automatic reset, from uniform numbers."""
    state = env.reset_from(jnp.zeros(env.reset_noise_size), level)[1]
    states = jax.tree.map(lambda leaf: leaf[None], state)

    def step(states, inputs):
        moved = vector_env.step(env, inputs[0][:, None], states, inputs[1][None], level)
        return moved.state, jax.tree.map(lambda leaf: leaf[0], moved)

    return jax.lax.scan(step, states, (noise, actions))[1]


walk = jax.jit(walk, static_argnums=0)


def naive_observation(env, length, position, pays, draws):
    if env.distraction:
        return [float(position == 0), float(pays), *(float(draw < 0.5) for draw in draws)]
    return min(position, length - 1) + env.max_length * int(pays)


def naive_walk(env, length, good_action, noise, actions):
    """(reward, terminated, observation before the reset, observation after it) of every step."""
    position, pays, steps = 0, False, []
    for draws, action in zip(noise, actions, strict=True):
        step_draws, reset_draws = draws[: env.step_noise_size], draws[env.step_noise_size :]
        if position == 0:
            pays = action == good_action
        position += 1
        reward = 0.0
        if env.noisy:
            reward, step_draws = (1.0 if step_draws[0] < 0.5 else -1.0), step_draws[1:]
        last = naive_observation(env, length, position, pays, step_draws)
        if position < length:
            steps.append((reward, False, last, last))
            continue
        reward, position = (1.0 if pays else -1.0), 0
        steps.append((reward, True, last, naive_observation(env, length, 0, False, reset_draws)))
    return steps


@pytest.mark.parametrize("name", ENVS)
@settings(max_examples=60, deadline=None)
@given(
    length=st.integers(1, 8),
    good_action=st.integers(0, 1),
    actions=st.lists(st.integers(0, 1), min_size=STEPS, max_size=STEPS),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_chain_and_actions_agree_with_the_naive_simulator(name, length, good_action, actions, seed):
    env = ENVS[name]
    rng = np.random.default_rng(seed)
    noise = rng.random((STEPS, env.step_noise_size + env.reset_noise_size), np.float32)
    edges = rng.choice(np.array([0.0, 0.5, 1 - 2**-24], np.float32), noise.shape)
    noise = np.where(rng.random(noise.shape) < 0.1, edges, noise)
    found = walk(env, chain(length, good_action), noise, np.array(actions, np.int32))
    expected = naive_walk(env, length, good_action, noise, actions)
    for i, values in enumerate((found.reward, found.terminated, found.next_observation, found.observation)):
        assert np.array_equal(values, np.array([step[i] for step in expected]))
    assert not np.any(found.truncated)


def planned(length, good_action, noisy):
    """Best and random expected return by backward recursion over position and what was chosen."""

    def later(values, position, pays):
        if position == length:
            return 1.0 if pays else -1.0
        on_the_way = 0.5 * 1.0 + 0.5 * -1.0 if noisy else 0.0
        return on_the_way + values[position, pays]

    best, random = {}, {}
    for position in reversed(range(length)):
        for pays in (False, True):
            after = [action == good_action if position == 0 else pays for action in (0, 1)]
            best[position, pays] = max(later(best, position + 1, pays) for pays in after)
            random[position, pays] = sum(later(random, position + 1, pays) for pays in after) / 2
    return best[0, False], random[0, False]


@pytest.mark.parametrize("noisy", [False, True])
def test_expected_returns_agree_with_dynamic_programming(noisy):
    cases = [(length, good) for length in (1, 2, 5, 30) for good in (0, 1)]
    levels = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(chain(*case) for case in cases))
    optimal, random = expected_returns(DelayedChain(30, noisy=noisy), levels)
    expected = np.array([planned(*case, noisy) for case in cases])
    assert np.array_equal(optimal, expected[:, 0])
    assert np.array_equal(random, expected[:, 1])


@pytest.mark.parametrize(
    ("name", "longest", "horizon", "noisy", "distraction"),
    [
        ("short", 30, 250, False, False),
        ("long", 50, 500, False, False),
        ("short_noisy", 30, 250, True, False),
        ("long_noisy", 50, 500, True, False),
        ("state_distraction", 30, 250, False, True),
        ("state_distraction_long", 50, 500, False, True),
    ],
)
def test_a_distribution_has_its_lengths_and_either_action_is_good(name, longest, horizon, noisy, distraction):
    distribution = envs.distribution(f"chain/{name}")
    env = distribution.env
    assert (env.max_length, env.noisy, env.distraction) == (longest, noisy, distraction)
    levels = jax.jit(jax.vmap(distribution.sample))(jax.random.split(jax.random.key(0), 4000))
    lengths = np.asarray(jax.vmap(distribution.statistics)(levels.params)["length"])
    counts = np.bincount(lengths)[5:]
    expected = 4000 / (longest - 4)
    assert len(counts) == longest - 4
    assert np.all(np.abs(counts - expected) < 5 * np.sqrt(expected))
    assert abs(np.mean(levels.params.good_action) - 0.5) < 0.05
    # What the length is says nothing about which action is good.
    assert abs(np.corrcoef(lengths, levels.params.good_action)[0, 1]) < 0.07
    assert np.all(levels.horizon == horizon)


def test_the_tables_cover_every_distribution():
    assert len(DISTRIBUTIONS) == 6
    tabular = {name for name, found in DISTRIBUTIONS.items() if not found.env.distraction}
    assert set(envs.suite("chains").environments) == {f"chain/{name}" for name in tabular}


@pytest.mark.parametrize("name", ENVS)
def test_observations_fit_their_space_up_to_the_longest_chain(name):
    env = ENVS[name]
    noise = np.random.default_rng(0).random((STEPS, env.step_noise_size + env.reset_noise_size), np.float32)
    found = walk(env, chain(env.max_length), noise, np.ones(STEPS, np.int32))
    space = env.observation_space(env.default_params)
    for observations in (found.observation, found.next_observation):
        assert observations.dtype == space.dtype
        assert observations.shape == (STEPS, *space.shape)
        assert all(bool(space.contains(observation)) for observation in observations)


def test_the_distracting_bits_are_fair_coins_that_nothing_moves():
    env = ENVS["bits"]
    rng = np.random.default_rng(1)
    noise = rng.random((100 * STEPS, 2 * 20), np.float32)
    actions = rng.integers(0, 2, 100 * STEPS).astype(np.int32)
    found = walk(env, chain(4), noise, actions)
    bits = np.asarray(found.observation)
    # First step, outcome, a step in between: `pays` is 0 until the first action.
    assert np.array_equal(bits[:, 0], np.arange(1, len(bits) + 1) % 4 == 0)
    assert np.array_equal(bits[::4, 1], actions[::4])
    assert not np.any(bits[3::4, 1])
    random = bits[:, 2:]
    assert np.all(np.abs(random.mean(0) - 0.5) < 5 * 0.5 / np.sqrt(len(random)))
    together = np.corrcoef(np.column_stack([random, bits[:, :2], found.reward, actions]).T)
    np.fill_diagonal(together, 0)
    assert np.abs(together[:20]).max() < 5 / np.sqrt(len(random))
    earlier = [np.corrcoef(random[1:, i], random[:-1, i])[0, 1] for i in range(20)]
    assert np.abs(earlier).max() < 5 / np.sqrt(len(random))


def test_with_a_chain_longer_than_the_rollout_only_the_prediction_can_carry_credit():
    env, level = envs.make("chain/long")
    level = level.replace(max_steps_in_episode=jnp.int32(45))
    agent = make_agent(default_config(env, level), env, level, head_size=8)
    state = agent.init(jax.random.key(0))  # uniformly random at first
    collect = jax.jit(lambda workers, key: rollout.collect(agent, state, env, level, workers, key, STEPS))
    workers = rollout.start(env, jax.random.key(1), level, 16)
    rollouts = []
    for i in range(3):
        workers, found = collect(workers, jax.random.key(i))
        rollouts.append(jax.tree.map(np.asarray, found))
    first, second, third = rollouts
    chosen = first.action[0]
    assert set(chosen) == {0, 1}
    # No reward in the rollout with the decision, nor in the next one; nor a decision in that with the reward.
    assert not np.any(first.reward)
    assert not np.any(second.reward)
    assert not np.any(first.done | second.done)
    paid = third.reward[4]
    assert np.array_equal(paid, np.where(chosen == int(level.good_action), 1, -1))
    assert np.all(third.terminated[4])
    assert np.count_nonzero(third.reward) == len(paid)
    # Every state in between tells which action was chosen, and the first one does not.
    between = np.concatenate([first.observation[1:], second.observation, third.observation[:5]])
    assert not set(between[:, chosen == 0].flat) & set(between[:, chosen == 1].flat)
    assert set(first.observation[0]) == {0}
    # The states of one choice differ by their position alone.
    assert np.all(between == between[:, :1] % env.max_length + env.max_length * (paid == 1))


@pytest.mark.parametrize("name", ["short", "state_distraction"])
def test_the_gymnax_interface_resets_by_itself_and_never_truncates(name):
    env, level = envs.make(f"chain/{name}", seed=2)
    step = jax.jit(env.step)
    first, state = env.reset(jax.random.key(0), level)
    assert first.shape == env.observation_space(level).shape
    length = int(level.length)
    for t in range(1, length + 2):
        _, state, reward, terminated, truncated, info = step(
            jax.random.key(t), state, level.good_action, level
        )
        assert (float(reward), bool(terminated), bool(truncated)) == (t == length, t == length, False)
        assert float(info["discount"]) == (t != length)
    assert int(state.time) == 1


def test_a2c_learns_a_short_chain_in_few_updates():
    env, level = envs.make("chain/short")
    level = level.replace(max_steps_in_episode=jnp.int32(5))
    trained, history = discovery.train("a2c", env, level, 40, evaluations=2)
    assert history["return"][-1] > 0.9
    assert int(np.argmax(trained.policy(jnp.int32(0)))) == int(level.good_action)


@pytest.mark.parametrize("length", [0, -3])
def test_chains_without_a_step_are_refused(length):
    with pytest.raises(ValueError, match=f"not {length}"):
        DelayedChain(length)
