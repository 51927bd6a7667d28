import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from evosax.algorithms import Open_ES
from jax.flatten_util import ravel_pytree

from rl_discovery.meta.evolution import make_strategy
from rl_discovery.meta.evolution.open_es import MAX_CHUNKS, noise
from rl_discovery.meta.evolution.shaping import centred_ranks, pair_ranks
from tests.meta.evolution import problems
from tests.meta.processes import run_script


def test_the_members_of_a_pair_mirror_each_other_at_distance_sigma_times_noise():
    problem = problems.make_problem(groups=5, sigma=0.3)
    strategy = make_strategy("open_es", problem)
    mean = jax.tree.map(lambda x: x + 0.125, problems.START)
    key = jax.random.key(7)
    flat_mean = np.asarray(ravel_pytree(mean)[0])
    population = problems.ask(strategy, strategy.init(mean), problem, seed=7)
    flat = jax.vmap(jax.vmap(lambda member: ravel_pytree(member)[0]))(population)
    seen = []
    for pair in range(5):
        plus, minus = np.asarray(flat[pair]) - flat_mean
        np.testing.assert_allclose(plus, -minus, atol=1e-6)
        np.testing.assert_allclose(plus, 0.3 * noise(key, pair, plus.size), atol=1e-6)
        seen.append(plus)
    assert np.unique(np.round(seen, 5)).size == 5 * flat_mean.size, "pairs share noise"


def test_noise_is_standard_normal_and_new_in_every_generation():
    draws = jax.vmap(lambda pair: noise(jax.random.key(0), pair, 500))(jnp.arange(64))
    assert float(jnp.abs(jnp.mean(draws))) < 0.03
    assert float(jnp.std(draws)) == pytest.approx(1.0, abs=0.03)
    # Not none at all: float32 has few values.
    assert np.isin(noise(jax.random.key(1), 0, 500), draws).mean() < 0.02


@pytest.mark.parametrize("pairs", [MAX_CHUNKS + 3])
def test_tell_is_evosaxs_own_tell_on_the_whole_population(pairs):
    problem = problems.make_problem(groups=pairs, learning_rate=0.03, sigma=0.2)
    strategy = make_strategy("open_es", problem)
    reference = Open_ES(
        population_size=2 * pairs,
        solution=problems.START,
        use_antithetic_sampling=True,
        optimizer=optax.adam(problem.learning_rate),
        std_schedule=problem.sigma,
        fitness_shaping_fn=lambda population, fitness, state, params: fitness,
    )
    params = reference.default_params
    state = strategy.init(problems.START)
    expected = reference.init(jax.random.key(0), problems.START, params)
    tell = jax.jit(strategy.tell)
    for generation in range(6):
        key = jax.random.fold_in(jax.random.key(3), generation)
        # evosax's own population, drawn as it draws it, but with our noise.
        eps = jnp.stack([noise(key, i, expected.mean.size) for i in range(pairs)])
        flat = expected.mean + expected.std * jnp.concatenate([eps, -eps])
        population = jax.vmap(ravel_pytree(problems.START)[1])(flat)
        fitness = jax.random.normal(jax.random.fold_in(key, 99), (pairs, 2))
        fitness = fitness.at[0].set(jnp.nan).at[1, 0].set(jnp.inf)
        # evosax puts the partner of row i at i + P, and minimises.
        rows = -pair_ranks(fitness).T.ravel()
        expected, _ = reference.tell(key, population, rows, expected, params)
        state = tell(state, key, fitness)
        assert int(state.generation_counter) == generation + 1
        np.testing.assert_allclose(state.mean, expected.mean, rtol=1e-4, atol=2e-6)
        adam, expected_adam = state.opt_state[0], expected.opt_state[0]
        assert int(adam.count) == int(expected_adam.count)
        np.testing.assert_allclose(adam.mu, expected_adam.mu, rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(adam.nu, expected_adam.nu, rtol=1e-3, atol=1e-8)


def test_groups_of_several_pairs_are_shaped_by_their_centred_ranks():
    groups, size, sigma = 3, 6, 0.2
    problem = problems.make_problem(groups=groups, group_size=size, sigma=sigma)
    strategy, key = make_strategy("open_es", problem), jax.random.key(5)
    state = strategy.init(problems.START)
    population = problems.ask(strategy, state, problem, seed=5)
    flat = np.asarray(jax.vmap(jax.vmap(lambda member: ravel_pytree(member)[0]))(population))
    for group in range(groups):
        for member in range(size):
            eps = noise(key, group * size // 2 + member // 2, flat.shape[-1])
            expected = sigma * (1 - 2 * (member % 2)) * np.asarray(eps)
            np.testing.assert_allclose(flat[group, member], expected, atol=1e-6)
    fitness = jax.random.normal(jax.random.key(9), (groups, size)).at[0, 0].set(jnp.nan)
    found = strategy.tell(state, key, fitness)
    weights = np.asarray(centred_ranks(fitness))
    # Adam's first moment after one step is a tenth of the gradient, evosax's of the minimised fitness.
    gradient = -np.einsum("gm,gmd->d", weights, flat / sigma) / (groups * size * sigma)
    np.testing.assert_allclose(found.opt_state[0].mu, 0.1 * gradient, rtol=1e-4, atol=1e-6)


def test_sigma_of_a_generation_is_the_schedules_value_for_it():
    problem = problems.make_problem(groups=2)
    problem = type(problem)(**(vars(problem) | {"sigma": optax.exponential_decay(0.5, 1, 0.5)}))
    strategy = make_strategy("open_es", problem)
    state, tell = strategy.init(problems.START), jax.jit(strategy.tell)
    for expected in (0.5, 0.25, 0.125):
        assert float(strategy.sigma(state)) == pytest.approx(expected)
        state = tell(state, jax.random.key(0), jnp.zeros((2, 2)))


def test_ties_move_the_mean_nowhere():
    problem = problems.make_problem(groups=4)
    strategy = make_strategy("open_es", problem)
    start = strategy.init(problems.START)
    state = jax.jit(strategy.tell)(start, jax.random.key(0), jnp.full((4, 2), 3.0))
    assert not np.asarray(state.mean).any()


def test_fitness_is_maximised_even_with_adam_against_the_gradient_of_evosax():
    mean = problems.maximise("open_es", problems.make_problem(), 200)
    assert problems.distance(mean) < 0.2 < problems.distance(problems.START)


@pytest.mark.slow
def test_the_state_is_bit_identical_on_1_2_4_and_8_devices(tmp_path):
    run_script(problems.__file__, tmp_path / "states.npz", devices=8)
    states = np.load(tmp_path / "states.npz")
    assert np.abs(states["1"]).min() > 0
    for devices in (2, 4, 8):
        assert states[str(devices)].tobytes() == states["1"].tobytes(), devices
