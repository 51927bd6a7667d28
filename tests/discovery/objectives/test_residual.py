"""LPG's residual form starts as A2C, and in PPO's loop as PPO; what it learns does what the docstring
says."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_discovery.discovery.agents.agent import make_agent
from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.discovery.learning.build import make_learner
from rl_discovery.discovery.learning.update import update_agent
from rl_discovery.discovery.objectives.a2c import A2C
from rl_discovery.discovery.objectives.lpg import LPG
from rl_discovery.discovery.objectives.ppo import PPO
from rl_discovery.discovery.types import BehaviourOutputs, Progress
from tests.discovery.experience import (
    CARTPOLE,
    GRID,
    PLANES,
    as_arrays,
    experience_of,
    progress,
    random_rollout,
    random_states,
    random_vectors,
    randomised,
    small_grid,
)

T, W = 7, 4
RULE = LPG(form="a2c_residual", schedule=True, width=5, bins=4, encoding="scaled")
# Small steps, which do not blow rounding up.
PPO_LOOP = {
    "epochs": 3,
    "minibatches": 2,
    "anneal": True,
    "clip_together": True,
    "policy_learning_rate": 1.0,
    "head_learning_rate": 0.5,
}
NETWORKS = {
    "tabular": {"network": "tabular"},
    "mlp": {"network": "mlp", "hidden": (6, 5)},
    "shared": {"network": "mlp", "hidden": (6,), "shared": True},
    "cnn": {"network": "cnn", "hidden": (5,)},
}


class Silent:
    """A rule whose agents have outputs besides the value, as in the residual form; nobody reads them."""

    head_size = RULE.head_size
    zero_outputs = RULE.zero_outputs

    def targets(self, meta_params, experience, when):
        return super().targets(meta_params, of_value(experience), when)

    def loss(self, meta_params, outputs, action, targets, when):
        return super().loss(meta_params, value_alone(outputs), action, targets, when)


class SilentA2C(Silent, A2C):
    """A2C with such agents."""


class SilentPPO(Silent, PPO):
    """PPO with such agents."""


# Half of the squared error is PPO's; its values are not clipped here.
A2CS = {"gae_lambda": 0.9, "entropy_coef": 0.02, "value_coef": 1.0, "value_clip": 1e9}


def value_alone(outputs):
    return dataclasses.replace(outputs, head=outputs.head[..., -1:])


def of_value(experience):
    return experience._replace(
        outputs=value_alone(experience.outputs),
        next_head=experience.next_head[..., -1:],
        last_outputs=value_alone(experience.last_outputs),
    )


def environment(network):
    if network == "cnn":
        return PLANES, small_grid()[1]
    return small_grid() if network == "tabular" else (CARTPOLE, CARTPOLE.default_params)


def rollout_for(network, rng):
    if network == "tabular":
        return as_arrays(random_rollout(rng, T, W, 5, random_states(rng, 36)))
    size = PLANES.observation_space(small_grid()[1]).shape if network == "cnn" else (4,)
    actions = 5 if network == "cnn" else 2
    return as_arrays(random_rollout(rng, T, W, actions, random_vectors(rng, *size)))


def trained(rule, meta_params, network, updates=3, config=None):
    """An agent's parameters after some updates on made-up rollouts with both kinds of ends."""
    env, level = environment(network)
    settings = AgentConfig(**NETWORKS[network] | (config or {}))
    agent = make_agent(settings, env, level, rule.head_size, getattr(rule, "zero_outputs", 0))
    update = jax.jit(
        lambda state, rollout, n: update_agent(
            rule, meta_params, agent, state, rollout, Progress(n, jnp.int32(40)), jax.random.key(2)
        )
    )
    state, rng = agent.init(jax.random.key(1)), np.random.default_rng(0)
    for n in range(updates):
        rollout = rollout_for(network, rng)
        if settings.epochs > 1:
            rollout = remembered(agent, state, rollout)
        state, _ = update(state, rollout, n)
    return state.params


def remembered(agent, state, rollout):
    outputs = agent.apply(state.params, rollout.observation)
    return dataclasses.replace(
        rollout, behaviour=BehaviourOutputs(outputs, agent.apply(state.params, rollout.next_observation).head)
    )


def assert_close(one, other):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), one, other)


@pytest.fixture(scope="module")
def zero_heads():
    """Random weights everywhere but in the heads and the schedule, which are zeros."""
    return RULE.init(jax.random.key(3))


@pytest.mark.parametrize("network", NETWORKS)
def test_at_zero_heads_every_update_is_a2cs(network, zero_heads):
    assert jax.tree.all(jax.tree.map(lambda leaf: not leaf.any(), zero_heads["heads"]))
    assert_close(trained(RULE, zero_heads, network), trained(SilentA2C(), {}, network))


@pytest.mark.parametrize("network", NETWORKS)
def test_in_ppos_loop_it_starts_as_ppo_with_a2cs_constants(network, zero_heads):
    ours = trained(RULE, zero_heads, network, config=PPO_LOOP)
    assert_close(ours, trained(SilentPPO(**A2CS), {}, network, config=PPO_LOOP))


def test_in_ppos_loop_its_schedule_bends_the_clip_as_ta_ppos(zero_heads):
    bent, ta_ppo = dataclasses.replace(RULE, schedule_clip=True), SilentPPO(schedule=True, **A2CS)
    assert bent.scheduled == ta_ppo.scheduled
    schedule = randomised(np.random.default_rng(5), jax.eval_shape(ta_ppo.init, jax.random.key(0)), 0.5)
    ours = trained(bent, zero_heads | schedule, "tabular", config=PPO_LOOP)
    assert_close(ours, trained(ta_ppo, schedule, "tabular", config=PPO_LOOP))
    narrow = {"schedule": schedule["schedule"] - np.array([0, 0, 3, 3], np.float32)}
    other = trained(bent, zero_heads | narrow, "tabular", config=PPO_LOOP)
    assert np.abs(other["policy"]["rows"] - ours["policy"]["rows"]).max() > 1e-4


def test_whole_lifetimes_at_zero_heads_are_a2cs(zero_heads):
    train_states = []
    env, level = small_grid()
    config = AgentConfig(workers=W, rollout_steps=T, policy_learning_rate=4.0, head_learning_rate=1.0)
    for rule, meta_params in ((RULE, zero_heads), (A2C(), {})):
        learner = make_learner(env, level, config, rule)
        train_state = learner.begin(jax.random.key(0), level)
        update = jax.jit(lambda train_state, n, learner=learner, meta_params=meta_params: learner.update(
            meta_params, level, jax.random.key(0), Progress(done=n, horizon=jnp.int32(10)), train_state
        )[0])  # fmt: skip
        for n in range(4):
            train_state = update(train_state, jnp.int32(n))
        train_states.append(train_state.agent.params)
    ours, a2cs = train_states
    np.testing.assert_allclose(ours["policy"]["rows"], a2cs["policy"]["rows"], atol=1e-5)
    np.testing.assert_allclose(ours["head"]["rows"][:, -1:], a2cs["head"]["rows"], atol=1e-5)


@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_a_new_agents_value_is_that_of_an_a2c_agent(network):
    env, level = environment(network)
    settings = AgentConfig(**NETWORKS[network])
    ours = make_agent(settings, env, level, RULE.head_size, RULE.zero_outputs).init(jax.random.key(4)).params
    a2cs = make_agent(settings, env, level, 1).init(jax.random.key(4)).params
    for mine, theirs in zip(jax.tree.leaves(ours["head"]), jax.tree.leaves(a2cs["head"]), strict=True):
        same = mine if mine.shape == theirs.shape else mine[..., -1:]
        np.testing.assert_array_equal(same, theirs)
        if mine.shape != theirs.shape:
            assert not mine[..., :-1].any()


@pytest.mark.parametrize("which", ["delta", "log_advantage", "log_entropy"])
def test_each_head_changes_the_update(which, zero_heads):
    column = ("delta", "log_advantage", "log_entropy").index(which)
    kernel = zero_heads["heads"]["kernel"].at[:, column].set(2.0)
    changed = zero_heads | {"heads": {"kernel": kernel}}
    before, after = (trained(RULE, m, "tabular")["policy"]["rows"] for m in (zero_heads, changed))
    assert np.abs(before - after).max() > 1e-4


def test_targets_agree_with_a_plain_calculation():
    rng = np.random.default_rng(1)
    rule = dataclasses.replace(RULE, schedule=False, horizon_inputs=False)
    meta_params = randomised(rng, jax.eval_shape(rule.init, jax.random.key(0)), 0.5)
    env, level = GRID, small_grid()[1]
    agent = make_agent(AgentConfig(), env, level, rule.head_size, rule.zero_outputs)
    params = as_arrays(randomised(rng, agent.init(jax.random.key(0)).params))
    rollout = as_arrays(random_rollout(rng, T, W, 5, random_states(rng, 36)))
    experience = experience_of(agent, params, rollout)
    found = rule.targets(meta_params, experience, progress(3, 40))

    values = np.asarray(experience.outputs.head[..., -1], np.float64)
    following = np.asarray(experience.next_head[..., -1], np.float64)
    advantage = np.zeros((T, W))
    for w in range(W):
        total = 0.0
        for t in reversed(range(T)):
            error = (
                rollout.reward[t, w] + 0.99 * following[t, w] * (not rollout.terminated[t, w]) - values[t, w]
            )
            ended = rollout.terminated[t, w] or rollout.truncated[t, w]
            total = error + (0.0 if ended else 0.99 * 0.9 * total)
            advantage[t, w] = total
    np.testing.assert_allclose(found.residual.advantage, advantage, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.residual.value_target, advantage + values, rtol=1e-4, atol=1e-5)
    assert found.log_yhat.shape == (T, W, rule.bins)
    np.testing.assert_allclose(np.exp(found.log_yhat).sum(-1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("rule", [RULE, A2C(schedule=True)], ids=["residual", "ta-a2c"])
def test_gradients_reach_the_schedule_through_an_update(rule):
    env, level = small_grid()
    agent = make_agent(AgentConfig(), env, level, rule.head_size, getattr(rule, "zero_outputs", 0))
    rng = np.random.default_rng(0)
    state, rollout = agent.init(jax.random.key(1)), rollout_for("tabular", rng)
    state = state.replace(params=as_arrays(randomised(rng, state.params)))
    meta_params = rule.init(jax.random.key(3))

    @jax.jit
    def slope(schedule):
        def size(schedule):
            learned = meta_params | {"schedule": schedule}
            after, _ = update_agent(rule, learned, agent, state, rollout, progress(9, 40), jax.random.key(2))
            return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(after.params))

        return jax.grad(size)(schedule)

    found = np.asarray(slope(meta_params["schedule"]))
    assert np.isfinite(found).all()
    assert (np.abs(found).max(axis=0) > 1e-6).all(), "a column that nothing depends on"
