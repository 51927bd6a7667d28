"""What adapters of other libraries share, on gymnax's CartPole in the place of another library."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_discovery import discovery, envs
from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.discovery.extras import Extra, install
from rl_discovery.discovery.learning.environment_check import InvalidEnvironmentError, check_environment
from rl_discovery.envs.adapter import AdaptedEnvironment
from tests.discovery.experience import CARTPOLE
from tests.envs.libraries import play

EXTRAS = {name: family.extra for name, family in envs.FAMILIES.items() if family.extra is not None}
LIMIT = 12


class Library(AdaptedEnvironment):
    """CartPole as if its state and spaces were another library's."""

    def begin(self, key):
        return CARTPOLE.reset_env(key, CARTPOLE.default_params)

    def advance(self, key, inner, action):
        return CARTPOLE.step_env(key, inner, action, CARTPOLE.default_params)[:4]

    def action_space(self, params=None):
        return CARTPOLE.action_space(params)

    def observation_space(self, params=None):
        return CARTPOLE.observation_space(params)


class OldCartPole(type(CARTPOLE)):
    """As it was before gymnax 1.0: one `done` for both ends, from five values."""

    def step_env(self, key, state, action, params):
        observation, state, reward, terminated, info = super().step_env(key, state, action, params)
        return observation, state, reward, terminated | (state.time >= params.max_steps_in_episode), info

    def step(self, key, state, action, params=None):
        return self.step_env(key, state, action, params)


def limited():
    return CARTPOLE.default_params.replace(max_steps_in_episode=LIMIT)


def test_an_adapted_environment_goes_as_gymnaxs_own_with_the_limit_of_its_level():
    env = Library("library/cartpole", LIMIT)
    assert env.name == "library/cartpole"
    for seed in range(3):
        adapted, own = play(env, env.default_params, 60, seed), play(CARTPOLE, limited(), 60, seed)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), adapted, own)
        assert adapted.terminated.any()
        assert adapted.truncated.any()


def test_of_five_values_every_end_is_taken_for_a_termination():
    env = envs.FiveValues(OldCartPole())
    five, own = play(env, limited(), 60), play(CARTPOLE, limited(), 60)
    assert own.truncated.any()
    np.testing.assert_array_equal(five.terminated, own.terminated | own.truncated)
    assert not five.truncated.any()
    for part in ("observation", "last", "reward"):
        np.testing.assert_array_equal(getattr(five, part), getattr(own, part))


def test_an_agent_trains_on_an_environment_of_five_values():
    plan = {"network": "mlp", "hidden": (8,), "optimiser": "adam", "policy_learning_rate": 1e-2}
    config = AgentConfig(**plan, workers=2, rollout_steps=4)
    env = envs.FiveValues(OldCartPole())
    _, history = discovery.train("a2c", env, env.default_params, 3, config=config, evaluations=1)
    assert history["return"][-1] >= 1


def test_an_environment_of_five_values_by_itself_is_refused_with_what_wraps_it():
    old = OldCartPole()
    with pytest.raises(InvalidEnvironmentError, match=r"returns 5, .*FiveValues wraps"):
        check_environment(old, old.default_params)


def test_what_is_no_environment_is_not_wrapped():
    with pytest.raises(
        ValueError, match=r"object is no environment of gymnax 0\.x: it has no reset_env, step_env"
    ):
        envs.FiveValues(object())


@pytest.mark.parametrize("family", EXTRAS)
def test_without_its_library_an_environment_says_what_installs_it(family, monkeypatch):
    absent = Extra(EXTRAS[family].name, module="rl_discovery_absent")
    module = importlib.import_module(f"rl_discovery.envs.{family}")
    monkeypatch.setattr(module, "EXTRA", absent)
    getattr(module, "load_task", getattr(module, "load", None)).cache_clear()
    task = next(task for task in module.TASKS if task not in getattr(module, "REFUSED", {}))
    with pytest.raises(ValueError, match=r"which is not installed: .*pip install ") as caught:
        envs.make(f"{family}/{task}")
    assert install(absent.name) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("family", EXTRAS)
def test_every_extra_of_a_family_is_declared(family):
    assert family in install(EXTRAS[family].name)


def test_levels_of_adapted_environments_are_arrays():
    level = jax.tree.map(jnp.asarray, Library("library/cartpole", LIMIT).default_params)
    assert int(level.max_steps_in_episode) == LIMIT
