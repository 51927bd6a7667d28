"""Levels, the distributions that they are sampled from, and families of environments.

A family (one module or subpackage of `envs` that defines `FAMILY`) offers level distributions;
`registry` finds them by name and the curriculum samples from them.
"""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments.environment import Environment
from jaxtyping import Array, Float, Int, Key

from rl_discovery.discovery.extras import Extra

EnvParams: TypeAlias = Any
"""Parameters of an environment: a pytree, gymnax's `EnvParams`."""


class UnusableEnvironmentError(ValueError):
    """An environment that exists but cannot be used here, or not with these options."""


MIN_SPAN = 0.02
"""A level where the best policy gains less return than this over the random one has no score.

Below it the sampling noise of a return alone would be worth several units of score."""


HORIZON_EDITS = 1 / 6
"""Share of edits that redraw the horizon, where a distribution has several. Our choice: a gridworld
has up to six other kinds of edits, all equally likely."""


@struct.dataclass
class Level:
    """One environment instance and how long an agent may learn on it.

    Attributes:
        params: the environment's parameters.
        horizon: N, agent updates in a lifetime on this level.
    """

    params: EnvParams
    horizon: Int[Array, "*levels"]


@dataclass(frozen=True)
class LevelDistribution:
    """What new levels are sampled from.

    Attributes:
        name: unique within its family.
        description: one line for `rl-discovery list envs`.
        env: the environment whose parameters are sampled.
        sample_params: parameters from a key; pure, fit for `jit` and `vmap`.
        horizon: bounds of N in agent updates, log-uniform; equal where N is fixed; None where the run
            has to set it (`with_horizon`).
        edit: one random small change of parameters that stays within the distribution's ranges; pure,
            fit for `jit` and `vmap`. None where there is nothing to change.
        statistics: scalars of one level, by name, whose means over levels are logged.

    Raises:
        ValueError: horizon bounds below 1 or in the wrong order.
    """

    name: str
    description: str
    env: Environment
    sample_params: Callable[[Key[Array, ""]], EnvParams]
    horizon: tuple[int, int] | None
    edit: Callable[[Key[Array, ""], EnvParams], EnvParams] | None = None
    statistics: Callable[[EnvParams], dict[str, Array]] | None = None

    def __post_init__(self) -> None:
        if self.horizon is None:
            return
        low, high = self.horizon
        if not 1 <= low <= high:
            raise ValueError(f"horizon of {self.name!r} must be 1 <= low <= high, not {low} to {high}")

    def sample(self, key: Key[Array, ""]) -> Level:
        """One level; `vmap` over keys for a batch of them.

        Raises:
            ValueError: the distribution has no horizons.
        """
        params_key, horizon_key = jax.random.split(key)
        draw = jax.random.uniform(horizon_key, (), jnp.float32)
        return Level(params=self.sample_params(params_key), horizon=log_uniform_int(draw, *self._horizons()))

    def params_of(self, key: Key[Array, ""]) -> EnvParams:
        """The parameters of `sample(key)`, of distributions without horizons too."""
        return self.sample_params(jax.random.split(key)[0])

    def blank(self) -> Level:
        """A level of zeros, for shapes and spaces: nothing is sampled, so nothing is compiled.

        Raises:
            ValueError: the distribution has no horizons.
        """
        like = jax.eval_shape(self.sample, jax.random.key(0))
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)

    @property
    def can_be_edited(self) -> bool:
        """Whether `edited` has anything to change."""
        low, high = self.horizon or (1, 1)
        return self.edit is not None or low < high

    def edited(self, key: Key[Array, ""], level: Level) -> Level:
        """The level with one random change: of its parameters or, where horizons vary, of its horizon.

        Args:
            key: decides what changes, and to what.
            level: one level of this distribution; `vmap` for a batch of them.

        Returns:
            The new level, which this distribution might have sampled.

        Raises:
            ValueError: the distribution has no horizons, or a fixed one and no `edit`.
        """
        low, high = self._horizons()
        if not self.can_be_edited:
            raise ValueError(f"levels of {self.name!r} cannot be edited: no `edit`, and a fixed horizon")
        kind_key, horizon_key, edit_key = jax.random.split(key, 3)
        horizon = log_uniform_int(jax.random.uniform(horizon_key, (), jnp.float32), low, high)
        if self.edit is None:
            return Level(params=level.params, horizon=horizon)
        params = self.edit(edit_key, level.params)
        if low == high:
            return Level(params=params, horizon=level.horizon)
        redraw = jax.random.uniform(kind_key) < HORIZON_EDITS
        return Level(
            params=jax.tree.map(functools.partial(jnp.where, redraw), level.params, params),
            horizon=jnp.where(redraw, horizon, level.horizon),
        )

    def _horizons(self) -> tuple[int, int]:
        if self.horizon is None:
            raise ValueError(f"levels of {self.name!r} have no horizon of their own: use with_horizon")
        return self.horizon

    def with_horizon(self, low: int, high: int) -> "LevelDistribution":
        """The same levels with another range of horizons (`low == high`: fixed)."""
        return replace(self, horizon=(low, high))


@dataclass(frozen=True)
class Family:
    """A kind of environment. Its module assigns one to `FAMILY`, and the registry finds it.

    Attributes:
        name: what its environments' names begin with, as in "gridworld/dense".
        description: one line.
        distributions: level distributions by name.
        make: `(name without the family, seed) -> (env, params)`.
        expected_returns: `(env, batch of B params) -> (optimal [B], random [B])`, the exact expected
            undiscounted episode returns of the best and of the uniformly random policy; raises a
            ValueError for an environment without them; None where no environment has them.
        render: `(env, params, ...) -> RGB array`; None where levels are not drawn.
        path: from a batch of environment states to what `render` takes as `path`; None where it takes none.
        tasks: names and descriptions of what `make` knows besides the distributions: environments
            that are not one of many levels.
        extra: what brings the library that all of them need; None where it comes with this package.
    """

    name: str
    description: str
    distributions: Mapping[str, LevelDistribution]
    make: Callable[[str, int], tuple[Environment, EnvParams]]
    expected_returns: Callable[[Any, EnvParams], tuple[Array, Array]] | None = None
    render: Callable[..., Any] | None = None
    path: Callable[[Any], Array] | None = None
    tasks: Mapping[str, str] = field(default_factory=dict)
    extra: Extra | None = None

    def exact_returns(self, env: Any, params: EnvParams) -> tuple[Array, Array] | None:
        """`expected_returns` of a batch of levels; None where the family or this environment has none."""
        if self.expected_returns is None:
            return None
        try:
            return self.expected_returns(env, params)
        except ValueError:
            return None

    @property
    def members(self) -> dict[str, str]:
        """Names that `make` takes, with one line each."""
        sampled = {name: distribution.description for name, distribution in self.distributions.items()}
        return sampled | dict(self.tasks)


def sample_one(distribution: LevelDistribution, seed: int) -> tuple[Environment, EnvParams]:
    """A distribution's environment and the parameters of the level that belongs to `seed`."""
    return distribution.env, sample_params(distribution, jax.random.key(seed))


@functools.partial(jax.jit, static_argnums=0)
def sample_params(distribution: LevelDistribution, key: Key[Array, ""]) -> EnvParams:
    """The parameters of one level, compiled once per distribution."""
    return distribution.params_of(key)


def log_uniform_int(draw: Float[Array, ""], low: int, high: int) -> Int[Array, ""]:
    """An integer between `low` and `high`, both included, whose logarithm is about uniform.

    It is the integer part of a log-uniform number in [low, high + 1), so k has probability
    `log((k + 1) / k) / log((high + 1) / low)`.

    Args:
        draw: a uniform number in [0, 1).
        low: smallest value, at least 1.
        high: largest value.

    Returns:
        The integer.

    Raises:
        ValueError: not `1 <= low <= high`.
    """
    if not 1 <= low <= high:
        raise ValueError(f"a log-uniform integer needs 1 <= low <= high, not {low} to {high}")
    if low == high:
        return jnp.int32(low)
    number = low * jnp.exp(draw * math.log((high + 1) / low))
    # Rounding in float32 can step over either end.
    return jnp.clip(jnp.floor(number).astype(jnp.int32), low, high)
