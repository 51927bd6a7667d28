"""Builds the static side of an inner loop: environment, agent, objective and critic, checked against each
other.
"""

import dataclasses
from typing import Any, cast

from gymnax.environments.environment import Environment

from rl_discovery.discovery.agents.agent import make_agent
from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.discovery.agents.spaces import action_space, is_discrete, name_of
from rl_discovery.discovery.learning.critic import make_critic
from rl_discovery.discovery.learning.environment_check import check_environment, check_table
from rl_discovery.discovery.learning.lifetime import Learner
from rl_discovery.discovery.objectives.base import Objective
from rl_discovery.discovery.objectives.lpg import LPG
from rl_discovery.discovery.types import EnvParams


def make_learner(
    env: Environment,
    level: EnvParams,
    config: AgentConfig,
    objective: Objective,
    *,
    critic: bool = False,
    blank: bool = False,
) -> Learner:
    """Builds a learner, after checking that its parts fit together.

    Args:
        env: the environment.
        level: any of its levels; the spaces are read from it.
        config: the agent's settings; `discount` and `gae_lambda` replace those of the objective.
        objective: the rule.
        critic: whether a critic learns beside the agent.
        blank: the level is all zeros and must not be played.

    Raises:
        InvalidEnvironmentError: the environment does not follow gymnax 1.0, or its own spaces.
        ValueError: settings that contradict each other, the objective or the environment.
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
    critic_agent = make_critic(config, env, level) if critic else None
    return Learner(env, agent, _discounted(objective, config), config.rollout_steps, critic_agent)


def _discounted(objective: Objective, config: AgentConfig) -> Objective:
    given = config.of_task
    if not given:
        return objective
    has_none = isinstance(objective, LPG) and not objective.is_residual
    if lacking := [name for name in given if has_none or not hasattr(objective, name)]:
        raise ValueError(
            f"{objective.name} has no {' and no '.join(lacking)}: leave it out of the agent's settings"
        )
    return dataclasses.replace(cast(Any, objective), **given)
