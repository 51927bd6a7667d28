"""`discovery.train`: agents and histories, seeds, and what is refused."""

import contextlib
import dataclasses

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments.classic_control.cartpole import CartPole
from gymnax.environments.classic_control.pendulum import Pendulum

from rl_discovery import discovery
from rl_discovery.discovery import AgentConfig, TrainedObjective
from rl_discovery.discovery.learning import rollout
from rl_discovery.discovery.learning.build import make_learner
from rl_discovery.discovery.learning.lifetime import evaluate_block
from rl_discovery.discovery.objectives.lpg import LPG
from rl_discovery.discovery.objectives.registry import make_objective
from tests.discovery.experience import (
    CARTPOLE,
    assert_same,
    is_same,
    randomised,
    small_grid,
)

GRID_CONFIG = AgentConfig(workers=4, rollout_steps=3)
CARTPOLE_CONFIG = AgentConfig(network="mlp", hidden=(4,), optimiser="adam", workers=4, rollout_steps=3)
LEVEL_OF_CARTPOLE = CARTPOLE.default_params.replace(max_steps_in_episode=40)


def a_learned_objective(seed=0):
    rule = LPG(bins=4, width=8)
    shapes = jax.eval_shape(rule.init, jax.random.key(0))
    return TrainedObjective(rule, randomised(np.random.default_rng(seed), shapes, 0.5))


COMMON = {"reward_per_step", "entropy", "gradient_norm"}
"""Metrics that every rule has."""


def check_history(history, updates, horizon, metrics, workers=4, steps=3):
    assert set(history) == {"update", "env_steps", "return", *COMMON, *metrics}
    assert history["update"].tolist() == updates
    assert history["env_steps"].tolist() == [n * workers * steps for n in updates]
    assert history["return"].shape == (len(updates),)
    for name in (*COMMON, *metrics):
        assert history[name].shape == (horizon,)
    assert all(np.all(np.isfinite(values)) for values in history.values())


def test_a2c_on_a_gridworld():
    trained, history = discovery.train("a2c", *small_grid(), 7, config=GRID_CONFIG, evaluations=3)
    check_history(history, [2, 5, 7], 7, {"policy_loss", "entropy", "value_loss"})
    policy = trained.policy(np.arange(6, dtype=np.int32).reshape(2, 3))
    assert policy.shape == (2, 3, 5)
    np.testing.assert_allclose(policy.sum(-1), 1.0, rtol=1e-5)
    actions = trained.act(jax.random.key(0), np.zeros(4000, np.int32))
    shares = np.bincount(actions, minlength=5) / 4000
    np.testing.assert_allclose(shares, trained.policy(np.int32(0)), atol=0.04)


@pytest.mark.slow
def test_a2c_on_cartpole():
    trained, history = discovery.train(
        "a2c", CARTPOLE, LEVEL_OF_CARTPOLE, 3, config=CARTPOLE_CONFIG, evaluations=1
    )
    check_history(history, [3], 3, {"policy_loss", "entropy", "value_loss"})
    assert 5 < history["return"][0] <= 40
    assert trained.act(jax.random.key(0), np.zeros((6, 4), np.float32)).shape == (6,)


def test_a_learned_objective_and_its_seeds():
    objective, (env, level) = a_learned_objective(), small_grid()
    runs = [
        discovery.train(objective, env, level, 4, seed=seed, config=GRID_CONFIG, evaluations=9)
        for seed in (1, 1, 2)
    ]
    check_history(
        runs[0][1], [1, 2, 3, 4], 4, {"policy_loss", "prediction_loss", "pihat_square", "yhat_square"}
    )
    assert_same(runs[0][0].state.params, runs[1][0].state.params)
    assert_same(runs[0][1], runs[1][1])
    assert not is_same(runs[0][0].state.params, runs[2][0].state.params)


def test_when_the_return_is_measured_does_not_change_the_agent():
    objective, (env, level) = a_learned_objective(), small_grid()
    often, once = (
        discovery.train(objective, env, level, 4, config=GRID_CONFIG, evaluations=n) for n in (4, 1)
    )
    leaves = [jax.device_get(jax.tree.leaves(found.state.params)) for found, _ in (often, once)]
    for x, y in zip(*leaves, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4)
    assert often[1]["return"][-1] == pytest.approx(once[1]["return"][-1], abs=1e-5)


@pytest.mark.parametrize(("horizon", "evaluations"), [(0, 1), (-3, 1), (5, 0)])
def test_a_horizon_or_number_of_evaluations_below_one_is_refused(horizon, evaluations):
    with pytest.raises(ValueError, match=f"at least 1, not {horizon} and {evaluations}"):
        discovery.train("a2c", *small_grid(), horizon, evaluations=evaluations)


def test_a_learned_objective_without_its_meta_parameters_is_refused():
    with pytest.raises(ValueError, match=r"ta-lpg is a learned objective.*load_objective"):
        discovery.train("ta-lpg", *small_grid(), 5)


def test_unknown_names_and_continuous_actions_for_a_discrete_rule_are_refused():
    with pytest.raises(ValueError, match="did you mean 'a2c'"):
        discovery.train("a2", *small_grid(), 5)
    with pytest.raises(ValueError, match="lpg needs discrete actions, and those of Pendulum-v1 are"):
        discovery.train(a_learned_objective(), *gymnax.make("Pendulum-v1"), 5)


@pytest.mark.slow
def test_seeds_train_together_what_each_of_them_trains_alone():
    objective, (env, level) = a_learned_objective(), small_grid()
    settings = {"config": GRID_CONFIG, "evaluations": 2}
    trained, history = discovery.train(objective, env, level, 4, seeds=(2, 0, 5), **settings)
    assert history["update"].tolist() == [2, 4]
    assert history["env_steps"].shape == (2,)
    assert history["return"].shape == (3, 2)
    assert history["policy_loss"].shape == (3, 4)
    assert trained.seeds == (2, 0, 5)
    for i, seed in enumerate(trained.seeds):
        alone, of_seed = discovery.train(objective, env, level, 4, seed=seed, **settings)
        for name in of_seed:
            found = history[name] if name in ("update", "env_steps") else history[name][i]
            np.testing.assert_allclose(found, of_seed[name], rtol=1e-4, atol=1e-4)
        states = np.arange(6, dtype=np.int32)
        np.testing.assert_allclose(trained[i].policy(states), alone.policy(states), rtol=1e-3, atol=1e-4)
    assert trained.policy(states).shape == (3, 6, 5)
    assert trained.act(jax.random.key(0), states).shape == (3, 6)
    np.testing.assert_array_equal(trained.policy(states)[-1], trained[-1].policy(states))
    with pytest.raises(IndexError):
        trained[3]
    with pytest.raises(TypeError, match="single agent"):
        trained[0][0]


@pytest.mark.parametrize("more", [{"seeds": ()}, {"seed": 3, "seeds": range(2)}])
def test_no_seeds_or_both_ways_of_giving_them_are_refused(more):
    with pytest.raises(ValueError, match="give one seed, or at least one in seeds"):
        discovery.train("a2c", *small_grid(), 5, **more)


@contextlib.contextmanager
def compilations():
    """Durations of what XLA compiles meanwhile."""
    found = []

    def listen(event, seconds, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            found.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize("seeds", [1, 2])
def test_only_the_first_call_compiles(seeds):
    env, level = small_grid()
    config = dataclasses.replace(GRID_CONFIG, policy_learning_rate=1.0 + seeds)  # that nobody else has

    def train(objective, level, horizon, first_seed, evaluations):
        given = {"seed": first_seed} if seeds == 1 else {"seeds": range(first_seed, first_seed + seeds)}
        more = {"config": config, "evaluations": evaluations}
        discovery.train(objective, env, level, horizon, **given, **more)

    with compilations() as first:
        train(a_learned_objective(), level, 3, 0, 2)
    assert first
    with compilations() as again:
        train(a_learned_objective(), level, 3, 7, 2)
        train(a_learned_objective(), level, 11, 7, 4)
        train(a_learned_objective(), small_grid()[1], 3, 7, 1)
    assert not again


def test_a_rule_that_cannot_be_hashed_trains_all_the_same():
    rule = make_objective("a2c")
    notes = ("notes", list, dataclasses.field(default_factory=list))
    unhashable = dataclasses.make_dataclass("Mine", [notes], bases=(type(rule),), frozen=True)()
    with pytest.raises(TypeError):
        hash(unhashable)
    settings = {"config": GRID_CONFIG, "evaluations": 1}
    found, expected = (discovery.train(r, *small_grid(), 2, **settings)[1] for r in (unhashable, rule))
    assert_same(found, expected)


# ---- agents that cannot be measured


@pytest.mark.slow
def test_the_return_of_an_agent_that_is_not_finite_is_no_number():
    rule = LPG(bins=4, width=8)
    dead = jax.tree.map(lambda leaf: leaf * np.nan, rule.init(jax.random.key(0)))
    trained, history = discovery.train(
        TrainedObjective(rule, dead), CARTPOLE, LEVEL_OF_CARTPOLE, 3, config=CARTPOLE_CONFIG, evaluations=3
    )
    assert not trained.state.is_finite
    assert np.isnan(history["return"]).all()


@pytest.mark.parametrize("where", ["a parameter", "the statistics it looks through", "nowhere"])
def test_whatever_an_agent_acts_by_must_be_finite_for_it_to_be_measured(where):
    config = dataclasses.replace(CARTPOLE_CONFIG, scale_observations=True)
    learner = make_learner(CARTPOLE, LEVEL_OF_CARTPOLE, config, make_objective("a2c"))
    train_state = learner.begin(jax.random.key(0), LEVEL_OF_CARTPOLE)
    agent = train_state.agent
    if where == "a parameter":
        leaves, structure = jax.tree.flatten(agent.params)
        leaves[-1] = leaves[-1].at[0].set(jnp.inf)
        agent = dataclasses.replace(agent, params=jax.tree.unflatten(structure, leaves))
    elif where != "nowhere":
        broken = dataclasses.replace(agent.statistics.observations, mean=jnp.full(4, jnp.nan))
        agent = dataclasses.replace(
            agent, statistics=dataclasses.replace(agent.statistics, observations=broken)
        )
    train_states, levels = jax.tree.map(
        lambda leaf: jnp.asarray(leaf)[None],
        (dataclasses.replace(train_state, agent=agent), LEVEL_OF_CARTPOLE),
    )
    returns = evaluate_block(learner, train_states, levels, jax.random.split(jax.random.key(1), 1))
    assert np.isfinite(returns).all() == (where == "nowhere")


class Endless(CartPole):
    """A cart whose pole never falls."""

    def step_env(self, key, state, action, params):
        observation, _, reward, _, info = super().step_env(key, state, action, params)
        return observation, state, reward, jnp.array(False), info

    def is_truncated(self, state, params):
        return jnp.array(False)


@pytest.mark.slow
@pytest.mark.parametrize("env", [Endless(), Pendulum()], ids=["no end at all", "a far time limit"])
def test_episodes_that_do_not_end_are_given_up_with_a_message(env, monkeypatch):
    monkeypatch.setattr(rollout, "LONGEST_EPISODE", 40)
    level = env.default_params.replace(max_steps_in_episode=10**9)
    with pytest.raises(ValueError, match=r"did not end within \d+ steps: give the level a time limit"):
        discovery.train("a2c", env, level, 2, config=CARTPOLE_CONFIG, evaluations=1)
