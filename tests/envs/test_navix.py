"""Navix under gymnax's interface; what needs Navix itself is skipped where the extra is not installed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_discovery import envs
from rl_discovery.discovery.learning.environment_check import check_environment
from rl_discovery.envs.navix import EXTRA, TASKS
from tests.envs.libraries import ends_are_right, needs, play, trains

needs_navix = needs(EXTRA)
FORWARD, RIGHT = 2, 1


@needs_navix
def test_every_task_of_navix_is_here():
    import navix

    assert {f"Navix-{task}" for task in TASKS} == set(navix.registry())


@needs_navix
@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_every_task_can_be_traced(task):
    check_environment(*envs.make(f"navix/{task}"))


@needs_navix
def test_the_goal_terminates_and_pays_once():
    """An empty room of 3x3: two steps, a turn, two steps."""
    env, level = envs.make("navix/Empty-5x5-v0")
    step = jax.jit(env.step)
    first, state = env.reset(jax.random.key(0), level)
    seen = []
    for action in (FORWARD, FORWARD, RIGHT, FORWARD, FORWARD):
        observation, state, reward, terminated, truncated, info = step(
            jax.random.key(1), state, jnp.int32(action), level
        )
        seen.append((float(reward), bool(terminated), bool(truncated)))
    assert seen == [(0.0, False, False)] * 4 + [(1.0, True, False)]
    np.testing.assert_array_equal(observation, first)
    assert int(state.time) == 0
    player = np.round(np.asarray(info["final_observation"])[..., 0] * 10) == 10
    assert np.argwhere(player).tolist() == [[3, 3]]


@needs_navix
@pytest.mark.parametrize("observation", ["symbolic", "symbolic_first_person"])
def test_steps_are_navixs_own_and_observations_are_between_0_and_1(observation):
    import navix

    env, level = envs.make("navix/DoorKey-Random-6x6-v0", observation=observation)
    played = play(env, level, 60)
    assert played.observation.min() >= 0
    assert played.observation.max() <= 1
    inner = navix.make("Navix-DoorKey-Random-6x6-v0", observation_fn=getattr(navix.observations, observation))
    step = jax.jit(inner.step)
    timestep = inner.reset(jax.random.split(jax.random.key(0))[0])
    np.testing.assert_allclose(played.first * 10, timestep.observation, rtol=1e-6)
    for action, last, reward in zip(played.action, played.last, played.reward, strict=True):
        timestep = step(timestep, jnp.int32(action))
        np.testing.assert_allclose(last * 10, timestep.observation, rtol=1e-6)
        assert reward == timestep.reward
        if timestep.is_done():
            break


@needs_navix
def test_time_limits_truncate():
    env, level = envs.make("navix/Empty-Random-5x5-v0")
    assert level.max_steps_in_episode == 100
    ends_are_right(env, level)


@needs_navix
def test_an_agent_trains_on_it():
    trains(*envs.make("navix/Dynamic-Obstacles-5x5-v0"))


@needs_navix
def test_another_observation_is_refused():
    with pytest.raises(
        ValueError, match="observation must be one of symbolic, symbolic_first_person, not 'rgb'"
    ):
        envs.make("navix/Empty-5x5-v0,observation=rgb")
