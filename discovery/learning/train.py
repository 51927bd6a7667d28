"""`train`: trains agents on one level with a discovered or hand-written objective."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments.environment import Environment
from jaxtyping import Array, Float, Key, Num

from rl_discovery.discovery.agents.agent import Agent, AgentState
from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.discovery.agents.policies import Categorical
from rl_discovery.discovery.learning.build import make_learner
from rl_discovery.discovery.learning.lifetime import Learner, TrainState, vmap_lanes
from rl_discovery.discovery.learning.rollout import UNFINISHED, no_end
from rl_discovery.discovery.learning.settings import default_config
from rl_discovery.discovery.objectives.base import Metrics, Objective, TrainedObjective
from rl_discovery.discovery.objectives.registry import make_objective
from rl_discovery.discovery.types import Progress

PROGRAMS = 16
"""Cached programs, one per combination of environment, level, objective and agent."""

CHUNK = 256
"""Updates per call of a compiled program, at most; then metrics are fetched."""


@dataclasses.dataclass(frozen=True)
class TrainedAgent:
    """An agent at the end of its lifetime, or one per seed.

    Attributes:
        agent: network and optimiser.
        state: parameters and running statistics; with seeds, every leaf has a leading axis of seeds.
        seeds: of `train`; None for a single agent.
    """

    agent: Agent
    state: AgentState
    seeds: tuple[int, ...] | None = None

    def policy(self, observation: Array) -> Float[Array, "*batch A"]:
        """Action probabilities for observations of any leading shape; with seeds, their axis comes first.

        Raises:
            ValueError: the actions are continuous.
        """
        if not isinstance(self.agent.policy, Categorical):
            raise ValueError("only discrete actions have probabilities: use act()")
        outputs_of = self.agent.outputs_of
        if self.seeds is not None:
            outputs_of = jax.vmap(outputs_of, in_axes=(0, None))
        return jax.nn.softmax(outputs_of(self.state, observation).parameters)

    def act(self, key: Key[Array, ""], observation: Array) -> Num[Array, "*batch_and_action"]:
        """Sampled actions for observations of any leading shape, as the environment takes them.

        With seeds, their axis comes first, and each agent has random numbers of its own.
        """
        if self.seeds is None:
            return self.agent.act(self.state, key, observation)
        keys = jax.random.split(key, len(self.seeds))
        return jax.vmap(self.agent.act, in_axes=(0, 0, None))(self.state, keys, observation)

    def __getitem__(self, index: int) -> "TrainedAgent":
        """The agent of one of several seeds, by its place among them.

        Raises:
            TypeError: there is a single agent.
            IndexError: there are not so many.
        """
        if self.seeds is None:
            raise TypeError("this is a single agent: train with seeds=range(8) for several")
        place = range(len(self.seeds))[index]
        return TrainedAgent(self.agent, jax.tree.map(lambda leaf: leaf[place], self.state))


def train(
    objective: TrainedObjective | Objective | str,
    env: Environment,
    level: Any,
    horizon: int,
    seed: int = 0,
    *,
    seeds: Iterable[int] | None = None,
    config: AgentConfig | None = None,
    evaluations: int = 20,
) -> tuple[TrainedAgent, Mapping[str, np.ndarray]]:
    """Trains an agent from scratch, or one per seed side by side.

    The first call for an environment, level, objective and agent compiles; later ones with other seeds (as
    many of them) and horizons do not, as long as `env` is the same object. As everywhere in JAX, an
    environment that was changed in place is not noticed.

    Args:
        objective: from `checkpoints.load_objective`, or a hand-written one or its name ("a2c").
        env: any gymnax environment, ours among them.
        level: its parameters.
        horizon: N, the lifetime in agent updates.
        seed: determines everything random.
        seeds: of several agents, in place of `seed`. Each is the agent that `seed` alone would give, but
            for rounding.
        config: the agent's settings; by default those that a learned objective was trained with, as far as
            they suit the environment, else the published ones for environment and rule.
        evaluations: how many times the return is measured, evenly over the lifetime, last at its end.

    Returns:
        The agent, and its history: arrays `update` and `env_steps` per evaluation, `return` (mean
        undiscounted return of W whole episodes; NaN where the agent is not finite) per evaluation, and one
        array over all updates for each metric of the update: `reward_per_step`, `entropy` of the policy in
        nats, `gradient_norm` before clipping, and those of the objective's loss: `policy_loss`, `value_loss`
        or `prediction_loss`, for rules in PPO's loop also `kl` (of the policy to the one that collected) and
        `drift`. With `seeds`, all but the first two have a leading axis of seeds.

    Raises:
        ValueError: a horizon or number of evaluations below 1, no seeds, continuous actions with a rule for
            discrete ones, an objective that has meta-parameters but comes without them, or an episode
            that does not end.

    Example:
        >>> env, level = rld.make_env("gridworld/dense")
        >>> agent, history = rld.train("a2c", env, level, horizon=500, seeds=range(8))
    """
    if horizon < 1 or evaluations < 1:
        raise ValueError(f"horizon and evaluations must be at least 1, not {horizon} and {evaluations}")
    all_seeds = (seed,) if seeds is None else tuple(seeds)
    if not all_seeds or (seeds is not None and seed != 0):
        raise ValueError(f"give one seed, or at least one in seeds, not {seed} and {seeds}")
    bound = _bind(objective)
    rule, meta_params = bound.rule, bound.meta_params
    if config is None:
        config = default_config(env, level, bound)
    learner = make_learner(env, level, config, rule)
    programs = _programs_of(learner, level, meta_params)
    keys = jnp.stack([jax.random.key(seed) for seed in all_seeds])

    train_states = programs.begin(keys, level)
    ends = np.unique(np.linspace(0, horizon, min(evaluations, horizon) + 1).round().astype(int))[1:]
    metrics, returns, first = [], [], 0
    for end in ends.tolist():
        while first < end:
            count = min(CHUNK, end - first)
            train_states, chunk = programs.advance(
                keys, _stages(first, horizon), train_states, jnp.int32(count)
            )
            metrics.append({name: values[:, :count] for name, values in jax.device_get(chunk).items()})
            first += count
        returns.append(np.asarray(programs.evaluate(level, keys, train_states), np.float64))
        if (returns[-1] == UNFINISHED).any():
            raise ValueError(no_end(env.name))
    by_seed = {"return": np.stack(returns, axis=1)} | {
        name: np.concatenate([chunk[name] for chunk in metrics], axis=1) for name in metrics[0]
    }
    history = {"update": ends, "env_steps": ends * config.steps_per_update}
    trained = TrainedAgent(learner.agent, train_states.agent, all_seeds)
    if seeds is not None:
        return trained, history | by_seed
    return trained[0], history | {name: values[0] for name, values in by_seed.items()}


class _Programs(NamedTuple):
    """The compiled functions of training; each compiles anew for another number S of seeds.

    Attributes:
        begin: `(keys, level)` to train states.
        advance: `(keys, stages, train_states, count)` to the train states after `count` more updates, and
            metrics of shape S x `CHUNK`, of which the first `count` are valid.
        evaluate: `(level, keys, train_states)` to returns.
    """

    begin: Callable[..., TrainState]
    advance: Callable[..., tuple[TrainState, Metrics]]
    evaluate: Callable[..., Float[Array, " S"]]


@dataclasses.dataclass(frozen=True)
class _Constant:
    """A pytree of arrays, compared by its contents."""

    value: Any = dataclasses.field(compare=False)
    contents: Any

    @classmethod
    def of(cls, tree: Any) -> "_Constant":
        leaves, structure = jax.tree.flatten(tree)
        arrays = [np.asarray(leaf) for leaf in leaves]
        described = (
            (type(leaf), a.dtype, a.shape, a.tobytes()) for leaf, a in zip(leaves, arrays, strict=True)
        )
        return cls(tree, (structure, tuple(described)))


@functools.lru_cache(maxsize=PROGRAMS)
def _programs(learner: Learner, constant: _Constant) -> _Programs:
    level, meta_params = constant.value

    def begin(keys, level):
        return vmap_lanes(learner.begin, (0, None))(keys, level)

    # Level and meta-parameters are constants: as operands, some last bits would be rounded differently.
    def advance(keys, stages, train_states, count):
        def update(i, key, train_state):
            now = jax.tree.map(lambda leaf: leaf[i], stages)
            return learner.update(meta_params, level, key, now, train_state)

        update_all = vmap_lanes(update, (None, 0, 0))
        shapes = jax.eval_shape(update_all, count, keys, train_states)[1]
        metrics = jax.tree.map(lambda s: jnp.zeros((*s.shape, CHUNK), s.dtype), shapes)

        def step(i, carry):
            train_states, metrics = carry
            train_states, latest = update_all(i, keys, train_states)
            return train_states, jax.tree.map(lambda all_, new: all_.at[:, i].set(new), metrics, latest)

        return jax.lax.fori_loop(0, count, step, (train_states, metrics))

    def evaluate(level, keys, train_states):
        return vmap_lanes(learner.evaluate, (None, 0, 0))(level, keys, train_states)

    return _Programs(jax.jit(begin), jax.jit(advance), jax.jit(evaluate))


def _stages(first: int, horizon: int) -> Progress:
    # Progress at the next `CHUNK` updates, rounded as XLA does where N is a constant: n times 1/N.
    done, inverse = np.arange(first, first + CHUNK, dtype=np.int32), np.float32(1 / horizon)
    exact = done * np.float64(inverse)  # the product is exact in float64
    log = np.full(CHUNK, math.log(horizon))
    known = tuple(jnp.asarray(x, jnp.float32) for x in (exact, 1 - exact, log))
    return Progress(jnp.asarray(done), jnp.full(CHUNK, horizon, jnp.int32), known)  # type: ignore[arg-type]


def _programs_of(learner: Learner, level: Any, meta_params: Any) -> _Programs:
    # Cached for equal learners. A user's own rule need not be hashable.
    constant = _Constant.of((level, meta_params))
    try:
        hash((learner, constant))
    except TypeError:
        return _programs.__wrapped__(learner, constant)
    return _programs(learner, constant)


def _bind(objective: TrainedObjective | Objective | str) -> TrainedObjective:
    if isinstance(objective, TrainedObjective):
        return objective
    rule = make_objective(objective) if isinstance(objective, str) else objective
    if jax.tree.leaves(jax.eval_shape(rule.init, jax.random.key(0))):
        raise ValueError(
            f"{rule.name} is a learned objective: load its meta-parameters with checkpoints.load_objective"
        )
    return TrainedObjective(rule, rule.init(jax.random.key(0)))
