"""Lifetimes under true and wrong progress against `discovery.train`, and each other."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from scipy.stats import trim_mean

from rl_discovery import checkpoints
from rl_discovery.discovery.learning.lifetime import UPDATES
from rl_discovery.discovery.objectives.registry import make_objective
from rl_discovery.discovery.sharding import make_mesh
from rl_discovery.discovery.types import Progress
from rl_discovery.envs.suites import suite
from rl_discovery.evaluation.analysis.lifetimes import TRACES, Setting, analyse_lifetimes, trainer
from rl_discovery.evaluation.analysis.rollout_samples import PER_UPDATE, sample_rollouts
from rl_discovery.evaluation.analysis.views import MistimedObjective, views
from rl_discovery.evaluation.lanes import lane_keys

N = 6


@functools.cache
def setting(workers=4):
    levels = dataclasses.replace(suite("small"), levels_per_environment=2)
    return Setting(levels, N, 3, make_mesh(1), workers)


@functools.cache
def found(name):
    objective = checkpoints.load_objective(name)
    train = trainer(objective, setting())
    return {view: train(told) for view, told in views(N).items()}


def test_views_tell_what_they_say():
    told = views(8)
    np.testing.assert_array_equal(told["plain"], np.arange(8))
    np.testing.assert_array_equal(told["fixed at 0"] / 8, 0)
    np.testing.assert_array_equal(told["fixed at 0.5"] / 8, 0.5)
    assert sorted(told["shuffled"]) == list(range(8))
    assert list(told["shuffled"]) != list(range(8))
    np.testing.assert_array_equal(told["shuffled"], views(8)["shuffled"])
    misled = MistimedObjective(make_objective("ppo"), told["fixed at 0.5"]).mistimed(
        Progress(np.int32(3), np.int32(8))
    )
    assert (float(misled.fraction), int(misled.horizon)) == (0.5, 8)


@pytest.mark.slow
def test_who_does_not_see_the_progress_cannot_be_misled():
    plain, *others = found("lpo").values()
    for other in others:
        for trace in (*TRACES, "return"):
            np.testing.assert_array_equal(plain[trace], other[trace])


@pytest.mark.slow
def test_who_sees_it_can():
    plain, *others = found("ta-lpo").values()
    for other in others:
        # The same agents, and the same first update unless another n is told.
        assert not np.array_equal(plain["update_size"], other["update_size"])
    first = found("ta-lpo")["fixed at 0"]["update_size"][..., 0]
    np.testing.assert_array_equal(plain["update_size"][..., 0], first)


def test_told_the_truth_agents_are_those_of_the_inner_loop():
    objective = checkpoints.load_objective("ta-lpo")
    learner = setting().learner(objective)
    level = jax.tree.map(lambda leaf: leaf[1], setting().task.levels)
    key = lane_keys(range(3), 2)[3]  # seed 1, level 1

    @jax.jit
    def lifetime(key, level):
        def update(train_state, n):
            progress = Progress(done=n, horizon=np.int32(N))
            train_state, metrics = learner.update(objective.meta_params, level, key, progress, train_state)
            return train_state, metrics["reward_per_step"]

        return jax.lax.scan(update, learner.begin(key, level), np.arange(N))[1]

    expected = lifetime(key, level)
    found_ = found("ta-lpo")["plain"]["reward_per_step"][1, 1]
    np.testing.assert_allclose(found_, expected, rtol=1e-4, atol=1e-5)


def test_traces_are_what_they_are_called():
    traces = found("ta-lpo")["plain"]
    assert traces["policy_entropy"].shape == (3, 2, N)
    # Tables of zeros: a uniform policy over five actions.
    np.testing.assert_allclose(found("random")["plain"]["policy_entropy"], np.log(5), rtol=1e-5)
    assert not np.any(found("random")["plain"]["update_size"])
    assert not np.any(found("random")["plain"]["prediction_spread"])
    assert np.all(traces["update_size"] > 0)
    assert np.all(traces["policy_entropy"] < np.log(5) + 1e-5)


def test_an_agent_whose_parameters_are_not_finite_has_no_return():
    objective = checkpoints.load_objective("lpo")
    leaves, tree = jax.tree.flatten(objective.meta_params)
    broken = dataclasses.replace(
        objective, meta_params=jax.tree.unflatten(tree, [np.full_like(leaf, np.nan) for leaf in leaves])
    )
    assert np.isnan(trainer(broken, setting())(views(N)["plain"])["return"]).all()
    assert np.isfinite(found("lpo")["plain"]["return"]).all()


@pytest.fixture
def trained(monkeypatch):
    """The agents of `found` in place of new ones."""

    def of(objective, _):
        by_order = {tuple(told): found(objective.name)[view] for view, told in views(N).items()}
        return lambda told: by_order[tuple(told)]

    monkeypatch.setattr("rl_discovery.evaluation.analysis.lifetimes.trainer", of)


def test_the_record_compares_agent_by_agent(trained):
    record = analyse_lifetimes(checkpoints.load_objective("ta-lpo"), setting())
    assert [view.view for view in record.views] == list(views(N))
    assert record.views[0].difference is None
    task = setting().task
    of = {name: task.scores(x["return"]) for name, x in found("ta-lpo").items()}
    for view in record.views:
        np.testing.assert_allclose(view.scores, of[view.view].mean(axis=1), rtol=1e-4)
        assert len(view.policy_entropy.mean) == N
    for view in record.views[1:]:
        expected = trim_mean(of[view.view] - of["plain"], 0.25, axis=None)
        np.testing.assert_allclose(view.difference.mean, expected, rtol=1e-4, atol=1e-6)
        assert view.difference.low <= view.difference.mean <= view.difference.high


def test_a_blind_objective_has_no_ablation(trained):
    record = analyse_lifetimes(checkpoints.load_objective("lpo"), setting())
    assert [view.view for view in record.views] == ["plain"]


def test_what_agents_meet_comes_from_every_update():
    met = sample_rollouts(checkpoints.load_objective("lpo"), setting())
    assert len(met.share) == 2 * N * PER_UPDATE
    assert set(met.agent) == {0, 1}
    np.testing.assert_allclose(sorted(set(met.share)), np.arange(N) / N)
    assert np.ptp(met.log_ratio) > 0.05


@pytest.mark.slow
def test_what_agents_meet_is_of_their_own_rollouts():
    objective = checkpoints.load_objective("lpo")
    met, learner = sample_rollouts(objective, setting()), setting().learner(objective)
    level = jax.tree.map(lambda leaf: leaf[1], setting().task.levels)
    key = lane_keys(range(1), 2)[1]

    @jax.jit
    def first_update(key, level):
        train_state = learner.begin(key, level)
        progress = Progress(done=np.int32(0), horizon=np.int32(N))
        new, _ = learner.update(objective.meta_params, level, key, progress, train_state)
        update_key = jax.random.fold_in(jax.random.fold_in(key, UPDATES), 0)
        _, rollout = learner.collect(level, update_key, train_state)
        before, after = (
            learner.agent.apply(x.agent.params, rollout.observation).log_prob(rollout.action)
            for x in (train_state, new)
        )
        return after - before

    every = np.ravel(first_update(key, level))
    mine = met.log_ratio[(met.agent == 1) & (met.share == 0)]
    assert len(mine) == PER_UPDATE
    assert np.abs(every[:, None] - mine).min(axis=0).max() < 1e-4
    assert np.ptp(mine) > 0
