"""Blocks of lanes: each trains as if alone, to its own horizon, with the random numbers of its key."""

import dataclasses

import jax
import numpy as np
import pytest

from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.discovery.learning.build import make_learner
from rl_discovery.discovery.learning.lifetime import evaluate_block, train_block
from rl_discovery.discovery.objectives.a2c import A2C
from rl_discovery.discovery.objectives.lpg import LPG
from rl_discovery.discovery.objectives.random import Random
from rl_discovery.discovery.types import Progress
from tests.discovery.experience import (
    assert_same,
    is_same,
    lane,
    progress,
    randomised,
    small_grid,
    stack,
)

CONFIG = AgentConfig(workers=4, rollout_steps=3)
ENV, LEVEL = small_grid()
_, LATE = small_grid(object_rewards=[-1.0, 0.8], max_steps_in_episode=11)
RULE = LPG(bins=4, width=8)
LEARNER = make_learner(ENV, LEVEL, CONFIG, RULE)
train_jit = jax.jit(train_block, static_argnums=0)
evaluate_jit = jax.jit(evaluate_block, static_argnums=0)


def fitness_of(learner, train_states, levels, keys):
    return jax.device_get(evaluate_jit(learner, train_states, levels, keys))


def key(seed):
    return jax.random.key(seed)


def keys(*seeds):
    return jax.numpy.stack([key(seed) for seed in seeds])


def candidate(seed):
    shapes = jax.eval_shape(RULE.init, key(0))
    return jax.device_get(randomised(np.random.default_rng(seed), shapes, 0.5))


def horizons(*numbers):
    return np.array(numbers, np.int32)


def initial_agent(seed, level=LEVEL, learner=LEARNER):
    return jax.device_get(jax.jit(learner.begin)(key(seed), level).agent)


def assert_close(one, other):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4), *jax.device_get((one, other))
    )


@pytest.mark.slow
def test_lanes_of_a_block_end_as_they_do_alone():
    theta = stack(candidate(0), candidate(1), candidate(2))
    levels, ends, seeds = stack(LEVEL, LATE, LEVEL), horizons(6, 1, 3), keys(0, 1, 2)
    block = train_jit(LEARNER, theta, levels, ends, seeds)
    fitness = fitness_of(LEARNER, block, levels, seeds)
    for i in range(3):
        alone = [lane(tree, slice(i, i + 1)) for tree in (theta, levels, ends, seeds)]
        train_state = train_jit(LEARNER, *alone)
        assert_close(lane(block.agent, i), lane(train_state.agent, 0))
        assert fitness_of(LEARNER, train_state, alone[1], alone[3])[0] == pytest.approx(fitness[i], abs=1e-5)
        assert not is_same(lane(train_state.agent, 0), initial_agent(i))


def test_a_lifetime_is_its_updates_one_after_the_other():
    theta, level, N = candidate(0), LEVEL, 4
    train_state = jax.jit(LEARNER.begin)(key(0), level)
    update = jax.jit(LEARNER.update)
    for n in range(N):
        train_state, _ = update(theta, level, key(0), progress(n, N), train_state)
    block = train_jit(LEARNER, stack(theta), stack(level), horizons(N), keys(0))
    assert_close(lane(block.agent, 0), train_state.agent)
    fitness = float(jax.jit(LEARNER.evaluate)(level, key(0), train_state))
    assert fitness_of(LEARNER, block, stack(level), keys(0))[0] == pytest.approx(fitness, abs=1e-5)


def test_metrics_of_the_last_update_are_kept_where_they_are_asked_for_and_change_no_agent():
    learner = dataclasses.replace(LEARNER, keeps_metrics=True)
    operands = stack(candidate(0), candidate(1), candidate(2)), stack(LEVEL, LATE, LEVEL)
    kept = train_jit(learner, *operands, horizons(4, 2, 0), keys(0, 1, 2))
    assert_same(kept.agent, train_jit(LEARNER, *operands, horizons(4, 2, 0), keys(0, 1, 2)).agent)
    before = jax.jit(LEARNER.begin)(key(1), LATE)
    for n in range(2):
        before, metrics = jax.jit(LEARNER.update)(candidate(1), LATE, key(1), progress(n, 2), before)
    assert set(metrics) >= {"policy_loss", "prediction_loss", "entropy", "gradient_norm", "reward_per_step"}
    assert_close(lane(kept.metrics, 1), metrics)
    assert all(np.isnan(values[2]) for values in kept.metrics.values()), "there was no update"


def test_a_lane_past_its_horizon_keeps_its_agent_exactly():
    theta, levels = stack(candidate(0), candidate(1)), stack(LEVEL, LATE)
    short, long = (train_jit(LEARNER, theta, levels, horizons(2, N), keys(0, 1)).agent for N in (2, 9))
    assert_same(lane(short, 0), lane(long, 0))
    assert not is_same(lane(short, 1), lane(long, 1))


def test_a_horizon_of_zero_leaves_the_initial_agent():
    block = train_jit(
        LEARNER, stack(candidate(0), candidate(0)), stack(LEVEL, LEVEL), horizons(0, 0), keys(7, 8)
    )
    for i, seed in enumerate((7, 8)):
        assert_same(lane(block.agent, i), initial_agent(seed))


def test_equal_candidates_on_the_same_level_and_key_are_equal():
    theta, levels = stack(candidate(0), candidate(0)), stack(LEVEL, LEVEL)
    block = train_jit(LEARNER, theta, levels, horizons(5, 5), keys(3, 3))
    fitness = fitness_of(LEARNER, block, levels, keys(3, 3))
    assert_close(lane(block.agent, 0), lane(block.agent, 1))
    assert fitness[0] == pytest.approx(fitness[1], abs=1e-5)


def test_candidates_of_a_pair_share_the_first_rollout_and_differ_afterwards():
    theta, levels = stack(candidate(0), candidate(1)), stack(LEVEL, LEVEL)
    block = train_jit(LEARNER, theta, levels, horizons(1, 1), keys(3, 3))
    assert_same(lane(block.workers, 0), lane(block.workers, 1))
    assert not is_same(lane(block.agent.params, 0), lane(block.agent.params, 1))


def test_another_key_is_another_lifetime():
    theta, levels = stack(candidate(0), candidate(0)), stack(LEVEL, LEVEL)
    block = train_jit(LEARNER, theta, levels, horizons(1, 1), keys(3, 4))
    assert not is_same(lane(block.workers, 0), lane(block.workers, 1))


def test_no_random_number_is_used_twice_in_a_lifetime():
    # Workers that have not moved yet, in consecutive updates and in the evaluation.
    update = jax.jit(LEARNER.update)
    train_state = jax.jit(LEARNER.begin)(key(0), LEVEL)
    after = [update(candidate(0), LEVEL, key(0), progress(n, 9), train_state)[0].workers for n in (0, 1)]
    assert not is_same(*after)


def test_every_update_hears_how_far_the_lifetime_is(monkeypatch):
    heard = []

    class Listening(Random):
        def targets(self, meta_params, experience, progress):
            assert isinstance(progress, Progress)
            jax.debug.callback(lambda n, N: heard.append((int(n), int(N))), progress.done, progress.horizon)

    learner = make_learner(ENV, LEVEL, CONFIG, Listening())
    jax.block_until_ready(
        jax.jit(train_block, static_argnums=0)(learner, {}, stack(LEVEL), horizons(3), keys(0))
    )
    jax.effects_barrier()
    assert sorted(heard) == [(0, 3), (1, 3), (2, 3)]


def test_the_random_objective_never_changes_its_agent():
    learner = make_learner(ENV, LEVEL, CONFIG, Random())
    block = train_jit(learner, {}, stack(LEVEL, LATE), horizons(4, 2), keys(0, 1))
    for i, level in enumerate((LEVEL, LATE)):
        assert_same(lane(block.agent.params, i), initial_agent(i, level, learner).params)


def test_the_learner_takes_the_width_of_the_second_head_from_the_objective():
    for rule, size in ((LPG(bins=4), 4), (LPG(bins=30), 30), (A2C(), 1)):
        learner = make_learner(ENV, LEVEL, CONFIG, rule)
        params = jax.eval_shape(learner.begin, key(0), LEVEL).agent.params
        assert params["head"]["rows"].shape == (36, size)
        assert params["policy"]["rows"].shape == (36, 5)


def summing(config):
    """A learner with A2C that sums up its rewards."""
    return dataclasses.replace(make_learner(ENV, LEVEL, config, A2C()), sums_rewards=True)


@pytest.mark.slow
@pytest.mark.parametrize("loop", [{}, {"epochs": 2, "minibatches": 2, "anneal": True}])
def test_varied_agents_are_those_of_levels_with_other_rewards_and_of_other_step_sizes(loop):
    config = dataclasses.replace(CONFIG, policy_learning_rate=2.0, head_learning_rate=0.5, **loop)
    varied = summing(dataclasses.replace(config, reward_range=10.0, step_range=4.0))
    lanes = keys(0, 1, 2, 3)
    found = jax.device_get(train_jit(varied, {}, stack(*[LEVEL] * 4), horizons(5, 5, 5, 5), lanes))
    reward, step = found.variation.reward, found.variation.step
    assert len(set(reward)) == len(set(step)) == 4
    assert (abs(np.log(reward)) <= np.log(10)).all()
    assert (abs(np.log(step)) <= np.log(4)).all()
    for number in range(4):
        settings = dataclasses.replace(
            config,
            policy_learning_rate=2.0 * float(step[number]),
            head_learning_rate=0.5 * float(step[number]),
        )
        level = LEVEL.replace(object_rewards=reward[number] * LEVEL.object_rewards)
        alone = train_jit(summing(settings), {}, stack(level), horizons(5), lanes[number : number + 1])
        assert_close(lane(alone.agent, 0), lane(found.agent, number))
        # What an agent is judged by is not varied.
        np.testing.assert_allclose(alone.reward_sum[0], reward[number] * found.reward_sum[number], rtol=1e-4)
