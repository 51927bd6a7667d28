import functools
import importlib.util

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs import registry
from envs.levels import UnusableEnvironmentError

NEW_FAMILY = """
from envs.gridworld import DISTRIBUTIONS
from envs.levels import Family, sample_one
from envs.suites import Suite

FAMILY = Family(
    name="toys", description="", distributions={"tiny": DISTRIBUTIONS["small"]},
    make=lambda name, seed: sample_one(DISTRIBUTIONS["small"], seed), tasks={"other": "a task"},
)
SUITES = (Suite(name="playroom", description="", environments=("toys/tiny",), horizons=(5,)),)
"""


# Without optimisation, which would take most of the time.
@functools.partial(jax.jit, static_argnums=(0, 3), compiler_options={"xla_backend_optimization_level": 0})
def episode(env, params, key, steps):
    """Rewards, ends, times and observations of a uniformly random agent under gymnax's interface."""
    reset_key, key = jax.random.split(key)
    observation, state = env.reset(reset_key, params)

    def step(state, key):
        action_key, step_key = jax.random.split(key)
        action = env.action_space(params).sample(action_key)
        observation, new_state, reward, terminated, truncated, info = env.step(
            step_key, state, action, params
        )
        return new_state, (reward, terminated, truncated, state.time + 1, observation, info)

    return observation, jax.lax.scan(step, state, jax.random.split(key, steps))[1]


def test_every_name_is_listed_once_with_a_description():
    names = [name for name, _ in envs.names()]
    assert len(set(names)) == len(names)
    assert {"gridworld/dense", "gridworld/all", "gridworld/mazes", "CartPole-v1"} <= set(names)
    assert all(description for _, description in envs.names())


@pytest.mark.parametrize("ask", [envs.make, envs.distribution])
def test_an_environment_that_would_download_is_neither_listed_nor_made(ask):
    assert "MNISTBandit-bsuite" not in dict(envs.names())
    with pytest.raises(ValueError, match="MNISTBandit-bsuite cannot be used: it downloads") as caught:
        ask("MNISTBandit-bsuite")
    assert "\n" not in str(caught.value)


def test_make_gives_the_level_that_belongs_to_the_seed():
    env, level = envs.make("gridworld/dense")
    _, same = envs.make("gridworld/dense", seed=0)
    _, short_name = envs.make("dense")
    _, other = envs.make("gridworld/dense", seed=1)
    assert env is envs.distribution("dense").env
    assert jax.tree.all(jax.tree.map(jnp.array_equal, level, same))
    assert jax.tree.all(jax.tree.map(jnp.array_equal, level, short_name))
    assert not jnp.array_equal(level.object_cells, other.object_cells)


def test_terminated_and_truncated_are_apart_in_a_gridworld():
    env, level = envs.make("gridworld/sparse")
    _, (reward, terminated, truncated, time, observation, info) = episode(
        env, level, jax.random.key(0), 20_000
    )
    # Every object of this level ends the episode; otherwise its 50 steps do.
    assert np.array_equal(terminated, np.asarray(reward) != 0)
    assert np.array_equal(truncated, np.asarray(time) == 50)
    assert np.sum(terminated) > 10
    assert np.sum(truncated) > 10
    done = np.asarray(terminated | truncated)
    first = int(level.start) + env.cells * 0b11
    assert np.all(np.asarray(observation)[done] == first)
    assert np.array_equal(np.asarray(info["final_observation"])[~done], np.asarray(observation)[~done])
    assert not np.all(np.asarray(info["final_observation"])[done] == first)


@pytest.mark.parametrize("name", ["gridworld/rand_sparse", "CartPole-v1"])
def test_what_make_returns_runs_under_the_gymnax_interface(name):
    env, params = envs.make(name)
    first, (reward, terminated, truncated, _, observation, _) = episode(env, params, jax.random.key(1), 600)
    assert observation.shape == (600, *first.shape)
    assert np.all(np.isfinite(reward))
    assert np.any(terminated | truncated)
    assert bool(env.observation_space(params).contains(first))


def test_gymnax_makes_our_environments_too():
    env, level = gymnax.make("gridworld/dense", seed=3)
    ours, same = envs.make("gridworld/dense", seed=3)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, level, same))
    assert isinstance(env, type(ours))
    # Without params, gymnax falls back on the environment's own.
    observation, _ = env.reset(jax.random.key(0))
    assert int(observation) == int(level.start) + env.cells * 0b1111
    assert gymnax.make("gridworld/dense")[0].max_size == 11


def test_registering_again_changes_nothing():
    before = list(gymnax.registered_envs)
    registry.register_with_gymnax()
    assert gymnax.registered_envs == before


@pytest.mark.parametrize("name", ["all", "gridworld/all"])
def test_a_distribution_is_found_with_and_without_its_family(name):
    assert envs.distribution(name) is envs.families()["gridworld"].distributions["all"]


@pytest.mark.parametrize(
    ("look_up", "name", "closest"),
    [
        (envs.make, "gridworld/dens", "gridworld/dense"),
        (envs.make, "spase", "sparse"),
        (envs.make, "cartpole-v1", "CartPole-v1"),
        (envs.make, "grid/dense", "gridworld/dense"),
        (envs.distribution, "all_vrandlive", "all_vrandlife"),
        (envs.suite, "unsen", "unseen"),
    ],
)
def test_an_unknown_name_is_answered_in_one_line_with_the_closest(look_up, name, closest):
    with pytest.raises(
        envs.UnknownNameError, match=rf"'{name}': did you mean '{closest}'\? `rl-disc"
    ) as error:
        look_up(name)
    assert isinstance(error.value, ValueError)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["", "/", "gridworld", "gridworld/", "qqqqqqq", "CartPole-v1/"])
def test_nonsense_is_an_unknown_name(name):
    with pytest.raises(envs.UnknownNameError, match="list envs"):
        envs.make(name)
    with pytest.raises(envs.UnknownNameError, match="list envs"):
        envs.distribution(name)


def test_options_may_follow_a_name():
    env, level = envs.make("gridworld/dense,observation=planes,diagonal=true")
    expected, same = envs.make("gridworld/dense", observation="planes", diagonal=True)
    assert (env.observation, env.num_actions) == (expected.observation, expected.num_actions) == ("planes", 9)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, level, same))
    found = envs.distribution("all,diagonal=true")
    assert found.env.num_actions == 9
    assert envs.family_of("all,diagonal=true") is envs.families()["gridworld"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "gridworld/dense,planes",
            "'planes' is no option of .*: write gridworld/dense,OPTION=VALUE",
        ),
        ("gridworld/dense,=1", "'=1' is no option"),
        ("gridworld/dense,observation=pixels", "must be one of tabular, planes, not 'pixels'"),
        ("gridworld/dense,size=3", "unexpected keyword argument 'size'"),
        ("CartPole-v1,poles=2", "CartPole-v1: .* unexpected keyword argument 'poles'"),
    ],
)
@pytest.mark.parametrize("look_up", [envs.make, envs.distribution])
def test_impossible_options_are_refused_in_one_line(look_up, name, words):
    with pytest.raises(UnusableEnvironmentError, match=words) as error:
        look_up(name)
    assert "\n" not in str(error.value)


@pytest.fixture
def _toys(tmp_path, monkeypatch):
    """A module of `envs` that defines a family, for one test."""
    (tmp_path / "toys.py").write_text(NEW_FAMILY)
    monkeypatch.setattr(envs, "__path__", [*envs.__path__, str(tmp_path)])
    caches = (registry.modules, registry.families, registry.distributions)
    for cache in caches:
        cache.cache_clear()
    yield
    monkeypatch.undo()
    for cache in caches:
        cache.cache_clear()


@pytest.mark.usefixtures("_toys")
def test_a_new_family_is_one_file():
    assert envs.distribution("toys/tiny") is envs.distribution("gridworld/small")
    assert ("toys/other", "a task") in envs.names()
    env, _ = envs.make("tiny")
    assert env is envs.distribution("small").env
    assert envs.suites.discover()["playroom"].environments == ("toys/tiny",)


def test_gridworld_has_exact_returns_and_pictures():
    family = envs.families()["gridworld"]
    assert family.expected_returns is envs.gridworld.planning.expected_returns
    assert family.render is envs.gridworld.render.render


def test_the_path_of_gridworld_states_is_what_its_pictures_take():
    family = envs.families()["gridworld"]
    env, level = envs.make("gridworld/rand_sparse")
    _, states = jax.vmap(env.reset, in_axes=(0, None))(jax.random.split(jax.random.key(0), 3), level)
    path = family.path(states)
    assert path.tolist() == states.cell.tolist()
    assert np.any(family.render(env, level, path=path) != family.render(env, level))


def test_a_name_that_two_families_have_needs_its_family():
    assert envs.distribution("chain/long") is not envs.distribution("gridworld/long")
    with pytest.raises(envs.UnknownNameError, match="did you mean"):
        envs.distribution("long")


def test_a_gymnax_environment_is_a_distribution_of_one_level_without_a_horizon():
    found = envs.distribution("CartPole-v1")
    assert found.horizon is None
    with pytest.raises(ValueError, match=r"'CartPole-v1' have no horizon"):
        found.sample(jax.random.key(0))
    levels = jax.vmap(found.with_horizon(7, 7).sample)(jax.random.split(jax.random.key(0), 3))
    assert levels.horizon.tolist() == [7, 7, 7]
    assert levels.params.gravity.tolist() == pytest.approx([9.8] * 3)
    assert "CartPole-v1" not in envs.distributions()


@pytest.mark.skipif(importlib.util.find_spec("brax") is None, reason="the extra brax")
def test_a_brax_environment_is_a_distribution_of_one_level_too():
    found = envs.distribution("brax/inverted_pendulum", backend="spring")
    assert (found.name, found.env.backend, found.horizon) == ("brax/inverted_pendulum", "spring", None)
    level = found.with_horizon(3, 3).sample(jax.random.key(0))
    assert (level.horizon, level.params.max_steps_in_episode) == (3, 1000)
    assert envs.family_of("brax/reacher").name == "brax"


def test_the_family_of_a_distribution_is_found_by_its_name():
    assert envs.family_of("all").name == envs.family_of("gridworld/all").name == "gridworld"
    assert envs.family_of("chain/long").name == "chain"
    assert envs.family_of("CartPole-v1").name == "gymnax"
