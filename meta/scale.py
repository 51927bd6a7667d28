"""The exact scale of a level: from the expected return of the random policy to that of the best policy.

Both are computed by planning, once per new level, if a fitness or a score reads them. The replay buffer
stores them with the level.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Key

from rl_discovery.discovery.sharding import run_lanes
from rl_discovery.envs.levels import MIN_SPAN, EnvParams, Family, Level, LevelDistribution

PLANNING_BLOCK = 16
"""Levels per block of planning: about 4 MB for 11 x 11 cells and 5 objects."""

TRIES = 16
"""Draws until a level has a scale. 17 in 1,000 levels of the distribution `all` have none."""

REDRAW_FOLD = 0x5CA1E000
"""What a level's key is folded with, plus the number of the try, to draw it again."""

LISTS = {"fitness": "fitness", "curriculum.score": "scores"}
"""What `rl-discovery list` calls the values of a setting."""


@struct.dataclass
class Scale:
    """Exact expected undiscounted returns of one episode on a level, or on a batch of them.

    Attributes:
        optimal: of the best policy.
        random: of the uniformly random policy.
    """

    optimal: Float[Array, "*levels"]
    random: Float[Array, "*levels"]

    @classmethod
    def unknown(cls, count: int) -> "Scale":
        """Placeholders for levels that are not planned; none of them `exists`."""
        return cls(optimal=jnp.zeros(count), random=jnp.zeros(count))

    @property
    def exists(self) -> Bool[Array, "*levels"]:
        """Whether optimal and random return differ enough for a scale."""
        return self.optimal - self.random > MIN_SPAN  # False for NaN

    def score(self, returns: Float[Array, "*levels"]) -> Float[Array, "*levels"]:
        """Returns scaled to 0 for the random and 1 for the best policy; 0 if there is no scale."""
        span = jnp.where(self.exists, self.optimal - self.random, 1.0)
        return jnp.where(self.exists, (returns - self.random) / span, 0.0)


@dataclasses.dataclass(frozen=True)
class Planner:
    """Plans levels, in blocks over the devices.

    Attributes:
        solve: `(levels' parameters) -> (optimal, random)`, the family's exact planning.
        mesh: the devices.
        redraw: samples a level to replace one without a scale; None: these are kept.
    """

    solve: Callable[[EnvParams], tuple[Array, Array]]
    mesh: Mesh
    redraw: Callable[[Key[Array, ""]], Level] | None = None

    def scale(self, levels: Level, wanted: Bool[Array, " C"]) -> Scale:
        """One scale per level; where it is not wanted, it is meaningless and costs nothing."""
        # Planning takes as many steps as the episode may have.
        steps = jnp.where(wanted, levels.params.max_steps_in_episode, 0)
        params = dataclasses.replace(levels.params, max_steps_in_episode=steps)

        def plan_block(_: Any, params: EnvParams, alive: Bool[Array, " L"]) -> Scale:
            del alive  # the results of padding are dropped
            optimal, random = self.solve(params)
            return Scale(optimal=optimal, random=random)

        return run_lanes(plan_block, (), params, steps.astype(jnp.float32), PLANNING_BLOCK, self.mesh)

    def complete(
        self, levels: Level, keys: Key[Array, " C"], wanted: Bool[Array, " C"]
    ) -> tuple[Level, Scale]:
        """New levels with their scales. Levels without a scale are replaced, if there is a `redraw`.

        A replacement depends on the level's key alone. After `TRIES` levels without a scale the last is kept.

        Args:
            levels: C levels.
            keys: of their replacements.
            wanted: which of them will be played.
        """
        redraw = self.redraw
        if redraw is None:
            return levels, self.scale(levels, wanted)

        def attempt(carry: tuple[Array, Level, Scale]) -> tuple[Array, Level, Scale]:
            tries, levels, scale = carry
            missing = wanted & ~scale.exists
            drawn = jax.vmap(lambda key: redraw(jax.random.fold_in(key, REDRAW_FOLD + tries)))(keys)
            # The first try is the given level.
            levels = choose(missing & (tries > 0), drawn, levels)
            return tries + 1, levels, choose(missing, self.scale(levels, missing), scale)

        def unfinished(carry: tuple[Array, Level, Scale]) -> Bool[Array, ""]:
            tries, _, scale = carry
            return (tries < TRIES) & jnp.any(wanted & ~scale.exists)

        start = (jnp.int32(0), levels, Scale.unknown(wanted.size))
        _, levels, scale = jax.lax.while_loop(unfinished, attempt, start)
        return levels, scale


def make_planner(
    setting: Literal["fitness", "curriculum.score"],
    name: str,
    family: Family,
    distribution: LevelDistribution,
    level: EnvParams,
    mesh: Mesh,
    *,
    redraws: bool = False,
) -> Planner:
    """The planner of a family's levels.

    Args:
        setting: the setting that needs a planner, as the configuration calls it.
        name: value of that setting.
        family: of the environment.
        distribution: of its levels.
        level: only its shapes are used.
        mesh: the devices.
        redraws: whether levels without a scale are replaced.

    Raises:
        ValueError: the environment has no exact planning.
    """
    solve = family.expected_returns
    if solve is None:
        raise ValueError(
            f"{setting} {name!r} needs exact optimal returns, which {family.name!r} environments do not "
            f"have; `rl-discovery list {LISTS[setting]}` shows others"
        )
    one = jax.tree.map(lambda leaf: leaf[None], level)
    try:
        jax.eval_shape(lambda params: solve(distribution.env, params), one)
    except ValueError as error:
        raise ValueError(
            f"{setting} {name!r} does not work with {distribution.name!r} levels: {error}"
        ) from None
    return Planner(
        solve=lambda params: solve(distribution.env, params),
        mesh=mesh,
        redraw=distribution.sample if redraws else None,
    )


def choose(mask: Bool[Array, " C"], yes: Any, no: Any) -> Any:
    """`jnp.where` per level, of pytrees whose leaves have leading axis C."""
    return jax.tree.map(functools.partial(jax.vmap(jnp.where), mask), yes, no)
