"""Environments that a subclass, a wrapper or somebody's hand changed act as gymnax's own path says."""

import copy
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from gymnax import wrappers

from rl_discovery import envs
from rl_discovery.discovery.learning import vector_env
from rl_discovery.envs.gridworld.env import GridWorld
from rl_discovery.envs.registry import GYMNAX
from tests.discovery.experience import CARTPOLE, as_arrays, small_grid
from tests.discovery.learning.test_vector_env import gymnax_transition, split, uniforms_of

W, STEPS = 3, 30
"""Time enough for some episode of each environment to end."""


@struct.dataclass
class Inner:
    """A state of the stand-in for Brax's physics."""

    obs: jax.Array
    reward: jax.Array
    done: jax.Array
    metrics: dict
    info: dict


class Rolling:
    """A ball on a line, by Brax's interface: Brax itself takes half a minute to compile."""

    action_size, observation_size = 1, 2

    def reset(self, key):
        zero = jnp.float32(0.0)
        return Inner(jax.random.uniform(key, (2,)), zero, zero, {}, {})

    def step(self, state, action):
        place, speed = state.obs
        obs = jnp.stack([place + 0.1 * speed, speed + action[0]])
        return state.replace(obs=obs, reward=speed, done=(jnp.abs(obs[0]) > 1.0).astype(jnp.float32))


def brax_environment():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(envs.brax, "load_task", lambda task, backend: Rolling())
        env = envs.brax.BraxEnvironment("reacher")
    return env, env.default_params.replace(max_steps_in_episode=20)


def planes():
    env = GridWorld(3, 1, observation="planes", random_placement=True)
    return env, env.default_params.replace(max_steps_in_episode=20)


FAMILIES = {
    "gridworld": small_grid,
    "chain": lambda: envs.make("chain/short"),
    "brax": brax_environment,
    GYMNAX.name: lambda: (CARTPOLE, CARTPOLE.default_params),
}
"""One environment of each."""

BOXES = {"planes": planes, "bits": lambda: envs.make("chain/state_distraction")}
"""Those that are driven by uniform numbers and can be flattened."""


class CostInStep:
    def step(self, key, state, action, params=None):
        observation, state, reward, *rest = super().step(key, state, action, params)
        return observation, state, reward - 1.0, *rest


class CostInStepEnv:
    def step_env(self, key, state, action, params):
        observation, state, reward, *rest = super().step_env(key, state, action, params)
        return observation, state, reward - 1.0, *rest


class LaterBeginning:
    def reset_env(self, key, params):
        observation, state = super().reset_env(key, params)
        return observation, state.replace(time=state.time + 1)


class CostInStepFrom:
    """What `step_env` says as well, because it calls this."""

    def step_from(self, noise, state, action, level):
        observation, state, reward, terminated = super().step_from(noise, state, action, level)
        return observation, state, reward - 1.0, terminated


def as_it_is(env):
    return env


def on_the_object(env):
    changed, own = copy.copy(env), env.step_env

    def step_env(*arguments):
        observation, state, reward, *rest = own(*arguments)
        return observation, state, reward - 1.0, *rest

    changed.step_env = step_env
    return changed


def subclass(*changes):
    def make(env):
        kind = type("Changed", (*changes, type(env)), {})
        changed = object.__new__(kind)
        vars(changed).update(vars(env))
        return changed

    return make


def sticky(env):
    return wrappers.StickyActionWrapper(env, 0.3)


def chain(*functions):
    return lambda env: functools.reduce(lambda env, function: function(env), functions, env)


changed = subclass(CostInStepEnv, LaterBeginning)
KINDS = {
    "as it is": as_it_is,
    "step": subclass(CostInStep),
    "step_env": subclass(CostInStepEnv),
    "reset_env": subclass(LaterBeginning),
    "step_from": subclass(CostInStepFrom),
    "step_env, then step_from": chain(subclass(CostInStepEnv), subclass(CostInStepFrom)),
    "on the object": on_the_object,
    "log": chain(changed, wrappers.LogWrapper),
    "sticky": chain(changed, sticky),
    "flatten": chain(changed, wrappers.FlattenObservationWrapper),
    "log around sticky": chain(changed, sticky, wrappers.LogWrapper),
}


# Without optimisation, which would take most of the time.
@functools.partial(jax.jit, static_argnums=(0, 2), compiler_options={"xla_backend_optimization_level": 0})
def both_ways(env, level, fast, key):
    """The same random steps as rollouts take them, and as gymnax's own `step` does."""
    keys = jax.random.split(key, (STEPS, W))
    noise = None if fast else vector_env.draw(env, key, level, STEPS, W)
    _, first = vector_env.reset(env, key, level, W)

    def advance(states, now):
        noise, keys = now
        noise = uniforms_of(env, split(keys)) if fast else noise
        actions = jax.vmap(env.action_space(level).sample)(keys)
        found = vector_env.step(env, noise, states, actions, level)
        return found.state, (found, gymnax_transition(env, keys, states, actions, level))

    return jax.lax.scan(advance, first, (noise, keys))[1]


def applies(name, kind):
    """gymnax flattens boxes alone and repeats discrete actions alone; `step_from` is of some."""
    if "flatten" in kind:
        return name not in ("gridworld", "chain")
    if "step_from" in kind:
        return name not in ("brax", GYMNAX.name)
    return name != "brax" or kind not in ("sticky", "log around sticky")


CASES = [
    *((name, kind) for name in FAMILIES for kind in KINDS if applies(name, kind)),
    *((name, kind) for name in BOXES for kind in ("as it is", "reset_env", "flatten")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_every_environment_acts_as_gymnaxs_own_path_says(name, kind):
    env, level = (FAMILIES | BOXES)[name]()
    env = KINDS[kind](env)
    found, expected = both_ways(env, as_arrays(level), vector_env.is_noise_driven(env), jax.random.key(0))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), found, expected)
    assert np.any(found.terminated | found.truncated)


@pytest.mark.parametrize("kind", ["as it is", "step_from"])
@pytest.mark.parametrize("name", ["gridworld", "chain", *BOXES])
def test_what_changes_nothing_that_is_replaced_keeps_the_fast_path(name, kind):
    assert vector_env.is_noise_driven(KINDS[kind]((FAMILIES | BOXES)[name]()[0]))


def test_no_family_is_left_out():
    """Other libraries' have tests of their own, in tests/envs, where their extras are installed."""
    ours = {name for name, family in envs.FAMILIES.items() if family.extra is None}
    assert set(FAMILIES) == {*ours, "brax", GYMNAX.name}


@pytest.mark.parametrize("kind", ["step", "step_env", "on the object", "log"])
@pytest.mark.parametrize("name", FAMILIES)
def test_no_compiled_function_takes_a_changed_environment_for_the_one_it_was_made_of(name, kind):
    env = FAMILIES[name]()[0]
    assert KINDS[kind](env) != env


@pytest.mark.parametrize("name", ["gridworld", "brax"])
def test_options_leave_a_subclass_what_it_is(name):
    env = subclass(CostInStepEnv)(FAMILIES[name]()[0])
    env.weight = 3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(envs.brax, "load_task", lambda task, backend: Rolling())
        other = env.with_options(**({"diagonal": True} if name == "gridworld" else {"action_repeat": 2}))
    assert (type(other), other.weight) == (type(env), 3)
    assert getattr(other, "num_actions" if name == "gridworld" else "action_repeat") in (9, 2)
