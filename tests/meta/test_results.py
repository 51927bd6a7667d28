"""How lifetimes are judged: fitness, scores and best returns against numpy; groups of lanes to levels."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.discovery.learning import rollout as acting
from rl_discovery.discovery.learning.build import make_learner
from rl_discovery.discovery.learning.lifetime import EVALUATION, LAST_ROLLOUT
from rl_discovery.discovery.objectives.a2c import A2C
from rl_discovery.meta.curriculum import SCORES
from rl_discovery.meta.results import LaneResults, by_level, endless_share, evaluate_lane
from rl_discovery.meta.scale import Scale
from tests.discovery.experience import randomised, small_grid
from tests.discovery.objectives.test_gae import naive_advantages

# Episodes of up to 30 steps, in evaluations of 20 steps at a time, of which some end before.
ENV, LEVEL = small_grid(end_probs=[0.1, 0.3], max_steps_in_episode=30)
LEARNER = make_learner(ENV, LEVEL, AgentConfig(workers=4, rollout_steps=35), A2C(), critic=True)
KEY = jax.random.key(3)
REFERENCE = jnp.float32(1.5)
SCALE = Scale(optimal=jnp.float32(2.5), random=jnp.float32(0.5))
NAN, INF = float("nan"), float("inf")


@jax.jit
def judged(train_state, best_return):
    return {
        name: evaluate_lane(LEARNER, score, LEVEL, KEY, train_state, REFERENCE, best_return, scale=SCALE)
        for name, score in SCORES.items()
    }


@pytest.fixture(scope="module")
def train_state():
    """An agent and a critic with random parameters."""
    rng = np.random.default_rng(0)
    train_state = jax.jit(LEARNER.begin)(KEY, LEVEL)
    agent, critic = (
        part.replace(params=jax.tree.map(jnp.asarray, randomised(rng, part.params, 0.5)))
        for part in (train_state.agent, train_state.critic)
    )
    return dataclasses.replace(train_state, agent=agent, critic=critic)


@pytest.fixture(scope="module")
def results(train_state):
    return jax.device_get(judged(train_state, jnp.float32(-INF)))


def naive_episodes(train_state, discount):
    """Discounted return of the first episode of each worker, one step at a time."""
    start_key, run_key = jax.random.split(jax.random.fold_in(KEY, EVALUATION))
    workers = acting.start(ENV, start_key, LEVEL, 4)
    chunks = []
    collect = jax.jit(
        lambda workers, key: acting.collect(LEARNER.agent, train_state.agent, ENV, LEVEL, workers, key, 20)
    )
    for i in range(2):
        workers, rollout = collect(workers, jax.random.fold_in(run_key, i))
        chunks.append((np.asarray(rollout.reward), np.asarray(rollout.done)))
    reward, done = map(np.concatenate, zip(*chunks, strict=True))
    totals = []
    for w in range(4):
        length = int(np.argmax(done[:, w])) + 1
        assert done[length - 1, w]
        totals.append(sum(discount**t * reward[t, w] for t in range(length)))
    return np.array(totals)


@pytest.mark.slow
def test_fitness_is_the_mean_return_and_regret_the_reference_minus_it(train_state, results):
    fitness = naive_episodes(train_state, 1.0).mean()
    assert fitness != 0
    for name, found in results.items():
        assert found.fitness == pytest.approx(fitness, rel=1e-5), name
    assert results["algorithmic_regret"].score == pytest.approx(1.5 - fitness, rel=1e-5)
    assert results["optimality_gap"].score == pytest.approx((2.5 - fitness) / 2, rel=1e-5)


def test_the_best_return_is_discounted_with_the_critics_gamma_and_includes_earlier_plays(
    train_state, results
):
    discounted, plain = naive_episodes(train_state, 0.99), naive_episodes(train_state, 1.0)
    assert abs(discounted.max() - plain.max()) > 1e-3
    found = results["max_monte_carlo"].best_return
    assert found == pytest.approx(discounted.max(), rel=1e-5)
    for earlier, expected in ((found - 1, found), (found + 1, found + 1)):
        assert judged(train_state, jnp.float32(earlier))["max_monte_carlo"].best_return == pytest.approx(
            expected
        )


def test_value_scores_read_the_critics_view_of_one_more_rollout(train_state, results):
    _, rollout = jax.jit(LEARNER.collect)(LEVEL, jax.random.fold_in(KEY, LAST_ROLLOUT), train_state)
    rollout = jax.device_get(rollout)
    assert np.any(rollout.done)
    rows = np.asarray(train_state.critic.params["rows"][:, 0], np.float64)
    values = rows[rollout.observation]
    advantages = naive_advantages(rollout, values, rows[rollout.next_observation], 0.99, 0.95)
    best = naive_episodes(train_state, 0.99).max()
    expected = {
        "positive_value_loss": np.mean(np.maximum(advantages, 0)),
        "l1_value_loss": np.mean(np.abs(advantages)),
        "max_monte_carlo": np.mean(best - values),
    }
    for name, score in expected.items():
        assert results[name].score == pytest.approx(score, rel=1e-4), name


def test_an_agent_of_nans_has_neither_fitness_nor_score_though_it_acts(train_state):
    dead = train_state.agent.replace(
        params=jax.tree.map(lambda leaf: leaf.at[0].set(NAN), train_state.agent.params)
    )
    for name, found in judged(dataclasses.replace(train_state, agent=dead), jnp.float32(-INF)).items():
        assert np.isnan(found.fitness), name
        # Where nothing is scored the score is 0.
        assert np.isnan(found.score) == (SCORES[name].function is not None), name


def test_a_level_gets_the_means_of_its_finite_members_and_the_best_of_all():
    found = by_level(
        LaneResults(
            fitness=jnp.zeros((4, 2)),
            mean_return=jnp.array([[1.0, 3.0], [NAN, 4.0], [NAN, NAN], [INF, 2.0]]),
            score=jnp.array([[5.0, 6.0], [7.0, NAN], [NAN, NAN], [-INF, 1.0]]),
            best_return=jnp.array([[0.0, 1.0], [3.0, 2.0], [-INF, -INF], [-1.0, -2.0]]),
        )
    )
    np.testing.assert_array_equal(found.agent_return, [2.0, 4.0, NAN, 2.0])
    np.testing.assert_array_equal(found.score, [5.5, 7.0, NAN, 1.0])
    np.testing.assert_array_equal(found.best_return, [1.0, 3.0, -INF, -1.0])


@pytest.mark.parametrize(
    ("fitness", "share"),
    [
        ([[1.0, 2.0]], 0.0),
        ([[NAN, NAN]], 0.0),
        ([[1.0, -INF], [NAN, 2.0]], 1 / 3),
        ([[NAN, -INF]], 1.0),
    ],
)
def test_agents_whose_episodes_do_not_end_are_told_from_those_that_died(fitness, share):
    assert float(endless_share(jnp.array(fitness))) == pytest.approx(share)


def test_an_episode_that_does_not_end_costs_its_agent_the_fitness_but_the_level_not_its_best_return(
    train_state, monkeypatch
):
    monkeypatch.setattr(acting, "LONGEST_EPISODE", 20)
    _, endless = small_grid(end_probs=[0.0, 0.0], max_steps_in_episode=30)
    score = SCORES["random"]
    found = jax.jit(lambda best: evaluate_lane(LEARNER, score, endless, KEY, train_state, REFERENCE, best))(
        jnp.float32(0.25)
    )
    assert found.fitness == -INF
    assert found.best_return == 0.25
