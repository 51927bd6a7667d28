"""`discovery.train`: agents and histories, seeds, and what is refused."""

import gymnax
import jax
import numpy as np
import pytest

import discovery
from discovery import AgentConfig, TrainedObjective
from discovery.objectives.lpg import LPG
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


def check_history(history, updates, horizon, metrics, workers=4, steps=3):
    assert set(history) == {"update", "env_steps", "return", "reward_per_step", *metrics}
    assert history["update"].tolist() == updates
    assert history["env_steps"].tolist() == [n * workers * steps for n in updates]
    assert history["return"].shape == (len(updates),)
    for name in ("reward_per_step", *metrics):
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
