"""What both trainers are made of, built from one configuration: levels, agents, curriculum, devices."""

import dataclasses
import functools

import jax
from jax.sharding import Mesh

from rl_discovery.discovery.learning.environment_check import check_table, looks_up_tables
from rl_discovery.discovery.learning.lifetime import Learner, make_learner
from rl_discovery.discovery.objectives.base import Objective
from rl_discovery.discovery.sharding import make_mesh
from rl_discovery.envs.levels import Family, Level, LevelDistribution, sample_params
from rl_discovery.envs.registry import family_of
from rl_discovery.meta.config import RunConfig
from rl_discovery.meta.curriculum import Curriculum, make_curriculum
from rl_discovery.meta.curriculum.references import References, make_references
from rl_discovery.meta.curriculum.scores import SCORES
from rl_discovery.meta.fitness import FITNESS
from rl_discovery.meta.scale import Planner, make_planner


@dataclasses.dataclass(frozen=True)
class Parts:
    """The static side of a run, but for how the objective is searched.

    Attributes:
        objective: the rule whose meta-parameters are searched.
        distribution: what levels are sampled from.
        blank: a level of zeros.
        learner: environment, agent and objective.
        planner: of the levels' scales; None where neither fitness nor score reads them.
        curriculum: which levels are played.
        references: what their scores compare with.
        mesh: the devices.
    """

    objective: Objective
    distribution: LevelDistribution
    blank: Level
    learner: Learner
    planner: Planner | None
    curriculum: Curriculum
    references: References
    mesh: Mesh


def make_parts(
    config: RunConfig, devices: int | None, *, objective: Objective | None = None, critic: bool = False
) -> Parts:
    """Builds them.

    Args:
        config: of the run.
        devices: how many; None for all.
        objective: what agents learn with, in place of the configured one.
        critic: whether the trainer needs a critic beside each agent; a score may need one too.

    Raises:
        ConfigError, ValueError: parts that do not fit each other or this machine.
    """
    distribution = config.levels.build()
    objective = objective or config.build_objective()
    mesh = make_mesh(devices)
    family = family_of(config.levels.distribution)
    # Some environments compute bounds of their spaces from a level.
    level = distribution.blank()
    planner = _planner(config, family, distribution, level, mesh)
    curriculum = make_curriculum(config.curriculum, distribution, config.groups, config.seed, planner)
    score = curriculum.score
    learner = make_learner(
        distribution.env, level.params, config.agent, objective, critic=critic or score.critic, blank=True
    )
    if looks_up_tables(learner.env, level.params):
        check_table(learner.env, sample_params(distribution, jax.random.key(config.seed)))
    return Parts(
        objective=objective,
        distribution=distribution,
        blank=level,
        learner=learner,
        planner=planner,
        curriculum=curriculum,
        references=make_references(config, score, family, distribution, level.params, mesh),
        mesh=mesh,
    )


def _planner(
    config: RunConfig, family: Family, distribution: LevelDistribution, level: Level, mesh: Mesh
) -> Planner | None:
    """Plans levels where fitness or score reads their scale; a fitness is served none without one."""
    make = functools.partial(
        make_planner, family=family, distribution=distribution, level=level.params, mesh=mesh
    )
    if config.trainer == "es" and FITNESS.find(config.fitness).reads_scale:
        return make("fitness", config.fitness, redraws=True)
    if SCORES.find(config.curriculum.score).scale:
        return make("curriculum.score", config.curriculum.score)
    return None
