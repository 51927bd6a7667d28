"""The example against the library: what a reader learns from it is what the library does."""

import ast
import dataclasses
import functools
import importlib.util
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.discovery.learning.lifetime import train_block
from rl_discovery.discovery.objectives.lpg import LPG
from rl_discovery.meta.build import make_program
from rl_discovery.meta.config import EvolutionConfig, LevelsConfig, RunConfig
from rl_discovery.meta.evolution.open_es import StreamedOpenES
from rl_discovery.meta.evolution.shaping import pair_ranks
from rl_discovery.meta.objective_settings import objective_settings

FILE = Path(__file__).parents[2] / "examples" / "ta_lpg_in_one_file.py"
GENERATIONS = 2


def load():
    """By its path: `examples` is no package."""
    spec = importlib.util.spec_from_file_location(FILE.stem, FILE)
    module = sys.modules[FILE.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


example = load()

CONFIG = example.Config(
    seed=3,
    generations=GENERATIONS,
    horizons=(3, 12),
    workers=4,
    rollout_steps=6,
    policy_learning_rate=30.0,
    prediction_learning_rate=20.0,
    max_grad_norm=0.1,
    bins=3,
    width=5,
    embedding_width=4,
    prediction_coef=0.7,
    pairs=6,
    sigma=0.5,
    learning_rate=0.05,
    learning_rate_decay=0.9,
    adam_b1=0.95,
)
"""None of them at its default, and gradients are clipped."""

LIBRARY = RunConfig(
    seed=CONFIG.seed,
    generations=GENERATIONS,
    objective=objective_settings(LPG, width=5, bins=3, embedding_width=4, prediction_coef=0.7),
    agent=AgentConfig(
        workers=4,
        rollout_steps=6,
        policy_learning_rate=30.0,
        head_learning_rate=20.0,
        max_grad_norm=0.1,
    ),
    es=EvolutionConfig(
        pairs=6,
        sigma=0.5,
        learning_rate=0.05,
        learning_rate_decay=0.9,
        adam_b1=0.95,
        initial_mean="zeros",
    ),
    levels=LevelsConfig(distribution="small", horizon=3, longest_horizon=12),
    block_size=1,  # one lane after the other, as in the example
    devices=1,
)


@pytest.fixture(scope="module")
def program():
    return make_program(LIBRARY)


@pytest.fixture(scope="module")
def histories(program):
    """Per generation, of the example and of the library: the candidates' fitness, and theta afterwards."""
    return list(history_of_example()), list(history_of_library(program))


def history_of_example():
    step = jax.jit(functools.partial(example.generation, CONFIG))
    theta, _ = ravel_pytree(example.zero_meta_params(CONFIG))
    opt_state = CONFIG.optimiser.init(theta)
    for number in range(GENERATIONS):
        theta, opt_state, fitness = step(theta, opt_state, number)
        yield jax.device_get((fitness, theta))


def history_of_library(program):
    """Of the program's own step; the fitness is what it tells its strategy."""
    told = []

    class Overheard(StreamedOpenES):
        def tell(self, state, key, fitness):
            told.append(fitness)
            return super().tell(state, key, fitness)

    overheard = dataclasses.replace(program, strategy=Overheard(program.strategy.problem))

    @jax.jit
    def step(state):
        state, _ = overheard.step(state)
        return state, told.pop()

    state = program.init()
    for _ in range(GENERATIONS):
        state, fitness = step(state)
        yield jax.device_get((fitness, ravel_pytree(program.meta_params(state))[0]))


@pytest.mark.slow
def test_candidates_reach_the_same_fitness_as_the_librarys(histories):
    """Returns of whole episodes: equal only where all levels, candidates, agents and actions are."""
    for number, ((fitness, _), (expected, _)) in enumerate(zip(*histories, strict=True)):
        assert np.mean(expected[:, 0] != expected[:, 1]) > 0.5, "most pairs must differ for this to tell"
        np.testing.assert_allclose(fitness, expected, rtol=1e-5, err_msg=f"generation {number}")


@pytest.mark.slow
def test_theta_moves_as_the_librarys(histories):
    for number, ((_, theta), (_, expected)) in enumerate(zip(*histories, strict=True)):
        assert np.linalg.norm(expected) > 0.05
        np.testing.assert_allclose(theta, expected, rtol=1e-5, atol=1e-7, err_msg=f"generation {number}")


@pytest.fixture(scope="module")
def lifetimes(program):
    """One agent trained by given meta-parameters on one level: by the example and by the library."""
    learner = program.lanes[0].learner
    level = jax.jit(CONFIG.levels.sample)(jax.random.key(8))
    key, N = jax.random.key(9), jnp.int32(10)

    @jax.jit
    def by_example(eta):
        agent = example.train_agent(CONFIG, eta, level.params, N, key)
        workers = example.start(CONFIG, level.params)
        _, rollout = example.collect(CONFIG, agent, level.params, workers, key, 30)
        evaluation_key = jax.random.fold_in(key, example.EVALUATION)
        return agent, rollout, example.evaluate(CONFIG, agent, level.params, evaluation_key)

    @jax.jit
    def by_library(eta):
        lanes = jax.tree.map(lambda leaf: leaf[None], (eta, level.params, N, key))
        train_states = train_block(learner, *lanes)
        train_state = jax.tree.map(lambda leaf: leaf[0], train_states)
        beginning = dataclasses.replace(learner.begin(key, level.params), agent=train_state.agent)
        _, rollout = dataclasses.replace(learner, rollout_steps=30).collect(level.params, key, beginning)
        return train_state.agent.params, rollout, learner.evaluate(level.params, key, train_state)

    def run(scale):
        eta = jax.tree.map(lambda leaf: scale * leaf, program.objective.init(jax.random.key(4)))
        return jax.device_get((by_example(eta), by_library(eta)))

    return run


@pytest.mark.slow
def test_a_lifetime_ends_with_the_same_agent(lifetimes):
    """Tables to rounding, what the agent then does exactly."""
    (agent, rollout, fitness), (params, expected, expected_fitness) = lifetimes(1.0)
    assert np.abs(params["policy"]["rows"]).max() > 0.1, "it must have learned for this to tell"
    np.testing.assert_allclose(agent.policy, params["policy"]["rows"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(agent.prediction, params["head"]["rows"], rtol=1e-5, atol=1e-6)
    assert len(np.unique(expected.action)) == 5
    for name in ("observation", "action", "reward", "done", "last_observation"):
        np.testing.assert_array_equal(getattr(rollout, name), getattr(expected, name), err_msg=name)
    np.testing.assert_allclose(fitness, expected_fitness, rtol=1e-6)


@pytest.mark.slow
def test_an_agent_of_nans_has_no_fitness(lifetimes):
    (agent, _, fitness), (_, _, expected) = lifetimes(np.nan)
    assert np.isnan(agent.policy).any()
    assert np.isnan(fitness)
    assert np.isnan(expected)


def test_fitness_is_shaped_as_the_librarys():
    fitness = jnp.array([[1.0, 2.0], [3.0, 3.0], [jnp.nan, -5.0], [jnp.nan, -jnp.inf], [0.0, -jnp.inf]])
    np.testing.assert_array_equal(example.shape_fitness(fitness), pair_ranks(fitness))


@pytest.mark.slow
def test_it_prints_the_fitness_of_each_generation(capsys, histories):
    example.main(CONFIG)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == GENERATIONS
    for line, (fitness, _) in zip(lines, histories[0], strict=True):
        assert float(line.split()[-1]) == pytest.approx(fitness.mean(), abs=6e-4)


def test_it_stands_on_the_environments_alone_and_is_read_in_one_sitting():
    text = FILE.read_text()
    imported = [node.module for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    assert [name for name in imported if name.startswith("rl_discovery")] == ["rl_discovery.envs"]
    assert "import rl_discovery" not in text
    assert len(text.splitlines()) <= 300
