"""Both ways of driving environments (by uniform numbers, by keys) against gymnax's own step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_discovery.discovery.learning import vector_env
from rl_discovery.envs.gridworld.env import GridWorld
from tests.discovery.experience import CARTPOLE, assert_same, lane, stack
from tests.envs.gridworld.random_levels import random_level

GRIDS = {
    "tabular": GridWorld(4, 2),
    "random": GridWorld(4, 2, observation="planes", random_placement=True),
}
W = 6
step = jax.jit(vector_env.step, static_argnums=0)
reset = jax.jit(vector_env.reset, static_argnums=(0, 3))


@jax.jit
def split(keys):
    return jax.vmap(jax.random.split)(keys)


def gymnax_transition(env, keys, states, actions, level):
    """gymnax's own step of every worker, with its automatic reset."""
    stepped = jax.vmap(env.step, in_axes=(0, 0, 0, None))(keys, states, actions, level)
    observation, states, reward, terminated, truncated, info = stepped
    return vector_env.Transition(
        observation, states, reward, terminated, truncated, info["final_observation"]
    )


gymnax_step = jax.jit(gymnax_transition, static_argnums=0)


def uniforms_of(env, keys):
    """The uniform numbers that gymnax's step would draw from these keys: worker axis last."""
    step_keys, reset_keys = keys[:, 0], keys[:, 1]
    steps = jax.vmap(lambda key: jax.random.uniform(key, (env.step_noise_size,)))(step_keys)
    resets = jax.vmap(lambda key: jax.random.uniform(key, (env.reset_noise_size,)))(reset_keys)
    return jnp.concatenate([steps, resets], axis=1).T


@pytest.mark.parametrize("name", GRIDS)
def test_uniform_numbers_drive_a_gridworld_as_gymnax_would(name):
    env, rng = GRIDS[name], np.random.default_rng(0)
    assert vector_env.is_noise_driven(env)
    endings = {"terminated": 0, "truncated": 0}
    for seed in range(3):
        level = random_level(rng, env, longest=5)
        _, states = reset(env, jax.random.key(seed), level, W)
        for t in range(8):
            keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), t), W)
            actions = rng.integers(0, 5, W).astype(np.int32)
            found = step(env, uniforms_of(env, split(keys)), states, actions, level)
            assert_same(found, gymnax_step(env, keys, states, actions, level))
            states = found.state
            for kind in endings:
                endings[kind] += int(np.sum(getattr(found, kind)))
    assert min(endings.values()) > 0


class Fixed(type(CARTPOLE)):
    """CartPole whose episodes all begin the same."""

    def reset_env(self, key, params):
        del key
        return super().reset_env(jax.random.key(7), params)


@pytest.mark.parametrize("env", [CARTPOLE, Fixed()], ids=["at random", "always the same"])
def test_keys_drive_any_other_environment_as_a_loop_over_gymnax_steps_would(env):
    assert not vector_env.is_noise_driven(env)
    level = env.default_params.replace(max_steps_in_episode=15)
    key, steps = jax.random.key(0), 30
    noise, keys = vector_env.draw(env, key, level, steps, W), jax.random.split(key, (steps, W))
    assert isinstance(noise, vector_env.Beginnings)
    assert (noise.first is None) == isinstance(env, Fixed)
    _, states = reset(env, key, level, W)
    one_step, actions = jax.jit(env.step), np.random.default_rng(0).integers(0, 2, (steps, W))
    actions[:, 0] = 1  # falls soon
    single = [lane(states, w) for w in range(W)]
    kinds = set()
    for t in range(steps):
        found = step(env, lane(noise, t), states, actions[t], level)
        for w in range(W):
            expected = one_step(keys[t, w], single[w], actions[t, w], level)
            observation, single[w], reward, terminated, truncated, info = expected
            np.testing.assert_allclose(found.observation[w], observation, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(
                found.next_observation[w], info["final_observation"], rtol=1e-5, atol=1e-6
            )
            assert (found.reward[w], found.terminated[w], found.truncated[w]) == (
                reward,
                terminated,
                truncated,
            )
            kinds.add((bool(terminated), bool(truncated)))
        assert found.reward.dtype == np.float32
        states = found.state
    assert {(True, False), (False, True), (False, False)} <= kinds


def test_an_environment_with_a_step_of_its_own_keeps_it():
    class Own(type(CARTPOLE)):
        def step(self, key, state, action, params=None):
            return super().step(key, state, action, params)

    key = jax.random.key(0)
    noise = vector_env.draw(Own(), key, CARTPOLE.default_params, 3, W)
    assert_same(*map(jax.random.key_data, (noise, jax.random.split(key, (3, W)))))


def test_a_time_limit_truncates_and_a_fall_terminates():
    env = CARTPOLE
    level = env.default_params.replace(max_steps_in_episode=5)
    _, states = reset(env, jax.random.key(0), level, W)
    for t in range(5):
        keys = jax.random.split(jax.random.key(t), W)
        found = step(env, keys, states, np.full(W, t % 2), level)
        assert np.all(found.truncated == (t == 4))
        assert not np.any(found.terminated)
        states = found.state
    assert np.all(states.time == 0)
    assert np.all(np.abs(found.observation) <= 0.05)
    assert not np.array_equal(found.observation, found.next_observation)
    fallen = jax.tree.map(np.asarray, states).replace(theta=np.full(W, 0.5, np.float32))
    found = step(env, keys, fallen, np.zeros(W, int), level)
    assert np.all(found.terminated)
    assert not np.any(found.truncated)
    assert np.all(np.abs(np.asarray(found.next_observation)[:, 2]) > 0.4)


@pytest.mark.parametrize("env", [*GRIDS.values(), CARTPOLE], ids=[*GRIDS, "CartPole-v1"])
def test_workers_start_as_gymnax_resets_do_each_with_its_own_key(env):
    level, key = env.default_params, jax.random.key(3)
    observations, states = reset(env, key, level, W)
    expected = [jax.jit(env.reset)(k, level) for k in jax.random.split(key, W)]
    jax.tree.map(np.testing.assert_array_equal, (observations, states), stack(*expected))


def test_draws_differ_between_steps_and_workers_and_fit_the_environment():
    env = GRIDS["random"]
    noise = vector_env.draw(env, jax.random.key(0), env.default_params, 5, W)
    assert noise.shape == (5, env.step_noise_size + env.reset_noise_size, W)
    assert np.unique(noise).size == noise.size
