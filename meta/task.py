"""One environment of a run: its levels, learner and curriculum, built once.

Trainers, held-out evaluation and the gallery use it.
"""

import dataclasses
import functools

import jax
from jax.sharding import Mesh

from rl_discovery.discovery.agents.spaces import name_of
from rl_discovery.discovery.learning.build import make_learner
from rl_discovery.discovery.learning.environment_check import check_table, looks_up_tables
from rl_discovery.discovery.learning.lifetime import Learner
from rl_discovery.discovery.objectives.base import Objective
from rl_discovery.envs.levels import Family, Level, LevelDistribution, sample_params
from rl_discovery.envs.registry import family_of
from rl_discovery.meta.config import RunConfig
from rl_discovery.meta.curriculum import Curriculum, make_curriculum
from rl_discovery.meta.curriculum.references import References, make_references
from rl_discovery.meta.curriculum.scores import SCORES
from rl_discovery.meta.fitness import FITNESS
from rl_discovery.meta.scale import Planner, make_planner


@dataclasses.dataclass(frozen=True)
class Task:
    """The static side of one environment of a run.

    Attributes:
        family: of environments, which may know exact returns.
        distribution: source of the levels.
        blank: a level of zeros.
        learner: environment, agent and objective.
        planner: of the levels' scales; None if neither fitness nor score reads them.
        curriculum: chooses the levels.
        references: reference returns for the scores.
    """

    family: Family
    distribution: LevelDistribution
    blank: Level
    learner: Learner
    planner: Planner | None
    curriculum: Curriculum
    references: References

    @property
    def name(self) -> str:
        """Name of the environment."""
        return name_of(self.learner.env)

    @property
    def measured(self) -> Learner:
        """The learner of agents that are only measured: without a critic, and without variation."""
        agent = self.learner.agent
        agent = dataclasses.replace(agent, config=agent.config.without_variation())
        return dataclasses.replace(self.learner, agent=agent, critic=None)


def make_task(config: RunConfig, objective: Objective, mesh: Mesh, *, critic: bool = False) -> Task:
    """Builds one environment of a run.

    Args:
        config: of the run, or its part for this environment (`RunConfig.tasks`).
        objective: the rule.
        mesh: the devices.
        critic: whether the trainer needs a critic; a score may need one too.

    Raises:
        ConfigError, ValueError: parts that do not fit each other or this machine.
    """
    distribution = config.levels.build()
    family = family_of(config.levels.distribution)
    # Spaces may depend on the level.
    level = distribution.blank()
    planner = _planner(config, family, distribution, level, mesh)
    curriculum = make_curriculum(config.curriculum, distribution, config.groups, config.seed, planner)
    score = curriculum.score
    learner = make_learner(
        distribution.env, level.params, config.agent, objective, critic=critic or score.critic, blank=True
    )
    if looks_up_tables(learner.env, level.params):
        check_table(learner.env, sample_params(distribution, jax.random.key(config.seed)))
    return Task(
        family=family,
        distribution=distribution,
        blank=level,
        learner=learner,
        planner=planner,
        curriculum=curriculum,
        references=make_references(config, score, family, distribution, level.params, mesh),
    )


def _planner(
    config: RunConfig, family: Family, distribution: LevelDistribution, level: Level, mesh: Mesh
) -> Planner | None:
    # A fitness needs a scale on every level, so levels without one are drawn again.
    make = functools.partial(
        make_planner, family=family, distribution=distribution, level=level.params, mesh=mesh
    )
    if config.trainer == "es" and FITNESS.find(config.fitness).reads_scale:
        return make("fitness", config.fitness, redraws=True)
    if SCORES.find(config.curriculum.score).scale:
        return make("curriculum.score", config.curriculum.score)
    return None
