"""The inner loop: whole lifetimes of agents, one lane or a block of lanes at a time.

A lane is one agent, trained with one candidate's meta-parameters on one level. The lanes of a *group* share
level, initial agent and all random numbers (common random numbers), so that they differ by their
meta-parameters alone. An antithetic pair is a group of two.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments.environment import Environment
from jaxtyping import Array, Bool, Float, Int, Key

from rl_discovery.discovery.agents.agent import Agent, AgentState
from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.discovery.agents.normalisation import Statistics
from rl_discovery.discovery.learning import rollout as acting
from rl_discovery.discovery.learning.critic import Assessment, Critic, CriticState
from rl_discovery.discovery.learning.update import update_agent
from rl_discovery.discovery.objectives.base import Metrics, Objective
from rl_discovery.discovery.types import EnvParams, MetaParams, Progress, Rollout

START, UPDATES, EVALUATION, CRITIC, LAST_ROLLOUT, VARIATION = range(6)
"""What a lane's key is folded with, so that no two uses share a random number."""

SHUFFLES = 2
"""What an update's key is folded with for minibatches; the rollout's split of the key takes 0 and 1."""


@struct.dataclass
class Variation:
    """What multiplies an agent's rewards and steps, its whole lifetime long (`AgentConfig.reward_range`)."""

    reward: Float[Array, ""]
    step: Float[Array, ""]

    @classmethod
    def draw(cls, key: Key[Array, ""], config: AgentConfig) -> "Variation":
        """Factors between 1/x and x, log-uniformly."""
        exponents = jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0)
        return cls(config.reward_range ** exponents[0], config.step_range ** exponents[1])


@struct.dataclass
class TrainState:
    """An agent, its workers and its critic in the middle of a lifetime."""

    agent: AgentState
    workers: acting.Workers
    critic: CriticState | None = None
    reward_sum: Float[Array, ""] | None = None  # of the mean reward per step of each update
    metrics: Metrics | None = None  # of the last update; NaN before the first
    variation: Variation | None = None  # None: rewards and steps as they are


@dataclasses.dataclass(frozen=True)
class Learner:
    """The static side of a lane; build it with `make_learner`.

    Attributes:
        env: the environment.
        agent: network and optimiser.
        objective: the update rule.
        rollout_steps: T.
        critic: learns beside the agent; None if nothing reads its values.
        sums_rewards: whether the train state sums up rewards over the lifetime.
        keeps_metrics: whether the train state keeps the metrics of the last update.
        keeps_outputs: whether agents that revisit a rollout learn from outputs kept while acting, which
            have no derivative in reverse; else they compute them again.
    """

    env: Environment
    agent: Agent
    objective: Objective
    rollout_steps: int
    critic: Critic | None = None
    sums_rewards: bool = False
    keeps_metrics: bool = False
    keeps_outputs: bool = True

    @property
    def workers(self) -> int:
        """W, copies of the environment."""
        return self.agent.workers

    def begin(self, key: Key[Array, ""], level: EnvParams) -> TrainState:
        """A new agent, with its workers at the start of an episode."""
        agent_key, env_key = jax.random.split(jax.random.fold_in(key, START))
        workers = acting.start(self.env, env_key, level, self.workers)
        critic = None if self.critic is None else self.critic.init(jax.random.fold_in(key, CRITIC))
        reward_sum = jnp.float32(0) if self.sums_rewards else None
        config = self.agent.config
        train_state = TrainState(
            agent=self.agent.init(agent_key),
            workers=workers,
            critic=critic,
            reward_sum=reward_sum,
            variation=Variation.draw(jax.random.fold_in(key, VARIATION), config) if config.varies else None,
        )
        if not self.keeps_metrics:
            return train_state
        # NaN in place of the metrics of an update that has not happened.
        meta_params = jax.eval_shape(self.objective.init, key)
        progress = Progress(done=jnp.int32(0), horizon=jnp.int32(1))
        _, shapes = jax.eval_shape(self.update, meta_params, level, key, progress, train_state)
        metrics = jax.tree.map(lambda shape: jnp.full(shape.shape, jnp.nan, shape.dtype), shapes)
        return dataclasses.replace(train_state, metrics=metrics)

    def update(
        self,
        meta_params: MetaParams,
        level: EnvParams,
        key: Key[Array, ""],
        progress: Progress,
        train_state: TrainState,
        alive: Bool[Array, ""] | None = None,
    ) -> tuple[TrainState, Metrics]:
        """One agent update.

        Args:
            meta_params: of the objective.
            level: the level played.
            key: the lane's key; the update's randomness is derived from it and `progress.done`.
            progress: n and N.
            train_state: before the update.
            alive: where False, the lifetime is over: everything stays as it is, but for the workers, which
                go on idly unless a critic reads them again. None: it goes on.

        Returns:
            The train state after it, and metrics of the rollout and the loss.
        """
        update_key = jax.random.fold_in(jax.random.fold_in(key, UPDATES), progress.done)
        return self.update_with(meta_params, level, update_key, progress, train_state, alive)

    def update_with(
        self,
        meta_params: MetaParams,
        level: EnvParams,
        key: Key[Array, ""],
        progress: Progress,
        train_state: TrainState,
        alive: Bool[Array, ""] | None = None,
    ) -> tuple[TrainState, Metrics]:
        """`update` with the key of this one update."""
        # 1. Collect a rollout with the current policy.
        workers, rollout = self.collect(
            level, key, train_state, keep_outputs=self.agent.revisits and self.keeps_outputs
        )
        reward_per_step = jnp.mean(rollout.reward)
        # 2. Scale rewards and observations by running statistics, where the agent does.
        rollout, statistics = self._scaled(train_state, rollout)
        # 3. Update the agent with the objective, and the critic with its own loss.
        agent, metrics = update_agent(
            self.objective,
            meta_params,
            self.agent,
            train_state.agent,
            rollout,
            progress,
            jax.random.fold_in(key, SHUFFLES),
            None if train_state.variation is None else train_state.variation.step,
            alive,
        )
        agent = dataclasses.replace(agent, statistics=statistics)
        metrics |= {"reward_per_step": reward_per_step}
        critic = train_state.critic
        if self.critic is not None and critic is not None:
            critic = self.critic.step(critic, rollout)
        reward_sum = None if train_state.reward_sum is None else train_state.reward_sum + reward_per_step
        new = TrainState(
            agent=agent,
            workers=workers,
            critic=critic,
            reward_sum=reward_sum,
            metrics=metrics if self.keeps_metrics else None,
            variation=train_state.variation,
        )
        return new if alive is None else _keep_where(alive, new, train_state), metrics

    def _scaled(self, train_state: TrainState, rollout: Rollout) -> tuple[Rollout, Statistics]:
        if train_state.variation is not None:
            rollout = dataclasses.replace(rollout, reward=train_state.variation.reward * rollout.reward)
        return self.agent.scaling.scale(train_state.agent.statistics, rollout)

    def collect(
        self, level: EnvParams, key: Key[Array, ""], train_state: TrainState, *, keep_outputs: bool = False
    ) -> tuple[acting.Workers, Rollout]:
        """The workers after the agent's next rollout, and the rollout, not scaled."""
        return acting.collect(
            self.agent,
            train_state.agent,
            self.env,
            level,
            train_state.workers,
            key,
            self.rollout_steps,
            keep_outputs=keep_outputs,
        )

    def evaluate(self, level: EnvParams, key: Key[Array, ""], train_state: TrainState) -> Float[Array, ""]:
        """`fitness` of the agent, on one episode per worker."""
        return self.fitness(train_state, self.episodes(level, key, train_state))

    def fitness(self, train_state: TrainState, episodes: acting.Episodes) -> Float[Array, ""]:
        """Mean undiscounted return of the agent's `episodes`.

        NaN if the agent is not finite, -inf if an episode did not end. All agents are measured here.
        """
        return jnp.where(train_state.agent.is_finite, jnp.mean(episodes.returns), jnp.nan)

    def episodes(
        self, level: EnvParams, key: Key[Array, ""], train_state: TrainState, discount: float = 1.0
    ) -> acting.Episodes:
        """The episodes that `evaluate` averages over, also for an agent that is not finite."""
        evaluation_key = jax.random.fold_in(key, EVALUATION)
        return acting.run_episodes(
            self.agent, train_state.agent, self.env, level, evaluation_key, self.workers, discount=discount
        )

    def assess(self, level: EnvParams, key: Key[Array, ""], train_state: TrainState) -> Assessment:
        """The critic's values and advantages on one more rollout of the agent, in units of the rewards.

        Raises:
            ValueError: there is no critic.
        """
        if self.critic is None or train_state.critic is None:
            raise ValueError("this learner has no critic: make it with critic=True")
        _, rollout = self.collect(level, jax.random.fold_in(key, LAST_ROLLOUT), train_state)
        rollout, statistics = self._scaled(train_state, rollout)
        unit = self.agent.scaling.reward_unit(statistics)
        if train_state.variation is not None:
            unit = unit / train_state.variation.reward
        assessment = self.critic.assess(train_state.critic.params, rollout)
        return jax.tree.map(lambda x: unit * x, assessment)


def train_block(
    learner: Learner,
    meta_params: MetaParams,
    levels: EnvParams,
    horizons: Int[Array, " L"],
    keys: Key[Array, " L"],
) -> TrainState:
    """Trains a block of L agents from scratch to the end of their lifetimes.

    The loop runs to the longest horizon of the block; a lane that has reached its own keeps its agent
    unchanged from there on. Sort lanes by horizon before cutting them into blocks.

    Args:
        learner: the static side.
        meta_params: pytree with leading axis L.
        levels: pytree with leading axis L.
        horizons: N of each lane, in agent updates.
        keys: one per lane. Key and level determine everything random: lanes that share both differ by
            their meta-parameters alone.

    Returns:
        The train states at the end, leading axis L.
    """
    train_states = vmap_lanes(learner.begin)(keys, levels)
    return run_updates(
        learner, meta_params, levels, horizons, keys, train_states, jnp.int32(0), jnp.max(horizons)
    )


def run_updates(
    learner: Learner,
    meta_params: MetaParams,
    levels: EnvParams,
    horizons: Int[Array, " L"],
    keys: Key[Array, " L"],
    train_states: TrainState,
    first: Int[Array, ""],
    end: Int[Array, ""],
) -> TrainState:
    """Updates `first` to `end - 1` of a block of lanes: part of what `train_block` does.

    Args:
        learner: the static side, here and below as for `train_block`.
        meta_params: of each lane.
        levels: of each lane.
        horizons: of each lane.
        keys: of each lane.
        train_states: after `first` updates.
        first: number of the first update.
        end: number after that of the last update.
    """

    def update_lane(n, horizon, level, key, meta_params, train_state):
        progress = Progress(done=n, horizon=horizon)
        return learner.update(meta_params, level, key, progress, train_state, n < horizon)[0]

    update_block = vmap_lanes(update_lane, in_axes=(None, 0, 0, 0, 0, 0))

    def advance(carry):
        n, train_states = carry
        return n + 1, update_block(n, horizons, levels, keys, meta_params, train_states)

    return jax.lax.while_loop(lambda carry: carry[0] < end, advance, (first, train_states))[1]


def vmap_lanes(function: Callable[..., Any], in_axes: int | tuple[int | None, ...] = 0) -> Callable[..., Any]:
    """`vmap` over lanes. A single lane runs without an axis of size 1, which would make XLA's code slower.

    Args:
        function: of one lane.
        in_axes: of positional arguments, as for `vmap`.
    """

    def of_lanes(*operands: Any) -> Any:
        axes = in_axes if isinstance(in_axes, tuple) else (in_axes,) * len(operands)
        mapped = [operand for operand, axis in zip(operands, axes, strict=True) if axis is not None]
        if jax.tree.leaves(mapped)[0].shape[0] > 1:
            return jax.vmap(function, axes)(*operands)
        single = (
            operand if axis is None else jax.tree.map(lambda leaf: leaf[0], operand)
            for operand, axis in zip(operands, axes, strict=True)
        )
        return jax.tree.map(lambda leaf: leaf[None], function(*single))

    return of_lanes


def _keep_where(alive: Bool[Array, ""], new: TrainState, old: TrainState) -> TrainState:
    # What `update_agent` has not kept already.
    keep = functools.partial(jax.tree.map, functools.partial(jnp.where, alive))
    return dataclasses.replace(
        new,
        agent=dataclasses.replace(new.agent, statistics=keep(new.agent.statistics, old.agent.statistics)),
        workers=new.workers if new.critic is None else keep(new.workers, old.workers),
        critic=keep(new.critic, old.critic),
        reward_sum=keep(new.reward_sum, old.reward_sum),
        metrics=keep(new.metrics, old.metrics),
    )


def evaluate_block(
    learner: Learner, train_states: TrainState, levels: EnvParams, keys: Key[Array, " L"]
) -> Float[Array, " L"]:
    """`Learner.evaluate` of a block of lanes; lanes with the same key share all random numbers."""
    return vmap_lanes(learner.evaluate)(levels, keys, train_states)
