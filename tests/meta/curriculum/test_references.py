"""What scores compare with: antagonists against one agent at a time, the optimum, and what costs nothing."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_discovery.discovery.learning.build import make_learner
from rl_discovery.discovery.objectives.a2c import A2C
from rl_discovery.discovery.sharding import make_mesh
from rl_discovery.discovery.types import Progress
from rl_discovery.envs.gridworld import planning
from rl_discovery.meta import scale
from rl_discovery.meta.build import make_program
from rl_discovery.meta.curriculum.base import not_replayed
from rl_discovery.meta.curriculum.references import Antagonist, Optimum, add_references
from rl_discovery.meta.errors import ConfigError
from rl_discovery.meta.scale import Planner
from tests.meta.tiny import tiny

KEY = jax.random.key(2)
HORIZONS = jnp.array([3, 2, 5])  # the last, which lanes of padding read, is the longest
ALL, NONE = jnp.ones(3, bool), jnp.zeros(3, bool)

calls = []


class Overheard(A2C):
    """A2C that tells of each update of a block."""

    def targets(self, meta_params, experience, progress):
        jax.debug.callback(lambda n: calls.append(int(n)), progress.done)
        return super().targets(meta_params, experience, progress)


@pytest.fixture(scope="module")
def levels():
    distribution = tiny().levels.build()
    found = jax.vmap(distribution.sample)(jax.random.split(KEY, 3))
    return dataclasses.replace(found, horizon=HORIZONS)


@pytest.fixture(scope="module")
def returns(levels):
    """`Antagonist.returns` in blocks of two, as a program makes it, with an A2C that counts its updates."""
    curriculum = {"score": "algorithmic_regret", "buffer_size": 3}
    made = make_program(tiny(curriculum=curriculum, block_size=2)).tasks[0].references
    assert isinstance(made, Antagonist)
    overheard = dataclasses.replace(made, learner=dataclasses.replace(made.learner, objective=Overheard()))
    jitted = jax.jit(lambda wanted: overheard.returns(levels, wanted, KEY))

    def returns(wanted):
        calls.clear()
        found = np.asarray(jitted(wanted))
        jax.effects_barrier()
        return found, len(calls)

    return returns


@pytest.mark.slow
def test_an_antagonist_is_an_a2c_agent_trained_alone_for_the_levels_lifetime(levels, returns):
    config = tiny()
    # Tables: A2C's own step sizes, and everything else as for the agents.
    settings = dataclasses.replace(config.agent, policy_learning_rate=80.0, head_learning_rate=4.0)
    env = config.levels.build().env
    learner = make_learner(env, jax.tree.map(lambda leaf: leaf[0], levels.params), settings, A2C())
    begin, update, evaluate = map(jax.jit, (learner.begin, learner.update, learner.evaluate))
    found, _ = returns(ALL)
    for i, horizon in enumerate(HORIZONS.tolist()):
        level, key = jax.tree.map(lambda leaf, i=i: leaf[i], levels.params), jax.random.fold_in(KEY, i)
        train_state = begin(key, level)
        for n in range(horizon):
            train_state, _ = update({}, level, key, Progress(jnp.int32(n), jnp.int32(horizon)), train_state)
        np.testing.assert_allclose(found[i], evaluate(level, key, train_state), rtol=1e-5, atol=1e-6)
    assert np.any(found != 0)


def test_only_levels_that_are_wanted_are_trained_on(returns):
    # Blocks of two run to their longer horizon: 5 and 3 together, 2 with a lane of padding.
    everything, updates = returns(ALL)
    assert updates == 5 + 2
    found, updates = returns(jnp.array([False, True, False]))
    assert updates == 2
    np.testing.assert_allclose(found[1], everything[1], rtol=1e-5, atol=1e-6)
    found, updates = returns(NONE)
    assert updates == 0
    np.testing.assert_array_equal(found, 0.0)


@dataclasses.dataclass
class Asked:
    """References that remember what they were asked for."""

    wanted: list = dataclasses.field(default_factory=list)

    def returns(self, levels, wanted, key):
        del levels, key
        self.wanted = wanted.tolist()
        return jnp.arange(1.0, 1.0 + wanted.size)


def test_replayed_levels_keep_the_reference_of_the_buffer_and_ask_for_no_other(levels):
    level_batch = dataclasses.replace(
        not_replayed(levels, 3),
        replayed=jnp.array([False, True, False]),
        reference_return=jnp.array([0.0, -7.0, 0.0]),
    )
    asked = Asked()
    found = add_references(asked, level_batch, jnp.array([True, True, False]), KEY)
    assert asked.wanted == [True, False, False]
    np.testing.assert_array_equal(found.reference_return[:2], [1.0, -7.0])


def test_the_optimum_is_that_of_exact_planning(levels, monkeypatch):
    monkeypatch.setattr(scale, "PLANNING_BLOCK", 2)
    env = tiny().levels.build().env
    made = make_program(tiny(curriculum={"score": "learnability", "buffer_size": 3})).tasks[0].references
    assert isinstance(made, Optimum)
    returns = jax.jit(lambda wanted: made.returns(levels, wanted, KEY))
    found = returns(ALL)
    np.testing.assert_allclose(found, planning.expected_returns(env, levels.params)[0], rtol=1e-5, atol=1e-6)
    assert len(set(found.tolist())) == 3
    np.testing.assert_array_equal(returns(NONE), 0.0)


def test_planning_is_only_asked_for_where_a_level_is_wanted(levels, monkeypatch):
    monkeypatch.setattr(scale, "PLANNING_BLOCK", 1)
    planned = []

    def solve(params):
        jax.debug.callback(lambda start: planned.append(int(start[0])), params.start)
        return jnp.ones(1), jnp.zeros(1)

    found = Optimum(Planner(solve, make_mesh(1))).returns(levels, jnp.array([False, True, False]), KEY)
    jax.effects_barrier()
    np.testing.assert_array_equal(found, [0.0, 1.0, 0.0])
    assert planned == [int(levels.params.start[1])]


@pytest.mark.parametrize(
    ("distribution", "words"),
    [
        ("rand_dense", "'learnability' does not work with 'rand_dense' levels: .* places objects at random"),
        (
            "CartPole-v1",
            "'learnability' needs exact optimal returns, which 'gymnax' environments do not have",
        ),
    ],
)
def test_an_optimum_that_nobody_can_compute_is_one_line(distribution, words):
    config = tiny(
        curriculum={"score": "learnability"},
        levels={"distribution": distribution, "horizon": 3},
        agent={"network": "mlp"},
    )
    with pytest.raises(ConfigError, match=words) as error:
        make_program(config)
    assert "\n" not in str(error.value)
