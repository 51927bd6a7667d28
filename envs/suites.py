"""Suites: named lists of environments that objectives are evaluated on.

`SUITES` holds those below and the ones that other modules of `envs` define: a family offers its own
with `SUITES = (Suite(...), ...)` in its module. `suite` makes one of a single environment as well.
"""

import functools
import zlib
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from gymnax.environments.environment import Environment
from jaxtyping import Array, Key

from rl_discovery.discovery.registry import Registry, UnknownNameError, at_place
from rl_discovery.envs.gridworld.maps import MAZES
from rl_discovery.envs.levels import EnvParams, LevelDistribution
from rl_discovery.envs.options import split_options
from rl_discovery.envs.registry import (
    distribution,
    distributions,
    full_name,
    is_place,
    make,
    modules,
    names,
    skipped,
)

EVALUATION_FOLD = 0x5EED1E55
"""What the seed's key is folded with to draw evaluation levels. Training folds counters that start
at 0 (generations, lanes), which never get here, so that its levels are others whatever the seeds."""

UNITS = ("updates", "env_steps")

LEVELS = 16
"""Levels of a distribution that no suite has."""

ENV_STEPS = 100_000
"""Horizon on an environment that no suite has and that has no horizons of its own."""


@dataclass(frozen=True)
class Suite:
    """A named list of evaluation environments.

    Attributes:
        name: unique.
        description: one line for `rl-discovery list suites`.
        environments: full names, of level distributions or of anything else that `envs.make` knows.
        horizons: lifetimes that agents are trained for, unless others are asked for.
        levels_per_environment: levels drawn from each distribution.
        first_level: index of the first of them; suites whose indices do not overlap share no level.
        unit: what horizons count: "updates" of the agent, or "env_steps".

    Raises:
        ValueError: an empty or impossible field, named.
    """

    name: str
    description: str
    environments: tuple[str, ...]
    horizons: tuple[int, ...]
    levels_per_environment: int = 1
    first_level: int = 0
    unit: str = "updates"

    def __post_init__(self) -> None:
        if not self.environments:
            raise ValueError(f"suite {self.name!r} has no environments")
        if not self.horizons or min(self.horizons) < 1:
            raise ValueError(f"horizons of suite {self.name!r} must be at least 1, not {self.horizons}")
        if self.levels_per_environment < 1:
            raise ValueError(f"levels_per_environment must be at least 1, not {self.levels_per_environment}")
        if self.first_level < 0:
            raise ValueError(f"first_level must not be negative, not {self.first_level}")
        if self.unit not in UNITS:
            raise ValueError(f"unit must be one of {', '.join(UNITS)}, not {self.unit!r}")

    def levels(self, seed: int) -> list[tuple[str, Environment, EnvParams]]:
        """The levels to evaluate on: the same for the same seed, and never one of a training run.

        An environment's levels do not depend on the suite: `levels_per_environment` only says how
        many of one sequence are taken.

        Args:
            seed: of the evaluation.

        Returns:
            Name, environment and a batch of parameters, leading axis first, per environment.

        Raises:
            UnknownNameError: the suite names an environment that does not exist.
            UnusableEnvironmentError: one of them cannot be used here.
        """
        return [(name, *self._environment_levels(name, seed)) for name in self.environments]

    def _environment_levels(self, name: str, seed: int) -> tuple[Environment, EnvParams]:
        first, count = self.first_level, self.levels_per_environment
        plain, options = split_options(name)
        known = distributions().get(plain)
        if known is None:  # one fixed task, not a distribution of levels
            env, params = make(name, seed)
            return env, jax.tree.map(lambda leaf: jnp.stack([jnp.asarray(leaf)] * count), params)
        chosen = distribution(name) if options else known
        return chosen.env, _sample(chosen, plain, jax.random.key(seed), first, count)


@functools.partial(jax.jit, static_argnums=(0, 1, 3, 4))
def _sample(
    distribution: LevelDistribution, name: str, key: Key[Array, ""], first: int, count: int
) -> EnvParams:
    """`count` evaluation levels of a distribution, from index `first` on."""
    key = jax.random.fold_in(key, EVALUATION_FOLD)
    # A checksum, because Python's own hash of a string changes from one process to the next.
    key = jax.random.fold_in(key, zlib.crc32(name.encode()))
    # By index, so that asking for more levels goes on where fewer levels end.
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, first + jnp.arange(count))
    return jax.vmap(distribution.params_of)(keys)


def suite(name: str) -> Suite:
    """The suite of that name, or one of a single environment.

    An environment is evaluated as in the first suite that has it. One that no suite has lives for the
    shortest and the longest lifetime of its level distribution, or for `ENV_STEPS` environment steps.

    Args:
        name: of a suite ("unseen"), a level distribution ("gridworld/dense") or an environment
            ("CartPole-v1", "brax/ant,backend=spring"); or where one of these stands in a module that is
            loaded ("my_module:SUITE", "my_module:Env", "my_module:FAMILY/short").

    Returns:
        The suite.

    Raises:
        UnknownNameError: nothing has this name.
        UnusableEnvironmentError: the environment cannot be used here.
        BrokenPluginError: what `module:name` names cannot be used.
    """
    if name in SUITES:
        return SUITES[name]
    if is_place(name):
        thing: object = at_place("suite or environment", name)
        if isinstance(thing, Suite):
            return thing
    try:
        return _of_environment(full_name(name))
    except UnknownNameError:
        note = f", `rl-discovery list envs` the environments{skipped()}"
        known = {*SUITES, *(full for full, _ in names())}
        raise UnknownNameError("suite or environment", name, sorted(known), "suites", note) from None


def _of_environment(name: str) -> Suite:
    known = distributions().get(split_options(name)[0])
    description = f"{name} alone"
    for one in SUITES.values():
        if split_options(name)[0] in one.environments:
            return replace(one, name=name, description=description, environments=(name,))
    if known is None or known.horizon is None:
        levels = 1 if known is None else LEVELS
        return Suite(name, description, (name,), (ENV_STEPS,), levels, unit="env_steps")
    return Suite(name, description, (name,), tuple(sorted({*known.horizon})), LEVELS)


def discover() -> dict[str, Suite]:
    """The suites below and those of all other modules of `envs`, by name."""
    others = [module for module in modules() if module.__name__ != __name__]
    elsewhere = [
        suite for module in others for suite in getattr(module, "SUITES", ()) if isinstance(suite, Suite)
    ]
    return {suite.name: suite for suite in (*GRIDWORLD_SUITES, *elsewhere)}


GRIDWORLD_SUITES = (
    Suite(
        name="unseen",
        description="levels of gridworld/all that no training run draws",
        environments=("gridworld/all",),
        horizons=(25, 100, 250),
        levels_per_environment=64,
    ),
    Suite(
        name="validation",
        description="other levels of the same kind as unseen, for choosing settings and objectives",
        environments=("gridworld/all",),
        horizons=(10, 25, 100, 250),
        levels_per_environment=64,
        first_level=4096,
    ),
    Suite(
        name="small",
        description="small gridworlds, trained on to their full horizon",
        environments=("gridworld/small",),
        horizons=(250,),
        levels_per_environment=64,
    ),
    Suite(
        name="tabular",
        description="the fixed tabular gridworlds of the LPG paper, positions sampled",
        environments=tuple(
            f"gridworld/{name}" for name in ("dense", "sparse", "long", "longer", "long_dense")
        ),
        horizons=(2500,),
        levels_per_environment=8,
    ),
    Suite(
        name="random",
        description="the LPG paper's gridworlds whose positions are drawn anew in every episode",
        environments=tuple(
            f"gridworld/rand_{name}" for name in ("dense", "long", "small", "sparse", "very_dense")
        ),
        horizons=(25_000,),
    ),
    Suite(
        name="mazes",
        description="13x13 mazes, larger than anything in gridworld/all",
        environments=("gridworld/mazes",),
        horizons=(2500,),
        levels_per_environment=64,
    ),
    Suite(
        name="maze_designs",
        description="the designs of gridworld/mazes one by one",
        environments=tuple(f"gridworld/{name}" for name in MAZES),
        horizons=(2500,),
        levels_per_environment=4,
    ),
)

SUITES = Registry("suite", "suites", Suite, discover)
"""Every suite by name."""
