import dataclasses
import sys
import types

import jax
import jax.numpy as jnp
import pytest
from gymnax.environments.environment import Environment

from rl_discovery import envs
from rl_discovery.discovery.registry import BrokenPluginError
from rl_discovery.envs import SUITES, Suite
from rl_discovery.envs.gridworld import maps


def test_the_gridworld_suites_exist():
    assert {"unseen", "small", "tabular", "random", "mazes", "maze_designs"} <= set(SUITES)
    assert all(name == suite.name and suite.description for name, suite in SUITES.items())


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_names_environments_that_exist(name):
    assert set(SUITES[name].environments) <= {known for known, _ in envs.names()}


@pytest.mark.parametrize("name", ["classic", "minatar", "bsuite"])
def test_control_suites_count_steps_and_have_a_sibling_with_the_published_budget(name):
    short, full = SUITES[name], SUITES[f"{name}-full"]
    assert short.unit == full.unit == "env_steps"
    assert short.environments == full.environments
    assert max(short.horizons) <= max(full.horizons)
    for environment in short.environments:  # what makes them must not need a network
        env, level = envs.make(environment)
        assert env.action_space(level).n >= 2


def test_the_suite_of_designs_has_each_design_once():
    names = [name.partition("/")[2] for name in SUITES["maze_designs"].environments]
    assert names == list(maps.MAZES)


def test_levels_come_as_one_batch_per_environment():
    suite = dataclasses.replace(SUITES["small"], levels_per_environment=3)
    ((environment, env, params),) = suite.levels(seed=0)
    assert environment == "gridworld/small"
    assert env is envs.distribution("small").env
    assert {leaf.shape[0] for leaf in jax.tree.leaves(params)} == {3}


@pytest.fixture
def key_suite(monkeypatch):
    """A suite over two distributions whose parameters are the very keys they are sampled from."""
    toys = {
        f"toys/{name}": envs.LevelDistribution(
            name=name, description="", env=Environment(), sample_params=jax.random.key_data, horizon=(1, 1)
        )
        for name in ("a", "b")
    }
    monkeypatch.setattr(envs.suites, "distributions", lambda: toys)
    return Suite(
        name="keys", description="", environments=tuple(toys), horizons=(1,), levels_per_environment=4
    )


def test_levels_depend_on_the_seed_and_more_levels_continue_fewer(key_suite):
    four, again, other = ([params for _, _, params in key_suite.levels(seed)] for seed in (0, 0, 1))
    two = [params for _, _, params in dataclasses.replace(key_suite, levels_per_environment=2).levels(0)]
    for i in range(2):
        assert jnp.array_equal(four[i], again[i])
        assert jnp.array_equal(four[i][:2], two[i])
        assert not jnp.any(jnp.all(four[i] == other[i], axis=-1))
    assert not jnp.any(jnp.all(four[0] == four[1], axis=-1))


def test_no_level_of_a_suite_comes_from_a_key_that_training_folds(key_suite):
    evaluated = {tuple(key) for _, _, keys in key_suite.levels(0) for key in keys.tolist()}

    @jax.jit
    def trained(seed, generation, lane):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), generation), lane)
        return jax.random.key_data(jax.random.split(key)[0])

    seeds, generations, lanes = jnp.mgrid[:3, :100, :30].reshape(3, -1)
    keys = {tuple(key) for key in jax.vmap(trained)(seeds, generations, lanes).tolist()}
    assert len(evaluated) == 8
    assert not evaluated & keys


def test_a_gymnax_task_becomes_a_batch_of_itself():
    suite = Suite(
        name="control",
        description="",
        environments=("CartPole-v1",),
        horizons=(100_000,),
        levels_per_environment=2,
        unit="env_steps",
    )
    ((name, env, params),) = suite.levels(0)
    keys = jax.random.split(jax.random.key(0), 2)
    observations, _ = jax.vmap(env.reset)(keys, params)
    assert name == "CartPole-v1"
    assert observations.shape == (2, 4)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"environments": ()}, "no environments"),
        ({"horizons": ()}, "horizons"),
        ({"horizons": (0,)}, r"\(0,\)"),
        ({"levels_per_environment": 0}, "not 0"),
        ({"unit": "hours"}, "'hours'"),
    ],
)
def test_an_impossible_suite_names_the_field(change, problem):
    with pytest.raises(ValueError, match=problem):
        dataclasses.replace(SUITES["small"], **change)


def test_a_suite_with_an_unknown_environment_says_so():
    suite = dataclasses.replace(SUITES["small"], environments=("gridworld/smal",))
    with pytest.raises(envs.UnknownNameError, match="gridworld/small"):
        suite.levels(0)


@pytest.mark.parametrize(
    ("name", "full", "horizons", "unit"),
    [
        ("CartPole-v1", "CartPole-v1", SUITES["classic"].horizons, "env_steps"),
        ("gridworld/dense", "gridworld/dense", SUITES["tabular"].horizons, "updates"),
        ("dense", "gridworld/dense", SUITES["tabular"].horizons, "updates"),
        ("all_vrandlife", "gridworld/all_vrandlife", (10, 250), "updates"),
        ("Pong-misc", "Pong-misc", (100_000,), "env_steps"),
    ],
)
def test_an_environment_is_a_suite_of_its_own_with_the_horizons_that_it_has_elsewhere(
    name, full, horizons, unit
):
    suite = envs.suite(name)
    assert (suite.name, suite.environments) == (full, (full,))
    assert (suite.horizons, suite.unit) == (horizons, unit)


def test_options_in_a_name_change_the_environment_and_not_its_levels():
    names = ("gridworld/dense", "gridworld/dense,observation=planes")
    (_, tables, params), (_, planes, same) = (envs.suite(name).levels(0)[0] for name in names)
    assert (tables.observation, planes.observation) == ("tabular", "planes")
    assert jax.tree.all(jax.tree.map(jnp.array_equal, params, same))


def test_a_family_and_a_suite_of_a_module_are_named_where_they_stand(monkeypatch):
    toys = {
        "short": envs.LevelDistribution(
            name="short", description="", env=Environment(), sample_params=jax.random.key_data, horizon=(3, 9)
        )
    }
    module = types.ModuleType("toy_module")
    module.FAMILY = envs.Family("toys", "", distributions=toys, make=lambda name, seed: None)
    module.SUITE = Suite("mine", "", ("toys/short",), (5,))
    monkeypatch.setitem(sys.modules, "toy_module", module)
    try:
        suite = envs.suite("toy_module:FAMILY/short")
        assert (suite.name, suite.horizons) == ("toys/short", (3, 9))
        assert envs.suite("toy_module:SUITE") is module.SUITE
        assert envs.family_of("toy_module:FAMILY/short") is module.FAMILY
        assert envs.family_of("toy_module:Env").name == "gymnax"  # of no family of ours
        ((name, _, keys),) = envs.suite("toys/short").levels(0)
        assert (name, len(keys)) == ("toys/short", suite.levels_per_environment)
        with pytest.raises(
            envs.UnknownNameError, match="unknown suite or environment 'toy_module:FAMILY/shrt'"
        ):
            envs.suite("toy_module:FAMILY/shrt")
        other = envs.Family("toys", "another", distributions=toys, make=lambda name, seed: None)
        module.FAMILY = other
        with pytest.raises(BrokenPluginError, match="another environment family is called 'toys' already"):
            envs.suite("toy_module:FAMILY/short")
    finally:
        envs.FAMILIES.refresh()
