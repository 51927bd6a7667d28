"""Jumanji under gymnax's interface; what needs Jumanji itself is skipped where the extra is not installed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_discovery import envs
from rl_discovery.discovery.learning.environment_check import check_environment
from rl_discovery.envs.jumanji import EXTRA, REFUSED, TASKS
from tests.envs.libraries import ends_are_right, needs, play, trains

needs_jumanji = needs(EXTRA)
SEVERAL_AGENTS = {
    *("Cleaner-v0", "Connector-v3", "LevelBasedForaging-v0", "MMST-v0", "MultiCVRP-v0"),
    *("RobotWarehouse-v0", "SearchAndRescue-v0"),
}
TOO_MANY_ACTIONS = {"FlatPack-v0", "JobShop-v0"}


@needs_jumanji
def test_every_task_of_jumanji_is_here_or_left_out_for_a_reason():
    import jumanji

    left_out = SEVERAL_AGENTS | TOO_MANY_ACTIONS | set(REFUSED)
    assert set(jumanji.registered_environments()) == set(TASKS) | left_out


@needs_jumanji
@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_every_task_can_be_traced(task):
    check_environment(*envs.make(f"jumanji/{task}"))


@needs_jumanji
def test_a_step_is_jumanjis_own_with_bounds_scaled_and_the_time_left_out():
    import jumanji

    env, level = envs.make("jumanji/Maze-v0")
    played = play(env, level, 12)
    inner = jumanji.make("Maze-v0")
    step = jax.jit(inner.step)
    state, result = inner.reset(jax.random.split(jax.random.key(0))[0])
    seen = [played.first, *played.last]
    for number, observation in enumerate(seen):
        at = result.observation
        corners = [
            at.agent_position.row,
            at.agent_position.col,
            at.target_position.row,
            at.target_position.col,
        ]
        expected = np.concatenate([np.array(corners) / 9, at.walls.reshape(-1), at.action_mask])
        np.testing.assert_allclose(observation, expected, rtol=1e-6)
        if number < len(played.action):
            state, result = step(state, jnp.int32(played.action[number]))
            assert played.reward[number] == result.reward
            assert played.terminated[number] == result.last()
            if result.last():
                break


@needs_jumanji
def test_a_vector_of_actions_is_its_index_among_all_combinations():
    import jumanji

    env, level = envs.make("jumanji/Minesweeper-v0")
    inner = jumanji.make("Minesweeper-v0")
    assert env.action_space(level).n == 100
    key = jax.random.key(3)
    _, state = env.reset(key, level)
    _, moved, reward, *_ = env.step(key, state, jnp.int32(37), level)
    expected, result = inner.step(inner.reset(key)[0], jnp.array([3, 7]))
    assert float(reward) == float(result.reward)
    if not result.last():
        np.testing.assert_array_equal(moved.inner.board, expected.board)


@needs_jumanji
def test_time_limits_truncate_and_are_jumanjis():
    limits = {
        task: envs.make(f"jumanji/{task}")[1].max_steps_in_episode
        for task in ("Maze-v0", "RubiksCube-partly-scrambled-v0", "Snake-v1")
    }
    assert limits == {"Maze-v0": 100, "RubiksCube-partly-scrambled-v0": 20, "Snake-v1": 4000}
    ends_are_right(*envs.make("jumanji/SlidingTilePuzzle-v0"))


@needs_jumanji
def test_a_finished_tour_terminates():
    env, level = envs.make("jumanji/TSP-v1")
    played = play(env, level, 40)  # an invalid action ends an episode
    assert played.terminated.any()
    assert not played.truncated.any()


@needs_jumanji
def test_an_agent_trains_on_it():
    trains(*envs.make("jumanji/Snake-v1"))


def test_what_would_download_is_refused_and_said_so_in_the_list():
    with pytest.raises(ValueError, match="jumanji/Sokoban-v0 cannot be used: it downloads"):
        envs.make("jumanji/Sokoban-v0")
    assert "cannot be used" in dict(envs.names())["jumanji/Sokoban-v0"]
