"""The meta-gradient against finite differences, and lanes against one agent at a time."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.discovery.learning.build import make_learner
from rl_discovery.discovery.learning.lifetime import UPDATES
from rl_discovery.discovery.objectives.lpg import LPG
from rl_discovery.discovery.sharding import make_mesh
from rl_discovery.discovery.types import Progress
from rl_discovery.envs.levels import Level
from rl_discovery.meta.config import MetaGradientConfig
from rl_discovery.meta.curriculum import SCORES
from rl_discovery.meta.curriculum.base import not_replayed
from rl_discovery.meta.population import LivingLanes, chunks, meta_loss, usable_devices
from tests.discovery.experience import randomised, small_grid

# Weights large enough that each of the four regularisers shows in the gradient.
WEIGHTS = {
    "policy_entropy_coef": 0.3,
    "prediction_entropy_coef": 0.2,
    "pihat_coef": 0.4,
    "yhat_coef": 0.5,
}
CONFIG = MetaGradientConfig(lanes=4, updates=3, **WEIGHTS)
AGENT = AgentConfig(policy_learning_rate=3.0, head_learning_rate=2.0, workers=3, rollout_steps=4)
LANES = 4


def learner_of(agent=AGENT, **settings):
    env, level = small_grid()
    objective = LPG(bins=3, width=4, embedding_width=2, **settings)
    return make_learner(env, level, agent, objective, critic=True), level


def problem(seed, agent=AGENT, **settings):
    """A learner, random meta-parameters and an agent that has learned a little already."""
    learner, level = learner_of(agent, **settings)
    rng = np.random.default_rng(seed)
    key = jax.random.key(seed)
    meta_params = randomised(rng, jax.eval_shape(learner.objective.init, key), 0.7)
    train_state = learner.begin(key, level)
    agent = train_state.agent.replace(
        params=jax.tree.map(jnp.asarray, randomised(rng, train_state.agent.params, 0.5))
    )
    return learner, level, meta_params, dataclasses.replace(train_state, agent=agent), key


@pytest.mark.parametrize(
    ("n", "loop", "settings"),
    [
        (0, {}, {}),
        (9, {}, {}),
        pytest.param(
            *(0, {"epochs": 2, "minibatches": 2, "policy_learning_rate": 1.0}),
            {"form": "a2c_residual", "schedule": True},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["in mid-life", "over its end", "residual form in PPO's loop"],  # with N = 11 and K = 3
)
def test_the_meta_gradient_is_that_of_central_finite_differences(n, loop, settings):
    with jax.enable_x64(True):
        learner, level, meta_params, train_state, key = problem(
            1, dataclasses.replace(AGENT, **loop), **settings
        )
        wide = functools.partial(
            jax.tree.map,
            lambda x: jnp.asarray(x, jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x,
        )
        train_state, progress = wide(train_state), Progress(done=jnp.int32(n), horizon=jnp.int32(11))
        flat, unravel = ravel_pytree(wide(meta_params))
        assert flat.dtype == jnp.float64

        def loss(flat):
            return meta_loss(learner, CONFIG, unravel(flat), level, key, progress, train_state)[0]

        gradient = np.asarray(jax.jit(jax.grad(loss))(flat))
        step = 1e-6
        moves = step * jnp.eye(flat.size, dtype=jnp.float64)
        values = jax.jit(jax.vmap(loss))(jnp.concatenate([flat + moves, flat - moves]))
        expected = np.asarray(values[: flat.size] - values[flat.size :]) / (2 * step)
    assert gradient.dtype == np.float64
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-8)
    assert np.mean(np.abs(expected) > 1e-5) > 0.5, "ReLUs may sleep, but most meta-parameters matter"


@pytest.mark.slow
@pytest.mark.parametrize("name", WEIGHTS)
def test_each_regulariser_has_its_sign_and_weight(name):
    learner, level, meta_params, train_state, key = problem(2)
    progress = Progress(done=jnp.int32(0), horizon=jnp.int32(11))
    loss = jax.jit(meta_loss, static_argnums=(0, 1))
    both = [
        loss(
            learner,
            dataclasses.replace(CONFIG, **{name: weight}),
            meta_params,
            level,
            key,
            progress,
            train_state,
        )
        for weight in (0.0, 1.0)
    ]
    terms = both[1][1][1]
    term = {
        "policy_entropy_coef": -terms.policy_entropy,
        "prediction_entropy_coef": -terms.prediction_entropy,
        "pihat_coef": terms.pihat_square,
        "yhat_coef": terms.yhat_square,
    }[name]
    assert both[1][0] - both[0][0] == pytest.approx(float(term), rel=1e-4)
    assert abs(term) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("horizon_inputs", [False, True])
def test_the_meta_gradient_depends_on_n_only_with_horizon_inputs(horizon_inputs):
    learner, level, meta_params, train_state, key = problem(3, horizon_inputs=horizon_inputs)
    gradient = jax.jit(jax.grad(meta_loss, argnums=2, has_aux=True), static_argnums=(0, 1))
    early, late = (
        ravel_pytree(
            gradient(
                learner, CONFIG, meta_params, level, key, Progress(jnp.int32(n), jnp.int32(100)), train_state
            )[0]
        )[0]
        for n in (0, 60)
    )
    assert np.array_equal(early, late) == (not horizon_inputs)


@pytest.mark.slow
def test_the_critic_takes_a_step_with_every_update():
    # In the official code the critic's gradient is zero in this trainer.
    learner, level, meta_params, train_state, key = problem(4)
    progress = Progress(done=jnp.int32(0), horizon=jnp.int32(2))
    new = jax.jit(meta_loss, static_argnums=(0, 1))(
        learner, CONFIG, meta_params, level, key, progress, train_state
    )[1][0]
    collect, step, update = map(jax.jit, (learner.collect, learner.critic.step, learner.update_with))
    for n in range(2):  # of K = 3 updates, the last of which comes after the end of the lifetime
        update_key = jax.random.fold_in(jax.random.fold_in(key, UPDATES), n)
        _, rollout = collect(level, update_key, train_state)
        expected = step(train_state.critic, rollout)
        assert np.abs(expected.params["rows"] - train_state.critic.params["rows"]).max() > 1e-3
        train_state, _ = update(
            meta_params, level, update_key, Progress(jnp.int32(n), jnp.int32(2)), train_state
        )
        np.testing.assert_allclose(train_state.critic.params["rows"], expected.params["rows"], atol=1e-6)
    np.testing.assert_allclose(new.critic.params["rows"], expected.params["rows"], atol=1e-6)


def lanes_of(block_size, devices=1, **changes):
    learner, level = learner_of()
    config = dataclasses.replace(CONFIG, **changes)
    return LivingLanes(learner, SCORES["random"], config, block_size, make_mesh(devices)), level


def population_of(lanes, level, horizons):
    levels = Level(
        params=jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (LANES, *leaf.shape)), level),
        horizon=jnp.array(horizons, jnp.int32),
    )
    population = lanes.init(not_replayed(levels, LANES))
    return dataclasses.replace(population, done=levels.horizon)  # all idle: every life begins


@pytest.fixture(scope="module")
def stepped():
    """Two meta-steps of four lanes in blocks of 2 and 4, horizons of their own."""
    found = {}
    for block_size in (2, 4):
        lanes, level = lanes_of(block_size)
        population = population_of(lanes, level, [3, 9, 5, 4])
        rng = np.random.default_rng(5)
        objective = lanes.learner.objective
        meta_params = randomised(rng, jax.eval_shape(objective.init, jax.random.key(0)), 0.7)
        advance = jax.jit(lanes.advance)
        steps = []
        for number in range(2):
            keys = (jax.random.key(10 + number), jax.random.key(20 + number))
            gradient, advanced = advance(meta_params, population, *keys)
            steps.append((gradient, advanced))
            population = dataclasses.replace(population, lives=advanced.train_states, done=advanced.done)
        found[block_size] = jax.device_get(steps)
    return found, lanes, level, meta_params


@pytest.mark.slow
def test_a_meta_step_in_blocks_is_the_one_of_all_lanes_at_once(stepped):
    whole, blocks = stepped[0][4], stepped[0][2]
    for (gradient, advanced), (expected, same) in zip(blocks, whole, strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=2e-4, atol=1e-6)
        assert np.abs(expected).max() > 1e-3
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=1e-5), advanced, same)


@pytest.mark.slow
def test_lanes_end_at_their_own_horizon_and_begin_anew(stepped):
    (_, first), (_, second) = stepped[0][2]
    # N = 3, 9, 5, 4 and K = 3: lane 0 ends with the first step, 2 and 3 in the middle of the second.
    assert first.done.tolist() == [3, 3, 3, 3]
    assert first.finished.tolist() == [True, False, False, False]
    assert first.updates.tolist() == [4, 4, 4, 4]
    assert second.done.tolist() == [3, 6, 5, 4]
    assert second.finished.tolist() == [True, False, True, True]
    assert second.updates.tolist() == [4, 4, 3, 2]
    assert first.results.fitness[0] != second.results.fitness[0], "the same life again"


def test_a_lane_is_one_agent_that_learns_alone(stepped):
    steps, lanes, level, meta_params = stepped
    learner, lane = lanes.learner, 1
    begin_key, lane_key = (jax.random.fold_in(jax.random.key(seed), lane) for seed in (10, 20))
    train_state = jax.jit(learner.begin)(begin_key, level)
    total = None
    gradient = jax.jit(jax.grad(meta_loss, argnums=2, has_aux=True), static_argnums=(0, 1))
    for number in range(2):
        lane_key = jax.random.fold_in(jax.random.key(20 + number), lane)
        progress = Progress(done=jnp.int32(3 * number), horizon=jnp.int32(9))
        total, (train_state, terms) = gradient(
            learner, CONFIG, meta_params, level, lane_key, progress, train_state
        )
        advanced = steps[2][number][1]
        mine = jax.tree.map(lambda leaf: leaf[lane], (advanced.train_states.agent.params, advanced.terms))
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=1e-5),
            mine,
            (train_state.agent.params, terms),
        )
    assert np.abs(ravel_pytree(total)[0]).max() > 0


@pytest.mark.slow
def test_a_lane_without_a_finite_gradient_is_left_out_and_replaced():
    lanes, level = lanes_of(2)
    population = population_of(lanes, level, [9, 9, 9, 9])
    levels = population.served.levels
    rewards = levels.params.object_rewards.at[1].set(jnp.nan)
    broken = dataclasses.replace(levels, params=levels.params.replace(object_rewards=rewards))
    broken = dataclasses.replace(population, served=population.served.replace(levels=broken))
    meta_params = jax.jit(lanes.learner.objective.init)(jax.random.key(0))
    advance = jax.jit(lanes.advance)
    for number in range(3):
        gradient, advanced = advance(meta_params, broken, jax.random.key(1), jax.random.key(2 + number))
        broken = dataclasses.replace(broken, lives=advanced.train_states, done=advanced.done)
        if not advanced.sound.all():
            break
    assert advanced.sound.tolist() == [True, False, True, True]
    assert advanced.finished.tolist() == [False, True, False, False]
    assert not np.isfinite(advanced.results.fitness[1])
    assert np.isfinite(gradient).all()


def test_chunks_can_be_dealt_evenly():
    assert chunks(512, 8) == 64
    assert chunks(512, 1) == 64
    assert chunks(12, 2) == 6
    assert chunks(7 * 13, 1) == 13
    assert [usable_devices(6, d) for d in (1, 2, 4, 5, 8)] == [1, 2, 3, 3, 6]
    with pytest.raises(ValueError, match=r"block_size \(3\) must divide meta_gradient.lanes \(8\)"):
        chunks(8, 3)
