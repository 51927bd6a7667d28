"""Builds the static side of a run from its configuration."""

import dataclasses
from collections.abc import Iterator
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array

from rl_discovery.discovery.objectives.base import Objective
from rl_discovery.discovery.sharding import make_mesh, put
from rl_discovery.discovery.types import MetaParams
from rl_discovery.meta.config import RunConfig
from rl_discovery.meta.curriculum import Curriculum
from rl_discovery.meta.errors import ConfigError
from rl_discovery.meta.evolution import Problem, make_strategy, schedules
from rl_discovery.meta.evolution.reduction import check_reducible
from rl_discovery.meta.evolve import Evolution, Lanes
from rl_discovery.meta.fitness import FITNESS
from rl_discovery.meta.meta_gradient import MetaGradient
from rl_discovery.meta.population import LivingLanes, chunks, usable_devices
from rl_discovery.meta.task import Task, make_task


class Program(Protocol):
    """The static side of a run."""

    @property
    def objective(self) -> Objective:
        """The rule whose meta-parameters are learned."""
        ...

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The environments of the run."""
        ...

    @property
    def mesh(self) -> Mesh:
        """The devices in use."""
        ...

    @property
    def curriculum(self) -> Curriculum:
        """Curriculum of the first environment."""
        ...

    def init(self, start: MetaParams | None = None) -> Any:
        """State before the first generation, with the meta-parameters `start`, if given; fit for `jit`."""
        ...

    def place(self, state: Any) -> Any:
        """The state, placed on the devices as `step` needs it."""
        ...

    def step(self, state: Any) -> tuple[Any, dict[str, Array]]:
        """One generation: the state after it, and its metrics; fit for `jit`."""
        ...

    def meta_params(self, state: Any) -> MetaParams:
        """The meta-parameters that are saved and evaluated."""
        ...

    def last_mean(self, state: Any) -> MetaParams:
        """The current mean of the search; differs from `meta_params` if an average is saved."""
        ...


def make_program(config: RunConfig) -> Program:
    """Builds the static side of a run from its configuration.

    Raises:
        ConfigError: parts that do not fit each other or this machine, or JAX is set to 64 bits.
    """
    if jnp.result_type(float) == jnp.float64:
        raise ConfigError("meta-training is in 32 bits, and JAX_ENABLE_X64 asks for 64: unset it")
    try:
        return make_evolution(config) if config.trainer == "es" else make_meta_gradient(config)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def make_evolution(config: RunConfig) -> Evolution:
    """Builds the static side of a run by evolution.

    Raises:
        ConfigError, ValueError: parts that do not fit each other or this machine.
    """
    objective, mesh = config.build_objective(), make_mesh(config.devices)
    tasks = tuple(make_task(share, objective, mesh) for share in config.tasks)
    learning_rate, sigma = schedules(config.es, config.generations)
    solution = jax.eval_shape(objective.init, jax.random.key(0))
    problem = Problem(
        solution=jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), solution),
        groups=config.groups,
        group_size=config.es.group_size,
        learning_rate=learning_rate,
        sigma=sigma,
        mesh=mesh,
        adam_b1=config.es.adam_b1,
        weight_decay=config.es.weight_decay,
        scales=_perturbation_scales(objective, solution) if config.es.sigma_per_part else None,
    )
    strategy = make_strategy(config.es.strategy, problem)
    if config.held_out.reduces:
        check_reducible(strategy, solution)
    return Evolution(
        seed=config.seed,
        objective=objective,
        tasks=tasks,
        lanes=tuple(_lanes(config, tasks, mesh)),
        strategy=strategy,
        learning_rate=learning_rate,
        reducible=config.held_out.reduces,
        zero_mean=config.es.initial_mean == "zeros",
        average_decay=config.es.average_decay,
    )


def _perturbation_scales(objective: Objective, solution: MetaParams) -> MetaParams:
    by_name = objective.perturbation_scales()
    if by_name is None:
        raise ConfigError(f"es.sigma_per_part: {objective.name} does not say how its parts differ")
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.full(
            leaf.shape, by_name.get(jax.tree_util.keystr(path, simple=True, separator="/"), 1.0)
        ),
        solution,
    )


def _lanes(config: RunConfig, tasks: tuple[Task, ...], mesh: Mesh) -> Iterator[Lanes]:
    # Groups are numbered over all environments.
    fitness = FITNESS.find(config.fitness)
    first_group = 0
    for share, task in zip(config.tasks, tasks, strict=True):
        yield Lanes(
            learner=dataclasses.replace(
                task.learner,
                sums_rewards=fitness.reads_rewards,
                keeps_metrics=config.logging.inner_metrics,
            ),
            fitness=fitness,
            score=task.curriculum.score,
            first_group=first_group,
            groups=share.groups,
            group_size=share.es.group_size,
            block_size=share.block_size,
            mesh=mesh,
        )
        first_group += share.groups


def make_meta_gradient(config: RunConfig) -> MetaGradient:
    """Builds the static side of a run by meta-gradients.

    Raises:
        ConfigError, ValueError: parts that do not fit each other or this machine.
    """
    settings = config.meta_gradient
    mesh = _mesh(config)
    objective = config.build_objective()
    task = make_task(config, objective, mesh, critic=True)
    return MetaGradient(
        seed=config.seed,
        objective=objective,
        task=task,
        lanes=LivingLanes(task.learner, task.curriculum.score, settings, config.block_size, mesh),
        learning_rate=settings.learning_rate,
        optimiser=optax.chain(
            optax.clip_by_global_norm(settings.max_grad_norm), optax.adam(settings.learning_rate)
        ),
        reducible=config.held_out.reduces,
    )


def _mesh(config: RunConfig) -> Mesh:
    """Over the configured number of devices, or the most that lanes can be split over evenly.

    Raises:
        ValueError: lanes cannot be split evenly.
    """
    lanes, size, devices = config.meta_gradient.lanes, config.block_size, config.devices
    pieces = chunks(lanes, size)
    if devices is None:
        devices = usable_devices(pieces, jax.device_count(), jax.process_count())
    if pieces % devices:
        raise ValueError(
            f"{lanes} lanes in blocks of {size} cannot be dealt evenly to {devices} devices: "
            f"use a divisor of {pieces}"
        )
    return make_mesh(devices, alone=pieces % 2 == 1)


def reduced(state: Any) -> tuple[Any, float]:
    """The state with its `scale` halved, and the new scale.

    Args:
        state: of a run whose `held_out.on_divergence` is reduce.
    """
    scale = float(jax.device_get(state.scale)) / 2
    placed = put(np.float32(scale), state.scale.sharding)
    return dataclasses.replace(state, scale=placed), scale


def compile_step(program: Program, state: Any) -> Any:
    """`program.step`, compiled for states that are placed like `state`; its results are, too."""
    where = jax.tree.map(lambda leaf: leaf.sharding, state)
    return jax.jit(program.step, out_shardings=(where, None)).lower(state).compile()
