"""`discovery.train`: one agent on one level with a discovered or hand-written objective."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments.environment import Environment
from jaxtyping import Array, Float, Key, Num

from discovery.agents.agent import Agent, AgentConfig, AgentState
from discovery.agents.policies import Categorical
from discovery.lifetime import Life, make_learner
from discovery.objectives.base import Objective, TrainedObjective
from discovery.objectives.registry import make_objective
from discovery.settings import default_config
from discovery.types import Progress


@dataclasses.dataclass(frozen=True)
class TrainedAgent:
    """An agent at the end of its lifetime.

    Attributes:
        agent: network and optimiser.
        state: the network's parameters, and the statistics that it looks through.
    """

    agent: Agent
    state: AgentState

    def policy(self, observation: Array) -> Float[Array, "*batch A"]:
        """Action probabilities for observations of any leading shape.

        Raises:
            ValueError: the actions are continuous.
        """
        if not isinstance(self.agent.policy, Categorical):
            raise ValueError("only discrete actions have probabilities: use act()")
        return jax.nn.softmax(self.agent.look(self.state, observation).parameters)

    def act(self, key: Key[Array, ""], observation: Array) -> Num[Array, "*batch_and_action"]:
        """Sampled actions for observations of any leading shape, as the environment takes them."""
        return self.agent.act(self.state, key, observation)


def train(
    objective: TrainedObjective | Objective | str,
    env: Environment,
    level: Any,
    horizon: int,
    seed: int = 0,
    *,
    config: AgentConfig | None = None,
    evaluations: int = 20,
) -> tuple[TrainedAgent, Mapping[str, np.ndarray]]:
    """Trains one agent from scratch.

    Args:
        objective: from `checkpoints.load_objective`, or a hand-written one or its name ("a2c").
        env: any gymnax environment, ours among them.
        level: its parameters.
        horizon: N, the lifetime in agent updates.
        seed: determines everything random.
        config: the agent's settings; by default the published ones for environment and rule.
        evaluations: how many times the return is measured, evenly over the lifetime, last at its end.

    Returns:
        The agent, and its history: arrays `update`, `env_steps` and `return` (mean undiscounted
        return of W whole episodes) per evaluation, and one array over all updates for each metric
        of the objective (`policy_loss`, `reward_per_step` ...).

    Raises:
        ValueError: a horizon or number of evaluations below 1, continuous actions with a rule for
            discrete ones, or an objective that has meta-parameters but comes without them.

    Example:
        >>> env, level = envs.make("gridworld/dense")
        >>> agent, history = discovery.train("a2c", env, level, horizon=500)
    """
    if horizon < 1 or evaluations < 1:
        raise ValueError(f"horizon and evaluations must be at least 1, not {horizon} and {evaluations}")
    rule, meta_params = _bind(objective)
    if config is None:
        config = default_config(env, level, rule)
    learner = make_learner(env, level, config, rule)
    key = jax.random.key(seed)

    @jax.jit
    def updates(life: Life, first: Array, numbers: Array) -> tuple[Life, Any]:
        def advance(life, n):
            progress = Progress(done=first + n, horizon=jnp.int32(horizon))
            return learner.update(meta_params, level, key, progress, life)

        return jax.lax.scan(advance, life, numbers)

    evaluate = jax.jit(learner.evaluate)
    life = jax.jit(learner.begin)(key, level)
    ends = np.unique(np.linspace(0, horizon, min(evaluations, horizon) + 1).round().astype(int))[1:]
    metrics, returns, first = [], [], 0
    for end in ends:
        life, chunk = updates(life, jnp.int32(first), jnp.arange(end - first))
        metrics.append(jax.device_get(chunk))
        returns.append(float(evaluate(level, key, life)))
        first = int(end)
    steps_per_update = learner.workers * learner.rollout_steps
    history = {
        "update": ends,
        "env_steps": ends * steps_per_update,
        "return": np.array(returns),
    } | {name: np.concatenate([chunk[name] for chunk in metrics]) for name in metrics[0]}
    return TrainedAgent(learner.agent, life.agent), history


def _bind(objective: TrainedObjective | Objective | str) -> tuple[Objective, Any]:
    """The rule and its meta-parameters."""
    if isinstance(objective, TrainedObjective):
        return objective.rule, objective.meta_params
    rule = make_objective(objective) if isinstance(objective, str) else objective
    if jax.tree.leaves(jax.eval_shape(rule.init, jax.random.key(0))):
        raise ValueError(
            f"{rule.name} is a learned objective: load its meta-parameters with checkpoints.load_objective"
        )
    return rule, rule.init(jax.random.key(0))
