"""Craftax under gymnax's interface; what needs Craftax itself is skipped where the extra is not installed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_discovery import envs
from rl_discovery.discovery.learning.environment_check import check_environment
from rl_discovery.envs.craftax import EXTRA, TASKS
from tests.envs.libraries import ends_are_right, needs, play, trains

needs_craftax = needs(EXTRA)
CLASSIC = "craftax/Craftax-Classic-Symbolic-v1"


@needs_craftax
@pytest.mark.parametrize("task", TASKS)
def test_every_task_can_be_traced(task):
    check_environment(*envs.make(f"craftax/{task}"))


@needs_craftax
@pytest.mark.slow
def test_a_step_is_craftaxs_own_and_its_time_limit_truncates():
    from craftax.craftax_env import make_craftax_env_from_name

    env, level = envs.make(CLASSIC)
    assert level.max_steps_in_episode == 10_000
    key = jax.random.key(0)
    first, state = env.reset(key, level)
    inner = make_craftax_env_from_name("Craftax-Classic-Symbolic-v1", auto_reset=False)
    expected, theirs = inner.reset(key)
    np.testing.assert_array_equal(first, expected)
    ours, own = jax.jit(env.step), jax.jit(inner.step)
    for number, action in enumerate((1, 5, 3, 5)):
        key = jax.random.key(number)
        _, state, reward, terminated, _, info = ours(key, state, jnp.int32(action), level)
        expected, theirs, gained, done, _ = own(key, theirs, action)
        np.testing.assert_allclose(info["final_observation"], expected, rtol=1e-6)
        assert (float(reward), bool(terminated)) == (float(gained), bool(done))
    dying = state.replace(inner=state.inner.replace(now=theirs.replace(player_health=jnp.int32(-9))))
    observation, state, _, terminated, truncated, _ = ours(key, dying, jnp.int32(0), level)
    assert (bool(terminated), bool(truncated)) == (True, False)
    np.testing.assert_array_equal(observation, first)  # the world of the first episode
    assert int(state.time) == 0


@needs_craftax
@pytest.mark.slow
def test_episodes_are_in_one_world_or_in_new_ones():
    worlds = {}
    for new in (False, True):
        env, level = envs.make(CLASSIC, new_worlds=new)
        ends_are_right(env, level)
        played = play(env, level.replace(max_steps_in_episode=2), 6)
        worlds[new] = [played.first, *played.observation[1::2]]
    assert all(np.array_equal(world, worlds[False][0]) for world in worlds[False])
    assert not any(np.array_equal(world, worlds[True][0]) for world in worlds[True][1:])


@needs_craftax
@pytest.mark.slow
def test_an_agent_trains_on_it():
    trains(*envs.make(CLASSIC))
