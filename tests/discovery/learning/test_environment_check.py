"""What is refused before anything is trained: environments that do not do what they say."""

import dataclasses
from types import SimpleNamespace

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from gymnasium import spaces as gymnasium
from gymnax import wrappers
from gymnax.environments import environment, spaces

from rl_discovery import discovery, envs
from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.discovery.agents.spaces import InvalidEnvironmentError
from rl_discovery.discovery.learning.build import make_learner
from rl_discovery.discovery.learning.environment_check import check_environment, check_table
from rl_discovery.discovery.learning.settings import default_config
from rl_discovery.discovery.objectives.a2c import A2C
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.envs.levels import LevelDistribution
from rl_discovery.evaluation import lanes
from rl_discovery.evaluation.tasks import EvaluationTask
from rl_discovery.meta.build import make_program
from rl_discovery.meta.config import LevelsConfig
from rl_discovery.meta.errors import ConfigError
from tests.meta.tiny import tiny

LEVEL = environment.EnvParams(max_steps_in_episode=5)


class Line(environment.Environment):
    """Four cells; an action moves on to the next, or back to the first from the last."""

    seen, acted = spaces.Discrete(4), spaces.Discrete(2)

    def observe(self, time):
        return time % 4

    def reward(self, time):
        return jnp.float32(time)

    def reset_env(self, key, params):
        return self.observe(jnp.int32(0)), environment.EnvState(time=jnp.int32(0))

    def step_env(self, key, state, action, params):
        time = state.time + 1
        return self.observe(time), environment.EnvState(time=time), self.reward(time), time > 9, {}

    def action_space(self, params=None):
        return self.acted

    def observation_space(self, params=None):
        return self.seen


class Vectors(Line):
    """The same as pixels."""

    seen = gymnasium.Box(0, 255, (2,), np.uint8)

    def observe(self, time):
        return jnp.full(2, time, jnp.uint8)


def line(base=Line, **changes):
    return type("Line", (base,), changes)()


def stepping(change):
    """With what `step` returns changed."""
    return line(step=lambda self, *args: change(*Line.step(self, *args)))


class Bare:
    """Follows gymnax without being of its classes, and has no name."""

    def __init__(self):
        self.inner = Line()

    def __getattr__(self, name):
        if name in ("reset", "step", "action_space", "observation_space"):
            return getattr(self.__dict__["inner"], name)
        raise AttributeError(name)


@dataclasses.dataclass
class Dataclass(Line):
    size: int = 3


@struct.dataclass
class OtherState:
    time: int
    more: int = 0


def failing(self, *_):
    raise RuntimeError("out of\ncheese")


PAIR = {"a": spaces.Discrete(2)}
BAD = {
    "dict observations": (line(seen=spaces.Dict(PAIR)), "observations are a Dict: agents take a Discrete or"),
    "tuple observations": (
        line(seen=gymnasium.Tuple([])),
        "observations are a Tuple: agents take a Discrete",
    ),
    "several numbers": (line(seen=gymnasium.MultiDiscrete([2, 3])), "observations are a MultiDiscrete"),
    "dict actions": (line(acted=spaces.Dict(PAIR)), "actions are a Dict: agents take a Discrete or a Box"),
    "whole numbers": (line(acted=gymnasium.Box(0, 3, (1,), np.int32)), "actions are whole numbers in a Box"),
    "another start": (line(seen=gymnasium.Discrete(4, start=1)), "observations are numbered from 1"),
    "dicts where a number was promised": (
        line(observe=lambda _, t: {"a": t}),
        "reset observes a dict, not one",
    ),
    "another shape": (
        line(seen=spaces.Box(0, 9, (3,))),
        r"reset observes int32 of shape \(\), its space is Box",
    ),
    "another kind": (
        line(observe=lambda _, t: t * 0.5),
        r"reset observes float32 of shape \(\), its space is",
    ),
    "a vector as reward": (
        line(reward=lambda _, t: t[None] * 1.0),
        r"reward is float32 of shape \(1,\), not a",
    ),
    "5 values": (
        stepping(lambda o, s, r, d, t, i: (o, s, r, d, i)),
        "step returns 5, not the 6 of gymnax 1.0: obs.*FiveValues wraps",
    ),
    "3 values of reset": (
        line(reset=lambda self, *_: (0, 0, 0)),
        "reset returns 3, not the 2 of gymnax 1.0: obs",
    ),
    "no final observation": (stepping(lambda *all: (*all[:5], {})), "info has no 'final_observation'"),
    "another final one": (
        stepping(lambda *all: (*all[:5], {"final_observation": jnp.zeros(3)})),
        r"info\['final_observation'\] observes float32 of shape \(3,\)",
    ),
    "numbers as ends": (
        stepping(lambda o, s, r, d, t, i: (o, s, r, d * 1.0, t, i)),
        r"terminated is float32 of shape \(\), not True or False",
    ),
    "another state": (
        stepping(lambda o, s, r, d, t, i: (o, OtherState(s.time), r, d, t, i)),
        "step returns another kind of state",
    ),
    "an error of its own": (line(step_env=failing), "step.* fails under jit: RuntimeError: out of$"),
    "an error in a space": (line(action_space=failing), "action_space.* fails: RuntimeError: out of$"),
    "a branch on values": (
        line(reward=lambda _, time: 1.0 if time > 2 else 0.0),
        "step.* fails under jit: TracerBoolConversionError: Attempted boolean conversion",
    ),
    "a dataclass": (
        Dataclass(),
        "cannot be hashed, as compiled functions need it: a dataclass needs eq=False",
    ),
    "gymnasium's environment": (
        SimpleNamespace(action_space=spaces.Discrete(2)),
        "has no method observation_spa",
    ),
    "gymnax's old step": (wrappers.LegacyStepAPIWrapper(Line()), "step returns 5, not the 6"),
    "flattened numbers": (
        wrappers.FlattenObservationWrapper(Line()),
        "observation_space.* fails: AssertionError",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_each_fault_is_one_line_whoever_finds_it(kind):
    env, words = BAD[kind]
    for look in (
        lambda: check_environment(env, LEVEL),
        lambda: discovery.train("a2c", env, LEVEL, 1),
        lambda: make_learner(env, LEVEL, AgentConfig(), A2C()),
    ):
        with pytest.raises(InvalidEnvironmentError, match=words) as caught:
            look()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("level", "words"),
    [
        (None, "the level is None: give .* env.default_params"),
        (object(), "the level, a object, is no pytree"),
    ],
)
def test_what_is_no_level_is_refused(level, words):
    with pytest.raises(InvalidEnvironmentError, match=words):
        discovery.train("a2c", Line(), level, 1)


OUTSIDE = [line(observe=lambda _, time: time), line(observe=lambda _, time: -time)]


@pytest.mark.parametrize("env", OUTSIDE, ids=["above", "below"])
def test_a_row_that_a_table_does_not_have_is_refused(env):
    with pytest.raises(InvalidEnvironmentError, match=r"Line: observation -?\d is outside of Discrete\(4"):
        discovery.train("a2c", env, LEVEL, 1)


def level_of(env):
    return LevelDistribution("line", "", env, lambda key: jax.tree.map(jnp.asarray, LEVEL), (2, 2))


@pytest.mark.parametrize("env", [BAD["5 values"][0], OUTSIDE[0]], ids=["5 values", "outside"])
def test_evaluation_and_meta_training_refuse_the_same(env, monkeypatch):
    levels = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], LEVEL)
    unknown = np.full(1, np.nan)
    task = EvaluationTask("line", env, levels, unknown, unknown)
    with pytest.raises(InvalidEnvironmentError) as alone:
        make_learner(env, LEVEL, AgentConfig(), A2C())
    objective = TrainedObjective(A2C(), {})
    trial = SimpleNamespace(task=task, agent=task.agent_for(objective, 2), objective=objective)
    with pytest.raises(lanes.EvaluationError) as evaluating:
        lanes.make_trainer(trial, None, 1, 1)
    monkeypatch.setattr(LevelsConfig, "build", lambda self: level_of(env))
    with pytest.raises(ConfigError) as evolving:
        make_program(tiny())
    assert str(evaluating.value) == str(evolving.value) == str(alone.value)


GOOD = {
    "gymnax's": Line(),
    "gymnasium's numbers": line(seen=gymnasium.Discrete(4), acted=gymnasium.Discrete(2)),
    "gymnasium's vectors": Vectors(),
    "pixels of gymnax": line(Vectors, seen=spaces.Box(0, 255, (2,), jnp.uint8)),
    "vectors as actions": line(acted=gymnasium.Box(-1.0, 1.0, (1,), np.float64)),
    "no name, no base": Bare(),
}


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("rule", ["a2c", "ppo"])
def test_what_means_the_same_is_taken(rule, kind):
    env = GOOD[kind]
    config = dataclasses.replace(
        default_config(env, LEVEL, discovery.make_objective(rule)), workers=2, rollout_steps=4, minibatches=1
    )
    make_learner(env, LEVEL, config, discovery.make_objective(rule))


def test_pixels_are_learned_from():
    config = AgentConfig(network="mlp", hidden=(3,), workers=2, rollout_steps=4, scale_observations=True)
    _, history = discovery.train("a2c", GOOD["gymnasium's vectors"], LEVEL, 1, config=config, evaluations=1)
    assert history["return"] == [1.0 + 2 + 3 + 4 + 5]


@pytest.mark.parametrize("name", envs.registry.gymnax_ids())
def test_gymnaxs_own_environments_pass(name):
    check_environment(*gymnax.make(name))


def test_our_families_pass():
    for distribution in envs.distributions().values():
        level = distribution.blank().params
        check_environment(distribution.env, level)
        check_table(distribution.env, level)
