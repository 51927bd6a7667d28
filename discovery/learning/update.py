"""One agent update: from a rollout to new parameters.

Either one gradient of the whole rollout (A2C, LPG), or several epochs of shuffled minibatches (PPO: Schulman
et al. 2017, arXiv 1707.06347, algorithm 1). The agent's settings decide which; the objective is the same.
"""

import dataclasses
import functools
import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

from rl_discovery.discovery.agents.agent import Agent, AgentState
from rl_discovery.discovery.objectives.base import Experience, Metrics, Objective
from rl_discovery.discovery.types import AgentParams, MetaParams, Outputs, Progress, Rollout

MOST_POSITION_BITS = 16
"""At most so many low bits of the numbers that `shuffled` sorts hold a position; the others are random."""


def update_agent(
    objective: Objective,
    meta_params: MetaParams,
    agent: Agent,
    state: AgentState,
    rollout: Rollout,
    progress: Progress,
    key: Key[Array, ""],
    step: Float[Array, ""] | None = None,
    alive: Bool[Array, ""] | None = None,
) -> tuple[AgentState, Metrics]:
    """Updates an agent with one rollout.

    Args:
        objective: the rule.
        meta_params: of the rule.
        agent: the static side of the agent, with the number of epochs and minibatches.
        state: the agent that collected the rollout.
        rollout: T steps of W workers.
        progress: n and N. Step sizes are scaled by 1 - n/N if the agent anneals them, and by the rule's
            schedule if it has one.
        key: of the shuffles.
        step: one more factor on the step sizes.
        alive: where False, the agent stays as it is; None: it learns.

    Returns:
        The updated agent, and metrics (means over minibatches): those of the loss, `entropy` of the policy,
        and `gradient_norm` before clipping. Unused metrics cost nothing.
    """
    scale = _step_scale(objective, meta_params, agent, progress, step)
    steps = rollout.reward.size
    observation = rollout.observation.reshape(steps, *rollout.observation.shape[2:])
    # Where an optimiser step changes the rows of the rollout's states and no others, work on these alone.
    visited = _Visited.of(agent, observation)
    part, before = agent, state
    if visited is not None:
        observation, part = visited.position, agent.with_states(steps)
        before = dataclasses.replace(state, params=visited.rows(state.params))

    if agent.revisits:
        # PPO: targets (advantages, old log-probabilities, ...) are computed once, before the first step.
        behaviour = rollout.behaviour
        outputs = agent.apply(state.params, rollout.observation) if behaviour is None else behaviour.outputs
        targets = objective.targets(meta_params, _experience(agent, state.params, rollout, outputs), progress)
        flat = functools.partial(jax.tree.map, lambda leaf: leaf.reshape(steps, *leaf.shape[2:]))
        batch = observation, flat(rollout.action), flat(targets)
        after, metrics = _epochs(objective, meta_params, part, before, batch, progress, key, scale)
    else:
        # A2C, LPG: one gradient of the whole rollout.
        seen = observation.reshape(*rollout.reward.shape, *observation.shape[1:])
        outputs, pull_back = jax.vjp(lambda params: part.apply(params, seen), before.params)
        experience = _experience(agent, state.params, rollout, outputs)
        cotangents, metrics = _gradient_at_outputs(objective, meta_params, experience, progress)
        (gradient,) = pull_back(cotangents)
        after = part.step(before, gradient, scale)
        metrics = metrics | {"gradient_norm": optax.tree.norm(gradient)}

    if alive is not None:
        after = jax.tree.map(functools.partial(jnp.where, alive), after, before)
    if visited is None:
        return after, metrics
    return dataclasses.replace(after, params=visited.put_back(state.params, after.params)), metrics


def _epochs(
    objective: Objective,
    meta_params: MetaParams,
    agent: Agent,
    state: AgentState,
    batch: tuple[Array, Array, Any],
    progress: Progress,
    key: Key[Array, ""],
    scale: Float[Array, ""] | None,
) -> tuple[AgentState, Metrics]:
    """PPO's loops over observations, actions and targets of a rollout's steps."""
    steps = batch[0].shape[0]

    # Inner loop: one optimiser step per minibatch.
    def minibatch(state: AgentState, rows: Array) -> tuple[AgentState, Metrics]:
        # A permutation is in range; checking that would cost a pass over every row.
        observation, action, target = jax.tree.map(
            lambda leaf: leaf.at[rows].get(mode="promise_in_bounds", unique_indices=True), batch
        )

        def loss(params: AgentParams) -> tuple[Float[Array, ""], Metrics]:
            outputs = agent.apply(params, observation)
            value, metrics = objective.loss(meta_params, outputs, action, target, progress)
            return value, _with_entropy(metrics, outputs)

        grads, metrics = jax.grad(loss, has_aux=True)(state.params)
        return agent.step(state, grads, scale), metrics | {"gradient_norm": optax.tree.norm(grads)}

    # Outer loop: every epoch shuffles all steps anew.
    def epoch(state: AgentState, key: Key[Array, ""]) -> tuple[AgentState, dict[str, Array]]:
        return jax.lax.scan(minibatch, state, shuffled(key, steps).reshape(agent.minibatches, -1))

    state, metrics = jax.lax.scan(epoch, state, jax.random.split(key, agent.epochs))
    return state, jax.tree.map(jnp.mean, metrics)


class _Visited(NamedTuple):
    """Where the states of a rollout's steps are in lookup tables, and in smaller ones of their rows alone.

    A step of SGD changes the rows of its states and no others, but its gradient, its norm and the sum pass
    over all of them.
    """

    state: Int[Array, " steps"]
    position: Int[Array, " steps"]  # of the first step in the same state

    @classmethod
    def of(cls, agent: Agent, observation: Shaped[Array, "steps ..."]) -> "_Visited | None":
        """None where other rows change too, or there are as few."""
        states, steps = agent.observations.states, observation.shape[0]
        if states is None or states <= steps or not agent.is_sparse:
            return None
        first = jnp.full(states, steps, jnp.int32).at[observation].min(jnp.arange(steps, dtype=jnp.int32))
        return cls(observation, first[observation])

    def rows(self, tables: AgentParams) -> AgentParams:
        """A row per step; of the steps in one state only the first one's is used."""
        return jax.tree.map(lambda table: table[self.state], tables)

    def put_back(self, tables: AgentParams, rows: AgentParams) -> AgentParams:
        """The tables with these rows."""
        steps = jnp.arange(self.state.size)
        target = jnp.where(self.position == steps, self.state, jnp.iinfo(jnp.int32).max - steps)
        return jax.tree.map(
            lambda table, new: table.at[target].set(new, mode="drop", unique_indices=True), tables, rows
        )


def _step_scale(
    objective: Objective,
    meta_params: MetaParams,
    agent: Agent,
    progress: Progress,
    step: Float[Array, ""] | None,
) -> Float[Array, ""] | None:
    # 1 - n/N if the agent anneals, the rule's schedule, and the agent's own factor; None for none of them.
    remaining = progress.remaining if agent.anneal else None
    factors = [x for x in (remaining, objective.step_scale(meta_params, progress), step) if x is not None]
    return functools.reduce(operator.mul, factors) if factors else None


def shuffled(key: Key[Array, ""], size: int) -> Int[Array, " size"]:
    """A random permutation of the numbers below `size`.

    It sorts 32-bit numbers whose high bits are random and whose low bits are their own position, five times
    as fast as sorting positions by random numbers. Two numbers have equal random bits, and so stay in order,
    with a probability of at most 2^-16 (of 8,192 numbers: 2^-19).
    """
    noise, ends = jax.random.bits(key, (size,)), (size - 1).bit_length()
    if ends > MOST_POSITION_BITS:
        return jnp.argsort(noise)
    position = jnp.uint32((1 << ends) - 1)
    numbers = jnp.sort((noise & ~position) | jnp.arange(size, dtype=jnp.uint32))
    return (numbers & position).astype(jnp.int32)


def _gradient_at_outputs(
    objective: Objective, meta_params: MetaParams, experience: Experience, progress: Progress
) -> tuple[Outputs, Metrics]:
    """The gradient of the loss with respect to the agent's outputs on the whole rollout, and metrics."""
    # Targets are constants of the agent's loss, but not of the meta-gradient.
    targets = objective.targets(meta_params, experience, progress)

    def loss(outputs: Outputs) -> tuple[Float[Array, ""], Metrics]:
        return objective.loss(meta_params, outputs, experience.rollout.action, targets, progress)

    cotangents, metrics = jax.grad(loss, has_aux=True)(experience.outputs)
    return cotangents, _with_entropy(metrics, experience.outputs)


def _with_entropy(metrics: Metrics, outputs: Outputs) -> Metrics:
    # Not every rule has the entropy in its loss.
    return metrics if "entropy" in metrics else metrics | {"entropy": jnp.mean(outputs.entropy())}


def _experience(agent: Agent, params: AgentParams, rollout: Rollout, outputs: Outputs) -> Experience:
    # What an objective does not read is never computed.
    last_outputs, behaviour = agent.apply(params, rollout.last_observation), rollout.behaviour
    if behaviour is None:
        next_head = agent.apply(params, rollout.next_observation).head
    else:
        following = jnp.concatenate([outputs.head[1:], last_outputs.head[None]])
        next_head = jnp.where(rollout.truncated[..., None], behaviour.cut_off, following)
    return Experience(rollout=rollout, outputs=outputs, next_head=next_head, last_outputs=last_outputs)
