"""MuJoCo Playground under gymnax's interface; what needs it is skipped where the extra is not installed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_discovery import envs
from rl_discovery.discovery.learning.environment_check import check_environment
from rl_discovery.envs.playground import EXTRA, TASKS
from tests.envs.libraries import ends_are_right, needs, play, trains

needs_playground = needs(EXTRA)
TASK = "playground/PendulumSwingup"


@needs_playground
def test_every_task_of_the_control_suite_is_here():
    from mujoco_playground import dm_control_suite

    assert set(TASKS) == set(dm_control_suite.ALL_ENVS)


@needs_playground
@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_every_task_can_be_traced(task):
    check_environment(*envs.make(f"playground/{task}"))


@needs_playground
def test_a_step_is_playgrounds_own_and_a_repeated_action_is_several_of_them():
    from mujoco_playground import dm_control_suite

    inner = dm_control_suite.load("PendulumSwingup", config_overrides={"impl": "jax"})
    state, step = jax.jit(inner.reset)(jax.random.key(0)), jax.jit(inner.step)
    observations, rewards = [state.obs], []
    for _ in range(4):
        state = step(state, jnp.full(1, 0.5))
        observations.append(state.obs)
        rewards.append(float(state.reward))
    for repeat in (1, 2):
        env, level = envs.make(TASK, action_repeat=repeat)
        first, moving = env.reset(jax.random.key(0), level)
        np.testing.assert_allclose(first, observations[0], rtol=1e-5, atol=1e-6)
        for number in range(repeat, 5, repeat):
            observation, moving, reward, *_ = env.step(jax.random.key(0), moving, jnp.full(1, 0.5), level)
            np.testing.assert_allclose(observation, observations[number], rtol=1e-3, atol=1e-4)
            expected = sum(rewards[number - repeat : number])
            np.testing.assert_allclose(reward, expected, rtol=1e-3, atol=1e-5)


@needs_playground
def test_time_limits_truncate_and_episodes_begin_where_the_first_one_did():
    env, level = envs.make(TASK)
    assert level.max_steps_in_episode == 1000
    ends_are_right(env, level)
    played = play(env, level.replace(max_steps_in_episode=2), 6)
    np.testing.assert_array_equal(played.observation[1::2], np.tile(played.first, (3, 1)))


@needs_playground
def test_an_agent_trains_on_it():
    trains(*envs.make(TASK))


@needs_playground
def test_an_impossible_number_of_repeats_is_refused():
    with pytest.raises(ValueError, match="action_repeat must be a number of at least 1, not 0"):
        envs.make(f"{TASK},action_repeat=0")


def test_robots_whose_models_would_be_downloaded_are_not_offered():
    assert not [name for name, _ in envs.names() if "Joystick" in name or "Panda" in name]
