"""Small optimisation problems for strategies, and a script that solves one on several device counts."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rl_discovery.discovery.sharding import make_mesh
from rl_discovery.meta.evolution import Problem, make_strategy

OPTIMUM = {"a": jnp.array([[0.5, -1.0, 0.25], [1.5, 0.0, -0.75]]), "b": {"c": jnp.array([-0.5, 1.0, 2.0])}}
PAIRS = 67
"""A multiple of neither the chunks nor the devices."""

START = jax.tree.map(jnp.zeros_like, OPTIMUM)


def quadratic(solution):
    """Fitness with its only maximum, 0, at OPTIMUM."""
    return -sum(jax.tree.leaves(jax.tree.map(lambda x, y: jnp.sum((x - y) ** 2), solution, OPTIMUM)))


def distance(solution):
    """From the optimum."""
    return float(jnp.sqrt(-quadratic(solution)))


def make_problem(
    groups=16, group_size=2, learning_rate=0.05, sigma=0.1, devices=1, solution=START, **more
) -> Problem:
    """Groups of candidates for START's structure."""
    return Problem(
        solution=solution,
        groups=groups,
        group_size=group_size,
        learning_rate=optax.constant_schedule(learning_rate),
        sigma=optax.constant_schedule(sigma),
        mesh=make_mesh(devices),
        **more,
    )


def members(candidates, problem):
    """All candidates: a pytree with leading axes (groups, members)."""
    group, member = jnp.arange(problem.groups), jnp.arange(problem.group_size)
    return jax.vmap(lambda g: jax.vmap(lambda m: candidates.member(g, m))(member))(group)


def ask(strategy, state, problem, seed=0):
    """All candidates of a generation, compiled as one program."""
    return jax.jit(lambda state: members(strategy.ask(state, jax.random.key(seed)), problem))(state)


def maximise(name, problem, generations, fitness=quadratic, seed=0):
    """The strategy's mean after `generations` on a fitness without noise."""
    strategy = make_strategy(name, problem)

    def step(state, generation):
        key = jax.random.fold_in(jax.random.key(seed), generation)
        values = jax.vmap(jax.vmap(fitness))(members(strategy.ask(state, key), problem))
        return strategy.tell(state, key, values), None

    @jax.jit
    def run(state):
        # Counters of evosax start as Python numbers, whose weak types a scan would not keep.
        state = jax.tree.map(lambda x: jax.lax.convert_element_type(x, jnp.asarray(x).dtype), state)
        return strategy.mean(jax.lax.scan(step, state, jnp.arange(generations))[0])

    return run(strategy.init(START))


def main(path: str) -> None:
    """State after some generations of open_es on 1, 2, 4 and 8 devices."""
    states = {}
    for devices in (1, 2, 4, 8):
        problem = make_problem(PAIRS, devices=devices)
        strategy = make_strategy("open_es", problem)
        tell = jax.jit(strategy.tell)
        state = jax.jit(strategy.init)(START)
        for generation in range(3):
            key = jax.random.fold_in(jax.random.key(1), generation)
            fitness = jax.random.normal(jax.random.fold_in(key, 0), (PAIRS, 2))
            state = tell(state, key, fitness)
        leaves = jax.tree.leaves((state.mean, state.opt_state))
        states[str(devices)] = np.concatenate([np.asarray(leaf).ravel() for leaf in leaves])
    np.savez(path, **states)


if __name__ == "__main__":
    main(sys.argv[1])
