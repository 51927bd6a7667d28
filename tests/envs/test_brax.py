"""Brax under gymnax's interface; what needs Brax's own code is skipped where the extra is not installed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_discovery import discovery, envs
from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.envs import brax
from rl_discovery.envs.brax import REFUSED, TASKS, BraxEnvironment
from rl_discovery.envs.levels import UnusableEnvironmentError
from tests.envs.libraries import needs

needs_brax = needs(brax.EXTRA)
TASK = "brax/inverted_pendulum"


PUSH = 0.1


def play(env, level, steps, push=PUSH, key=0):
    """Observations, rewards and ends of a worker that pushes to one side."""

    def advance(state, key):
        observation, state, *rest, info = env.step(
            key, state, jnp.full(env.action_space().shape, push), level
        )
        return state, (observation, *rest, info["final_observation"])

    first, state = env.reset(jax.random.key(key), level)
    _, record = jax.jit(lambda state, keys: jax.lax.scan(advance, state, keys))(
        state, jax.random.split(jax.random.key(1), steps)
    )
    return first, [np.asarray(part) for part in record]


@pytest.mark.slow
@needs_brax
def test_episodes_end_by_brax_or_by_the_time_limit_and_begin_where_the_first_one_did():
    env, level = envs.make(TASK)
    first, (observation, _, terminated, truncated, last) = play(env, level, 60, push=1.0)
    assert terminated.any(), "a pole that is pushed to one side falls"
    assert not truncated.any()
    np.testing.assert_array_equal(observation[terminated], np.tile(first, (terminated.sum(), 1)))
    assert np.all(np.abs(last[terminated][:, 1]) > 0.2)  # the angle at which Brax says it has fallen
    np.testing.assert_array_equal(observation[~terminated], last[~terminated])
    _, (_, _, _, truncated, _) = play(env, level.replace(max_steps_in_episode=3), 9)
    np.testing.assert_array_equal(np.flatnonzero(truncated), [2, 5, 8])


@pytest.mark.slow
@needs_brax
def test_a_step_is_braxs_own_and_a_repeated_action_is_several_of_them():
    from brax import envs as brax_envs

    inner = brax_envs.get_environment("inverted_pendulum", backend="generalized")
    state = jax.jit(inner.reset)(jax.random.key(0))
    step, rewards, observations = jax.jit(inner.step), [], []
    for _ in range(4):
        state = step(state, jnp.full(1, PUSH))
        rewards.append(float(state.reward))
        observations.append(np.asarray(state.obs))
    env, level = envs.make(TASK)
    _, (observation, reward, *_) = play(env, level, 4)
    np.testing.assert_allclose(observation, observations, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(reward, rewards, rtol=1e-5)
    twice, level = envs.make(TASK, action_repeat=2)
    _, (observation, reward, *_) = play(twice, level, 2)
    np.testing.assert_allclose(observation, observations[1::2], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(reward, [sum(rewards[:2]), sum(rewards[2:])], rtol=1e-5)


@pytest.mark.slow
@needs_brax
@pytest.mark.parametrize("task", sorted(set(TASKS) - set(REFUSED)))
def test_every_task_can_be_stepped(task):
    env, level = envs.make(f"brax/{task}")
    key = jax.random.key(0)
    _, state = jax.eval_shape(env.reset, key, level)
    action = jax.ShapeDtypeStruct(env.action_space(level).shape, jnp.float32)
    observation, moved, reward, *_ = jax.eval_shape(env.step, key, state, action, level)
    assert observation.shape == env.observation_space(level).shape
    assert reward.shape == ()
    assert jax.tree.map(lambda leaf: leaf.shape, moved) == jax.tree.map(lambda leaf: leaf.shape, state)


@pytest.mark.slow
@needs_brax
def test_ppo_trains_on_it_with_everything_scaled_and_squashed_and_one_body():
    env, level = envs.make(TASK)
    plan = {"network": "mlp", "hidden": (8,), "optimiser": "adam", "policy_learning_rate": 1e-3}
    scaled = {"scale_observations": True, "scale_rewards": True, "activation": "tanh"}
    options = {"action_bounds": "tanh", "shared": True}
    config = AgentConfig(**plan, **scaled, **options, workers=4, rollout_steps=8, epochs=2, minibatches=2)
    level = level.replace(max_steps_in_episode=20)
    trained, history = discovery.train("ppo", env, level, 3, config=config, evaluations=1)
    assert np.all(np.isfinite(history["policy_loss"]))
    assert history["return"][-1] >= 1
    assert float(trained.state.statistics.observations.count) == 3 * 32
    action = trained.act(jax.random.key(0), jnp.zeros((5, 4)))
    assert action.shape == (5, 1)
    assert np.all(np.abs(action) <= 1)
    with pytest.raises(ValueError, match=r"use act\(\)"):
        trained.policy(jnp.zeros(4))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"backend": "bullet"}, "backend must be one of generalized, .*not 'bullet'"),
        ({"action_repeat": 0}, "action_repeat must be a number of at least 1, not 0"),
        ({"action_repeat": "two"}, "action_repeat must be a number of at least 1, not 'two'"),
    ],
)
def test_impossible_options_are_refused(options, words):
    with pytest.raises(UnusableEnvironmentError, match=words):
        BraxEnvironment("ant", **options)


@needs_brax
def test_the_time_limit_counts_every_repeat_of_an_action():
    env, level = envs.make(f"{TASK},action_repeat=3")
    _, (_, _, _, truncated, _) = play(env, level.replace(max_steps_in_episode=7), 7, push=0.0)
    np.testing.assert_array_equal(np.flatnonzero(truncated), [2, 5])


@needs_brax
def test_episodes_of_arms_are_shorter():
    limits = {
        task: envs.make(f"brax/{task}")[1].max_steps_in_episode for task in ("reacher", "pusher", "ant")
    }
    assert limits == {"reacher": 50, "pusher": 100, "ant": 1000}


@needs_brax
def test_making_one_leaves_nothing_in_the_working_directory(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    brax.load_task.cache_clear()
    envs.make("brax/ant")  # of whose model MuJoCo warns
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("task", REFUSED)
def test_what_brax_cannot_run_is_refused_and_said_so_in_the_list(task):
    with pytest.raises(ValueError, match=f"brax/{task} cannot be used: Brax"):
        envs.make(f"brax/{task}")
    assert "cannot be used" in dict(envs.names())[f"brax/{task}"]


def test_every_task_is_known_by_name():
    names = dict(envs.names())
    assert all(names[f"brax/{task}"] for task in TASKS)
