"""Rollouts of an agent in a vectorised environment, and returns of whole episodes."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments.environment import Environment
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Bool, Float, Int, Key

from rl_discovery.discovery.agents.agent import Agent, AgentState
from rl_discovery.discovery.learning import vector_env
from rl_discovery.discovery.types import BehaviourOutputs, EnvParams, Rollout

LONGEST_EPISODE = 100_000
"""Steps after which an episode is given up. The longest of ours has 2,000, Atari's have 27,000; these take a
minute or two on a slow environment."""

UNFINISHED = -jnp.inf
"""Return of an episode that was given up: the sum so far would look like that of a whole episode."""


@struct.dataclass
class Workers:
    """Environment states of the W workers of a lane, and the observations that they act on next."""

    state: Any
    observation: Array


def start(env: Environment, key: Key[Array, ""], level: EnvParams, workers: int) -> Workers:
    """W workers at the start of an episode."""
    observation, state = vector_env.reset(env, key, level, workers)
    return Workers(state=state, observation=observation)


def collect(
    agent: Agent,
    state: AgentState,
    env: Environment,
    level: EnvParams,
    workers: Workers,
    key: Key[Array, ""],
    steps: int,
    *,
    keep_outputs: bool = False,
) -> tuple[Workers, Rollout]:
    """Collects T steps of every worker with the agent's stochastic policy.

    Args:
        agent: the static side of the agent.
        state: its parameters and statistics.
        env: the environment.
        level: played by all workers.
        workers: before the rollout.
        key: all of the rollout's randomness.
        steps: T.
        keep_outputs: keep the outputs of the agent, as `Rollout.behaviour`.

    Returns:
        The workers after the rollout, and the rollout, time first.
    """
    count = jax.tree.leaves(workers.observation)[0].shape[0]
    # 1. Draw all random numbers of the rollout at once.
    env_key, action_key = jax.random.split(key)
    noise = vector_env.draw(env, env_key, level, steps, count)
    policy = agent.policy
    draws = policy.draw(action_key, (steps, count))

    def advance(workers, randomness):
        noise, draw = randomness
        # 2. Act.
        outputs = agent.outputs_of(state, workers.observation)
        action = policy.sample(outputs.parameters, draw)
        # 3. Step the environments; where an episode ends, the next one starts.
        moved = vector_env.step(env, noise, workers.state, policy.to_environment(action), level)
        behaviour = None
        if keep_outputs:
            cut_off = _heads_where(agent, moved.truncated, state, moved.next_observation)
            behaviour = BehaviourOutputs(outputs, cut_off)
        record = (workers.observation, action, moved, behaviour)
        return Workers(state=moved.state, observation=moved.observation), record

    workers, (observation, action, moved, behaviour) = jax.lax.scan(advance, workers, (noise, draws))
    return workers, Rollout(
        observation=observation,
        action=action,
        reward=moved.reward,
        terminated=moved.terminated,
        truncated=moved.truncated,
        next_observation=moved.next_observation,
        last_observation=workers.observation,
        behaviour=behaviour,
    )


def _heads_where(
    agent: Agent, needed: Bool[Array, " W"], state: AgentState, observation: Array
) -> Float[Array, "W K"]:
    """The second head if any worker of any lane needs it, else zeros.

    Few steps are truncated, but under vmap a plain `cond` would compute both branches at every step.
    """

    def heads(state, observation):
        return agent.outputs_of(state, observation).head

    def heads_or_zeros(heads, needed, *operands):
        like = jax.eval_shape(heads, *operands)
        zeros = functools.partial(jnp.zeros, like.shape, like.dtype)
        return jax.lax.cond(jnp.any(needed), lambda: heads(*operands), zeros)

    @custom_vmap
    def of_lane(needed, state, observation):
        return heads_or_zeros(heads, needed, state, observation)

    @of_lane.def_vmap
    def of_lanes(lanes, batched, *operands):
        axes = jax.tree.map(lambda is_batched: 0 if is_batched else None, batched[1:])
        return heads_or_zeros(jax.vmap(heads, in_axes=axes, axis_size=lanes), *operands), True

    return of_lane(needed, state, observation)


class Episodes(NamedTuple):
    """Returns of one whole episode per worker; `UNFINISHED` if the episode did not end."""

    returns: Float[Array, " W"]
    discounted: Float[Array, " W"]


def run_episodes(
    agent: Agent,
    state: AgentState,
    env: Environment,
    level: EnvParams,
    key: Key[Array, ""],
    workers: int,
    chunk: int = 20,
    discount: float = 1.0,
) -> Episodes:
    """Runs one whole episode per worker with the stochastic policy.

    Steps run in chunks until the last worker has finished, so that short episodes cost little. The level's
    time limit bounds the loop, and `LONGEST_EPISODE` where there is none.
    """
    start_key, run_key = jax.random.split(key)
    most_chunks = -(-LONGEST_EPISODE // chunk)

    def unfinished(carry):
        return ~jnp.all(carry[2]) & (carry[0] < most_chunks)

    def advance(carry):
        i, workers, finished, totals = carry
        workers, rollout = collect(agent, state, env, level, workers, jax.random.fold_in(run_key, i), chunk)
        # A step counts while no earlier step of this worker ended its episode.
        ended = jnp.cumsum(rollout.done, axis=0) - rollout.done > 0
        rewards = jnp.where(~(ended | finished), rollout.reward, 0.0)
        totals = [
            total + jnp.sum(rewards if gamma == 1 else rewards * _powers(gamma, i * chunk, chunk), axis=0)
            for gamma, total in zip(gammas, totals, strict=True)
        ]
        return i + 1, workers, finished | jnp.any(rollout.done, axis=0), totals

    gammas = (1.0,) if discount == 1 else (1.0, discount)
    first = (
        jnp.int32(0),
        start(env, start_key, level, workers),
        jnp.zeros(workers, bool),
        [jnp.zeros(workers) for _ in gammas],
    )
    _, _, finished, totals = jax.lax.while_loop(unfinished, advance, first)
    totals = [jnp.where(finished, total, UNFINISHED) for total in totals]
    return Episodes(returns=totals[0], discounted=totals[-1])


class Recording(NamedTuple):
    """The beginning of one episode, state by state.

    Attributes:
        states: of the environment, the first and those after each step.
        reward, terminated, truncated: of each step; what is behind the first end means nothing.
    """

    states: Any
    reward: Float[Array, " steps"]
    terminated: Bool[Array, " steps"]
    truncated: Bool[Array, " steps"]


def record_episode(
    agent: Agent,
    agent_state: AgentState,
    env: Environment,
    level: EnvParams,
    key: Key[Array, ""],
    start: tuple[Array, Any],
    steps: int,
) -> Recording:
    """One worker's first `steps` steps, without a reset.

    Rollouts do not keep the state in which an episode ends, and that is where the reward often is.

    Args:
        agent: the static side of the agent.
        agent_state: its parameters and statistics.
        env: the environment.
        level: what is played.
        key: of actions and environment.
        start: first observation and state.
        steps: that are recorded, whether or not the episode ends before.
    """

    def advance(carry, key):
        observation, state = carry
        action_key, env_key = jax.random.split(key)
        action = agent.act(agent_state, action_key, observation[None])[0]
        observation, state, reward, terminated, _ = env.step_env(env_key, state, action, level)
        return (observation, state), (state, reward, terminated, env.is_truncated(state, level))

    _, (states, *rest) = jax.lax.scan(advance, start, jax.random.split(key, steps))
    states = jax.tree.map(lambda first, later: jnp.concatenate([first[None], later]), start[1], states)
    return Recording(states, *rest)


def no_end(environment_name: str) -> str:
    """The message for a return that is `UNFINISHED`."""
    return (
        f"an episode of {environment_name} did not end within {LONGEST_EPISODE:,} steps: give the level a "
        "time limit (max_steps_in_episode)"
    )


def _powers(discount: float, first: Int[Array, ""], count: int) -> Float[Array, "count 1"]:
    return jnp.power(discount, (first + jnp.arange(count)).astype(jnp.float32))[:, None]
