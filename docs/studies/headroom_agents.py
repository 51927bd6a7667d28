"""The agents of the headroom study, and everything that is computed exactly about them and their levels."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from rl_discovery.checkpoints.loading import load_objective
from rl_discovery.discovery.learning.build import make_learner
from rl_discovery.discovery.learning.lifetime import UPDATES, Learner, TrainState
from rl_discovery.discovery.types import Progress
from rl_discovery.envs.gridworld.env import GridState, GridWorld
from rl_discovery.envs.gridworld.policy_evaluation import (
    discounted_policies,
    policy_returns,
    policy_statistics,
)
from rl_discovery.evaluation.lanes import lane_keys
from rl_discovery.evaluation.tasks import EvaluationTask

WORKERS = 16
BLOCK = 8
"""Lanes side by side in training; levels side by side are half as many in planning."""
DISCOUNT = 0.99
"""The agents' own."""
DISCOUNTS = (0.95, DISCOUNT, 0.997, 0.999)


def solve(task: EvaluationTask) -> dict[str, Any]:
    """The levels' own numbers: the best policy, and the best without a clock under each discount."""
    best = policy_statistics(task.env, task.levels, None, chunk=BLOCK // 2)
    found = {f"optimal_{name}": value for name, value in best._asdict().items()}
    for discount in DISCOUNTS:
        policies = discounted_policies(task.env, task.levels, discount)
        statistics = policy_statistics(task.env, task.levels, policies)
        found |= {f"{discount}_{name}": value for name, value in statistics._asdict().items()}
    return found


def study_agents(task: EvaluationTask, rule: str, updates: int, seed: int) -> dict[str, Any]:
    """One agent per level: how it behaves, and the best policy made of the actions that it tried."""
    objective = load_objective(rule)
    learner = make_learner(task.env, task.level, task.agent_for(objective, WORKERS), objective.rule)
    keys = lane_keys([seed], task.count)
    policies, tried = train(learner, updates, objective.meta_params, task.levels, keys)
    greedy = jax.nn.one_hot(jnp.argmax(policies, axis=-1), policies.shape[-1])
    found = policy_statistics(task.env, task.levels, policies, chunk=BLOCK // 2)._asdict()
    found["greedy_returns"] = policy_returns(task.env, task.levels, greedy)
    for least in (1, 10):
        best_tried = discounted_policies(
            task.env, task.levels, DISCOUNT, allowed=tried >= least, otherwise=policies
        )
        found[f"tried_{least}_returns"] = policy_returns(task.env, task.levels, best_tried)
    return found | {"collected_in_training": collections(task.env, task.levels, tried)}


@functools.partial(jax.jit, static_argnums=(0, 1))
def train(
    learner: Learner, updates: int, meta_params: Any, levels: Any, keys: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Trains one agent per level, as `rl-discovery evaluate` does with the same keys.

    Returns:
        Action probabilities of the final policies, and how often each action was tried in each state, both
        [levels, S, A].
    """
    states = learner.env.cells << learner.env.max_objects

    def update(
        n: jax.Array, level: Any, key: jax.Array, train_state: TrainState, tried: jax.Array
    ) -> tuple[TrainState, jax.Array]:
        update_key = jax.random.fold_in(jax.random.fold_in(key, UPDATES), n)
        # The same key makes the same rollout inside the update.
        _, rollout = learner.collect(level, update_key, train_state, keep_outputs=learner.agent.revisits)
        progress = Progress(done=n, horizon=jnp.int32(updates))
        train_state, _ = learner.update_with(meta_params, level, update_key, progress, train_state)
        return train_state, tried.at[rollout.observation.ravel(), rollout.action.ravel()].add(1)

    def block(operands: tuple[Any, jax.Array]) -> tuple[jax.Array, jax.Array]:
        levels, keys = operands
        train_states = jax.vmap(learner.begin)(keys, levels)
        tried = jnp.zeros((keys.shape[0], states, learner.env.num_actions), jnp.int32)
        update_all = jax.vmap(update, in_axes=(None, 0, 0, 0, 0))
        train_states, tried = jax.lax.fori_loop(
            0, updates, lambda n, carry: update_all(n, levels, keys, *carry), (train_states, tried)
        )
        logits = jax.vmap(
            lambda train_state: learner.agent.outputs_of(train_state.agent, jnp.arange(states)).parameters
        )(train_states)
        return jax.nn.softmax(logits), tried

    cut = jax.tree.map(lambda leaf: leaf.reshape(-1, BLOCK, *leaf.shape[1:]), (levels, keys))
    found = jax.lax.map(block, cut)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), found)


def collections(env: GridWorld, levels: Any, tried: jax.Array) -> jax.Array:
    """How often each object was collected [levels, objects], from how often each action was tried."""
    masks = jnp.arange(1 << env.max_objects)
    present = (masks[:, None] >> jnp.arange(env.max_objects)) & 1 == 1

    def of_level(level: Any, tried: jax.Array) -> jax.Array:
        def target(cell: jax.Array, action: jax.Array) -> jax.Array:
            state = GridState(time=jnp.int32(0), cell=cell, present=jnp.int32(0), object_cells=None)
            return env.step_from(jnp.ones(env.step_noise_size), state, action, level)[1].cell

        targets = jax.vmap(jax.vmap(target, (None, 0)), (0, None))(
            jnp.arange(env.cells), jnp.arange(env.num_actions)
        )
        arrives = targets[..., None] == level.object_cells
        by_cell = tried.reshape(masks.size, env.cells, env.num_actions)
        return jnp.einsum("mca,mo,cao->o", by_cell, present.astype(int), arrives.astype(int))

    return jax.vmap(of_level)(levels, tried)
