import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_discovery.meta.evolution import STRATEGIES, make_strategy
from tests.meta.evolution import problems

ANTITHETIC = ("open_es", "pgpe")


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_maximises_a_quadratic_on_which_half_the_first_candidates_die(name):
    def fitness(solution):
        return jnp.where(solution["a"][0, 0] < 0, jnp.nan, problems.quadratic(solution))

    problem = problems.make_problem(groups=32, group_size=2 if name in ANTITHETIC else 4, sigma=0.2)
    mean = problems.maximise(name, problem, 150, fitness)
    # Ranks within pairs alone move in steps of about the learning rate.
    assert problems.distance(mean) < 0.3 < problems.distance(problems.START) / 8


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_configured_sigma_is_the_one_candidates_are_drawn_with(name):
    problem = problems.make_problem(groups=200, sigma=0.02)
    strategy = make_strategy(name, problem)
    state = strategy.init(problems.START)
    assert float(strategy.sigma(state)) == pytest.approx(0.02, rel=1e-5)
    population = problems.ask(strategy, state, problem)
    spread = np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(population)]).std()
    assert spread == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_mean_starts_where_it_is_told_in_the_solutions_structure(name):
    strategy = make_strategy(name, problems.make_problem(groups=4))
    mean = strategy.mean(strategy.init(problems.OPTIMUM))
    assert jax.tree.structure(mean) == jax.tree.structure(problems.OPTIMUM)
    jax.tree.map(np.testing.assert_allclose, mean, problems.OPTIMUM)


@pytest.mark.parametrize("name", ANTITHETIC)
def test_pairs_are_antithetic_and_refuse_groups_of_other_sizes(name):
    problem = problems.make_problem(groups=4, sigma=0.5)
    strategy = make_strategy(name, problem)
    population = problems.ask(strategy, strategy.init(problems.OPTIMUM), problem)
    centre = jax.tree.map(lambda x: x.mean(axis=1), population)
    for found, expected in zip(jax.tree.leaves(centre), jax.tree.leaves(problems.OPTIMUM), strict=True):
        np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), atol=1e-6)
    wrong, message = (3, "even es.group_size.*not 3") if name == "open_es" else (4, "es.group_size 2.*not 4")
    with pytest.raises(ValueError, match=message):
        make_strategy(name, dataclasses.replace(problem, group_size=wrong))


def test_an_unknown_strategy_is_refused_with_the_ones_there_are():
    with pytest.raises(ValueError, match=r"unknown strategy 'sness': did you mean 'snes'"):
        make_strategy("sness", problems.make_problem())


def test_cma_es_refuses_models_whose_covariance_would_not_fit():
    big = {"w": jnp.zeros(5001)}
    with pytest.raises(ValueError, match=r"5001 x 5001 covariance.*sep_cma_es"):
        make_strategy("cma_es", problems.make_problem(solution=big))
    make_strategy("sep_cma_es", problems.make_problem(solution=big))


def test_every_strategy_says_what_it_is():
    assert all(entry.description for entry in STRATEGIES.values())
