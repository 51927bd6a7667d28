import functools
import sys
from collections.abc import Sequence

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_discovery import envs
from rl_discovery.envs import registry
from rl_discovery.envs.levels import UnusableEnvironmentError
from rl_discovery.scripts import cli, doctor
from tests.discovery.experience import CARTPOLE

NEW_FAMILY = """
from rl_discovery.envs.gridworld import DISTRIBUTIONS
from rl_discovery.envs.levels import Family, sample_one
from rl_discovery.envs.suites import Suite

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
    assert envs.distribution(name) is envs.FAMILIES["gridworld"].distributions["all"]


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
    assert envs.family_of("all,diagonal=true") is envs.FAMILIES["gridworld"]


class Switches(type(CARTPOLE)):
    """One option of each kind, as `taken` shows them."""

    def __init__(
        self,
        switch: bool = True,
        count: int = 1,
        share: float = 0.5,
        word: str | None = "x",
        cells: Sequence[int] | None = None,
        unsaid=2,
        unknown=None,
    ):
        self.taken = (switch, count, share, word, cells, unsaid, unknown)

    def with_options(self, **options):
        return Switches(**options)


@pytest.fixture(params=["a family's", "gymnax's"])
def switches(request, monkeypatch):
    """What an environment with these options takes, as a member of a family and as one of gymnax."""
    distribution = registry.LevelDistribution(
        "all", "", Switches(), lambda key: CARTPOLE.default_params, (1, 1)
    )
    family = registry.Family("switches", "", {"all": distribution}, make=lambda *_: (Switches(), None))
    if request.param == "gymnax's":
        monkeypatch.setitem(gymnax.registration._registry, "Switches-v0", Switches)
        monkeypatch.setattr(gymnax.registration, "registered_envs", ["Switches-v0"])
        monkeypatch.setattr(gymnax, "registered_envs", ["Switches-v0"])
        name = "Switches-v0"
    else:
        monkeypatch.setitem(registry.FAMILIES, "switches", family)
        name = "switches/all"
    return lambda options, **more: envs.make(f"{name},{options}".rstrip(","), **more)[0].taken


DEFAULTS = dict(
    zip(
        ("switch", "count", "share", "word", "cells", "unsaid", "unknown"),
        Switches().taken,
        strict=True,
    )
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((f"switch={text}", False) for text in ("false", "False", "FALSE", "0")),
        *((f"switch={text}", True) for text in ("true", "True", "1")),
        *((f"count={text}", int(text)) for text in ("7", "-7", "+7")),
        *((f"share={text}", float(text)) for text in ("0.25", "-.5", "1e-3", "2")),
        *((f"word={text}", text) for text in ("8x8", "7", "true")),
        ("word=none", None),
        ("cells=[1,-2]", [1, -2]),
        ("cells=(1,2)", [1, 2]),
        ("cells=None", None),
        ("unsaid=-3", -3),
        *((f"unknown={text}", value) for text, value in (("False", False), ("-1.5", -1.5), ("word", "word"))),
    ],
)
def test_an_option_in_a_name_is_what_the_constructor_takes(switches, text, value):
    option = text.partition("=")[0]
    taken = dict(zip(DEFAULTS, switches(f"{text},count=3" if option != "count" else text), strict=True))
    assert taken == DEFAULTS | {"count": 3} | {option: value}
    assert type(taken[option]) is type(value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("switch=no", "switch must be true or false, not 'no'"),
        ("switch=2", "switch must be true or false, not '2'"),
        ("count=many", "count must be a whole number, not 'many'"),
        ("count=1.5", "count must be a whole number, not '1.5'"),
        ("count=true", "count must be a whole number, not 'true'"),
        ("share=half", "share must be a number, not 'half'"),
        ("cells=7", r"cells must be a list such as \[1,2\] or none, not '7'"),
        ("unsaid=word", "unsaid must be a whole number, not 'word'"),
    ],
)
def test_text_for_a_number_or_a_switch_is_refused(switches, text, words):
    with pytest.raises(UnusableEnvironmentError, match=words):
        switches(text)


def test_text_from_python_is_refused_too(switches):
    with pytest.raises(UnusableEnvironmentError, match="switch must be true or false, not 'False'"):
        switches("", switch="False")
    assert switches("", word="7", count=np.int64(3))[1:4] == (3, 0.5, "7")


@pytest.mark.parametrize("name", ["MetaMaze-misc,maze_size=4"])
def test_an_assertion_of_a_constructor_is_one_line(name):
    with pytest.raises(UnusableEnvironmentError, match="MetaMaze-misc: impossible options: maze_size"):
        envs.make(name)


@pytest.mark.parametrize(
    ("name", "attribute", "value"),
    [
        ("gridworld/dense,diagonal=False", "num_actions", 5),
        ("gridworld/dense,diagonal=TRUE", "num_actions", 9),
        ("FrozenLake-misc,is_slippery=False", "is_slippery", False),
        ("FrozenLake-misc,success_rate=0.25,map_name=8x8", "success_rate", 0.25),
        ("FrozenLake-misc,map_name=8x8", "nrow", 8),
        ("Breakout-MinAtar,use_minimal_action_set=False", "num_actions", 6),
    ],
)
def test_options_of_real_environments(name, attribute, value):
    assert getattr(envs.make(name)[0], attribute) == value


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
def _toys(tmp_path, monkeypatch, request):
    """A module of `envs`, one that defines a family unless told otherwise, for one test."""
    (tmp_path / "toys.py").write_text(getattr(request, "param", NEW_FAMILY))
    monkeypatch.setattr(envs, "__path__", [*envs.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "rl_discovery.envs.toys", raising=False)
    registry.modules.cache_clear()
    registry.FAMILIES.refresh()
    yield
    monkeypatch.undo()
    sys.modules.pop("rl_discovery.envs.toys", None)
    registry.modules.cache_clear()
    registry.FAMILIES.refresh()


@pytest.mark.usefixtures("_toys")
def test_a_new_family_is_one_file():
    assert envs.distribution("toys/tiny") is envs.distribution("gridworld/small")
    assert ("toys/other", "a task") in envs.names()
    env, _ = envs.make("tiny")
    assert env is envs.distribution("small").env
    assert envs.suites.discover()["playroom"].environments == ("toys/tiny",)


@pytest.mark.parametrize(
    ("_toys", "reason"),
    [
        ("import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("def (", "SyntaxError: "),
        ("raise SystemExit(2)", "SystemExit: 2"),
        ("FAMILY = 'Atari'", "TypeError: its FAMILY is a str, not an envs.Family"),
    ],
    indirect=["_toys"],
)
@pytest.mark.usefixtures("_toys")
def test_a_broken_file_is_skipped_by_all_others_and_named_where_it_is_asked_for(reason, tmp_path, capsys):
    assert envs.make("gridworld/dense")[0].max_size == 11
    ((place, said),) = envs.broken_modules().items()
    assert (place, said[: len(reason)]) == (f"{tmp_path}/toys", reason)
    for look_up in (envs.make, envs.distribution, envs.suite):
        with pytest.raises(envs.UnknownNameError) as caught:
            look_up("toys/tiny")
        assert f"{place} was skipped: {reason}" in str(caught.value)
        assert "\n" not in str(caught.value)
    for kind in ("envs", "suites"):
        assert cli.main(["list", kind]) == 0
        captured = capsys.readouterr()
        assert f"skipped {place}: {reason}" in captured.err
        assert "unseen" in captured.out or "gridworld/dense" in captured.out
    (check,) = doctor.plugins()
    assert (check.name, check.status) == (place, "note")


def test_gridworld_has_exact_returns_and_pictures():
    family = envs.FAMILIES["gridworld"]
    assert family.expected_returns is envs.gridworld.planning.expected_returns
    assert family.render is envs.gridworld.render.render


def test_the_path_of_gridworld_states_is_what_its_pictures_take():
    family = envs.FAMILIES["gridworld"]
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


@pytest.mark.needs("brax")
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
