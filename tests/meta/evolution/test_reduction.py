import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from rl_discovery.meta.evolution import STRATEGIES, make_strategy
from rl_discovery.meta.evolution.reduction import check_reducible, scale_perturbations, scale_step
from tests.meta.evolution import problems

KEY = jax.random.key(3)


def generation(strategy, problem, scale):
    """Candidates of the first generation, and the mean after it."""
    state = strategy.init(problems.START)
    candidates = scale_perturbations(strategy, state, strategy.ask(state, KEY), scale)
    groups, members = jnp.arange(problem.groups), jnp.arange(problem.group_size)
    found = jax.vmap(lambda g: jax.vmap(lambda m: candidates.member(g, m))(members))(groups)
    # Given, so that candidates rank alike at every distance.
    fitness = jax.random.normal(KEY, (problem.groups, problem.group_size))
    after = scale_step(state, strategy.tell(state, KEY, fitness), scale)
    flat = jax.vmap(jax.vmap(lambda tree: ravel_pytree(tree)[0]))(found)
    return np.asarray(flat), np.asarray(ravel_pytree(strategy.mean(after))[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", STRATEGIES)
def test_half_the_scale_is_half_the_distance_of_candidates_and_steps_for_every_strategy(name):
    problem = problems.make_problem(groups=8, sigma=0.1)
    strategy = make_strategy(name, problem)
    check_reducible(strategy, problem.solution)
    start = np.asarray(ravel_pytree(problems.START)[0])
    whole, half = (generation(strategy, problem, jnp.float32(scale)) for scale in (1.0, 0.5))
    np.testing.assert_allclose(half[0] - start, (whole[0] - start) / 2, atol=1e-5)
    np.testing.assert_allclose(half[1] - start, (whole[1] - start) / 2, atol=1e-5)
    assert np.abs(whole[1] - start).max() > 0.01, "the mean must move for this to tell"


@pytest.mark.slow
@pytest.mark.parametrize("name", STRATEGIES)
def test_a_scale_of_one_changes_no_bit(name):
    problem = problems.make_problem(groups=4, sigma=0.1)
    strategy = make_strategy(name, problem)
    without, one = (generation(strategy, problem, scale) for scale in (None, jnp.float32(1)))
    assert without[0].tobytes() == one[0].tobytes()
    assert without[1].tobytes() == one[1].tobytes()


def test_half_the_scale_of_open_es_is_a_run_with_half_sigma_and_half_learning_rate():
    whole, half = (
        problems.make_problem(groups=8, sigma=sigma, learning_rate=rate)
        for sigma, rate in ((0.1, 0.05), (0.05, 0.025))
    )
    reduced = generation(make_strategy("open_es", whole), whole, jnp.float32(0.5))
    configured = generation(make_strategy("open_es", half), half, None)
    np.testing.assert_allclose(reduced[0], configured[0], atol=1e-6)
    np.testing.assert_allclose(reduced[1], configured[1], atol=1e-5)


def test_a_strategy_without_a_mean_to_move_is_refused():
    class Strange:
        def init(self, mean):
            return {"centre": mean}

    with pytest.raises(ValueError, match=r"reduce needs a strategy whose state has a field `mean`"):
        check_reducible(Strange(), {"w": jnp.zeros(2)})
