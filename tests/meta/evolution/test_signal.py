"""Levers of OpenAI-ES, and whether it can tell learning from noise."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from rl_discovery.meta.evolution import make_strategy
from rl_discovery.meta.evolution.open_es import noise
from tests.meta.evolution import problems


def run(problem, fitness_of, generations):
    """The strategy's states, and the signal of each generation."""
    strategy = make_strategy("open_es", problem)

    @jax.jit
    def step(state, key):
        fitness = fitness_of(problems.members(strategy.ask(state, key), problem), key)
        after = strategy.tell(state, key, fitness)
        return after, strategy.signal(state, after, fitness)

    states, signals = [strategy.init(problems.START)], []
    for generation in range(generations):
        state, signal = step(states[-1], jax.random.fold_in(jax.random.key(8), generation))
        states.append(state)
        signals.append({name: float(value) for name, value in signal.items()})
    return states, signals


def noise_alone(candidates, key):
    size = jax.tree.leaves(candidates)[0].shape[:2]
    return jax.random.normal(key, size)


def climbing(candidates, key):
    """Uphill for ever in one direction."""
    del key
    return sum(jnp.sum(leaf, axis=tuple(range(2, leaf.ndim))) for leaf in jax.tree.leaves(candidates))


@pytest.mark.parametrize("b1", [0.5, 0.9])
def test_the_noise_ratio_of_pure_noise_is_one_and_its_correlation_none(b1):
    solution = {"w": jnp.zeros(400)}
    problem = problems.make_problem(groups=32, adam_b1=b1, solution=solution)
    strategy = make_strategy("open_es", problem)

    @jax.jit
    def step(state, key):
        fitness = jax.random.normal(jax.random.fold_in(key, 5), (32, 2))
        after = strategy.tell(state, key, fitness)
        return after, strategy.signal(state, after, fitness)

    state, signals = strategy.init(solution), []
    for generation in range(80):
        state, signal = step(state, jax.random.fold_in(jax.random.key(3), generation))
        signals.append([float(signal["noise_ratio"]), float(signal["direction_correlation"])])
    ratio, correlation = np.array(signals)[40:].mean(axis=0)
    assert ratio == pytest.approx(1.0, abs=0.08)
    assert abs(correlation) < 0.08  # 40 generations of 32 pairs: a standard error of 0.028


def test_the_noise_ratio_and_the_correlation_of_a_climb_are_far_from_noise():
    _, signals = run(problems.make_problem(groups=32), climbing, 40)
    assert np.mean([signal["noise_ratio"] for signal in signals[20:]]) > 2
    assert np.mean([signal["direction_correlation"] for signal in signals[20:]]) > 0.5


def test_the_correlation_is_that_of_signs_with_noise_along_the_recent_direction():
    problem = problems.make_problem(groups=500)
    strategy = make_strategy("open_es", problem)
    state = strategy.init(problems.START)
    for generation in range(2):
        key = jax.random.key(generation)
        fitness = noise_alone(problems.ask(strategy, state, problem, seed=generation), key)
        before, state = state, strategy.tell(state, key, fitness)
    size = before.mean.size
    direction = -np.asarray(before.opt_state[0].mu)
    signs = np.where(np.asarray(fitness)[:, 0] > np.asarray(fitness)[:, 1], 1.0, -1.0)
    along = np.array([noise(key, i, size) for i in range(500)]) @ direction
    expected = np.corrcoef(signs, along)[0, 1]
    found = strategy.signal(before, state, fitness)["direction_correlation"]
    assert float(found) == pytest.approx(expected, abs=0.05)


def test_weight_decay_is_decoupled_from_adam():
    start = jax.tree.map(lambda leaf: leaf + 2.0, problems.START)
    after = {}
    for decay in (0.0, 0.1):
        problem = problems.make_problem(groups=4, learning_rate=0.05, weight_decay=decay)
        strategy = make_strategy("open_es", problem)
        fitness = jax.random.normal(jax.random.key(1), (4, 2))
        state = strategy.tell(strategy.init(start), jax.random.key(0), fitness)
        after[decay] = np.asarray(state.mean)
    np.testing.assert_allclose(after[0.1], after[0.0] - 0.05 * 0.1 * 2.0, atol=1e-6)


def test_a_factor_per_part_scales_perturbations_and_steps_of_that_part_alone():
    scales = {"a": jnp.full((2, 3), 0.25), "b": {"c": jnp.ones(3)}}
    found = {}
    for name, more in (("alike", {}), ("scaled", {"scales": scales})):
        problem = problems.make_problem(groups=4, **more)
        strategy = make_strategy("open_es", problem)
        state = strategy.init(problems.START)
        fitness = jax.random.normal(jax.random.key(1), (4, 2))
        after = strategy.mean(strategy.tell(state, jax.random.key(0), fitness))
        found[name] = problems.ask(strategy, state, problem), after
    for alike, scaled in zip(found["alike"], found["scaled"], strict=True):
        np.testing.assert_allclose(scaled["a"], 0.25 * alike["a"], atol=1e-6)
        np.testing.assert_allclose(scaled["b"]["c"], alike["b"]["c"], atol=1e-6)


def test_adam_b1_is_adams():
    means = {}
    for b1 in (0.0, 0.9):
        problem = problems.make_problem(groups=4, adam_b1=b1)
        strategy = make_strategy("open_es", problem)
        state = strategy.init(problems.START)
        for generation in range(2):
            fitness = jax.random.normal(jax.random.key(10 + generation), (4, 2))
            state = strategy.tell(state, jax.random.key(generation), fitness)
        means[b1] = np.asarray(ravel_pytree(strategy.mean(state))[0])
    assert np.abs(means[0.0] - means[0.9]).max() > 1e-3


@pytest.mark.parametrize("name", ["snes", "pgpe", "cma_es", "sep_cma_es"])
@pytest.mark.parametrize("lever", ["weight_decay", "scales"])
def test_other_strategies_refuse_what_they_cannot_do(name, lever):
    value = 0.1 if lever == "weight_decay" else problems.START
    problem = dataclasses.replace(problems.make_problem(groups=4), **{lever: value})
    with pytest.raises(ValueError, match=r"works with es\.strategy open_es only"):
        make_strategy(name, problem)
