"""The inner loop: whole lifetimes of agents, one lane or a block of lanes at a time.

A lane is one (candidate meta-parameters, level) pair and the agent trained on it. Lanes of a *group*
share level, initial agent and every random number (common random numbers), so that they differ by
their meta-parameters alone; an antithetic pair is a group of two.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments.environment import Environment
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Key

from rl_discovery.discovery.agents.agent import Agent, AgentConfig, AgentState, make_agent
from rl_discovery.discovery.agents.spaces import action_space, is_discrete, name_of
from rl_discovery.discovery.learning import rollout as acting
from rl_discovery.discovery.learning.critic import Assessment, Critic, CriticState, make_critic
from rl_discovery.discovery.learning.environment_check import check_environment, check_table
from rl_discovery.discovery.learning.update import update_agent
from rl_discovery.discovery.objectives.base import Metrics, Objective
from rl_discovery.discovery.objectives.lpg import LPG
from rl_discovery.discovery.sharding import run_blocks
from rl_discovery.discovery.types import EnvParams, MetaParams, Progress, Rollout

START, UPDATES, EVALUATION, CRITIC, LAST_ROLLOUT = range(5)
"""What a lane's key is folded with first, so that no two uses share a random number."""

SHUFFLES = 2
"""What an update's key is folded with for minibatches. Its rollout splits the key in two, which is to
fold it with 0 and 1."""


@struct.dataclass
class TrainState:
    """An agent and its workers somewhere in a lifetime; with a critic where one is asked for.

    `reward_sum` adds up the mean reward per step of each update, `metrics` are those of the last update (NaN
    before the first); each is None where nobody asks for it.
    """

    agent: AgentState
    workers: acting.Workers
    critic: CriticState | None = None
    reward_sum: Float[Array, ""] | None = None
    metrics: Metrics | None = None


@dataclasses.dataclass(frozen=True)
class Learner:
    """The static side of a lane: environment, agent and objective, without any numbers.

    Attributes:
        env: the environment.
        agent: policy and second head with their optimiser.
        objective: the rule.
        rollout_steps: T.
        critic: learns beside the agent; None where nobody needs its values.
        sums_rewards: whether rewards are added up over the lifetime.
        keeps_metrics: whether the metrics of the last update stay in the train state.
    """

    env: Environment
    agent: Agent
    objective: Objective
    rollout_steps: int
    critic: Critic | None = None
    sums_rewards: bool = False
    keeps_metrics: bool = False

    @property
    def workers(self) -> int:
        """W, copies of the environment that the agent acts in."""
        return self.agent.workers

    def begin(self, key: Key[Array, ""], level: EnvParams) -> TrainState:
        """A new agent with its workers at the start of an episode."""
        agent_key, env_key = jax.random.split(jax.random.fold_in(key, START))
        workers = acting.start(self.env, env_key, level, self.workers)
        critic = None if self.critic is None else self.critic.init(jax.random.fold_in(key, CRITIC))
        reward_sum = jnp.float32(0) if self.sums_rewards else None
        train_state = TrainState(
            agent=self.agent.init(agent_key), workers=workers, critic=critic, reward_sum=reward_sum
        )
        if not self.keeps_metrics:
            return train_state
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
    ) -> tuple[TrainState, Metrics]:
        """One agent update: collect a rollout, ask the objective, apply its gradient.

        Args:
            meta_params: of the objective.
            level: the level played.
            key: the lane's key; the update's own randomness is derived from it and `progress.done`.
            progress: n and N.
            train_state: agent and workers before the update.

        Returns:
            Agent and workers after it, and metrics of the rollout and the loss.
        """
        update_key = jax.random.fold_in(jax.random.fold_in(key, UPDATES), progress.done)
        return self.update_with(meta_params, level, update_key, progress, train_state)

    def update_with(
        self,
        meta_params: MetaParams,
        level: EnvParams,
        key: Key[Array, ""],
        progress: Progress,
        train_state: TrainState,
    ) -> tuple[TrainState, Metrics]:
        """`update` with the randomness of this update alone, whatever n is."""
        workers, rollout = self.collect(level, key, train_state, remember=self.agent.revisits)
        reward_per_step = jnp.mean(rollout.reward)
        rollout, statistics = self.agent.scaling.scale(train_state.agent.statistics, rollout)
        agent, metrics = update_agent(
            self.objective,
            meta_params,
            self.agent,
            train_state.agent,
            rollout,
            progress,
            jax.random.fold_in(key, SHUFFLES),
        )
        agent = dataclasses.replace(agent, statistics=statistics)
        metrics |= {"reward_per_step": reward_per_step}
        critic = train_state.critic
        if self.critic is not None and critic is not None:
            critic = self.critic.step(critic, rollout)
        reward_sum = None if train_state.reward_sum is None else train_state.reward_sum + reward_per_step
        return TrainState(
            agent=agent,
            workers=workers,
            critic=critic,
            reward_sum=reward_sum,
            metrics=metrics if self.keeps_metrics else None,
        ), metrics

    def collect(
        self, level: EnvParams, key: Key[Array, ""], train_state: TrainState, *, remember: bool = False
    ) -> tuple[acting.Workers, Rollout]:
        """The next rollout of the agent as it is, not scaled, and where its workers stand then."""
        return acting.collect(
            self.agent,
            train_state.agent,
            self.env,
            level,
            train_state.workers,
            key,
            self.rollout_steps,
            remember=remember,
        )

    def evaluate(self, level: EnvParams, key: Key[Array, ""], train_state: TrainState) -> Float[Array, ""]:
        """Fitness of the agent as it is, on one episode per worker: see `fitness`."""
        return self.fitness(train_state, self.episodes(level, key, train_state))

    def fitness(self, train_state: TrainState, episodes: acting.Episodes) -> Float[Array, ""]:
        """Mean undiscounted return of episodes that `life` played; NaN where its agent is not finite.

        Whoever measures an agent does it here. -inf where an episode did not end.
        """
        return jnp.where(train_state.agent.is_finite, jnp.mean(episodes.returns), jnp.nan)

    def episodes(
        self, level: EnvParams, key: Key[Array, ""], train_state: TrainState, discount: float = 1.0
    ) -> acting.Episodes:
        """The episodes that `evaluate` takes the mean of, also of an agent that is not finite."""
        evaluation_key = jax.random.fold_in(key, EVALUATION)
        return acting.run_episodes(
            self.agent, train_state.agent, self.env, level, evaluation_key, self.workers, discount=discount
        )

    def assess(self, level: EnvParams, key: Key[Array, ""], train_state: TrainState) -> Assessment:
        """The critic's view of one more rollout of the agent as it is.

        Raises:
            ValueError: there is no critic.
        """
        if self.critic is None or train_state.critic is None:
            raise ValueError("this learner has no critic: make it with critic=True")
        _, rollout = self.collect(level, jax.random.fold_in(key, LAST_ROLLOUT), train_state)
        rollout, _ = self.agent.scaling.scale(train_state.agent.statistics, rollout)
        return self.critic.assess(train_state.critic.params, rollout)


def make_learner(
    env: Environment,
    level: EnvParams,
    config: AgentConfig,
    objective: Objective,
    *,
    critic: bool = False,
    blank: bool = False,
) -> Learner:
    """Puts environment, agent settings and objective together; `level` gives the spaces only.

    Args:
        env: the environment.
        level: any of its levels.
        config: the agent's settings; the discounts in it replace the rule's.
        objective: the rule.
        critic: let a critic learn beside the agent.
        blank: the level is of zeros, and not to be played.

    Raises:
        InvalidEnvironmentError: an environment that does not do what it says.
        ValueError: settings that cannot work, or that do not fit the environment.
    """
    check_environment(env, level)
    if not blank:
        check_table(env, level)
    if objective.discrete_only and not is_discrete(action_space(env, level)):
        raise ValueError(
            f"{objective.name} needs discrete actions, and those of {name_of(env)} are continuous"
        )
    steps = config.steps_per_update
    if steps % config.minibatches:
        raise ValueError(
            f"agent.minibatches ({config.minibatches}) must divide the {steps} steps of a rollout "
            f"({config.workers} workers x {config.rollout_steps} steps)"
        )
    agent = make_agent(config, env, level, objective.head_size, objective.zero_outputs)
    beside = make_critic(config, env, level) if critic else None
    return Learner(env, agent, _discounted(objective, config), config.rollout_steps, beside)


def _discounted(objective: Objective, config: AgentConfig) -> Objective:
    """The rule with the task's gamma and lambda, where the agent's settings have any."""
    settings = {"discount": config.discount, "gae_lambda": config.gae_lambda}
    given = {name: value for name, value in settings.items() if value is not None}
    if not given:
        return objective
    without = isinstance(objective, LPG) and not objective.is_residual
    if lacking := [name for name in given if without or not hasattr(objective, name)]:
        raise ValueError(
            f"{objective.name} has no {' and no '.join(lacking)}: leave it out of the agent's settings"
        )
    return dataclasses.replace(cast(Any, objective), **given)


def train_block(
    learner: Learner,
    meta_params: MetaParams,
    levels: EnvParams,
    horizons: Int[Array, " L"],
    keys: Key[Array, " L"],
) -> TrainState:
    """Whole lifetimes of a block of L lanes, side by side.

    The loop runs to the block's longest horizon; a lane that has reached its own keeps its agent
    unchanged from then on. Sort lanes by horizon before cutting them into blocks.

    Args:
        learner: the static side.
        meta_params: pytree with leading axis L.
        levels: pytree with leading axis L.
        horizons: N of each lane, in agent updates.
        keys: one per lane; with the level it determines everything random, so lanes of the same key
            and level differ by their meta-parameters alone (common random numbers).

    Returns:
        The agents at the end of their lifetimes, leading axis L.
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
    """Updates `first` to `end - 1` of a block of lanes: all of `train_block`, or a part of it.

    Args:
        learner: as for `train_block`.
        meta_params: as there.
        levels: as there.
        horizons: as there.
        keys: as there.
        train_states: after `first` updates.
        first: number of the first update.
        end: number of the first one that is not made.
    """

    def update_lane(n, horizon, level, key, meta_params, train_state):
        progress = Progress(done=n, horizon=horizon)
        new, _ = learner.update(meta_params, level, key, progress, train_state)
        return keep_where(n < horizon, new, train_state)

    update_block = vmap_lanes(update_lane, in_axes=(None, 0, 0, 0, 0, 0))

    def advance(carry):
        n, train_states = carry
        return n + 1, update_block(n, horizons, levels, keys, meta_params, train_states)

    return jax.lax.while_loop(lambda carry: carry[0] < end, advance, (first, train_states))[1]


def run_lanes(
    run_block: Callable[[Any, Any, Bool[Array, " size"]], Any],
    shared: Any,
    per_lane: Any,
    costs: Float[Array, " lanes"],
    block_size: int,
    mesh: Mesh,
) -> Any:
    """`run_blocks` for lanes whose operands are arrays: each block gets those of its own lanes.

    Args:
        run_block: from `shared`, the operands of a block's lanes and which of these are no padding to results
            with leading axis `size`. Padding has the operands of the last lane, and should cost nothing.
        shared: pytree of arrays that all lanes read.
        per_lane: pytree of arrays with leading axis lanes.
        costs: relative time of each lane, as for `run_blocks`.
        block_size: lanes that run side by side.
        mesh: the devices.

    Returns:
        The results of all lanes.
    """
    lanes = costs.shape[0]

    def run(operands: Any, numbers: Int[Array, " size"]) -> Any:
        shared, per_lane = operands
        lane = jnp.minimum(numbers, lanes - 1)
        return run_block(shared, jax.tree.map(lambda leaf: leaf[lane], per_lane), numbers < lanes)

    return run_blocks(run, (shared, per_lane), costs, block_size, mesh)


def vmap_lanes(function: Callable[..., Any], in_axes: int | tuple[int | None, ...] = 0) -> Callable[..., Any]:
    """`vmap` over lanes, but for a single one, which runs as it is: XLA's code is slower with an axis of 1.

    Args:
        function: of one lane.
        in_axes: of positional arguments, as `vmap` takes them.
    """

    def of_lanes(*operands: Any) -> Any:
        axes = in_axes if isinstance(in_axes, tuple) else (in_axes,) * len(operands)
        mapped = [operand for operand, axis in zip(operands, axes, strict=True) if axis is not None]
        if jax.tree.leaves(mapped)[0].shape[0] > 1:
            return jax.vmap(function, axes)(*operands)
        alone = (
            operand if axis is None else jax.tree.map(lambda leaf: leaf[0], operand)
            for operand, axis in zip(operands, axes, strict=True)
        )
        return jax.tree.map(lambda leaf: leaf[None], function(*alone))

    return of_lanes


def keep_where(alive: Bool[Array, ""], new: TrainState, old: TrainState) -> TrainState:
    """`new` while its lifetime lasts, then everything as it was.

    Without a critic nobody asks where the workers stand afterwards, and they go on idly: to keep them
    would cost time.
    """
    keep = functools.partial(jnp.where, alive)
    agent, critic, reward_sum, metrics = jax.tree.map(
        keep,
        (new.agent, new.critic, new.reward_sum, new.metrics),
        (old.agent, old.critic, old.reward_sum, old.metrics),
    )
    workers = new.workers
    if critic is not None:
        workers = jax.tree.map(keep, new.workers, old.workers)
    return TrainState(agent=agent, workers=workers, critic=critic, reward_sum=reward_sum, metrics=metrics)


def evaluate_block(
    learner: Learner, train_states: TrainState, levels: EnvParams, keys: Key[Array, " L"]
) -> Float[Array, " L"]:
    """Fitness of a block of agents; lanes of the same key see the same random numbers."""
    return vmap_lanes(learner.evaluate)(levels, keys, train_states)
