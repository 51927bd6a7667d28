"""What the host loop asks of a trainer: a pure step from state to state, and the objective inside it."""

import dataclasses
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array

from rl_discovery.discovery.objectives.base import Objective
from rl_discovery.discovery.sharding import put
from rl_discovery.discovery.types import MetaParams
from rl_discovery.meta.config import RunConfig
from rl_discovery.meta.curriculum import Curriculum
from rl_discovery.meta.errors import ConfigError
from rl_discovery.meta.evolve import make_evolution
from rl_discovery.meta.meta_gradient import make_meta_gradient


class Program(Protocol):
    """The static side of a run."""

    @property
    def objective(self) -> Objective:
        """The rule whose meta-parameters are searched."""
        ...

    @property
    def mesh(self) -> Mesh:
        """The devices in use."""
        ...

    @property
    def curriculum(self) -> Curriculum:
        """Which levels are played."""
        ...

    def init(self, start: MetaParams | None = None) -> Any:
        """State before the first generation, at `start` where it is given; fit for `jit`."""
        ...

    def place(self, state: Any) -> Any:
        """The state where `step` wants it on the devices."""
        ...

    def step(self, state: Any) -> tuple[Any, dict[str, Array]]:
        """One generation: the state after it, and its metrics; fit for `jit`."""
        ...

    def meta_params(self, state: Any) -> MetaParams:
        """The objective as it stands: what is saved and evaluated."""
        ...

    def last_mean(self, state: Any) -> MetaParams:
        """Where the search stands: the same, unless an average of its steps is what is saved."""
        ...


def make_program(config: RunConfig) -> Program:
    """Builds the static side of a run from its configuration.

    Raises:
        ConfigError: parts that do not fit each other or this machine (strategy, network, devices), or
            JAX computes in 64 bits.
    """
    if jnp.result_type(float) == jnp.float64:
        raise ConfigError("meta-training is in 32 bits, and JAX_ENABLE_X64 asks for 64: unset it")
    try:
        return make_evolution(config) if config.trainer == "es" else make_meta_gradient(config)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def reduced(state: Any) -> tuple[Any, float]:
    """The state with half its `scale`, a factor on sigma and learning rate, and what that is now.

    Args:
        state: of a run whose `held_out.on_divergence` is reduce.
    """
    scale = float(jax.device_get(state.scale)) / 2
    placed = put(np.float32(scale), state.scale.sharding)
    return dataclasses.replace(state, scale=placed), scale


def compile_step(program: Program, state: Any) -> Any:
    """`program.step`, compiled for states that lie where `state` does.

    The state stays where it is from step to step: one compiled program takes all of them.
    """
    where = jax.tree.map(lambda leaf: leaf.sharding, state)
    return jax.jit(program.step, out_shardings=(where, None)).lower(state).compile()
