"""Acting: sampling from a softmax, and rollouts and episode returns against loops in Python."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.discovery.agents.policies import Categorical
from rl_discovery.discovery.learning import vector_env
from rl_discovery.discovery.learning.rollout import collect, run_episodes, start
from tests.discovery import naive_networks
from tests.discovery.experience import CARTPOLE, agent_of, float64, lane, random_agent, small_grid
from tests.discovery.naive_lpg import softmax

NEARLY_ONE = np.float32(1.0 - 2.0**-24)
W = 4
collect_jit = jax.jit(collect, static_argnums=(0, 2, 6))
returns_jit = jax.jit(run_episodes, static_argnums=(0, 2, 5, 6))
start_jit = jax.jit(start, static_argnums=(0, 3))
sample_jit = jax.jit(lambda logits, draws: Categorical(logits.shape[-1]).sample(logits, draws))
step_jit = jax.jit(lambda env, *inputs: env.step(*inputs), static_argnums=0)
step_from_jit = jax.jit(lambda env, *inputs: env.step_from(*inputs), static_argnums=0)
reset_from_jit = jax.jit(lambda env, *inputs: env.reset_from(*inputs), static_argnums=0)


@pytest.mark.parametrize(
    "logits", [[0.0, 0.0], [1.0, -1.0, 0.5, 2.0, -3.0], [100.0, 101.0, 99.0], [-2.0] * 9]
)
def test_actions_follow_the_softmax(logits):
    draws = jax.random.uniform(jax.random.key(0), (100_000,))
    actions = sample_jit(np.tile(np.array(logits, np.float32), (100_000, 1)), draws)
    counts = np.bincount(actions, minlength=len(logits))
    assert stats.chisquare(counts, 100_000 * softmax(np.array(logits))).pvalue > 1e-3


@settings(max_examples=100, deadline=None)
@given(
    logits=st.lists(
        st.one_of(
            st.sampled_from([-np.inf, -1e4, 0.0, 1e4]), st.floats(-50, 50, width=32, allow_subnormal=False)
        ),
        min_size=4,
        max_size=4,
    ).filter(lambda row: max(row) > -np.inf),
    draw=st.one_of(
        st.sampled_from([0.0, float(NEARLY_ONE)]),
        st.floats(0, 1, width=32, exclude_max=True, allow_subnormal=False),
    ),
)
def test_no_draw_and_no_logits_give_an_action_that_is_not_there_or_impossible(logits, draw):
    action = int(sample_jit(np.array(logits, np.float32), np.float32(draw)))
    assert 0 <= action < 4
    assert logits[action] > max(logits) - 1e3


@pytest.mark.parametrize(("draw", "action"), [(0.0, 1), (0.49, 1), (0.51, 3), (NEARLY_ONE, 3)])
def test_the_boundaries_of_the_distribution_function_fall_to_the_right_action(draw, action):
    logits = np.array([-np.inf, 0.0, -np.inf, 0.0, -np.inf], np.float32)
    assert sample_jit(logits, np.float32(draw)) == action


def world(kind):
    rng = np.random.default_rng(0)
    if kind == "tabular":
        env, level = small_grid()
        return env, level, *random_agent(rng, env, level, 3)
    env = CARTPOLE
    level = env.default_params.replace(max_steps_in_episode=9)
    return env, level, *random_agent(rng, env, level, 3, 0.5, network="mlp", hidden=(4,))


def walk(kind, env, level, params, worker, workers, keys, chunk):
    """One worker's steps in Python, a chunk for each key: yields what a rollout records of each."""
    state, observation = lane(workers.state, worker), workers.observation[worker]
    params = float64(params)
    for key in keys:
        env_key, action_key = jax.random.split(key)
        noise = vector_env.draw(env, env_key, level, chunk, W)
        step_keys = jax.random.split(env_key, (chunk, W))
        draws = jax.random.uniform(action_key, (chunk, W))
        for t in range(chunk):
            logits, _ = naive_networks.apply(kind, params, observation, 0)
            action = np.searchsorted(np.cumsum(softmax(logits)), float(draws[t, worker]), side="right")
            if vector_env.is_noise_driven(env):
                size = env.step_noise_size
                following, state, reward, terminated = step_from_jit(
                    env, noise[t, :size, worker], state, action, level
                )
                truncated = state.time >= level.max_steps_in_episode
                next_observation = following
                if terminated or truncated:
                    following, state = reset_from_jit(env, noise[t, size:, worker], level)
            else:
                following, state, reward, terminated, truncated, info = step_jit(
                    env, step_keys[t, worker], state, action, level
                )
                next_observation = info["final_observation"]
            yield observation, action, reward, terminated, truncated, next_observation, following
            observation = following


@pytest.mark.parametrize("kind", ["tabular", "mlp"])
def test_rollouts_record_what_a_loop_over_workers_and_steps_sees(kind):
    env, level, agent, params = world(kind)
    workers, key, steps = start_jit(env, jax.random.key(1), level, W), jax.random.key(2), 25
    after, rollout = collect_jit(agent, agent_of(params), env, level, workers, key, steps)
    for w in range(W):
        records = list(walk(kind, env, level, params, w, workers, [key], steps))
        columns = [np.stack(column) for column in zip(*records, strict=True)]
        for name, column in zip(
            ["observation", "action", "reward", "terminated", "truncated", "next_observation"],
            columns,
            strict=False,
        ):
            np.testing.assert_allclose(getattr(rollout, name)[:, w], column, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(rollout.last_observation[w], records[-1][-1], rtol=1e-5, atol=1e-6)
    assert np.array_equal(after.observation, rollout.last_observation)
    assert np.array_equal(rollout.done, rollout.terminated | rollout.truncated)
    assert np.any(rollout.terminated)
    assert np.any(rollout.truncated)


def test_rollouts_go_on_where_the_last_one_stopped():
    env, level, agent, params = world("tabular")
    workers = start_jit(env, jax.random.key(1), level, W)
    after, first = collect_jit(agent, agent_of(params), env, level, workers, jax.random.key(2), 25)
    _, second = collect_jit(agent, agent_of(params), env, level, after, jax.random.key(3), 25)
    assert np.array_equal(first.last_observation, second.observation[0])
    assert not np.array_equal(first.action, second.action)


# Below, at and above a chunk of 5 steps, and no multiple of it.
@pytest.mark.parametrize("limit", [1, 4, 5, 6, 13])
def test_returns_are_those_of_the_first_episode_of_each_worker(limit):
    env, level, agent, params = world("tabular")
    level = level.replace(max_steps_in_episode=jnp.int32(limit))
    key, chunk = jax.random.key(limit), 5
    found = returns_jit(agent, agent_of(params), env, level, key, W, chunk).returns
    start_key, run_key = jax.random.split(key)
    workers = start_jit(env, start_key, level, W)
    keys = [jax.random.fold_in(run_key, i) for i in range(4)]
    for w in range(W):
        total = 0.0
        for _, _, reward, terminated, truncated, *_ in walk(
            "tabular", env, level, params, w, workers, keys, chunk
        ):
            total += float(reward)
            if terminated or truncated:
                break
        assert found[w] == pytest.approx(total, abs=1e-5)


def test_returns_do_not_count_the_episodes_after_the_first():
    # One object that always comes back under an agent that stays: a reward every step from the second.
    env, level = small_grid(
        object_rewards=[1.0, 0.0], end_probs=[0.0, 0.0], respawn_probs=[1.0, 1.0], max_steps_in_episode=8
    )
    level = level.replace(start=level.object_cells[0])
    agent, params = random_agent(np.random.default_rng(0), env, level, 3)
    stay = jax.tree.map(np.zeros_like, params)
    stay["policy"]["rows"][:, 4] = 1e4
    for chunk in (1, 3, 8, 20):
        returns = returns_jit(agent, agent_of(stay), env, level, jax.random.key(0), W, chunk).returns
        assert returns.tolist() == [4.0] * W


def test_workers_of_a_lane_act_and_start_differently():
    env, level, agent, params = world("mlp")
    workers = start_jit(env, jax.random.key(1), level, W)
    assert np.unique(workers.observation, axis=0).shape[0] == W
    _, rollout = collect_jit(agent, agent_of(params), env, level, workers, jax.random.key(2), 25)
    assert np.unique(rollout.action, axis=1).shape[1] == W


def test_default_settings_are_the_papers_64_workers_and_20_steps():
    assert (AgentConfig().workers, AgentConfig().rollout_steps) == (64, 20)


@pytest.mark.slow
def test_what_the_agent_said_is_what_it_would_say_again():
    env, level, agent, params = world("mlp")
    state = agent_of(params)

    def rollout_and_answers(horizon, key):
        mine = level.replace(max_steps_in_episode=horizon)
        workers = start(env, key, mine, W)
        _, rollout = collect(agent, state, env, mine, workers, key, 25, keep_outputs=True)
        asked = [agent.outputs_of(state, x) for x in (rollout.observation, rollout.next_observation)]
        return rollout, asked

    # Limits of their own, so that some lanes need a value at a step where others do not.
    horizons, keys = jnp.array([3, 7, 1000]), jax.random.split(jax.random.key(0), 3)
    block = jax.jit(jax.vmap(rollout_and_answers))(horizons, keys)
    for i in range(3):
        alone = jax.jit(rollout_and_answers)(horizons[i], keys[i])
        for rollout, (outputs, following) in (alone, lane(block, i)):
            for name in ("parameters", "head"):
                found, expected = (getattr(x, name) for x in (rollout.behaviour.outputs, outputs))
                np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
            cut = np.asarray(rollout.truncated)
            np.testing.assert_allclose(
                rollout.behaviour.cut_off[cut], following.head[cut], rtol=1e-5, atol=1e-6
            )
            assert cut.any() == (i < 2)
