"""The smallest run that has everything: a few seconds to compile, milliseconds a generation."""

import dataclasses

import jax

from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.discovery.objectives.lpg import LPG
from rl_discovery.meta.build import make_program
from rl_discovery.meta.config import (
    CheckpointConfig,
    EvolutionConfig,
    LevelsConfig,
    LoggingConfig,
    RunConfig,
)
from rl_discovery.meta.objective_settings import objective_settings

TINY = RunConfig(
    preset="tiny",
    seed=5,
    generations=6,
    objective=objective_settings(LPG, width=4, bins=3, embedding_width=2),
    agent=AgentConfig(workers=2, rollout_steps=4),
    es=EvolutionConfig(pairs=3, learning_rate=0.05, sigma=0.5),
    levels=LevelsConfig(distribution="small", horizon=3),
    block_size=1,
    devices=1,
    checkpoint=CheckpointConfig(every=2),
    logging=LoggingConfig(tensorboard=False),
)


def tiny(**changes):
    """TINY with changes; those of a nested part as a dict, of another objective with its kind."""
    for name, value in changes.items():
        if isinstance(value, dict) and "kind" in value:
            kind, *fields = value.items()
            changes[name] = objective_settings(kind[1], **dict(fields))
        elif isinstance(value, dict):
            changes[name] = dataclasses.replace(getattr(TINY, name), **value)
    return dataclasses.replace(TINY, **changes)


def program_with_horizons(config, low, high):
    """A program whose levels have horizons log-uniform between two bounds."""
    program = make_program(config)
    distribution = program.curriculum.distribution.with_horizon(low, high)
    return with_task(program, curriculum=dataclasses.replace(program.curriculum, distribution=distribution))


def half_empty(distribution):
    """The same levels, half of them without objects, so that nobody can do better than anybody else."""

    def sample_params(key):
        level = distribution.sample_params(key)
        return level.replace(object_active=level.object_active & jax.random.bernoulli(key))

    return dataclasses.replace(distribution, sample_params=sample_params)


def with_task(program, **changes):
    """A program with changes in its first environment."""
    first, *others = program.tasks
    return dataclasses.replace(program, tasks=(dataclasses.replace(first, **changes), *others))


def with_lanes(program, kind, **changes):
    """A program whose first environment has lanes of this kind."""
    first, *others = program.lanes
    return dataclasses.replace(program, lanes=(kind(**vars(first) | changes), *others))
