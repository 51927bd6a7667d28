"""What is evaluated: an environment with the ends of its score, and an objective on it."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from gymnax.environments.environment import Environment
from jaxtyping import Float

from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.discovery.learning.settings import default_config
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.types import EnvParams
from rl_discovery.envs import registry
from rl_discovery.envs.levels import MIN_SPAN
from rl_discovery.evaluation.errors import EvaluationError
from rl_discovery.evaluation.references import REFERENCES

MOST_STEPS = 2**30
"""Most steps of a worker in its lifetime: steps are counted in 32 bits."""


@dataclasses.dataclass(frozen=True)
class EvaluationTask:
    """An environment of the suite with its levels and the ends of its score.

    Attributes:
        name, env: the environment.
        levels: a batch of its parameters, leading axis first.
        optimal: expected return of the best policy per level, or the reference's; NaN where unknown.
        random: expected return of the uniformly random policy per level; NaN where unknown.
    """

    name: str
    env: Environment
    levels: EnvParams
    optimal: Float[np.ndarray, " levels"]
    random: Float[np.ndarray, " levels"]

    @property
    def level(self) -> EnvParams:
        """One level, for what depends on shapes only."""
        return jax.tree.map(lambda leaf: leaf[0], self.levels)

    @property
    def count(self) -> int:
        """Number of levels."""
        return count(self.levels)

    @property
    def scored(self) -> np.ndarray:
        """Which levels have a score."""
        return np.asarray(self.optimal - self.random > MIN_SPAN)  # False for NaN

    def agent_for(
        self, objective: TrainedObjective, workers: int | None, hidden: Sequence[int] = ()
    ) -> AgentConfig:
        """The settings of agents that learn this task with an objective.

        Args:
            objective: decides them, with the task.
            workers: W, if it is to be another.
            hidden: widths of the hidden layers of an MLP, if they are to be others.
        """
        config = default_config(self.env, self.level, objective)
        if hidden and config.network == "mlp":
            config = dataclasses.replace(config, hidden=tuple(hidden))
        return config if workers is None else dataclasses.replace(config, workers=workers)

    def scores(self, returns: Float[np.ndarray, "*batch levels"]) -> Float[np.ndarray, "*batch levels"]:
        """Returns between 0 (random policy) and 1 (best policy); NaN where a level has no such scale."""
        span = np.where(self.scored, self.optimal - self.random, 1.0)
        return np.where(self.scored, (returns - self.random) / span, np.nan)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One objective on one environment of a suite.

    Attributes:
        suite: its name.
        task: the environment.
        label: what the results call the objective.
        objective: what the agents learn with.
        agent: their settings.
    """

    suite: str
    task: EvaluationTask
    label: str
    objective: TrainedObjective
    agent: AgentConfig

    def env_steps(self, updates: int) -> int:
        """Steps that each agent makes in so many updates."""
        return updates * self.agent.steps_per_update


def prepare(name: str, env: Environment, levels: EnvParams) -> EvaluationTask:
    """An environment with the ends of its score, where they are known."""
    return EvaluationTask(name, env, levels, *reference_returns(name, env, levels))


def reference_returns(
    name: str, env: Environment, levels: EnvParams
) -> tuple[Float[np.ndarray, " levels"], Float[np.ndarray, " levels"]]:
    """Expected returns of the best and of the random policy per level; NaN where they are not known.

    Exact where the environment's family computes them, else those of `REFERENCES`.
    """
    of_levels = np.ones(count(levels))
    if name in REFERENCES:
        return REFERENCES[name].high * of_levels, REFERENCES[name].random * of_levels
    unknown = np.nan * of_levels
    family = registry.FAMILIES.get(name.partition("/")[0])
    returns = None if family is None else family.exact_returns(env, levels)
    if returns is None:
        return unknown, unknown
    optimal, random = returns
    return np.asarray(optimal, np.float64), np.asarray(random, np.float64)


def updates_of(horizon: int, unit: str, config: AgentConfig) -> int:
    """A horizon in agent updates.

    Raises:
        EvaluationError: fewer environment steps than one update takes, or more than can be counted.
    """
    per_update = config.steps_per_update
    if unit != "updates" and horizon < per_update:
        raise EvaluationError(
            f"a horizon of {horizon} env steps is less than one update, which takes {per_update}"
        )
    updates = horizon if unit == "updates" else horizon // per_update
    if updates * config.rollout_steps > MOST_STEPS:
        raise EvaluationError(
            f"a horizon of {horizon} is too long: more than {MOST_STEPS:,} steps of each worker"
        )
    return updates


def count(levels: EnvParams) -> int:
    """Number of levels in a batch."""
    leaves: list[Any] = jax.tree.leaves(levels)
    return int(leaves[0].shape[0])
